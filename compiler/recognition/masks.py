"""What happens between the scores and the probabilities: scale, soft cap and mask, told by probing.

The mask is not parsed. It is a control value, or made by control values: with no padding it follows
from the sizes alone. So the scores are replaced by zeros, the chain is evaluated for several lengths
of past and step, and the keys whose probability is not zero are the visible ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from compiler.ir import meaning
from compiler.ir.evaluate import Interpreter, UnavailableError
from compiler.ir.graph import Attention, Node, Role
from compiler.ir.tensor import Array
from compiler.ops.call import KernelError
from compiler.ops.reduction import softmax
from compiler.recognition.biases import read_bias
from compiler.recognition.regions import (
    Lengths,
    Prober,
    Survey,
    is_elementwise,
    is_movement,
    is_onnx,
    scalar,
    trace,
)

LONGEST_STEP = 2048
"""Windows up to this size are looked for in models without cache inputs (a probe is quadratic there)."""

LONGEST_PAST = 1 << 20
"""Windows up to this size are looked for in models with cache inputs (a probe is linear there)."""


UNSEEN = -1000.0
"""What is added to the score of a hidden key is less than this. Softmax does not tell when it is added to all."""

FAR = 600
"""The length at which a mask is looked at again."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The chain from the product of queries and keys (`start`) to the probabilities (`end`)."""

    start: str
    end: str
    nodes: tuple[Node, ...]
    scale: float
    softcap: float | None
    softmax: str = ""
    """The value that the softmax is taken of."""


@dataclass(frozen=True, slots=True)
class Mask:
    """Which keys a token sees."""

    causal: bool
    window: int | None = None
    bias: Array | None = None


_REGROUPING = ("Reshape", "Squeeze", "Unsqueeze")

SAME_FOR_ALL = "the queries, or the keys, are the same for all tokens"

NOTHING_SEEN = "without padding (masks all 1) no token sees any: a mask hides where it is 1"

NOT_A_PRODUCT = "the softmax is not over products of queries and keys"


def read_scores(survey: Survey, node: Node) -> Scores | str:
    """The chain around a softmax, back to the product, on to the product with the values; or why there is none."""
    steps: list[Node] = [node]
    name = node.inputs[0]
    while True:
        before = survey.editor.producer(name)
        if before is None:
            return NOT_A_PRODUCT
        data = survey.data_inputs(before)
        if is_onnx(before, "MatMul") and len(data) == 2:
            break
        if is_onnx(before, "MatMul") and len(set(before.inputs)) == 2:
            return SAME_FOR_ALL
        if is_onnx(before, "Add", "Where") and len(data) > 1:
            return _made_of(survey, before)
        if len(data) != 1 or not (is_elementwise(before) or is_movement(before)):
            return NOT_A_PRODUCT
        steps.insert(0, before)
        name = data[0]
    numbers = _numbers(survey, steps)
    if numbers is None:
        return "the scores get more than one soft cap"
    end, after = _onwards(survey, node)
    return Scores(name, end, (*steps, *after), *numbers, softmax=node.inputs[0])


def _made_of(survey: Survey, add: Node) -> str:
    """What is added to scores that should not be: it may be made of an input of the model alone."""
    inputs = {i.name for i in survey.editor.inputs}
    for name in survey.data_inputs(add):
        roots = trace(survey, name, lambda n: not is_onnx(n, "MatMul", "Softmax", "Gather")).roots
        if len(roots) == 1 and roots[0] in inputs:
            return f"the scores get a mask or bias that is made of the input {roots[0]!r}"
    return "a mask or bias that depends on data is added to the scores"


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
    """Past what only guards, casts or regroups the probabilities: Where(IsNaN(p), 0, p), Cast, Dropout, Reshape."""
    name, passed = node.output.name, list[Node]()
    for _ in range(4):
        users = survey.editor.users(name)
        guards = [u for u in users if is_onnx(u, "IsNaN")]
        others = [u for u in users if u not in guards]
        if len(others) != 1 or not is_onnx(others[0], "Where", "Cast", "Dropout", "Identity", *_REGROUPING):
            break
        passed += [*guards, others[0]]
        name = others[0].output.name
    return name, passed


@dataclass(slots=True)
class MaskReader:
    """Finds masks; chains that are alike are examined once."""

    survey: Survey
    prober: Prober
    _known: dict[object, Mask | str] = field(default_factory=dict)

    def read(self, scores: Scores, heads: int, cross: bool, of_source: bool = False) -> Mask | str:
        """The mask of a chain, checked on random scores; or why it is none that can be expressed.

        `cross` says that the keys are those of another sequence, `of_source` that the queries are too.
        """
        key = (self._alike(scores), heads, cross, of_source)
        if key not in self._known:
            chain = _Chain(self.survey, Lengths(self.prober, of_source), scores, heads)
            try:
                self._known[key] = chain.mask(cross)
            except (UnavailableError, KernelError, ValueError, IndexError, TypeError) as error:
                self._known[key] = f"the mask cannot be evaluated: {error}"
        return self._known[key]

    def _alike(self, scores: Scores) -> object:
        """What two chains have in common if they do the same to their scores."""
        constant = self.survey.editor.constant
        return tuple(
            (node.op, tuple("*" if self.survey.is_data(i) else constant(i) or i for i in node.inputs))
            for node in scores.nodes
        )


@dataclass(frozen=True, slots=True)
class _Chain:
    """A chain of scores, which is evaluated at chosen lengths."""

    survey: Survey
    lengths: Lengths
    scores: Scores
    heads: int

    def mask(self, cross: bool) -> Mask | str:
        """The mask, checked on random scores; or why it is none that can be expressed."""
        mask = self._shape(cross)
        if isinstance(mask, str):
            return mask
        both_ways = mask.window is not None and not mask.causal
        bias = read_bias(self.lengths, self._before, mask.causal, both_ways)
        if isinstance(bias, str):
            return bias
        mask = Mask(mask.causal, None if both_ways else mask.window, bias)
        if all(self._agrees(probe, mask) for probe in self._probes((4, 0), (3, 5), (1, 6))):
            return mask if both_ways or cross or self._holds_far(mask) else "the mask is another one far away"
        return "the scores get more than a scale, a soft cap, a mask and a bias by distance"

    def _holds_far(self, mask: Mask) -> bool:
        """Whether the last query sees in a long sequence what the mask says (a table may end before)."""
        op = Attention(1, 1, 1, 1, 1.0, mask.causal, mask.window)
        for tokens in (FAR, *sorted(self._reaches())):
            probe = self._long_probe(tokens)
            seen = None if probe is None else self._last_row(probe)
            if seen is not None and not np.array_equal(seen, meaning.visible(op, 1, len(seen))[0]):
                return False
        return True

    def _probes(self, *sizes: tuple[int, int]) -> list[Interpreter]:
        """Probes of these lengths of step and past, each once (a file may fix some)."""
        return list({id(probe): probe for probe in (self.lengths.at(*size) for size in sizes)}.values())

    def _shape(self, cross: bool) -> Mask | str:
        causal: set[bool] = set()
        for probe in self._probes((4, 0), (3, 5), (4, 1)):
            seen = self._seen(probe)
            if not seen.any():
                return NOTHING_SEEN
            future = np.triu(np.ones_like(seen), seen.shape[1] - seen.shape[0] + 1)
            if len(seen) > 1:
                causal.add(not (seen & future.astype(bool)).any())
        if cross:
            return Mask(causal=False)
        if len(causal) > 1:
            return "whether tokens see later ones depends on the length"
        if not causal:
            # A step of one token, fixed by the file, sees all there is.
            causal.add(self.lengths.has_past())
        window = self._window()
        return Mask(causal.pop(), window)

    def _seen(self, probe: Interpreter) -> Array:
        """[queries, keys]: which keys get a share when all scores are equal."""
        added, shares = self._run(probe, np.zeros)
        seen = shares.reshape(-1, *shares.shape[-2:]) > 0
        if added.max() < UNSEEN and any(i.role is Role.MASK for i in self.survey.editor.inputs):
            seen = np.zeros_like(seen)
        if not np.array_equal(seen, np.broadcast_to(seen[:1], seen.shape)):
            raise ValueError("heads have different masks")
        return np.asarray(seen[0])

    def _before(self, probe: Interpreter) -> tuple[Array, Array]:
        """[heads, queries, keys]: what is added to scores of zero, and where the keys are seen."""
        added, shares = self._run(probe, np.zeros)
        count = self.heads if added.size // (added.shape[-1] * added.shape[-2]) % self.heads == 0 else 1
        shape = (self.heads, *added.shape[-2:])
        first = [x.reshape(-1, count, *x.shape[-2:])[0] for x in (added, shares > 0)]
        return np.broadcast_to(first[0], shape), np.broadcast_to(first[1], shape)

    def _size(self, probe: Interpreter) -> tuple[int, ...]:
        shape = self.lengths.prober.shape(probe, self.scores.start)
        if shape is not None and len(shape) >= 3:
            return shape
        step, past = self.lengths.of(probe)
        return (probe.sizes["batch"], self.heads, step, past + step)

    def _run(self, probe: Interpreter, make: Callable[[tuple[int, ...]], Array]) -> tuple[Array, Array]:
        """What the softmax is taken of and the shares that come out, for scores made by `make`.

        One head and one sequence stand for all, unless reshapes on the way insist on all of them.
        """
        full = self._size(probe)
        thin = (1, 1, *full[2:]) if len(full) == 4 else full
        try:
            found = self._run_on(probe, make(thin))
        except (KernelError, ValueError, IndexError):
            return self._run_on(probe, make(full))
        whole = all(x.shape[-2:] == full[-2:] for x in found)
        return found if whole else self._run_on(probe, make(full))

    def _run_on(self, probe: Interpreter, stand_in: Array) -> tuple[Array, Array]:
        with np.errstate(invalid="ignore"):
            found = self.lengths.prober.evaluate(probe, self.scores.nodes, {self.scores.start: stand_in})
        return found[self.scores.softmax], found[self.scores.end]

    def _agrees(self, probe: Interpreter, mask: Mask) -> bool:
        made: list[Array] = []

        def random(size: tuple[int, ...]) -> Array:
            made.append(np.random.default_rng(7).standard_normal(size) * 2)
            return made[-1]

        _, got = self._run(probe, random)
        op = Attention(
            self.heads, self.heads, 1, 1, self.scores.scale, mask.causal, mask.window, self.scores.softcap
        )
        s = made[-1] * self.scores.scale
        if self.scores.softcap is not None:
            s = np.tanh(s / self.scores.softcap) * self.scores.softcap
        if mask.bias is not None:
            s = s + meaning.bias_of(mask.bias, *s.shape[-2:])
        wanted = softmax(np.where(meaning.visible(op, *s.shape[-2:]), s, -np.inf))
        # Heads may be counted with the batch.
        got = got.reshape(wanted.shape) if got.size == wanted.size else got
        return bool(np.allclose(got, wanted, rtol=1e-5, atol=1e-7))

    def _window(self) -> int | None:
        """How many tokens back a token sees. A window is a number somewhere in the mask's graph, so
        each number there is tried: with a little more past than that, is something out of sight?"""
        found: set[int] = set()
        for tokens in sorted({number + 3 for number in self._numbers()} | self._reaches()):
            probe = self._long_probe(tokens)
            seen = None if probe is None else self._last_row(probe)
            if seen is not None and not seen.all():
                found.add(int(seen.sum()))
        return min(found) if found else None

    def _reaches(self) -> set[int]:
        """Lengths up to which tables among the constants of the mask go (one more than fits would be too many)."""
        shapes = (self.survey.editor.shape(name) or () for name in self._controls())
        fixed = {n for shape in shapes for n in shape if isinstance(n, int) and n > 2}
        return {n - 1 if self.lengths.has_past() else n for n in fixed}

    def _long_probe(self, tokens: int) -> Interpreter | None:
        if self.lengths.has_past():
            return self.lengths.at(1, tokens) if tokens <= LONGEST_PAST else None
        return self.lengths.at(tokens) if tokens <= LONGEST_STEP else None

    def _last_row(self, probe: Interpreter) -> Array | None:
        """Which keys the last query sees; None if the mask does not reach that far (a table that ends)."""
        try:
            _, shares = self._run(probe, np.zeros)
        except (KernelError, ValueError, IndexError):
            return None
        return np.asarray(shares.reshape(-1, *shares.shape[-2:])[0, -1] > 0)

    def _numbers(self) -> list[int]:
        """The whole numbers above 1 among the constants that the mask is made of."""
        found = {scalar(self.survey.editor, name) for name in self._controls()}
        return sorted(
            {abs(int(n)) for n in found if n is not None and 1 < abs(n) < LONGEST_PAST and n == int(n)}
        )

    def _controls(self) -> set[str]:
        """The values and constants that the mask is made of."""
        todo = [i for n in self.scores.nodes for i in n.inputs if i and not self.survey.is_data(i)]
        seen = set(todo)
        while todo and len(seen) < 1000:
            node = self.survey.editor.producer(todo.pop())
            for i in node.inputs if node is not None else ():
                if i and i not in seen:
                    seen.add(i)
                    todo.append(i)
        return seen
