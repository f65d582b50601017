"""How a step has passed, from its arenas, and what it has cost: the same `StepCost` that the reference makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from isa.events import Bound, Event, Resource
from isa.program import Segment
from isa.timing.critical import BOUNDS
from isa.timing.ledger import part_name
from runtime.segments import rows_of
from runtime.timing.result import StepCost
from runtime.within import parts_within

from . import layout as at
from .costs import Costs
from .kernel import walk_back
from .messages import MESSAGE_EVENTS
from .steps import Step
from .tally import Tally
from .template import Template
from .words import Words

_HEAD = {
    Resource.CIM: at.H_BUSY_CIM,
    Resource.MACROS: at.H_BUSY_MACROS,
    Resource.VECTOR: at.H_BUSY_VECTOR,
    Resource.DMA: at.H_BUSY_DMA,
    Resource.NETWORK: at.H_BUSY_NETWORK,
}
_LINKS = {
    Resource.LINKS: Bound.NETWORK,
    Resource.CHIP_LINKS: Bound.CHIP_LINKS,
    Resource.HOST_LINK: Bound.HOST_LINK,
}


@dataclass(frozen=True, slots=True)
class Passage:
    """What depends on time, and on what tiles go through, but not on the counts behind that: cycles that pieces of
    resources were busy, messages and their `counts` (`messages.MESSAGE_EVENTS` by node), the critical path; what the
    host has counted."""

    cycles: int
    busy: Mapping[Resource, int]
    messages: int
    message_bytes: int
    counts: Words
    critical: Mapping[Bound, int]
    critical_nodes: Mapping[str, int]
    host_events: Mapping[tuple[Event, str], int]

    def cost(self, tally: Tally, segments: Sequence[Segment]) -> StepCost:
        """What a step has cost that passed so, in which tiles issued and caused what the tally says."""
        instructions = tally.instructions()
        tokens, source_rows = rows_of(segments)
        return StepCost(
            cycles=self.cycles,
            tokens=tokens,
            instructions=instructions,
            busy={**self.busy, Resource.SEQUENCER: sum(instructions.values())},
            events=_sum(tally.events(self.counts), self.host_events),
            messages=self.messages,
            message_bytes=self.message_bytes,
            critical=self.critical,
            critical_nodes=self.critical_nodes,
            source_rows=source_rows,
        )


def passage_of(template: Template, costs: Costs, step: Step) -> Passage:
    """How a step that is over has passed."""
    state, hosts = step.state, step.hosts
    by_bound, by_node = _path(template, costs, state)
    first, busy = int(state[at.H_EVENTS]), _busy(template, state)
    if hosts is not None:
        busy[Resource.HOST] = hosts.ledger.busy[Resource.HOST]
    return Passage(
        cycles=int(state[at.H_END]),
        busy=busy,
        messages=int(state[at.H_MESSAGES]),
        message_bytes=int(state[at.H_BYTES]),
        counts=state[first : first + MESSAGE_EVENTS * len(template.nodes)].copy(),
        critical=by_bound,
        critical_nodes=by_node if hosts is None else hosts.parts.spread(by_node),
        host_events={} if hosts is None else dict(hosts.ledger.events),
    )


def _path(template: Template, costs: Costs, state: Words) -> tuple[dict[Bound, int], dict[str, int]]:
    parts = len(parts_within(template.program))
    names = (*template.nodes, *(part_name(number) for number in range(parts)))
    by_bound, by_node = np.zeros(len(BOUNDS), np.int64), np.zeros(len(names), np.int64)
    walk_back(state, costs.plan, int(state[at.H_END]), int(state[at.H_LAST]), by_bound, by_node)
    return (
        {bound: int(cycles) for bound, cycles in zip(BOUNDS, by_bound, strict=True) if cycles},
        {name: int(cycles) for name, cycles in zip(names, by_node, strict=True) if cycles},
    )


def _busy(template: Template, state: Words) -> dict[Resource, int]:
    routes = template.routes
    count = len(routes.found.links)
    links = state[routes.links : routes.links + at.L_SIZE * count].reshape(count, at.L_SIZE)
    busy = dict.fromkeys(Resource, 0)
    busy |= {resource: int(state[place]) for resource, place in _HEAD.items()}
    busy |= {resource: routes.found.busy(links, kind) for resource, kind in _LINKS.items()}
    for resource, ports in zip((Resource.DRAM, Resource.GBUF), template.memories, strict=True):
        busy[resource] = int(state[np.array(ports, np.int64) + at.P_BUSY].sum())
    return busy


def _sum(
    events: dict[tuple[Event, str], int], more: Mapping[tuple[Event, str], int]
) -> dict[tuple[Event, str], int]:
    """Both counts, by event and node, in their order."""
    if not more:
        return events
    for key, count in more.items():
        events[key] = events.get(key, 0) + count
    number = {event: number for number, event in enumerate(Event)}
    return {key: events[key] for key in sorted(events, key=lambda k: (number[k[0]], k[1])) if events[key]}
