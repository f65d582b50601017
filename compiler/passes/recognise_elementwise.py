"""Turn the sums and products of rows that are left into canonical ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from compiler.ir.graph import Add, Mul, Node, Onnx
from compiler.ir.rewrite import Editor
from compiler.ir.tensor import tensor
from compiler.pipeline import Compilation, Pass
from compiler.recognition.regions import Survey, is_onnx, scalar


@dataclass(frozen=True)
class RecogniseElementwise(Pass):
    """Turn sums and products of two activations, or of one and a constant row or number, into add and mul.

    Residual connections and gates are what is left once the patterns are recognised.
    """

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.graph`."""
        editor = Editor(c.require_graph())
        editor.changed = False
        survey = Survey(editor)
        for node in list(editor.nodes()):
            if is_onnx(node, "Div", "Sub"):
                node = _inverted(editor, node)
            if is_onnx(node, "Pow"):
                node = _squared(survey, node)
            if is_onnx(node, "Add", "Mul") and (operands := _operands(survey, node)) is not None:
                op = Add() if is_onnx(node, "Add") else Mul()
                editor.replace(node, replace(node, op=op, inputs=operands))
        c.graph = editor.finish()
        return editor.changed


def _inverted(editor: Editor, node: Node) -> Node:
    """x / c == x * (1 / c) and x - c == x + (-c), for a constant c."""
    constant = editor.constant(node.inputs[1])
    if constant is None or not constant.dtype.is_float or not constant.has_data:
        return node
    division = is_onnx(node, "Div")
    data = 1 / constant.data() if division else -constant.data()
    if not np.isfinite(data).all():
        return node
    other = editor.add_constant(f"{node.inputs[1]}.{'inverse' if division else 'negative'}", tensor(data))
    assert isinstance(node.op, Onnx)
    op = replace(node.op, kind="Mul" if division else "Add")
    new = replace(node, op=op, inputs=(node.inputs[0], other))
    editor.replace(node, new)
    return new


def _squared(survey: Survey, node: Node) -> Node:
    """x ** 2 == x * x."""
    if scalar(survey.editor, node.inputs[1]) != 2.0 or not survey.is_data(node.inputs[0]):
        return node
    assert isinstance(node.op, Onnx)
    new = replace(node, op=replace(node.op, kind="Mul"), inputs=(node.inputs[0], node.inputs[0]))
    survey.editor.replace(node, new)
    return new


def _operands(survey: Survey, node: Node) -> tuple[str, ...] | None:
    """The inputs, data first, if the node works on rows."""
    editor = survey.editor
    a, b = node.inputs
    if not survey.is_data(a):
        a, b = b, a
    x, y = editor.shape(a), editor.shape(b)
    if not survey.is_data(a) or not x or y is None or not editor.value(a).dtype.is_float:  # type: ignore[union-attr]
        return None
    if survey.is_data(b):
        return (a, b) if x[-1:] == y[-1:] else None
    constant = editor.constant(b)
    if constant is None or constant.count not in (1, x[-1]):
        return None
    wanted = () if constant.count == 1 else (constant.count,)
    return a, b if constant.shape == wanted else editor.add_constant(f"{b}.row", constant.reshape(wanted))
