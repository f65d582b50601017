"""Drop broadcasts that the operator behind them makes by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

from compiler.ir.dims import Shape
from compiler.ir.graph import Node
from compiler.ir.rewrite import Editor
from compiler.pipeline import Compilation, Pass
from compiler.recognition.regions import is_elementwise, is_onnx


@dataclass(frozen=True)
class DropBroadcasts(Pass):
    """Let operators on elements broadcast their operands themselves: a norm's divisor is often expanded first.

    f(x, Expand(y)) == f(x, y), where x has the shape that y is expanded to
    """

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.graph`."""
        editor = Editor(c.require_graph())
        editor.changed = False
        for node in list(editor.nodes()):
            if is_elementwise(node):
                _without_broadcasts(editor, node)
        c.graph = editor.finish()
        return editor.changed


def _without_broadcasts(editor: Editor, node: Node) -> None:
    shape = node.output.shape
    inputs = list(node.inputs)
    for at, name in enumerate(inputs):
        before = editor.producer(name)
        others = [editor.shape(i) for i in (*inputs[:at], *inputs[at + 1 :])]
        if before is None or not is_onnx(before, "Expand") or shape is None or shape not in others:
            continue
        if editor.shape(name) == shape and _spreads(editor.shape(before.inputs[0]), shape):
            inputs[at] = before.inputs[0]
    if inputs != list(node.inputs):
        editor.replace(node, replace(node, inputs=tuple(inputs)))


def _spreads(narrow: Shape | None, wide: Shape) -> bool:
    """Whether axes of one element are all that keeps `narrow` from being `wide`."""
    if narrow is None or len(narrow) != len(wide):
        return False
    return all(a in (1, b) for a, b in zip(narrow, wide, strict=True))
