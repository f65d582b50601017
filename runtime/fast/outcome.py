"""What a step has cost, from its arenas: the same `StepCost` that the reference makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from isa.events import Bound, Event, Resource
from isa.instruction import Unit
from isa.program import Segment
from isa.timing.costs import Cost
from isa.timing.critical import BOUNDS
from isa.timing.ledger import part_name
from runtime.segments import rows_of
from runtime.timing.result import StepCost
from runtime.within import parts_within

from . import layout as at
from .costs import Costs
from .kernel import walk_back
from .messages import CHIP_LINK, HOP, HOST_LINK, REDUCE
from .steps import Step
from .template import Template
from .words import Words

_EVENTS = tuple(Event)
_NUMBERS = {event: number for number, event in enumerate(_EVENTS)}
_MESSAGE_EVENTS = {
    HOP: Event.HOP_BYTE,
    CHIP_LINK: Event.CHIP_LINK_BYTE,
    HOST_LINK: Event.HOST_LINK_BYTE,
    REDUCE: Event.REDUCE_OP,
}


class Outcome:
    """Reads the arenas of a step that is over."""

    def __init__(self, template: Template, costs: Costs, step: Step) -> None:
        self._program, self._template, self._costs, self._step = template.program, template, costs, step
        self._state, self._hosts = step.state, step.hosts
        self._issued = [np.zeros(len(template.ops[team.role]), np.int64) for team in template.teams]
        self._executed = [np.zeros(len(costs.by_role[team.role]), np.int64) for team in template.teams]
        self._count()

    def cost(self, segments: Sequence[Segment]) -> StepCost:
        """The step's cost."""
        state = self._state
        instructions = self._instructions()
        by_bound, by_node = self._path()
        tokens, source_rows = rows_of(segments)
        return StepCost(
            cycles=int(state[at.H_END]),
            tokens=tokens,
            instructions=instructions,
            busy=self._busy(sum(instructions.values())),
            events=self._events(),
            messages=int(state[at.H_MESSAGES]),
            message_bytes=int(state[at.H_BYTES]),
            critical=by_bound,
            critical_nodes=by_node if self._hosts is None else self._hosts.parts.spread(by_node),
            source_rows=source_rows,
        )

    def _count(self) -> None:
        """What tiles of each team have issued and executed: what their traces say."""
        teams, kinds = self._template.of_tile
        each = len(teams) // len(self._step.traces)
        for number, traces in enumerate(self._step.traces):
            if not traces:
                continue
            mine = slice(number * each, (number + 1) * each)
            pairs, counts = np.unique(teams[mine] * len(traces) + kinds[mine], return_counts=True)
            for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
                team, trace = pair // len(traces), traces[pair % len(traces)]
                self._issued[team] += count * trace.issued
                self._executed[team][: trace.executed.size] += count * trace.executed

    def _path(self) -> tuple[dict[Bound, int], dict[str, int]]:
        parts = len(parts_within(self._program))
        names = (*self._template.nodes, *(part_name(number) for number in range(parts)))
        by_bound, by_node = np.zeros(len(BOUNDS), np.int64), np.zeros(len(names), np.int64)
        end, last = int(self._state[at.H_END]), int(self._state[at.H_LAST])
        walk_back(self._state, self._costs.plan, end, last, by_bound, by_node)
        return (
            {bound: int(cycles) for bound, cycles in zip(BOUNDS, by_bound, strict=True) if cycles},
            {name: int(cycles) for name, cycles in zip(names, by_node, strict=True) if cycles},
        )

    def _instructions(self) -> dict[Unit, int]:
        counts = dict.fromkeys(Unit, 0)
        totals = [np.zeros(len(ops), np.int64) for ops in self._template.ops]
        for team, issued in zip(self._template.teams, self._issued, strict=True):
            totals[team.role] += issued
        for role, total in zip(self._program.roles, totals, strict=True):
            for inst, count in zip(role.code, total.tolist(), strict=False):
                counts[inst.unit] += count
        return counts

    def _busy(self, issued: int) -> Mapping[Resource, int]:
        state, routes = self._state, self._template.routes
        count = len(routes.found.links)
        links = state[routes.links : routes.links + at.L_SIZE * count].reshape(count, at.L_SIZE)
        dram, gbuf = (
            sum(int(state[port + at.P_BUSY]) for port in ports) for ports in self._template.memories
        )
        busy = dict.fromkeys(Resource, 0)
        busy[Resource.CIM] = int(state[at.H_BUSY_CIM])
        busy[Resource.MACROS] = int(state[at.H_BUSY_MACROS])
        busy[Resource.VECTOR] = int(state[at.H_BUSY_VECTOR])
        busy[Resource.DMA] = int(state[at.H_BUSY_DMA])
        busy[Resource.NETWORK] = int(state[at.H_BUSY_NETWORK])
        busy[Resource.SEQUENCER] = issued
        busy[Resource.LINKS] = routes.found.busy(links, Bound.NETWORK)
        busy[Resource.CHIP_LINKS] = routes.found.busy(links, Bound.CHIP_LINKS)
        busy[Resource.HOST_LINK] = routes.found.busy(links, Bound.HOST_LINK)
        busy[Resource.DRAM], busy[Resource.GBUF] = dram, gbuf
        if self._hosts is not None:
            busy[Resource.HOST] = self._hosts.ledger.busy[Resource.HOST]
        return busy

    def _events(self) -> dict[tuple[Event, str], int]:
        """Counts by event and node: executions times what one causes, and messages."""
        names = self._template.nodes
        totals = np.zeros((len(_EVENTS), len(names)), np.int64)
        tables = [_event_table(costs) for costs in self._costs.by_role]
        for number, (team, issued) in enumerate(zip(self._template.teams, self._issued, strict=True)):
            code = len(self._program.roles[team.role].code)
            np.add.at(totals[_NUMBERS[Event.ISSUE]], team.nodes[:code], issued[:code])
            indices, events, counts, by_cost = tables[team.role]
            executed = self._executed[number][by_cost]
            np.add.at(totals, (events, team.nodes[indices]), counts * executed)
        first = int(self._state[at.H_EVENTS])
        for number, event in _MESSAGE_EVENTS.items():
            place = first + number * len(names)
            totals[_NUMBERS[event]] += self._state[place : place + len(names)]
        found = {
            (event, names[node]): int(totals[number, node])
            for number, event in enumerate(_EVENTS)
            for node in np.flatnonzero(totals[number]).tolist()
        }
        for key, count in self._hosts.ledger.events.items() if self._hosts is not None else ():
            found[key] = found.get(key, 0) + count
        return {key: found[key] for key in sorted(found, key=lambda k: (_NUMBERS[k[0]], k[1])) if found[key]}


def _event_table(costs: Sequence[Cost]) -> tuple[Words, Words, Words, Words]:
    """Of each event of each cost: the instruction, the event, how often, and the cost's number."""
    rows = [
        (cost.index, _NUMBERS[event], count, number)
        for number, cost in enumerate(costs)
        for event, count in cost.events
    ]
    found = np.array(rows, np.int64).reshape(-1, 4).T
    return found[0], found[1], found[2], found[3]
