"""What a step takes on the CIM side: compiled programs, simulated; energy with what leaks for the whole token.

The step is one token of each sequence, at the end of the context.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from benchmarks.headline.cases import Cell, Scope, Way
from benchmarks.headline.parts import Parts
from benchmarks.headline.systems import chip_bytes, chips_of, needed_bytes, with_instant_host
from isa.events import Bound, Category, Component, Event, Static
from isa.hardware import Hardware
from isa.program import Program, Segment, segments_of
from isa.turns import in_turns, turns_of
from runtime.energy import Energy, energy_of, powered
from runtime.fast import timer_of
from runtime.hostwork import with_hosts
from runtime.timing.result import StepCost

Events = Mapping[tuple[Event, str], int]


@dataclass(frozen=True, slots=True)
class Run:
    """A program's step: with the host that the target has, and (hybrid) with one that takes no time."""

    program: Program
    whole: StepCost
    chips: StepCost


@dataclass(frozen=True, slots=True)
class Charge:
    """What a scope is charged on a CIM system: time, energy by category and component, and why.

    `latency_s` is the scope's, `token_s` that of the whole token, for which static power is charged. Joules are of
    `components` (`arrays`) and of kinds of static power (`statics`). `bound_by` are shares of the critical path of all
    that was simulated for it: the chips' step, or the token.
    """

    way: Way
    scope: Scope
    latency_s: float
    token_s: float
    dynamic_j: float
    write_j: float
    static_j: float
    components: Mapping[str, float]
    statics: Mapping[str, float]
    bound_by: Mapping[str, float]

    @property
    def energy_j(self) -> float:
        """All of it."""
        return self.dynamic_j + self.write_j + self.static_j


@dataclass(frozen=True, slots=True)
class Built:
    """The system that a program runs on: chips, tiles in use, cells in bytes, and how many of them are needed."""

    target: str
    chips: int
    tiles: int
    cell_bytes: int
    needed_bytes: int


def built(cell: Cell, place: str, program: Program) -> Built:
    """The size of a cell's system."""
    target, chips = program.target, chips_of(program.target)
    return Built(
        target.name, chips, program.tile_count, chips * chip_bytes(target), needed_bytes(cell, place)
    )


def step_of(program: Program, context: int) -> tuple[Segment, ...]:
    """A token of every sequence, the last of the context."""
    limits = program.step_limits
    each = [
        segments_of(1, context - 1, limits.chunk, sequence=sequence) for sequence in range(limits.sequences)
    ]
    return tuple(in_turns(each, turns_of(program)))


def cost_of(program: Program, context: int, hardware: Hardware | None = None) -> StepCost:
    """What a step costs, on other hardware than it was compiled for if that is given."""
    program = program if hardware is None else replace(program, target=hardware)
    step = step_of(program, context)
    return with_hosts(program, step, timer_of(program, [step]).step(step))


def run_of(program: Program, context: int, way: Way) -> Run:
    """Simulate a step."""
    whole = cost_of(program, context)
    chips = whole
    if way is not Way.CIM:
        chips = cost_of(program, context, with_instant_host(program.target))
    return Run(program, whole, chips)


def charge_of(run: Run, scope: Scope, way: Way) -> Charge:
    """What a scope is charged on a system."""
    if way is Way.CIM:
        return cim_charge(run, scope)
    return (
        part_charge(run, scope)
        if (way, scope) == (Way.FFN, Scope.ATTENTION)
        else hybrid_charge(run, scope, way)
    )


def hybrid_charge(run: Run, scope: Scope, way: Way = Way.HYBRID) -> Charge:
    """A hybrid system: what its chips and their link take for all that is on them; end to end, with the host.

    Static power is charged for the hybrid's own token.
    """
    target, is_whole = run.program.target, scope is Scope.WHOLE
    token = run.whole.cycles / target.clock.si
    cost = run.whole if is_whole else run.chips
    events = {
        key: n for key, n in cost.events.items() if is_whole or key[0].info.component is not Component.HOST
    }
    energy = energy_of(target, events, powered(run.program), token)
    critical = {bound: n for bound, n in cost.critical.items() if is_whole or bound is not Bound.HOST}
    return _charge(way, scope, cost.cycles / target.clock.si, token, energy, critical)


def cim_charge(run: Run, scope: Scope) -> Charge:
    """A system with the whole model on its chips."""
    return _share_charge(run, run.whole, scope, Way.CIM)


def part_charge(run: Run, scope: Scope) -> Charge:
    """A part of what is on a hybrid's chips, with a host that takes no time."""
    return _share_charge(run, run.chips, scope, Way.FFN)


def _share_charge(run: Run, cost: StepCost, scope: Scope, way: Way) -> Charge:
    """A part of what is on chips: the critical path and the events of the scope's nodes, and of the static power for
    the whole token the share of the cells that hold what the scope needs.

    Where several sequences share a step, one is in a scope while others are in another: then all that the chips take
    counts as the scope's time, which is more than it takes.
    """
    target = run.program.target
    token = run.whole.cycles / target.clock.si
    parts = Parts(run.program)
    events = {key: count for key, count in cost.events.items() if parts.is_in(scope, key[1])}
    cycles = sum(n for nodes, n in cost.critical_nodes.items() if parts.is_in(scope, nodes))
    cycles = cost.cycles if run.program.step_limits.sequences > 1 else cycles
    share = 1.0 if scope is Scope.WHOLE else parts.share(scope)
    energy = energy_of(target, events, powered(run.program), token * share)
    return _charge(way, scope, cycles / target.clock.si, token, energy, cost.critical)


def _charge(
    way: Way, scope: Scope, latency: float, token: float, energy: Energy, critical: Mapping[Bound, int]
) -> Charge:
    by_category = energy.by_category
    total = sum(critical.values())
    shares = {bound.value: n / total for bound, n in critical.items() if n and total}
    components = {c.value: joules for c, joules in energy.by_component.items() if joules}
    statics = {c.key: joules for c, joules in energy.by_cause.items() if isinstance(c, Static)}
    return Charge(
        way,
        scope,
        latency,
        token,
        by_category[Category.DYNAMIC],
        by_category[Category.WRITE],
        by_category[Category.STATIC],
        components,
        statics,
        dict(sorted(shares.items(), key=lambda item: -item[1])),
    )


def host_of(run: Run) -> tuple[float, float]:
    """Seconds and joules of a hybrid's host in a step."""
    target, events = run.program.target, run.whole.events
    busy = sum(n for (event, _), n in events.items() if event is Event.HOST_BUSY_NS)
    spent = [
        n * event.joules(target) for (event, _), n in events.items() if event.info.component is Component.HOST
    ]
    return busy * 1e-9, sum(spent)
