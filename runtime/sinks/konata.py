"""A log for the Konata pipeline viewer (format Kanata 4): a row an instruction, a thread a tile.

Konata wants everything in the order of time, so the log is kept in memory and sorted when it is closed; it ends
after `MAX_ROWS` instructions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from isa.instruction import Unit
from isa.program import Program
from isa.replicas import written_out

from .files import whole_file

MAX_ROWS = 200_000


class KonataLog:
    """A sink that draws each operation as one stage, named after its unit."""

    def __init__(self, program: Program, file: TextIO, max_rows: int = MAX_ROWS) -> None:
        self._program, self._file, self._max = written_out(program), file, max_rows
        self._roles = {role.name: role for role in program.roles}
        self._base = 0
        self._rows = 0
        self._log: list[tuple[int, int, str]] = []  # cycle, order within it, line

    def on_op(self, tile: int, unit: Unit, start: int, end: int, role: str, index: int, node: str) -> None:
        """Draw an operation."""
        if self._rows >= self._max:
            return
        row, begin, finish = self._rows, self._base + start, self._base + end
        self._rows += 1
        text = f"{self._program.tiles[tile].name} {index}: {self._roles[role].code[index]}"
        entries = (f"I\t{row}\t{row}\t{tile}", f"L\t{row}\t0\t{text}", f"L\t{row}\t1\t{node}")
        self._log += [(begin, 3 * row, "\n".join((*entries, f"S\t{row}\t0\t{unit.value}")))]
        self._log += [(finish, 3 * row + 1, f"E\t{row}\t0\t{unit.value}\nR\t{row}\t{row}\t0")]

    def on_message(
        self, channel: int, start: int, end: int, sources: Sequence[int], dests: Sequence[int], size: int
    ) -> None:
        """Messages are drawn as their `send` and `recv`."""

    def on_step(self, cycles: int, tokens: int, source_rows: int) -> None:
        """The next step begins where this one ended."""
        self._base += cycles

    def close(self) -> None:
        """Write the log in the order of time."""
        self._file.write("Kanata\t0004\nC=\t0\n")
        at = 0
        for cycle, _, line in sorted(self._log):
            if cycle > at:
                self._file.write(f"C\t{cycle - at}\n")
                at = cycle
            self._file.write(line + "\n")
        if self._base > at:  # messages to the host are under way when the last instruction has ended
            self._file.write(f"C\t{self._base - at}\n")


@contextmanager
def konata_log(path: Path, program: Program, max_rows: int = MAX_ROWS) -> Iterator[KonataLog]:
    """A sink that writes a Konata log to `path`, whole or not at all. Raises `CimError` E0003."""
    with whole_file(path) as file:
        log = KonataLog(program, file, max_rows)
        yield log
        log.close()
