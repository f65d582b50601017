"""Steps beside their lower bounds: by phase, how far what was measured is from the least (docs/bound.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from isa.bound import Bound, bound
from isa.bound.points import standard_steps
from isa.program import Program, Segment

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
    return bound(program.target, program.workload, _rounded(segments))


def _rounded(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """The segments that a step's bound is computed for: a shorter context is never dearer."""
    if phase_of(segments) is not Phase.DECODE:
        return tuple(segments)
    return tuple(replace(s, position=s.position // _ROUNDED * _ROUNDED) for s in segments)


@dataclass(frozen=True, slots=True)
class PhaseBound:
    """The steps of a phase: cycles measured and at least, and what binds the step with the largest bound."""

    phase: Phase
    steps: int
    cycles: int
    least: int
    binding: str
    terms: Mapping[str, int] = field(default_factory=dict)
    """Cycles by each limit by itself, all steps added."""
    chain: Mapping[str, int] = field(default_factory=dict)
    """Cycles of the first rows' ways through the model, by what they wait for."""

    @property
    def ratio(self) -> float:
        """Measured over least."""
        return self.cycles / self.least if self.least else float("inf")


class Beside:
    """Steps of a program beside their bounds, taken in one by one."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._found: dict[Phase, list[tuple[int, Bound]]] = {}
        self._known: dict[tuple[Segment, ...], Bound | None] = {}

    def add(self, segments: Sequence[Segment], cycles: int) -> None:
        """Take in a step that has taken so many cycles."""
        rounded = _rounded(segments)
        if rounded not in self._known:
            self._known[rounded] = bound_of(self._program, rounded)
        least = self._known[rounded]
        if least is not None:
            self._found.setdefault(phase_of(segments), []).append((cycles, least))

    def by_phase(self) -> tuple[PhaseBound, ...]:
        """The steps so far, phase by phase; nothing for a program without work."""
        return tuple(
            PhaseBound(
                phase,
                len(found),
                sum(cycles for cycles, _ in found),
                sum(least.cycles for _, least in found),
                max((least for _, least in found), key=lambda b: b.cycles).binding.value,
                _sums((term.name, term.cycles) for _, least in found for term in least.terms),
                _sums((limit.value, n) for _, least in found for limit, n in least.chain.items()),
            )
            for phase in Phase
            if (found := self._found.get(phase))
        )


def _sums(items: Iterable[tuple[str, int]]) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for name, cycles in items:
        sums[name] += cycles
    return {name: cycles for name, cycles in sums.items() if cycles}


def standard_points(program: Program) -> tuple[tuple[str, Bound], ...]:
    """Bounds of `standard_steps`. Empty for a program without work."""
    found = ((name, bound_of(program, segments)) for name, segments in standard_steps(program))
    return tuple((name, least) for name, least in found if least is not None)
