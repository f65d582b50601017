"""Statistics to make pages of, and a browser to open them in."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from models.make import make
from runtime.cli import main
from runtime.sinks.schema import Statistics
from runtime.sinks.statistics import read_statistics

from .browser import Page, browser, find_browser


@pytest.fixture(scope="session")
def run_stats(tmp_path_factory: pytest.TempPathFactory) -> Statistics:
    """A prompt and a token of a small decoder, compiled for one chip."""
    folder = tmp_path_factory.mktemp("report")
    model, program, stats = folder / "m.onnx", folder / "m.cim", folder / "s.json"
    make("gpt2-tiny", model, seed=3)
    assert main(["compile", str(model), "-o", str(program), "--max-context", "64"]) == 0
    words = ["run", str(program), "--timing-only", "--segments", "9@0", "--stats", str(stats)]
    assert main(words) == 0
    return read_statistics(stats)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A tab of a real browser; skips where there is none that starts."""
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium here: install one, or say where it is with CIM_BROWSER")
    try:
        subprocess.run([program, "--version"], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"{program} does not start: {error}")
    with browser(program, tmp_path_factory.mktemp("profile")) as page:
        yield page
