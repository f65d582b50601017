"""What the instructions dispatched in a tile access, and what a new one has to wait for.

The scoreboard keeps short lists of ranges rather than a state for every granule. A range is held from dispatch until
the operation is done. Whoever writes a range has waited for all that accessed any of it, and whoever comes later
waits for the writer; so a write takes the place of what it covers.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import chain

from .costs import Cells, ScaleRange
from .operation import PENDING, Flight

_PRUNE_AT = 16  # lists longer than this are searched for what is over

Range = tuple[int, int, Flight, int, int]  # low..high-1 of granules, macro rows or scales; pitch and width


def _are_apart(low: int, pitch: int, width: int, other: Range) -> bool:
    """Whether two blocks of rows `pitch` apart, each row `width` long, lie in different columns."""
    between = other[0] - low
    return pitch == other[3] and between % pitch >= width and -between % pitch >= other[4]


def _meet(entries: list[Range], low: int, high: int, pitch: int, width: int, waits: list[Flight]) -> None:
    for entry in entries:
        if (
            entry[0] < high
            and low < entry[1]
            and not (pitch and entry[3] and _are_apart(low, pitch, width, entry))
        ):
            waits.append(entry[2])


def _uncovered(entries: list[Range], low: int, high: int, pitch: int) -> list[Range]:
    """What a write of low..high-1 leaves: of rows with a pitch, all but the same block."""
    if pitch:
        return [e for e in entries if (e[0], e[1], e[3]) != (low, high, pitch)]
    return [e for e in entries if e[0] < low or high < e[1]]


class Ranges:
    """Who reads and who writes parts of one thing."""

    __slots__ = ("_prune_at", "reads", "writes")

    def __init__(self) -> None:
        self.reads: list[Range] = []
        self.writes: list[Range] = []
        self._prune_at = _PRUNE_AT

    def waits(
        self, low: int, high: int, writes: bool, waits: list[Flight], pitch: int = 0, width: int = 0
    ) -> None:
        """Add what an access to low..high-1 has to wait for: reads for writes, writes for both.

        With a `pitch` it touches `width` of every `pitch`; other columns of the same pitch are not in the way.
        """
        _meet(self.writes, low, high, pitch, width, waits)
        if writes:
            _meet(self.reads, low, high, pitch, width, waits)

    def hold(self, low: int, high: int, writes: bool, flight: Flight, pitch: int = 0, width: int = 0) -> None:
        """An access to low..high-1 has been dispatched."""
        entry = (low, high, flight, pitch, width)
        if writes:
            self.writes = _uncovered(self.writes, low, high, pitch)
            self.reads = _uncovered(self.reads, low, high, pitch)
            self.writes.append(entry)
        else:
            self.reads.append(entry)

    def prune(self, time: int) -> None:
        """Forget what is over by `time`; nothing that is dispatched later can wait for it."""
        if len(self.reads) + len(self.writes) > self._prune_at:
            self.reads = [e for e in self.reads if e[2].done > time or e[2].done == PENDING]
            self.writes = [e for e in self.writes if e[2].done > time or e[2].done == PENDING]
            self._prune_at = max(_PRUNE_AT, 2 * (len(self.reads) + len(self.writes)))

    def flights(self) -> list[Flight]:
        """All that is held."""
        return [e[2] for e in chain(self.reads, self.writes)]


class Scoreboard:
    """The buffer in granules, the macro rows of each array (used by one operation at a time), and the scales.

    Scales are kept by array: one for each row, and all column scales as one (under the array's complement).
    """

    __slots__ = ("buffer", "cells", "scales")

    def __init__(self) -> None:
        self.buffer = Ranges()
        self.cells: dict[int, Ranges] = defaultdict(Ranges)
        self.scales: dict[int, Ranges] = defaultdict(Ranges)

    def prune(self, time: int) -> None:
        """Forget what is over by `time`."""
        self.buffer.prune(time)

    def array_waits(self, cells: Cells | None, scales: tuple[ScaleRange, ...], waits: list[Flight]) -> None:
        """Add what the use of macro rows and of scales has to wait for."""
        if cells is not None:
            self.cells[cells.array].waits(cells.low, cells.high, True, waits)
        for s in scales:
            self.scales[_scale_key(s)].waits(s.low, s.high, s.writes, waits)

    def hold_cells(self, cells: Cells, flight: Flight, time: int) -> None:
        """Macro rows are used until `flight` is over."""
        ranges = self.cells[cells.array]
        ranges.hold(cells.low, cells.high, True, flight)
        ranges.prune(time)

    def hold_scales(self, scales: tuple[ScaleRange, ...], flight: Flight, time: int) -> None:
        """Scales are read or written until `flight` is over."""
        for s in scales:
            ranges = self.scales[_scale_key(s)]
            ranges.hold(s.low, s.high, s.writes, flight)
            ranges.prune(time)

    def flights(self) -> list[Flight]:
        """All that is held."""
        ranges = (self.buffer, *self.cells.values(), *self.scales.values())
        return [flight for each in ranges for flight in each.flights()]


def _scale_key(scales: ScaleRange) -> int:
    return ~scales.array if scales.columns else scales.array
