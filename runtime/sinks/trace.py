"""The trace that a file's name asks for."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from isa.events import Sink
from isa.program import Program

from .chrome import chrome_trace
from .konata import konata_log
from .lines import line_trace


def open_trace(path: Path, program: Program) -> AbstractContextManager[Sink]:
    """A sink for `path`: `.jsonl` JSON lines, `.kanata` a Konata log, anything else Chrome JSON (Perfetto)."""
    if path.suffix == ".jsonl":
        return line_trace(path, program)
    if path.suffix == ".kanata":
        return konata_log(path, program)
    return chrome_trace(path, program)
