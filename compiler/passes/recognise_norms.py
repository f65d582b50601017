"""Find normalisations, however they are written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from compiler.ir import meaning
from compiler.ir.graph import Add, Mul, Node, Norm, NormKind, Onnx, Value
from compiler.ir.rewrite import Editor
from compiler.ir.tensor import Array, tensor
from compiler.ops.call import Attributes, KernelError
from compiler.ops.registry import Trait, trait_of
from compiler.pipeline import Compilation, Finding, Pass
from compiler.recognition.heads import parts_of, put_on_rows
from compiler.recognition.regions import (
    Prober,
    Survey,
    grow,
    is_onnx,
    merge_sources,
    narrowings,
    only_constants,
    random_rows,
    scalar,
)

_NATIVE = {
    ("", "LayerNormalization"): NormKind.LAYER,
    ("", "RMSNormalization"): NormKind.RMS,
    ("", "SimplifiedLayerNormalization"): NormKind.RMS,
}

SMALLEST = 1e-24
"""The epsilon of a norm that has none, but makes zeros of zeros."""


@dataclass(frozen=True)
class RecogniseNorms(Pass):
    """Find RMS and layer normalisations: native nodes, and regions around a square root that compute one.

    x * rsqrt(mean(x^2) + eps) * gamma                       == norm[rms](x; gamma)
    (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * gamma + beta == norm[layer](x; gamma, beta)
    norm(x) * gamma, with gammas of its own for each head         == mul(norm[groups](x); gamma)
    """

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.graph`."""
        editor = Editor(c.require_graph())
        editor.changed = False
        survey = Survey(editor)
        finder = _Finder(survey, Prober(survey))
        for node in list(editor.nodes()):
            if editor.holds(node):
                _native(finder, node) or finder.visit(node)
        for node in list(editor.nodes()):
            if editor.holds(node):
                _scaled_by_head(finder, node)
        left = [n for n in editor.nodes() if _is_native(n) and editor.shape(n.inputs[0])]
        c.findings += [Finding(n.sources[0], *_why(editor, n)) for n in left]
        c.graph = editor.finish()
        return editor.changed


def _is_native(node: Node) -> bool:
    return isinstance(node.op, Onnx) and (node.op.domain, node.op.kind) in _NATIVE


def _why(editor: Editor, node: Node) -> tuple[str, str]:
    """Why a native norm was not taken, and what to do."""
    if any(editor.constant(i) is None for i in node.inputs[1:] if i):
        return "its scale or its bias is no constant of the file", "make them weights of the file"
    shape = editor.shape(node.inputs[0])
    width = shape[-1] if shape else None
    if width is None:
        return (
            "the shape of its rows does not follow from the model's input shapes",
            "fix free axes with --dim",
        )
    if any(editor.constants[i].count != width for i in node.inputs[1:] if i):
        return "its scale or its bias differs from row to row", "one number for each feature is supported"
    return (
        "only the norm of whole rows is supported, without its mean and deviation",
        "normalise the last axis",
    )


def _native(finder: _Finder, node: Node) -> bool:
    editor = finder.survey.editor
    if _is_native(node):
        node = _with_scales_apart(finder, node)
    kind = _NATIVE.get((node.op.domain, node.op.kind)) if isinstance(node.op, Onnx) else None
    shape = editor.shape(node.inputs[0]) if node.inputs else None
    if kind is None or shape is None or any(editor.constant(i) is None for i in node.inputs[1:] if i):
        return False
    if any(editor.users(v.name) or v.name in editor.outputs for v in node.outputs[1:]):
        return False  # it is also asked for the mean or the variance
    assert isinstance(node.op, Onnx)
    attributes = Attributes(node.op)
    vectors = [editor.constants[i] for i in node.inputs[1:] if i]
    if attributes.integer("axis", -1) not in (-1, len(shape) - 1) or any(
        v.count != shape[-1] for v in vectors
    ):
        return False
    value = Value(node.output.name, editor.value(node.inputs[0]).dtype, shape)  # type: ignore[union-attr]
    names = [finder.vector(i, vectors[0].count) for i in node.inputs[1:] if i]
    root, inner = finder.centred(node.inputs[0]) if kind is NormKind.RMS else (node.inputs[0], ())
    # rms(x - mean(x)) == layer(x)
    op = Norm(NormKind.LAYER if inner else kind, attributes.number("epsilon", 1e-5))
    new = Node(op, (root, *names), (value,), (*inner, *node.sources))
    if not _by_head(finder, node, new):
        editor.replace(node, new)
    return True


def _is_part(survey: Survey, node: Node, width: int = 0) -> bool:
    """Whether a node may be part of a normalisation (of rows this wide): elementwise or a mean, with constants."""
    if trait_of(node.op) not in (Trait.ELEMENTWISE, Trait.REDUCTION) or not only_constants(survey, node):
        return False
    constants = [c for i in node.inputs if (c := survey.editor.constant(i)) is not None]
    if width and any(c.dtype.is_float and c.count not in (1, width) for c in constants):
        return False
    # Vectors get stand-ins; numbers must be known.
    return all(c.has_data or c.count > 1 for c in constants)


@dataclass(frozen=True, slots=True)
class _Match:
    """`value` is `op` of the root, with these constants, times `factor`."""

    node: Node
    op: Norm
    gamma: str | None
    beta: str | None
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class _Finder:
    survey: Survey
    prober: Prober

    def visit(self, node: Node) -> bool:
        """Try the region around `node` if it is a root of something."""
        editor = self.survey.editor
        power = scalar(editor, node.inputs[1]) if is_onnx(node, "Pow") else None
        if not is_onnx(node, "Sqrt") and (power is None or abs(power) != 0.5):
            return False
        if not self.survey.is_data(node.output.name):
            return False
        for root in reversed(narrowings(self.survey, node.inputs[0], lambda n: _is_part(self.survey, n))):
            shape = editor.shape(root)
            if shape is None or not isinstance(width := shape[-1], int) or width < 2:
                continue
            match = self._match(root, width, node)
            if match is not None:
                self._rewrite(root, match)
                return True
        return False

    def centred(self, name: str) -> tuple[str, tuple[str, ...]]:
        """The rows of which `name` is what is left without their mean, and the nodes that take it off; else itself."""
        for root in narrowings(self.survey, name, lambda n: _is_part(self.survey, n), limit=4):
            shape = self.survey.editor.shape(root)
            if shape is None or not isinstance(width := shape[-1], int) or width < 2:
                continue
            nodes = grow(self.survey, root, lambda n: _is_part(self.survey, n, width), limit=4)
            rows = random_rows(1, 3, width)
            try:
                values = self.prober.evaluate(self.prober.at(3), nodes, {root: rows})
            except (KernelError, ValueError, IndexError):
                continue
            wanted = rows - rows.mean(axis=-1, keepdims=True)
            if name in values and values[name].shape == rows.shape and np.allclose(values[name], wanted):
                return root, merge_sources(nodes)
        return name, ()

    def _match(self, root: str, width: int, anchor: Node) -> _Match | None:
        nodes = grow(self.survey, root, lambda n: _is_part(self.survey, n, width))
        if anchor not in nodes:
            return None
        stand_ins = {root: random_rows(1, 3, width)} | self._stand_ins(nodes, width)
        try:
            values = self.prober.evaluate(self.prober.at(3), nodes, stand_ins)
        except (KernelError, ValueError, IndexError):
            return None  # it does not work on rows
        used = self._constants(nodes)
        for node in reversed(nodes[nodes.index(anchor) :]):
            result = values[node.output.name]
            if result.shape != (1, 3, width) or node.output.name not in used:
                continue
            for op, gamma, beta in _candidates(self.survey.editor, used[node.output.name], width):
                scale, shift = (stand_ins[n] if n else None for n in (gamma, beta))
                expected = meaning.norm(
                    op, stand_ins[root], np.ones(width) if scale is None else scale, shift
                )
                known = gamma is None or self.survey.editor.constants[gamma].has_data
                factor = _factor(result, expected)
                if factor not in (None, 1.0) and (beta is not None or not known):
                    factor = None
                if factor is not None:
                    return _Match(node, self._guarded(op, root, nodes, node, width), gamma, beta, factor)
        return None

    def _guarded(self, op: Norm, root: str, nodes: list[Node], last: Node, width: int) -> Norm:
        """The norm with an epsilon, if it has none but something else keeps rows of zeros from being divided by zero.

        x / max(|x|, e) and x / (|x| + e) are x / |x| for all rows that are not about as small as e.
        """
        if op.eps:
            return op
        with np.errstate(all="ignore"):
            zeros = {root: np.zeros((1, 3, width))} | self._stand_ins(nodes, width)
            got = self.prober.evaluate(self.prober.at(3), nodes, zeros)[last.output.name]
        return replace(op, eps=SMALLEST) if np.all(got == 0) else op

    def _stand_ins(self, nodes: list[Node], width: int) -> dict[str, Array]:
        """Random values for the vectors, so that gammas of all ones cannot hide what they do."""
        found: dict[str, Array] = {}
        for node in nodes:
            for name in node.inputs:
                constant = self.survey.editor.constant(name)
                if constant is not None and constant.count == width and constant.dtype.is_float:
                    data = np.random.default_rng(len(found) + 1).standard_normal(constant.shape)
                    found.setdefault(name, data)
        return found

    def _constants(self, nodes: list[Node]) -> dict[str, set[str]]:
        """For each value of the region, the constants it is computed with."""
        used: dict[str, set[str]] = {}
        for node in nodes:
            mine: set[str] = set()
            for name in node.inputs:
                mine |= used.get(name, {name} if self.survey.editor.constant(name) is not None else set())
            used.update((value.name, mine) for value in node.outputs)
        return used

    def _rewrite(self, root: str, match: _Match) -> None:
        editor, node = self.survey.editor, match.node
        value = editor.value(root)
        assert value is not None and value.shape is not None
        width = value.shape[-1]
        assert isinstance(width, int)
        names = [n if n is None else self.vector(n, width) for n in (match.gamma, match.beta)]
        inputs = (root, self._scaled(names[0], match, width)) + ((names[1],) if names[1] else ())
        inner = [
            n for n in grow(self.survey, root, lambda n: _is_part(self.survey, n)) if _leads(editor, n, node)
        ]
        output = Value(node.output.name, value.dtype, value.shape)
        new = Node(match.op, inputs, (output,), merge_sources(inner))
        if not _by_head(self, node, new):
            editor.replace(node, new)

    def _scaled(self, gamma: str | None, match: _Match, width: int) -> str:
        """The scale of a norm, with the number that its result is multiplied by."""
        editor, constant = self.survey.editor, self.survey.editor.constants.get(gamma or "")
        if constant is not None and match.factor == 1.0:
            return gamma or ""
        data = np.ones(width) if constant is None else constant.data().astype(np.float64)
        scale = tensor((data * match.factor).astype(np.float32))
        return editor.add_constant(f"{match.node.output.name}.gamma", scale)

    def vector(self, name: str, width: int) -> str:
        """The constant as a vector ([1, 1, d] occurs)."""
        constant = self.survey.editor.constants[name]
        if constant.shape == (width,):
            return name
        return self.survey.editor.add_constant(f"{name}.row", constant.reshape((width,)))


def _by_head(finder: _Finder, old: Node, new: Node) -> bool:
    """Put a norm of single heads on the rows they are parts of: norm(split(x)) == split(norm[groups](x)).

    Replaces `old`; False (and nothing done) if `new` does not work on parts of rows.
    """
    parts = parts_of(finder.survey, finder.prober, new.inputs[0], new.output)
    if parts is None:
        return False
    assert isinstance(new.op, Norm)
    merged = replace(old, outputs=(new.output,), sources=new.sources)
    finder.survey.editor.replace(old, merged)
    put_on_rows(finder.survey, parts, merged, replace(new.op, groups=parts.heads), new.inputs[1:])
    return True


def _scaled_by_head(finder: _Finder, node: Node) -> None:
    """A factor or a summand with numbers of its own for each head: one of the whole rows."""
    editor, data = finder.survey.editor, finder.survey.data_inputs(node)
    shape = node.output.shape
    if not is_onnx(node, "Mul", "Add") or len(data) != 1 or shape is None or len(shape) != 4:
        return
    constant = next((c for i in node.inputs if (c := editor.constant(i)) is not None), None)
    depth = shape[-1]
    if (
        constant is None
        or not isinstance(depth, int)
        or constant.count in (1, depth)
        or not constant.has_data
    ):
        return
    if editor.shape(data[0]) != shape or constant.count % depth:
        return
    parts = parts_of(finder.survey, finder.prober, data[0], node.output)
    if parts is None or constant.count != parts.heads * depth:
        return
    alone = (1, parts.heads, 1, depth) if parts.tokens_at == 2 else (1, 1, parts.heads, depth)
    if (1,) * (4 - len(constant.shape)) + constant.shape != alone:
        return
    row = editor.add_constant(f"{node.output.name}.row", constant.reshape((constant.count,)))
    op = Mul() if is_onnx(node, "Mul") else Add()
    put_on_rows(finder.survey, parts, node, op, (row,))


def _with_scales_apart(finder: _Finder, node: Node) -> Node:
    """A native norm whose scale has numbers of its own for each head, as one without, a product and a sum."""
    editor, output = finder.survey.editor, node.output
    shape = editor.shape(node.inputs[0])
    width = shape[-1] if shape is not None and len(shape) == 4 else None
    given = [editor.constant(i) for i in node.inputs[1:] if i]
    by_head = all(c is not None and len(c.shape) > 1 and c.shape[-1] == width for c in given)
    if not isinstance(width, int) or not given or not by_head or all(c and c.count == width for c in given):
        return node
    names = [editor.fresh(f"{output.name}.{i}") for i in range(len(given))]
    values = [*(replace(output, name=n, shape=shape) for n in names), output]
    ones = editor.add_constant(f"{output.name}.ones", tensor(np.ones(width, np.float32)))
    plain = replace(node, inputs=(node.inputs[0], ones), outputs=(values[0], *node.outputs[1:]))
    editor.replace(node, plain)
    kinds = zip(("Mul", "Add"), (i for i in node.inputs[1:] if i), strict=False)
    for at, (kind, name) in enumerate(kinds):
        inputs = (values[at].name, name)
        editor.insert(Onnx("", kind, 18), inputs, values[at + 1], node.sources)
        finder.survey.note(values[at].name)
    return plain


def _factor(result: Array, expected: Array) -> float | None:
    """By what one number `expected` has to be multiplied to be `result`, 1 where it need not; None if by none.

    A free factor could hide another epsilon, so it has to fit more exactly.
    """
    if np.allclose(result, expected, rtol=2.5e-7, atol=1e-9):
        return 1.0
    with np.errstate(all="ignore"):
        factor = float(np.median(result / expected))
    fits = np.isfinite(factor) and factor and np.allclose(result, expected * factor, rtol=1e-9, atol=0)
    return factor if fits else None


def _candidates(editor: Editor, used: set[str], width: int) -> Iterator[tuple[Norm, str | None, str | None]]:
    """Every normalisation that the constants in `used` allow."""
    vectors = sorted(
        n for n in used if editor.constants[n].count == width and editor.constants[n].dtype.is_float
    )
    numbers = (scalar(editor, n) for n in used)
    epsilons = [*sorted({n for n in numbers if n is not None and 0 < n < 0.1}), 0.0]
    pairs: list[tuple[str | None, str | None]] = []
    match vectors:
        case []:
            pairs = [(None, None)]
        case [one]:
            pairs = [(one, None), (None, one)]
        case [one, two]:
            pairs = [(one, two), (two, one)]
    for kind in NormKind:
        for eps in epsilons:
            for gamma, beta in pairs:
                if kind is NormKind.LAYER or beta is None:
                    yield Norm(kind, eps), gamma, beta


def _leads(editor: Editor, node: Node, target: Node) -> bool:
    """Whether `target` is computed (in a few steps) from `node`."""
    if node is target:
        return True
    reached = {v.name for v in node.outputs}
    for _ in range(16):
        users = [u for name in reached for u in editor.users(name)]
        if any(u is target for u in users):
            return True
        reached = {v.name for u in users if editor.rank(u) < editor.rank(target) for v in u.outputs}
        if not reached:
            break
    return False
