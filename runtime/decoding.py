"""Runs of many decode steps, of which only a sample may be simulated; what lies between is interpolated.

A decode step takes one token of each sequence, so a step differs from the one before it in nothing but positions, and
what it costs changes little. Of a run of 1,000 steps each tenth, say, is simulated, the first and the last always; the
cycles and joules of the others lie on the lines between these. Counts by event and node are of simulated steps only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from isa.events import Event
from isa.program import Program, Segment
from runtime.bounds import Beside
from runtime.energy import energy_of, powered
from runtime.fast import Timer
from runtime.hostwork import with_hosts
from runtime.timing.result import StepCost, merged
from runtime.workers import costs_of


@dataclass(frozen=True, slots=True)
class Point:
    """What a step costs; `is_simulated` if it was not interpolated."""

    cycles: int
    joules: float
    is_simulated: bool


def sampled(count: int, every: int) -> tuple[int, ...]:
    """The numbers of the steps to simulate, of `count` steps: each `every`-th from the first on, and the last."""
    return tuple(sorted({*range(0, count, every), count - 1}))


def filled(known: Mapping[int, float]) -> list[float]:
    """The values of all steps from the first known one to the last, on straight lines between those known."""
    numbers = sorted(known)
    values = [known[numbers[0]]] if numbers else []
    for start, end in pairwise(numbers):
        slope = (known[end] - known[start]) / (end - start)
        values += (known[start] + slope * (number - start) for number in range(start + 1, end))
        values.append(known[end])
    return values


class Decoding:
    """A run of decode steps: `steps` are the segments of those to simulate, by number, the first and the last included.

    Costs are added up as they come (`total`), and set beside their bounds, so that nothing is left to do at the end and
    a long run takes little more memory. `cycles` and `joules` are those of steps simulated so far, by number. So many
    processes (`jobs`) share the work.
    """

    def __init__(
        self,
        program: Program,
        timer: Timer,
        steps: Mapping[int, tuple[Segment, ...]],
        every: int = 1,
        jobs: int = 1,
    ) -> None:
        self.program, self.steps, self.every, self._jobs = program, steps, every, jobs
        self.count = max(steps) + 1
        self.positions = tuple(segment.position for segment in steps[0] if not segment.is_source)
        self.cycles: dict[int, int] = {}
        self.joules: dict[int, float] = {}
        self.total: StepCost = merged([])
        self.beside = Beside(program)
        self._timer, self._pieces = timer, powered(program)

    def simulate(self) -> Iterator[int]:
        """Simulate the steps one after another: the number of each when it is done. One may leave off after any."""
        with costs_of(self._timer, self.steps.values(), self._jobs) as costs:
            for (number, segments), own in zip(self.steps.items(), costs, strict=True):
                cost = with_hosts(self.program, segments, own)
                self.total = merged([self.total, cost])
                self.beside.add(segments, cost.cycles)
                self.cycles[number] = cost.cycles
                self.joules[number] = self._joules(cost)
                yield number

    def points(self) -> list[Point]:
        """All steps from the first to the last that was simulated."""
        cycles, joules = filled(self.cycles), filled(self.joules)
        both = zip(cycles, joules, strict=True)
        return [Point(round(c), j, number in self.cycles) for number, (c, j) in enumerate(both)]

    def _joules(self, cost: StepCost) -> float:
        """The energy of a step, static energy included."""
        counts: dict[tuple[Event, str], int] = {}
        for (event, _), count in cost.events.items():
            counts[event, ""] = counts.get((event, ""), 0) + count
        target = self.program.target
        return energy_of(target, counts, self._pieces, cost.cycles / target.clock.si).total
