"""What is in flight in a tile, and what a new instruction has to wait for.

Because instructions issue in order, few are in flight at a time; so the scoreboard keeps short lists of ranges
rather than a state for every granule. A range is held until the operation is done.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from .costs import Cells, ScaleRange
from .critical import NO_RECORD

if TYPE_CHECKING:
    from .tile import TileState

PENDING = -1
_PRUNE_AT = 12  # lists longer than this are searched for what is over


class Flight:
    """An operation under way: when it is done (`PENDING` while that is unknown) and the record that decides it."""

    __slots__ = ("done", "record", "waiters")

    def __init__(self, done: int = PENDING, record: int = NO_RECORD) -> None:
        self.done, self.record = done, record
        self.waiters: list[TileState] = []


Range = tuple[int, int, Flight]  # granules low..high-1
KeyedRange = tuple[int, int, int, Flight]  # array (column scales: ~array), low..high-1

IDLE = Flight(done=0)


def _live(entries: list[Range], time: int) -> list[Range]:
    return [e for e in entries if e[2].done > time or e[2].done == PENDING]


def _live_keyed(entries: list[KeyedRange], time: int) -> list[KeyedRange]:
    return [e for e in entries if e[3].done > time or e[3].done == PENDING]


def _meets(entries: Iterable[KeyedRange], key: int, low: int, high: int) -> Iterator[Flight]:
    return (flight for k, a, b, flight in entries if k == key and a < high and low < b)


def _scale_key(scales: ScaleRange) -> int:
    return ~scales.array if scales.columns else scales.array


class Scoreboard:
    """Ranges of the buffer that are read or written, macro rows at work, scales that are read or written."""

    __slots__ = ("cells", "reads", "scale_reads", "scale_writes", "writes")

    def __init__(self) -> None:
        self.reads: list[Range] = []
        self.writes: list[Range] = []
        self.cells: list[KeyedRange] = []
        self.scale_reads: list[KeyedRange] = []
        self.scale_writes: list[KeyedRange] = []

    def prune(self, time: int) -> None:
        """Forget what is over by `time`; nothing that issues later can wait for it."""
        if len(self.reads) > _PRUNE_AT:
            self.reads = _live(self.reads, time)
        if len(self.writes) > _PRUNE_AT:
            self.writes = _live(self.writes, time)
        if len(self.cells) > _PRUNE_AT:
            self.cells = _live_keyed(self.cells, time)
        if len(self.scale_reads) > _PRUNE_AT:
            self.scale_reads = _live_keyed(self.scale_reads, time)
        if len(self.scale_writes) > _PRUNE_AT:
            self.scale_writes = _live_keyed(self.scale_writes, time)

    def buffer_waits(self, low: int, high: int, writes: bool, waits: list[Flight]) -> None:
        """Add what an access to granules low..high-1 has to wait for: reads for writes, writes for both."""
        for a, b, flight in self.writes:
            if a < high and low < b:
                waits.append(flight)
        if writes:
            for a, b, flight in self.reads:
                if a < high and low < b:
                    waits.append(flight)

    def array_waits(self, cells: Cells | None, scales: tuple[ScaleRange, ...], waits: list[Flight]) -> None:
        """Add what the use of macro rows (one operation at a time) and of scales has to wait for."""
        if cells is not None:
            waits.extend(_meets(self.cells, cells.array, cells.low, cells.high))
        for s in scales:
            key = _scale_key(s)
            waits.extend(_meets(self.scale_writes, key, s.low, s.high))
            if s.writes:
                waits.extend(_meets(self.scale_reads, key, s.low, s.high))

    def hold_buffer(self, low: int, high: int, writes: bool, flight: Flight) -> None:
        """An access to granules low..high-1 is in flight."""
        (self.writes if writes else self.reads).append((low, high, flight))

    def hold_scales(self, scales: tuple[ScaleRange, ...], flight: Flight) -> None:
        """Accesses to scales are in flight."""
        for s in scales:
            entries = self.scale_writes if s.writes else self.scale_reads
            entries.append((_scale_key(s), s.low, s.high, flight))

    def hold_cells(self, cells: Cells, flight: Flight) -> None:
        """Macro rows are at work."""
        self.cells.append((cells.array, cells.low, cells.high, flight))

    def flights(self) -> list[Flight]:
        """All that is in flight."""
        keyed = (*self.cells, *self.scale_reads, *self.scale_writes)
        return [e[2] for e in (*self.reads, *self.writes)] + [e[3] for e in keyed]
