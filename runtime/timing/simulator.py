"""Programs made ready for the simulation of time, and the simulation of steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from isa.events import Bound, Event, Resource, Sink
from isa.instruction import Unit
from isa.operands import Space
from isa.program import Program, Segment
from isa.replicas import written_out
from isa.segments import dealt
from isa.timing.agenda import Agenda
from isa.timing.collection import no_collection
from isa.timing.decode import decode_role
from isa.timing.ledger import Ledger
from isa.timing.machine import Machine
from isa.timing.memory import Memories
from isa.timing.rates import rates_of
from isa.timing.tile import Group, TileState
from runtime.segments import rows_of

from .exchange import Exchange
from .messages import Messages
from .network import Network
from .result import StepCost


@dataclass(frozen=True, slots=True)
class Run:
    """What was written down while a step was simulated."""

    ledger: Ledger
    memories: Memories
    messages: Messages


class Simulator:
    """The time and the counts of a program's steps. Needs no weights; no step depends on another."""

    def __init__(self, program: Program) -> None:
        self._copies, program = len(program.corners), written_out(program)
        self._program = program
        rates = rates_of(program.target)
        self._ops = {role.name: decode_role(role, rates) for role in program.roles}
        self._network = Network(program.target, program)
        self._exchange = Exchange(program, self._network, self._copies)

    def step(self, segments: Sequence[Segment], sink: Sink | None = None) -> StepCost:
        """Simulate one step. Raises `CimError` E0405, E0406 or E0604 on a program that does not verify."""
        with no_collection():
            cost = self._simulate(segments, sink)
        if sink is not None:
            sink.on_step(cost.cycles, cost.tokens, cost.source_rows)
        return cost

    def _simulate(self, segments: Sequence[Segment], sink: Sink | None) -> StepCost:
        self._network.reset()
        self._exchange.begin(segments)
        groups: dict[tuple[str, tuple[str, ...]], Group] = {}
        shares, each = dealt(segments, self._copies), len(self._program.tiles) // self._copies
        tiles = [self._tile(index, groups, shares[index // each]) for index in range(each * self._copies)]
        awake = [tile for tile in tiles if shares[tile.index // each]]
        agenda = Agenda(awake, Ledger(tiles, sink))
        memories = Memories(self._program.target)
        messages = Messages(self._network, self._exchange, agenda, agenda.ledger)
        Machine(self._program, awake, agenda, memories, messages).run()
        return self._cost(Run(agenda.ledger, memories, messages), list(groups.values()), segments)

    def _tile(
        self, index: int, groups: dict[tuple[str, tuple[str, ...]], Group], segments: Sequence[Segment]
    ) -> TileState:
        tile, target = self._program.tiles[index], self._program.target
        ops = self._ops[tile.role]
        group = groups.get((tile.role, tile.nodes))
        if group is None:
            group = groups[tile.role, tile.nodes] = Group(ops[0].role, tile.nodes, [0] * len(ops))
        return TileState(index, tile, target.chip_of(tile.x, tile.y), ops, group, segments)

    def _cost(self, run: Run, groups: list[Group], segments: Sequence[Segment]) -> StepCost:
        ledger = run.ledger
        path = ledger.records.path(ledger.end, ledger.last, ledger.node)
        instructions = _instructions(groups)
        tokens, source_rows = rows_of(segments)
        return StepCost(
            cycles=ledger.end,
            tokens=tokens,
            instructions=instructions,
            busy=self._busy(run, sum(instructions.values())),
            events=_events(groups, ledger.events),
            messages=ledger.messages,
            message_bytes=ledger.message_bytes,
            critical=path.by_bound,
            critical_nodes=run.messages.by_node(path.by_node),
            source_rows=source_rows,
        )

    def _busy(self, run: Run, issued: int) -> Mapping[Resource, int]:
        return {
            **{resource: run.ledger.busy.get(resource, 0) for resource in Resource},
            Resource.SEQUENCER: issued,
            Resource.LINKS: self._network.busy(Bound.NETWORK),
            Resource.CHIP_LINKS: self._network.busy(Bound.CHIP_LINKS),
            Resource.HOST_LINK: self._network.busy(Bound.HOST_LINK),
            Resource.DRAM: run.memories.busy(Space.DRAM),
            Resource.GBUF: run.memories.busy(Space.GBUF),
        }


def _instructions(groups: list[Group]) -> dict[Unit, int]:
    """Dynamic instructions by unit; the halt behind the end of a text is none."""
    counts = dict.fromkeys(Unit, 0)
    for group in groups:
        for inst, issued in zip(group.role.code, group.issued, strict=False):
            counts[inst.unit] += issued
    return counts


def _events(groups: list[Group], shared: Mapping[tuple[Event, str], int]) -> dict[tuple[Event, str], int]:
    """Counts by event and node, in a fixed order: executions times what one causes, and messages."""
    totals: dict[tuple[Event, str], int] = defaultdict(int)
    for group in groups:
        for index in range(len(group.role.code)):
            totals[Event.ISSUE, group.node(index)] += group.issued[index]
        for cost, executed in group.executed.items():
            for event, count in cost.events:
                totals[event, group.node(cost.index)] += count * executed
    for key, count in shared.items():
        totals[key] += count
    order = {event: number for number, event in enumerate(Event)}
    return {key: totals[key] for key in sorted(totals, key=lambda k: (order[k[0]], k[1])) if totals[key]}


def simulate(program: Program, segments: Sequence[Segment], *, sink: Sink | None = None) -> StepCost:
    """The cost of one step of a program; see `Simulator` for many."""
    return Simulator(program).step(segments, sink)
