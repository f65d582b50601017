"""The fast engine: the time and the counts of a program's steps, as the reference has them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isa.diagnostics import CimError
from isa.events import Sink
from isa.program import Program, Segment
from isa.segments import dealt
from runtime.timing.result import StepCost
from runtime.timing.simulator import Simulator

from . import layout as at
from .costs import Costs
from .outcome import Passage, passage_of
from .steps import Step
from .tally import Tally
from .template import Template, make_template
from .traces import OutsideError, Trace, Traces

_MOST_PASSAGES = 1024


class FastSimulator:
    """Simulates steps of a program; where it does not know how, and for diagnostics and sinks, the reference does.

    A step in which all tiles go through the same traces as in an earlier one passes as that did; not without `reuse`.
    """

    def __init__(self, program: Program, *, reuse: bool = True) -> None:
        self._program, self._reuse = program, reuse
        self._reference: Simulator | None = None
        self._template = make_template(program)
        if self._template is not None:
            self._costs = Costs(self._template)
            self._traces = Traces(self._template, self._costs)
            self._tally = Tally(self._template, self._template.copies)
        self._arena = np.zeros(0, np.int64)  # of the last step, for the next one
        self._passages: dict[object, Passage] = {}

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
        try:
            passage = self._passage(self._template, segments)
            while passage == at.FAR:
                self._traces.widen()
                passage = self._passage(self._template, segments)
        except (CimError, OutsideError):
            return None
        return passage.cost(self._tally, segments) if isinstance(passage, Passage) else None

    def _passage(self, template: Template, segments: Sequence[Segment]) -> Passage | int:
        """How a step passes, or why that is not known."""
        shares = dealt(segments, template.copies)
        traces = [[self._traces.of(kind, own) for kind in template.kinds] if own else [] for own in shares]
        sizes = [[(s.tokens, s.outputs, s.is_source) for s in own] for own in shares]
        key = self._traces.generation, self._forms(traces), str(sizes)
        found = self._passages.get(key) if self._reuse else None
        if found is None:
            items = [[trace.item for trace in each] or [0] * len(template.kinds) for each in traces]
            kinds = template.of_tile[1].reshape(template.copies, -1)
            starts = np.concatenate([np.array(each)[mine] for each, mine in zip(items, kinds, strict=True)])
            step = Step(template, self._costs, self._traces, starts, segments, self._arena)
            status, self._arena = step.run(), step.state
            if status != at.DONE:
                return status
            found = passage_of(template, self._costs, step)
            if step.hosts is None:
                self._keep(key, found)
        self._tally.count(traces)
        return found

    def _forms(self, traces: Sequence[Sequence[Trace]]) -> str:
        """What steps have in common that pass in the same way. Channels of a memory are alike: it makes no difference
        in which ones transfers begin, if all begin in others that are as far away from each other."""
        known = [[trace.form for trace in each] for each in traces]
        parts = [str(known)]
        for memory, stripe in enumerate(self._traces.stripes):
            turns = [trace.turns[memory] for each in traces for trace in each if trace.turns[memory] >= 0]
            parts.append(str([(turn - turns[0]) % stripe for turn in turns]))
        return " ".join(parts)

    def _keep(self, key: object, passage: Passage) -> None:
        """Keep how a step has passed, and let go of the oldest if there are very many."""
        self._passages[key] = passage
        if len(self._passages) > _MOST_PASSAGES:
            del self._passages[next(iter(self._passages))]
