"""What the simulation of a step yields."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from isa.events import Bound, Event, Resource
from isa.instruction import Unit

K = TypeVar("K", bound=Hashable)


MACS = (Event.ARRAY_MAC, Event.ARRAY_MAC_TRANSPOSED, Event.KV_MAC, Event.KV_MAC_TRANSPOSED)
"""The multiply-accumulates, of every kind of macro."""


@dataclass(frozen=True, slots=True)
class StepCost:
    """Time and counts of one step; joules follow from `events` (runtime/energy.py).

    `instructions` are dynamic: one for each issue on each tile. `busy` are cycles summed over all pieces of a
    resource. `events` are counts by what happened and on behalf of which node. `critical` and `critical_nodes` say
    what the cycles of the critical path were spent on; both sum to `cycles`. `source_rows` went through in source
    segments; `tokens` does not count them.
    """

    cycles: int
    tokens: int
    instructions: Mapping[Unit, int]
    busy: Mapping[Resource, int]
    events: Mapping[tuple[Event, str], int]
    messages: int
    message_bytes: int
    critical: Mapping[Bound, int]
    critical_nodes: Mapping[str, int]
    source_rows: int = 0

    @property
    def issued(self) -> int:
        """Dynamic instructions of all units."""
        return sum(self.instructions.values())

    @property
    def bound_by(self) -> Bound:
        """What most of the critical path was spent on."""
        return max(Bound, key=lambda bound: self.critical.get(bound, 0))

    @property
    def macs(self) -> int:
        """Multiply-accumulates in arrays."""
        return sum(map(self.count, MACS))

    def count(self, event: Event) -> int:
        """How often something happened, over all nodes."""
        return sum(count for (what, _), count in self.events.items() if what is event)


def merged(costs: Sequence[StepCost]) -> StepCost:
    """The cost of steps, or of other things done one after another, as one step."""
    return StepCost(
        sum(c.cycles for c in costs),
        sum(c.tokens for c in costs),
        added([c.instructions for c in costs]),
        added([c.busy for c in costs]),
        added([c.events for c in costs]),
        sum(c.messages for c in costs),
        sum(c.message_bytes for c in costs),
        added([c.critical for c in costs]),
        added([c.critical_nodes for c in costs]),
        sum(c.source_rows for c in costs),
    )


def added(maps: Iterable[Mapping[K, int]]) -> dict[K, int]:
    """The counts of several maps, key by key."""
    totals: dict[K, int] = {}
    for some in maps:
        for key, number in some.items():
            totals[key] = totals.get(key, 0) + number
    return totals
