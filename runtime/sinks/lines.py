"""A trace for scripts: a JSON object a line. Kinds are `op`, `message`, `step`; times are in cycles of the run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from isa.instruction import Unit
from isa.program import HOST, Program
from isa.replicas import written_out
from runtime.segments import source_channels

from .files import whole_file


class LineTrace:
    """A sink that writes what it hears, as it hears it."""

    def __init__(self, program: Program, file: TextIO) -> None:
        program = written_out(program)
        self._program, self._file = program, file
        self._roles = {role.name: role for role in program.roles}
        self._sources = source_channels(program)
        self._base = 0

    def _tile(self, tile: int) -> str:
        return "host" if tile == HOST else self._program.tiles[tile].name

    def _line(self, **values: str | int | list[str]) -> None:
        self._file.write(json.dumps(values) + "\n")

    def on_op(self, tile: int, unit: Unit, start: int, end: int, role: str, index: int, node: str) -> None:
        """Write an operation."""
        text = str(self._roles[role].code[index])
        self._line(
            kind="op",
            tile=self._tile(tile),
            unit=unit.value,
            start=self._base + start,
            end=self._base + end,
            role=role,
            index=index,
            text=text,
            node=node,
        )

    def on_message(
        self, channel: int, start: int, end: int, sources: Sequence[int], dests: Sequence[int], size: int
    ) -> None:
        """Write a message."""
        self._line(
            kind="message",
            channel=self._program.channels[channel].name,
            start=self._base + start,
            end=self._base + end,
            sources=[self._tile(tile) for tile in sources],
            dests=[self._tile(tile) for tile in dests],
            bytes=size,
            source=channel in self._sources,
        )

    def on_step(self, cycles: int, tokens: int, source_rows: int) -> None:
        """Write the end of a step."""
        end = self._base + cycles
        self._line(kind="step", start=self._base, end=end, tokens=tokens, source_rows=source_rows)
        self._base += cycles


@contextmanager
def line_trace(path: Path, program: Program) -> Iterator[LineTrace]:
    """A sink that writes JSON lines to `path`, whole or not at all. Raises `CimError` E0003."""
    with whole_file(path) as file:
        yield LineTrace(program, file)
