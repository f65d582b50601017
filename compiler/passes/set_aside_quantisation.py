"""Take roundings of activations out of the graph while it is recognised, and note where they were."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.expansion.quant_writing import supplant
from compiler.ir.graph import FakeQuant, Node, Onnx
from compiler.ir.rewrite import Editor
from compiler.ir.roundings import Roundings
from compiler.ops.registry import MICROSOFT
from compiler.pipeline import Compilation, Pass
from compiler.recognition.regions import is_movement, is_onnx

_PRODUCTS = {("", "MatMul"), ("", "Gemm"), ("", "Conv"), (MICROSOFT, "Attention")}


@dataclass(frozen=True)
class SetAsideQuantisation(Pass):
    """Remove every fakequant(x), so that recognition sees the float model, and note each in `c.roundings`.

    `RestoreQuantisation` puts back those that stand between canonical operators. Until then the graph's meaning
    is that of the model without rounded activations.
    """

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.graph`, sets `c.roundings`."""
        editor = Editor(c.require_graph())
        roundings = [node for node in editor.nodes() if isinstance(node.op, FakeQuant)]
        if not roundings:
            return False
        found = Roundings(count=len(roundings))
        for node in roundings:
            _note(editor, node, found)
        for node in roundings:
            current = editor.producer(node.output.name)
            assert current is not None
            x = current.inputs[0]
            stands = supplant(editor, current, x)
            if stands != x and x in found.values:
                found.values[stands] = found.values.pop(x)
        c.graph, c.roundings = editor.finish(), found
        return True


def _note(editor: Editor, node: Node, found: Roundings) -> None:
    """Write down what is rounded: the value, if nothing uses it as it was, and what products read."""
    assert isinstance(node.op, FakeQuant)
    x = node.inputs[0]
    static = node.op.scale is not None
    everywhere = static and x not in editor.outputs and all(u.op == node.op for u in editor.users(x))
    if everywhere:
        found.values[x] = node.op
    for name in _moved(editor, node.output.name):
        if static and name != node.output.name:
            found.values[name] = node.op
        for user in editor.users(name):
            if _is_weighted(editor, user, name):
                found.inputs[user.sources[0]] = node.op


def _is_weighted(editor: Editor, node: Node, name: str) -> bool:
    """Whether a node multiplies `name` by a weight (com.microsoft.Attention begins with such a product)."""
    op = node.op
    multiplies = isinstance(op, Onnx) and (op.domain, op.kind) in _PRODUCTS
    return multiplies and node.inputs[0] == name and editor.constant(node.inputs[1]) is not None


def _moved(editor: Editor, name: str) -> list[str]:
    """`name`, and the values whose elements are all elements of it, moved."""
    found = [name]
    for at in found:
        for user in editor.users(at):
            if is_movement(user) and not is_onnx(user, "Concat") and user.inputs[0] == at:
                found += [value.name for value in user.outputs]
    return found
