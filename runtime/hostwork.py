"""What host partitions cost: operations and bytes of each node, time by a roofline, energy by the host's power.

The time of a node is the cost of calling it plus the longer of its arithmetic and its memory traffic; nodes run one
after another, each reads its inputs from memory and writes its outputs there. Views (reshapes, shape arithmetic) move
nothing. Counts follow from shapes alone, so they need no weights: see docs/host.md.
"""

from __future__ import annotations

from collections.abc import Sequence

from isa.events import Bound, Resource
from isa.hardware import Hardware
from isa.hostcount import Work, count, time_of, work_of
from isa.instruction import Unit
from isa.program import HostPart, Moment, Program, Segment
from runtime.segments import carried, rows_in
from runtime.timing.result import StepCost, merged
from runtime.within import parts_around


def part_cost(part: HostPart, tokens: int, target: Hardware, past: int = 0, source: int = 0) -> StepCost:
    """The cost of a partition for `tokens` tokens of a sequence that has `past` already, and `source` rows beside."""
    return cost_of(work_of(part.definition, tokens, past, source), target)


def cost_of(works: Sequence[Work], target: Hardware) -> StepCost:
    """The cost of nodes that run one after another on the host."""
    time = time_of(works, target)
    return StepCost(
        time.cycles,
        0,
        dict.fromkeys(Unit, 0),
        {Resource.HOST: time.cycles},
        dict(time.events()),
        0,
        0,
        {Bound.HOST: time.cycles},
        time.shares,
    )


def with_hosts(program: Program, segments: Sequence[Segment], chip: StepCost) -> StepCost:
    """The cost of a step with the host partitions that run before and after the chip; `chip` has those within the step.

    Sequences that share a step go through the host one by one; behind the chip only rows that are asked for. What has
    to do with rows of a source alone runs with its source segments.
    """
    parts = parts_around(program)
    if not parts:
        return chip
    costs = [chip]
    for number in dict.fromkeys(segment.sequence for segment in segments):
        own = [segment for segment in segments if segment.sequence == number]
        for part in parts:
            tokens, source = (_rows(program, part, own, of_source=kind) for kind in (False, True))
            if tokens or source:
                first = next(s for s in own if s.is_source is not bool(tokens))
                costs.append(part_cost(part, tokens or source, program.target, first.position, source))
    return merged(costs)


def _rows(program: Program, part: HostPart, segments: Sequence[Segment], *, of_source: bool) -> int:
    """How many rows, of tokens or of a source, a partition makes for the chip or takes from it."""
    is_before = part.moment is Moment.BEFORE
    streams = [s for s in program.streams if s.name in (part.outputs if is_before else part.inputs)]
    if not streams and not of_source:  # it works for another partition
        return sum(s.tokens if is_before else s.outputs for s in segments if not s.is_source)
    kind = [s for s in streams if s.source is of_source]
    return max((sum(rows_in(s, segment) for segment in carried(s, segments)) for s in kind), default=0)


__all__ = ["Work", "cost_of", "count", "part_cost", "with_hosts", "work_of"]
