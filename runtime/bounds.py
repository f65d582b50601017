"""Steps beside their lower bounds: by phase, how far what was measured is from the least (docs/bound.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from isa.bound import Bound, bound
from isa.bound.points import standard_steps
from isa.program import Program, Segment

if TYPE_CHECKING:
    from runtime.timing.result import StepCost

_ROUNDED = 16  # rows of context: steps of a generation share bounds; of fewer rows it is not more


class Phase(Enum):
    """What a step does."""

    SOURCE = "source"  # it brings rows of a source
    PREFILL = "prefill"  # it takes several tokens of a sequence
    DECODE = "decode"  # one token of each of its sequences


def phase_of(segments: Sequence[Segment]) -> Phase:
    """The phase of a step."""
    if any(segment.is_source for segment in segments):
        return Phase.SOURCE
    sequences = {segment.sequence for segment in segments}
    return Phase.DECODE if sum(s.tokens for s in segments) == len(sequences) else Phase.PREFILL


def bound_of(program: Program, segments: Sequence[Segment]) -> Bound | None:
    """The least cycles of a step of a program; None if the program does not say what its model's work is."""
    if phase_of(segments) is Phase.DECODE:  # a shorter context is never dearer
        segments = [replace(s, position=s.position // _ROUNDED * _ROUNDED) for s in segments]
    return bound(program.target, program.workload, segments)


@dataclass(frozen=True, slots=True)
class PhaseBound:
    """The steps of a phase: cycles measured and at least, and what binds the step with the largest bound."""

    phase: Phase
    steps: int
    cycles: int
    least: int
    binding: str

    @property
    def ratio(self) -> float:
        """Measured over least."""
        return self.cycles / self.least if self.least else float("inf")


def by_phase(
    program: Program, steps: Sequence[tuple[Segment, ...]], costs: Sequence[StepCost]
) -> tuple[PhaseBound, ...]:
    """The steps of a run against their bounds, phase by phase; nothing for a program without work."""
    found: dict[Phase, list[tuple[int, Bound]]] = {}
    for segments, cost in zip(steps, costs, strict=True):
        least = bound_of(program, segments)
        if least is not None:
            found.setdefault(phase_of(segments), []).append((cost.cycles, least))
    return tuple(
        PhaseBound(
            phase,
            len(found[phase]),
            sum(cycles for cycles, _ in found[phase]),
            sum(least.cycles for _, least in found[phase]),
            max((least for _, least in found[phase]), key=lambda b: b.cycles).binding.value,
        )
        for phase in Phase
        if phase in found
    )


def standard_points(program: Program) -> tuple[tuple[str, Bound], ...]:
    """Bounds of `standard_steps`. Empty for a program without work."""
    found = ((name, bound_of(program, segments)) for name, segments in standard_steps(program))
    return tuple((name, least) for name, least in found if least is not None)
