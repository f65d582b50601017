"""The fast engine: the time and the counts of a program's steps, as the reference has them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isa.diagnostics import CimError
from isa.events import Sink
from isa.program import Program, Segment
from runtime.timing.result import StepCost
from runtime.timing.simulator import Simulator

from . import layout as at
from .costs import Costs
from .outcome import Outcome
from .steps import Step
from .template import make_template
from .traces import OutsideError, Traces


class FastSimulator:
    """Simulates steps of a program; where it does not know how, and for diagnostics and sinks, the reference does."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._reference: Simulator | None = None
        self._template = make_template(program)
        if self._template is not None:
            self._costs = Costs(self._template)
            self._traces = Traces(self._template, self._costs)
        self._arena = np.zeros(0, np.int64)  # of the last step, for the next one

    def step(self, segments: Sequence[Segment], sink: Sink | None = None) -> StepCost:
        """Simulate one step. Raises `CimError` E0405, E0406 or E0604 on a program that does not verify."""
        found = self.alone(segments) if sink is None else None
        if found is not None:
            return found
        if self._reference is None:
            self._reference = Simulator(self._program)
        return self._reference.step(segments, sink)

    def alone(self, segments: Sequence[Segment]) -> StepCost | None:
        """Simulate one step without the reference; None if that has to do it."""
        if self._template is None or not segments:
            return None
        self._traces.begin()
        while True:
            try:
                step = Step(self._template, self._costs, self._traces, segments, self._arena)
                status = step.run()
            except (CimError, OutsideError):
                return None
            self._arena = step.state
            if status != at.FAR:
                break
            self._traces.widen()
        if status != at.DONE:
            return None
        return Outcome(self._template, self._costs, step).cost(segments)
