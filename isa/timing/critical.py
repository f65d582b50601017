"""Why an operation started when it did, and from that the critical path of a step.

Every operation is a record: when it started, the record that decided this start, and how. Walking back from what
ended last gives a chain of intervals that covers the whole step, each with a reason and an instruction.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from isa.events import Bound

NO_RECORD = -1
BOUNDS = tuple(Bound)
INDEX_OF = {bound: index for index, bound in enumerate(BOUNDS)}


@dataclass(frozen=True, slots=True)
class CriticalPath:
    """Cycles of the longest chain by reason and by node; both sum to the step's cycles."""

    by_bound: dict[Bound, int]
    by_node: dict[str, int]


class Records:
    """Compact columns, a row an operation. Rows refer to each other by number."""

    __slots__ = ("bound", "index", "issued", "predecessor", "start", "tile")

    def __init__(self) -> None:
        self.start = array("q")
        self.predecessor = array("q")
        self.issued = array("b")
        self.tile = array("l")
        self.index = array("l")
        self.bound = array("b")

    def add(self, start: int, predecessor: int, issued: bool, tile: int, index: int, bound: int) -> int:
        """A new record's number.

        `issued`: the time since the predecessor's start went into issuing instructions, here; otherwise the
        predecessor was at work until `start`.
        """
        self.start.append(start)
        self.predecessor.append(predecessor)
        self.issued.append(issued)
        self.tile.append(tile)
        self.index.append(index)
        self.bound.append(bound)
        return len(self.start) - 1

    def resume(self, record: int, start: int, predecessor: int) -> int:
        """The same operation as `record`, held up until `start` by `predecessor`."""
        return self.add(start, predecessor, False, self.tile[record], self.index[record], self.bound[record])

    def path(self, end: int, last: int, node: Callable[[int, int], str]) -> CriticalPath:
        """The chain that led to `end`, when `last` ended."""
        by_bound: dict[Bound, int] = defaultdict(int)
        by_node: dict[str, int] = defaultdict(int)

        def spend(bound: Bound, record: int, cycles: int) -> None:
            if cycles:
                by_bound[bound] += cycles
                by_node[node(self.tile[record], self.index[record])] += cycles

        at, record = end, last
        while record >= 0:
            spend(BOUNDS[self.bound[record]], record, at - self.start[record])
            at, before = self.start[record], self.predecessor[record]
            if self.issued[record]:
                issued_from = self.start[before] if before >= 0 else 0
                spend(Bound.SEQUENCER, record, at - issued_from)
                at = issued_from
            record = before
        return CriticalPath(dict(by_bound), dict(by_node))
