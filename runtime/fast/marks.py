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


def marks_of(role: Role, costs: Sequence[Cost], executed: Words, issued: Words) -> Marks:
    """What so many executions of costs (by their number in the role) and issues of instructions come to."""
    rows: list[tuple[int, int, int]] = []
    for number in np.flatnonzero(executed).tolist():
        cost, times = costs[number], int(executed[number])
        rows += [(NUMBERS[event], cost.index, count * times) for event, count in cost.events]
    for index, (inst, times) in enumerate(zip(role.code, issued.tolist(), strict=False)):
        if times:
            rows += [(NUMBERS[Event.ISSUE], index, times), (_UNIT_NUMBERS[inst.unit], index, times)]
    found = np.array(rows, np.int64).reshape(-1, 3).T
    return Marks(found[0], found[1], found[2])
