"""Find activation functions, however they are written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compiler.ir import meaning
from compiler.ir.graph import Activation, Function, Node, Onnx, Value
from compiler.ir.rewrite import Editor
from compiler.ir.tensor import Array
from compiler.ops.call import KernelError
from compiler.pipeline import Compilation, Pass
from compiler.recognition.regions import (
    Prober,
    Survey,
    grow,
    is_elementwise,
    merge_sources,
    narrowings,
    only_constants,
    scalar,
)

_BENT = frozenset(
    (
        "Erf",
        "Tanh",
        "Sigmoid",
        "Relu",
        "Gelu",
        "Swish",
        "Clip",
        "Max",
        "Exp",
        "Softplus",
    )
)
"""Operators that are not linear: every activation has one."""

GRID = np.concatenate([np.linspace(-9, 9, 73), [-1e3, -30.0, -1e-3, 0.0, 1e-3, 30.0, 1e3]])
"""Where functions are compared."""


@dataclass(frozen=True)
class RecogniseActivations(Pass):
    """Find activation functions: regions of elementwise operators with one input and numbers, told by
    their values on a grid.

    0.5 x (1 + erf(x / sqrt 2)) == gelu(x);   x sigmoid(x) == silu(x);   and so on
    """

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.graph`."""
        editor = Editor(c.require_graph())
        editor.changed = False
        survey = Survey(editor)
        prober = Prober(survey)
        for node in list(editor.nodes()):
            if editor.holds(node) and isinstance(node.op, Onnx) and node.op.kind in _BENT:
                _visit(survey, prober, node)
        c.graph = editor.finish()
        return editor.changed


def _is_pointwise(survey: Survey, node: Node) -> bool:
    """Whether a node is a function of each element of its data input and of numbers."""
    if not is_elementwise(node) or not only_constants(survey, node):
        return False
    constants = (i for i in node.inputs if i and not survey.is_data(i))
    return all(scalar(survey.editor, i) is not None for i in constants)


def _visit(survey: Survey, prober: Prober, anchor: Node) -> None:
    if not _is_pointwise(survey, anchor):
        return
    data = survey.data_inputs(anchor)
    if len(data) != 1:
        return
    before = narrowings(survey, data[0], lambda n: _is_pointwise(survey, n))
    for root in [*reversed(before), data[0]]:
        if _match(survey, prober, root, anchor):
            return


def _match(survey: Survey, prober: Prober, root: str, anchor: Node) -> bool:
    """Replace the furthest value behind `anchor` that is a known function of `root`."""
    editor = survey.editor
    nodes = grow(survey, root, lambda n: _is_pointwise(survey, n))
    source = editor.value(root)
    if anchor not in nodes or source is None:
        return False
    try:
        with np.errstate(all="ignore"):
            values = prober.evaluate(prober.at(3), nodes, {root: GRID})
    except (KernelError, ValueError, TypeError):
        return False
    for node in reversed(nodes[nodes.index(anchor) :]):
        kind = _known(values[node.output.name])
        if kind is not None:
            inner = merge_sources(_between(editor, root, node, nodes))
            output = Value(node.output.name, source.dtype, source.shape)
            editor.replace(node, Node(Activation(kind), (root,), (output,), inner))
            return True
    return False


def _known(values: Array) -> Function | None:
    for kind in Function:
        with np.errstate(all="ignore"):
            wanted = meaning.function(kind, GRID)
        if values.shape == GRID.shape and np.allclose(values, wanted, rtol=1e-5, atol=2e-6):
            return kind
    return None


def _between(editor: Editor, root: str, node: Node, nodes: list[Node]) -> list[Node]:
    """Of `nodes`, those that `node` is computed from."""
    needed = {node.output.name}
    inner: list[Node] = []
    for candidate in reversed(nodes):
        if any(v.name in needed for v in candidate.outputs):
            inner.insert(0, candidate)
            needed.update(i for i in candidate.inputs if i != root)
    return inner
