"""What happens between the scores and the probabilities: scale, soft cap and mask, told by probing.

The mask is not parsed. It is a control value, or made by control values: with no padding it follows
from the sizes alone. So the scores are replaced by zeros, the chain is evaluated for several lengths
of past and step, and the keys whose probability is not zero are the visible ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from compiler.ir import meaning
from compiler.ir.evaluate import Interpreter, UnavailableError
from compiler.ir.graph import Attention, Node
from compiler.ir.tensor import Array
from compiler.ops.call import KernelError
from compiler.ops.reduction import softmax
from compiler.passes.regions import Prober, Survey, is_elementwise, is_movement, is_onnx, scalar

LONGEST_STEP = 2048
"""Windows up to this size are looked for in models without cache inputs (a probe is quadratic there)."""

LONGEST_PAST = 1 << 20
"""Windows up to this size are looked for in models with cache inputs (a probe is linear there)."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The chain from the product of queries and keys (`start`) to the probabilities (`end`)."""

    start: str
    end: str
    nodes: tuple[Node, ...]
    scale: float
    softcap: float | None


@dataclass(frozen=True, slots=True)
class Mask:
    """Which keys a token sees."""

    causal: bool
    window: int | None = None


def read_scores(survey: Survey, node: Node) -> Scores | None:
    """The chain around a softmax: back to the product, on to the product with the values."""
    steps: list[Node] = [node]
    name = node.inputs[0]
    while True:
        before = survey.editor.producer(name)
        if before is None:
            return None
        data = survey.data_inputs(before)
        if is_onnx(before, "MatMul") and len(data) == 2:
            break
        if len(data) != 1 or not (is_elementwise(before) or is_movement(before)):
            return None
        steps.insert(0, before)
        name = data[0]
    numbers = _numbers(survey, steps)
    if numbers is None:
        return None
    end, after = _onwards(survey, node)
    return Scores(name, end, (*steps, *after), *numbers)


def _numbers(survey: Survey, steps: list[Node]) -> tuple[float, float | None] | None:
    """Scale and soft cap c: c * tanh(scale * s / c). None if the factors do not fit that form."""
    before, behind, capped = 1.0, 1.0, False
    for step in steps:
        if is_onnx(step, "Tanh"):
            if capped:
                return None
            capped = True
        elif is_onnx(step, "Mul", "Div") and (factor := _factor(survey, step)) is not None:
            before, behind = (before, behind * factor) if capped else (before * factor, behind)
    return (before * behind, behind) if capped else (before, None)


def _factor(survey: Survey, step: Node) -> float | None:
    values = [scalar(survey.editor, i) for i in step.inputs]
    if is_onnx(step, "Div"):
        return None if values[1] is None else 1.0 / values[1]
    return next((v for v in values if v is not None), None)


def _onwards(survey: Survey, node: Node) -> tuple[str, list[Node]]:
    """Past what only guards or casts the probabilities: Where(IsNaN(p), 0, p), Cast, Dropout."""
    name, passed = node.output.name, list[Node]()
    for _ in range(4):
        users = survey.editor.users(name)
        guards = [u for u in users if is_onnx(u, "IsNaN")]
        others = [u for u in users if u not in guards]
        if len(others) != 1 or not is_onnx(others[0], "Where", "Cast", "Dropout", "Identity"):
            break
        passed += [*guards, others[0]]
        name = others[0].output.name
    return name, passed


@dataclass(slots=True)
class MaskReader:
    """Finds masks; equal chains of control values are examined once."""

    survey: Survey
    prober: Prober
    _windows: dict[frozenset[str], tuple[int, ...]] = field(default_factory=dict)

    def read(self, scores: Scores, heads: int) -> Mask | str:
        """The mask of a chain, checked on random scores; or why it is none that can be expressed."""
        try:
            mask = self._shape(scores, heads)
            if isinstance(mask, str):
                return mask
            for sequence, past in ((4, 0), (3, 5), (1, 6)):
                if not self._agrees(scores, heads, self.prober.at(sequence, past), mask):
                    return "the scores get more than a scale, a soft cap and a mask (a bias by position?)"
        except (UnavailableError, KernelError, ValueError, IndexError, TypeError) as error:
            return f"the mask cannot be evaluated: {error}"
        return mask

    def _shape(self, scores: Scores, heads: int) -> Mask | str:
        causal: set[bool] = set()
        for sequence, past in ((4, 0), (3, 5), (4, 1)):
            seen = self._seen(scores, heads, self.prober.at(sequence, past))
            future = np.triu(np.ones_like(seen), seen.shape[1] - seen.shape[0] + 1)
            if len(seen) > 1:
                causal.add(not (seen & future.astype(bool)).any())
        if len(causal) != 1:
            return "whether tokens see later ones depends on the length"
        window = self._window(scores, heads)
        return Mask(causal.pop(), window)

    def _seen(self, scores: Scores, heads: int, probe: Interpreter) -> Array:
        """[queries, keys]: which keys get a share when all scores are equal."""
        zeros = np.zeros(self._size(scores, heads, probe))
        shares = self._run(scores, probe, zeros)
        seen = shares.reshape(-1, *shares.shape[-2:]) > 0
        if not np.array_equal(seen, np.broadcast_to(seen[:1], seen.shape)):
            raise ValueError("heads have different masks")
        return np.asarray(seen[0])

    def _size(self, scores: Scores, heads: int, probe: Interpreter) -> tuple[int, ...]:
        shape = self.prober.shape(probe, scores.start)
        if shape is not None and len(shape) >= 3:
            return shape
        sequence, past = probe.sizes["sequence"], probe.sizes["past"]
        return (probe.sizes["batch"], heads, sequence, past + sequence)

    def _run(self, scores: Scores, probe: Interpreter, stand_in: Array) -> Array:
        with np.errstate(invalid="ignore"):
            return self.prober.evaluate(probe, scores.nodes, {scores.start: stand_in})[scores.end]

    def _agrees(self, scores: Scores, heads: int, probe: Interpreter, mask: Mask) -> bool:
        size = self._size(scores, heads, probe)
        s = np.random.default_rng(7).standard_normal(size) * 2
        got = self._run(scores, probe, s)
        op = Attention(heads, heads, 1, 1, scores.scale, mask.causal, mask.window, scores.softcap)
        s = s * scores.scale
        if scores.softcap is not None:
            s = np.tanh(s / scores.softcap) * scores.softcap
        wanted = softmax(np.where(meaning.visible(op, size[-2], size[-1]), s, -np.inf))
        return bool(np.allclose(got, wanted, rtol=1e-5, atol=1e-7))

    def _window(self, scores: Scores, heads: int) -> int | None:
        """How many tokens back a token sees. A window is a number somewhere in the mask's graph, so
        each number there is tried: with a little more past than that, is something out of sight?"""
        found: set[int] = set()
        for number in self._numbers(scores):
            probe = self._long_probe(number + 3)
            if probe is None:
                continue
            seen = self._seen(scores, heads, probe)[-1]
            if not seen.all():
                found.add(int(seen.sum()))
        return min(found) if found else None

    def _long_probe(self, tokens: int) -> Interpreter | None:
        if self.prober.has_past():
            return self.prober.at(1, tokens) if tokens <= LONGEST_PAST else None
        return self.prober.at(tokens) if tokens <= LONGEST_STEP else None

    def _numbers(self, scores: Scores) -> tuple[int, ...]:
        """The whole numbers above 1 among the constants that the mask is made of."""
        start = frozenset(i for n in scores.nodes for i in n.inputs if i and not self.survey.is_data(i))
        if start not in self._windows:
            self._windows[start] = tuple(sorted(self._constants(start)))
        return self._windows[start]

    def _constants(self, start: frozenset[str]) -> set[int]:
        found: set[int] = set()
        todo, seen = list(start), set(start)
        while todo and len(seen) < 1000:
            name = todo.pop()
            number = scalar(self.survey.editor, name)
            if number is not None and 1 < abs(number) < LONGEST_PAST and number == int(number):
                found.add(abs(int(number)))
            node = self.survey.editor.producer(name)
            for i in node.inputs if node is not None else ():
                if i and i not in seen:
                    seen.add(i)
                    todo.append(i)
        return found
