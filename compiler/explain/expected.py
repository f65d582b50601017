"""What steps of a program are predicted to take, on its target and on others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from compiler.cost import Prediction, Predictor
from isa.bound import bound
from isa.events import Bound
from isa.hardware import Hardware
from isa.program import Program, Segment

from .words import listed, share

NAMES = {
    Bound.CIM: "arrays",
    Bound.VECTOR: "vector units",
    Bound.DMA: "transfers by DMA",
    Bound.NETWORK: "links of the mesh",
    Bound.CHIP_LINKS: "links between chips",
    Bound.HOST_LINK: "the host link",
    Bound.DRAM: "DRAM",
    Bound.GBUF: "global buffers",
    Bound.HOST: "the host",
    Bound.SEQUENCER: "issue of instructions",
}


class Expectation:
    """What a step takes: predicted, or at least, where the cost model cannot tell."""

    def __init__(self, program: Program) -> None:
        self._program = program
        predictor = Predictor(program)
        self._predictor = predictor if predictor.is_possible else None
        self._found: dict[tuple[Segment, ...], Prediction | None] = {}

    @property
    def is_predicted(self) -> bool:
        """Whether it is a prediction, not a bound."""
        return self._predictor is not None

    def prediction(self, segments: tuple[Segment, ...]) -> Prediction | None:
        """The prediction on the program's own target."""
        if segments not in self._found:
            self._found[segments] = None if self._predictor is None else self._predictor.step(segments)
        return self._found[segments]

    def cycles(self, target: Hardware, segments: tuple[Segment, ...]) -> int | None:
        """Cycles on a target; None if nothing is known of the work."""
        if not self.is_predicted:
            least = bound(target, self._program.workload, segments)
            return None if least is None else least.cycles
        found = self.prediction(segments) if target is self._program.target else None
        if found is None:
            found = Predictor(replace(self._program, target=target), self._predictor).step(segments)
        return found.cycles


def in_words(prediction: Prediction) -> str:
    """What a predicted step is spent on, most first."""
    return listed(list(_parts(prediction)))


def _parts(prediction: Prediction) -> Iterator[str]:
    total = sum(prediction.critical.values())
    for limit, cycles in sorted(prediction.critical.items(), key=lambda item: -item[1]):
        if 100 * cycles >= total:
            yield f"{NAMES[limit]} {share(cycles, total)}"
