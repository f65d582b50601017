"""Get a browser for the tests where that is easy: `python -m tests.report.install`, which `make test` runs once.

Only where there is none yet, the user is root and there is apt-get, as in a container. It says what it does, takes five
minutes at most, and never fails: without a browser the tests that need one are skipped. `CIM_BROWSER=none` keeps it
from installing anything.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from .browser import find_browser

_APT = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=60")
_STEPS = (
    ((*_APT, "update"), 90),
    ((*_APT, "install", "-y", "--no-install-recommends", "chromium"), 210),
)
_WITHOUT = "the report is not opened in a browser: install chromium, or say where one is with CIM_BROWSER"


def install() -> str:
    """What was done, in a line; empty if there was nothing to do."""
    if find_browser() is not None:
        return ""
    if "CIM_BROWSER" in os.environ or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return f"note: no browser here, so {_WITHOUT}"
    sys.stderr.write(
        "installing chromium with apt-get for the tests of the HTML report (CIM_BROWSER=none: don't)\n"
    )
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command, limit_s in _STEPS:
        try:
            subprocess.run(
                command,
                check=True,
                timeout=limit_s,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            return f"note: {' '.join(command[-2:])} failed ({type(error).__name__}), so {_WITHOUT}"
    return ""


if __name__ == "__main__":
    said = install()
    if said:
        sys.stderr.write(said + "\n")
