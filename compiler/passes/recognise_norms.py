"""Find normalisations, however they are written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from compiler.ir import meaning
from compiler.ir.graph import Node, Norm, NormKind, Onnx, Value
from compiler.ir.rewrite import Editor
from compiler.ir.tensor import Array, tensor
from compiler.ops.call import Attributes, KernelError
from compiler.ops.registry import Trait, trait_of
from compiler.pipeline import Compilation, Pass
from compiler.recognition.layouts import follow, from_rows, sequence_axis, take_columns
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


@dataclass(frozen=True)
class RecogniseNorms(Pass):
    """Find RMS and layer normalisations: native nodes, and regions around a square root that compute one.

    x * rsqrt(mean(x^2) + eps) * gamma                       == norm[rms](x; gamma)
    (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * gamma + beta == norm[layer](x; gamma, beta)
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
        c.graph = editor.finish()
        return editor.changed


def _native(finder: _Finder, node: Node) -> bool:
    editor = finder.survey.editor
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
    op = Norm(kind, attributes.number("epsilon", 1e-5))
    value = Value(node.output.name, editor.value(node.inputs[0]).dtype, shape)  # type: ignore[union-attr]
    names = (finder.vector(i, vectors[0].count) for i in node.inputs[1:] if i)
    new = Node(op, (node.inputs[0], *names), (value,), node.sources)
    if not by_head(finder.survey, finder.prober, node, new):
        editor.replace(node, new)
    return True


def _is_part(survey: Survey, node: Node) -> bool:
    """Whether a node may be part of a normalisation: elementwise or a mean, with constants."""
    if trait_of(node.op) not in (Trait.ELEMENTWISE, Trait.REDUCTION) or not only_constants(survey, node):
        return False
    constants = (survey.editor.constant(i) for i in node.inputs)
    # Vectors get stand-ins; numbers must be known.
    return all(c is None or c.has_data or c.count > 1 for c in constants)


@dataclass(frozen=True, slots=True)
class _Match:
    """`value` is `op` of the root, with these constants."""

    node: Node
    op: Norm
    gamma: str | None
    beta: str | None


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

    def _match(self, root: str, width: int, anchor: Node) -> _Match | None:
        nodes = grow(self.survey, root, lambda n: _is_part(self.survey, n))
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
                if np.allclose(result, expected, rtol=1e-7, atol=1e-9):
                    return _Match(node, op, gamma, beta)
        return None

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
        gamma = names[0] or editor.add_constant(
            f"{node.output.name}.gamma", tensor(np.ones(width, np.float32))
        )
        inputs = (root, gamma) + ((names[1],) if names[1] else ())
        inner = [
            n for n in grow(self.survey, root, lambda n: _is_part(self.survey, n)) if _leads(editor, n, node)
        ]
        output = Value(node.output.name, value.dtype, value.shape)
        new = Node(match.op, inputs, (output,), merge_sources(inner))
        if not by_head(self.survey, self.prober, node, new):
            editor.replace(node, new)

    def vector(self, name: str, width: int) -> str:
        """The constant as a vector ([1, 1, d] occurs)."""
        constant = self.survey.editor.constants[name]
        if constant.shape == (width,):
            return name
        return self.survey.editor.add_constant(f"{name}.row", constant.reshape((width,)))


def by_head(survey: Survey, prober: Prober, old: Node, new: Node) -> bool:
    """Put a norm of single heads on the rows they are parts of: norm(split(x)) == split(norm[groups](x)).

    Replaces `old`; False (and nothing done) if `new` does not work on parts of rows.
    """
    editor, output = survey.editor, new.output
    if output.shape is None or len(output.shape) != 4 or (at := sequence_axis(editor, output)) is None:
        return False
    moved = follow(survey, prober, prober.at(3, batch=2), new.inputs[0])
    if moved is None or len(moved.region.roots) != 1 or moved.scale != 1.0:
        return False
    (rows,) = moved.region.roots
    shape = editor.shape(rows)
    numbers = moved.tags.swapaxes(1, at)
    if shape is None or len(shape) != 3 or not isinstance(width := shape[-1], int):
        return False
    columns = numbers.reshape(-1, numbers.shape[2] * numbers.shape[3]) - 1
    columns = columns - width * np.arange(len(columns))[:, None]
    if not np.array_equal(columns, np.broadcast_to(columns[0], columns.shape)):
        return False
    part = take_columns(survey, rows, columns[0], f"{output.name}.input")
    if part is None:
        return False
    rows, shape = part, (*shape[:-1], columns.shape[1])
    assert isinstance(new.op, Norm)
    sources = (*moved.region.sources, *new.sources)
    made = Value(editor.fresh(f"{output.name}.rows"), output.dtype, shape)
    heads = numbers.shape[2]
    editor.remove(old)
    editor.insert(replace(new.op, groups=heads), (rows, *new.inputs[1:]), made, sources)
    survey.note(made.name)
    from_rows(survey, made.name, heads, output, sources)
    return True


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
