"""The fast engine: time as the reference engine (`runtime.timing`) finds it, to the bit, with compiled loops.

numba is imported when a program is simulated, not with this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from isa.events import Sink
    from isa.program import Program, Segment
    from runtime.timing.result import StepCost

_FEW = 10_000  # segments x tiles that the reference has simulated, in seconds, before loops could be compiled


class Timing(Enum):
    """Which engine finds the time of steps; they agree."""

    AUTO = "auto"
    FAST = "fast"
    REFERENCE = "reference"


class Timer(Protocol):
    """An engine with a program."""

    def step(self, segments: Sequence[Segment], sink: Sink | None = None) -> StepCost:
        """Simulate one step. Raises `CimError` E0405, E0406 or E0604 on a program that does not verify."""


def timer_of(
    program: Program,
    steps: Sequence[Sequence[Segment]],
    timing: Timing = Timing.AUTO,
    *,
    traced: bool = False,
    reuse: bool = True,
) -> Timer:
    """The engine for these steps of a program. Steps that are traced are the reference's. Without `reuse` a step is
    gone through even if it passes as an earlier one does."""
    is_little = program.tile_count * sum(map(len, steps)) < _FEW
    if timing is Timing.REFERENCE or traced or (timing is Timing.AUTO and is_little):
        from runtime.timing.simulator import Simulator

        return Simulator(program)
    from .simulator import FastSimulator

    return FastSimulator(program, reuse=reuse)


__all__ = ["Timer", "Timing", "timer_of"]
