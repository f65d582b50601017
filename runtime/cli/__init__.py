"""The command line `cim`.

Results go to stdout, talk and progress to stderr. Exit codes: 0 ok, 1 the input is wrong, 2 usage, 3 results
differ, 70 a defect of ours, 130 interrupted. Each command is a module of its own, imported when it is used.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `cim` with these arguments (default: those of the process); the exit code."""
    from .app import run

    return run(arguments)
