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
_BLOCK = 6  # 2 ** _BLOCK granules are a block: about a value

Range = tuple[int, int, Flight, int, int]  # low..high-1 of granules, macro rows or scales; pitch and width


def _are_apart(low: int, pitch: int, width: int, other: Range) -> bool:
    """Whether two blocks of rows `pitch` apart, each row `width` long, lie in different columns."""
    between = other[0] - low
    return pitch == other[3] and between % pitch >= width and -between % pitch >= other[4]


def _blocks(low: int, high: int) -> range:
    """The blocks that low..high-1 lies in."""
    return range(low >> _BLOCK, (high - 1 >> _BLOCK) + 1)


class Ranges:
    """Who reads and who writes parts of one thing: lists by block, with every range in each block that it lies in."""

    __slots__ = ("_most", "reads", "writes")

    def __init__(self) -> None:
        self.reads: dict[int, list[Range]] = {}
        self.writes: dict[int, list[Range]] = {}
        self._most: dict[int, int] = {}  # entries of a block beyond which it is searched for what is over

    def waits(
        self, low: int, high: int, writes: bool, waits: list[Flight], pitch: int = 0, width: int = 0
    ) -> None:
        """Add what an access to low..high-1 has to wait for: reads for writes, writes for both.

        With a `pitch` it touches `width` of every `pitch`; other columns of the same pitch are not in the way.
        """
        for block in _blocks(low, high):
            for entries in (self.writes, self.reads) if writes else (self.writes,):
                for entry in entries.get(block, ()):
                    if (
                        entry[0] < high
                        and low < entry[1]
                        and not (pitch and entry[3] and _are_apart(low, pitch, width, entry))
                    ):
                        waits.append(entry[2])

    def hold(
        self, low: int, high: int, writes: bool, flight: Flight, time: int, pitch: int = 0, width: int = 0
    ) -> None:
        """An access to low..high-1 has been dispatched at `time`."""
        entry = (low, high, flight, pitch, width)
        held = self.writes if writes else self.reads
        for block in _blocks(low, high):
            if writes:
                for entries in (self.writes, self.reads):
                    if block in entries:
                        entries[block] = _uncovered(entries[block], low, high, pitch)
            found = held.get(block)
            if found is None:
                held[block] = [entry]
                continue
            found.append(entry)
            if len(found) > _PRUNE_AT and len(found) > self._most.get(block, 0):
                held[block] = found = _left(found, time)
                self._most[block] = 2 * len(found)

    def flights(self) -> list[Flight]:
        """All that is held."""
        lists = chain(self.reads.values(), self.writes.values())
        return [e[2] for e in chain.from_iterable(lists)]


def _uncovered(entries: list[Range], low: int, high: int, pitch: int) -> list[Range]:
    """What a write of low..high-1 leaves: of rows with a pitch, all but the same block."""
    if pitch:
        return [e for e in entries if (e[0], e[1], e[3]) != (low, high, pitch)]
    return [e for e in entries if e[0] < low or high < e[1]]


def _left(entries: list[Range], time: int) -> list[Range]:
    """What is not over by `time`: nothing that is dispatched later can wait for the rest."""
    return [e for e in entries if e[2].done > time or e[2].done == PENDING]


class Scoreboard:
    """The buffer in granules, the macro rows of each array (used by one operation at a time), and the scales.

    Scales are kept by array: one for each row, and all column scales as one (under the array's complement).
    """

    __slots__ = ("buffer", "cells", "scales")

    def __init__(self) -> None:
        self.buffer = Ranges()
        self.cells: dict[int, Ranges] = defaultdict(Ranges)
        self.scales: dict[int, Ranges] = defaultdict(Ranges)

    def array_waits(self, cells: Cells | None, scales: tuple[ScaleRange, ...], waits: list[Flight]) -> None:
        """Add what the use of macro rows and of scales has to wait for."""
        if cells is not None:
            self.cells[cells.array].waits(cells.low, cells.high, True, waits)
        for s in scales:
            self.scales[_scale_key(s)].waits(s.low, s.high, s.writes, waits)

    def hold_cells(self, cells: Cells, flight: Flight, time: int) -> None:
        """Macro rows are used until `flight` is over."""
        self.cells[cells.array].hold(cells.low, cells.high, True, flight, time)

    def hold_scales(self, scales: tuple[ScaleRange, ...], flight: Flight, time: int) -> None:
        """Scales are read or written until `flight` is over."""
        for s in scales:
            self.scales[_scale_key(s)].hold(s.low, s.high, s.writes, flight, time)

    def flights(self) -> list[Flight]:
        """All that is held."""
        ranges = (self.buffer, *self.cells.values(), *self.scales.values())
        return [flight for each in ranges for flight in each.flights()]


def _scale_key(scales: ScaleRange) -> int:
    return ~scales.array if scales.columns else scales.array
