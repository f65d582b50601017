"""Steps beside their lower bounds: by phase, how far what was measured is from the least (docs/bound.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from isa.bound import Bound, bound
from isa.program import Limits, Program, Segment, segments_of

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


def standard_steps(program: Program) -> tuple[tuple[str, tuple[Segment, ...]], ...]:
    """The steps that stand for a program: a token at the full context, and a segment of tokens there; for an encoder, a
    whole sequence. Every sequence takes part.
    """
    limits, longest = program.limits, program.limits.max_context
    attended = [s.attention for s in program.workload.sections() if s.attention is not None]
    if any(not a.causal and not a.cross for a in attended):
        steps = {f"a sequence of {longest:,} tokens": (longest, 0)}
    else:
        start = (longest - 1) // limits.chunk * limits.chunk
        steps = {"a token": (1, longest - 1), f"{longest - start} tokens": (longest - start, start)}
    return tuple((name, _step(limits, *step)) for name, step in steps.items())


def _step(limits: Limits, tokens: int, position: int) -> tuple[Segment, ...]:
    """So many tokens of every sequence, each with all rows of a source."""
    one_by_one = (
        segments_of(tokens, position, limits.chunk, last_only=tokens == 1, sequence=sequence)
        for sequence in range(limits.sequences)
    )
    return tuple(replace(s, source=limits.max_source) for cut in one_by_one for s in cut)


def standard_points(program: Program) -> tuple[tuple[str, Bound], ...]:
    """Bounds of `standard_steps`. Empty for a program without work."""
    found = ((name, bound_of(program, segments)) for name, segments in standard_steps(program))
    return tuple((name, least) for name, least in found if least is not None)
