"""What a tile counts on its way through a trace: instructions by unit, events by instruction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isa.events import Event
from isa.instruction import Unit
from isa.program import Role
from isa.timing.costs import Cost

from .words import Words

EVENTS = tuple(Event)
NUMBERS = {event: number for number, event in enumerate(EVENTS)}
UNITS = tuple(Unit)
_UNIT_NUMBERS = {unit: len(EVENTS) + number for number, unit in enumerate(UNITS)}


@dataclass(frozen=True, slots=True)
class Marks:
    """How often what happens (numbers of events, then of units) on behalf of which instruction."""

    rows: Words
    indices: Words
    counts: Words

    @property
    def key(self) -> bytes:
        """What equal ones have in common."""
        return b"".join(words.tobytes() for words in (self.rows, self.indices, self.counts))


def marks_of(units: Words, costs: Sequence[Cost], executed: Words, issued: Words) -> Marks:
    """What so many executions of costs (by their number in the role) and issues of instructions come to; `units`: see
    `unit_numbers`."""
    rows: list[tuple[int, int, int]] = []
    for number in np.flatnonzero(executed).tolist():
        cost, times = costs[number], int(executed[number])
        rows += [(NUMBERS[event], cost.index, count * times) for event, count in cost.events]
    found = np.array(rows, np.int64).reshape(-1, 3).T
    indices = np.flatnonzero(issued)
    of_units, of_issues = units[indices], np.full(indices.size, NUMBERS[Event.ISSUE])
    return Marks(
        np.concatenate([found[0], of_issues, of_units]),
        np.concatenate([found[1], indices, indices]),
        np.concatenate([found[2], issued[indices], issued[indices]]),
    )


def unit_numbers(role: Role) -> Words:
    """The number of each instruction's unit."""
    return np.array([_UNIT_NUMBERS[inst.unit] for inst in role.code], np.int64)
