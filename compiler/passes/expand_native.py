"""Write ONNX's attention operator out as products and a softmax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt

import numpy as np

from compiler.ir.graph import AttributeValue, Node, Onnx, Value
from compiler.ir.rewrite import Editor
from compiler.ir.tensor import Array, DType, tensor
from compiler.ops.call import Attributes
from compiler.passes.fold_constants import FoldConstants
from compiler.passes.regions import is_onnx
from compiler.pipeline import Compilation, Pass


@dataclass(frozen=True)
class ExpandNative(Pass):
    """Write Attention nodes out, so that one matcher sees every attention there is.

    Attention(Q, K, V, mask) == softmax(mask(cap(s Q K^T))) V, with heads split, repeated and joined again
    """

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.graph`."""
        editor = Editor(c.require_graph())
        editor.changed = False
        for node in list(editor.nodes()):
            if is_onnx(node, "Attention") and _is_plain(node):
                _Expansion(editor, node).write()
        if editor.changed:
            c.graph = editor.finish()
            FoldConstants().run(c)
        return editor.changed


def _is_plain(node: Node) -> bool:
    """Whether the node asks for nothing that the expansion lacks."""
    assert isinstance(node.op, Onnx)
    attributes = Attributes(node.op)
    ragged = len(node.inputs) > 6 and node.inputs[6]
    scores = len(node.outputs) > 3 and node.outputs[3].name
    windows = (attributes.integer(f"{side}_window_size", -1) for side in ("left", "right"))
    return not ragged and not scores and all(w < 0 for w in windows)


@dataclass(slots=True)
class _Expansion:
    """Builds the nodes that replace one Attention node."""

    editor: Editor
    node: Node
    made: list[Node] = field(default_factory=list)

    def write(self) -> None:
        """Replace the node. Does nothing if the sizes of the heads are not known."""
        editor, node = self.editor, self.node
        assert isinstance(node.op, Onnx)
        attributes = Attributes(node.op)
        flat = len(editor.shape(node.inputs[0]) or ()) == 3
        q_heads = self._heads(attributes.integer("q_num_heads", 0), 0)
        kv_heads = self._heads(attributes.integer("kv_num_heads", 0), 1)
        depth = (editor.shape(node.inputs[0]) or (None,))[-1]
        if not q_heads or not kv_heads or q_heads % kv_heads or not isinstance(depth, int):
            return
        depth = depth // q_heads if flat else depth
        q = self._split(node.inputs[0], q_heads, flat)
        k = self._behind(4, 1, self._split(node.inputs[1], kv_heads, flat))
        v = self._behind(5, 2, self._split(node.inputs[2], kv_heads, flat))
        keys, values = (self._repeated(x, kv_heads, q_heads // kv_heads) for x in (k, v))
        scale = attributes.number("scale", 0.0) or 1 / sqrt(depth)
        scores = self._op("MatMul", [q, self._op("Transpose", [keys], perm=(0, 1, 3, 2))])
        scores = self._op("Mul", [scores, self._number(scale)])
        if cap := attributes.number("softcap", 0.0):
            capped = self._op("Tanh", [self._op("Div", [scores, self._number(cap)])])
            scores = self._op("Mul", [capped, self._number(cap)])
        scores = self._masked(scores, bool(attributes.integer("is_causal", 0)))
        result = self._op("MatMul", [self._op("Softmax", [scores], axis=-1), values])
        if flat:
            result = self._op("Transpose", [result], perm=(0, 2, 1, 3))
            result = self._op("Reshape", [result, self._ints([0, 0, -1])])
        self._put(result)

    def _heads(self, declared: int, which: int) -> int:
        shape = self.editor.shape(self.node.inputs[which])
        if declared or shape is None or len(shape) != 4:
            return declared
        return shape[1] if isinstance(shape[1], int) else 0

    def _split(self, name: str, heads: int, flat: bool) -> str:
        """[batch, tokens, heads*d] -> [batch, heads, tokens, d]."""
        if not flat:
            return name
        split = self._op("Reshape", [name, self._ints([0, 0, heads, -1])])
        return self._op("Transpose", [split], perm=(0, 2, 1, 3))

    def _behind(self, past: int, present: int, new: str) -> str:
        """`new` behind the cache input, under the name of the cache output."""
        before = self.node.inputs[past] if len(self.node.inputs) > past else ""
        if before:
            new = self._op("Concat", [before, new], axis=2)
        name = self.node.outputs[present].name if len(self.node.outputs) > present else ""
        return self._op("Identity", [new], name) if name else new

    def _repeated(self, name: str, heads: int, times: int) -> str:
        if times == 1:
            return name
        wide = self._op(
            "Expand", [self._op("Unsqueeze", [name, self._ints([2])]), self._ints([1, 1, times, 1, 1])]
        )
        shape = self._op(
            "Concat", [self._size(name, 0), self._ints([heads * times, -1]), self._size(name, 3)], axis=0
        )
        return self._op("Reshape", [wide, shape])

    def _masked(self, scores: str, causal: bool) -> str:
        mask = self.node.inputs[3] if len(self.node.inputs) > 3 else ""
        if mask:
            value = self.editor.value(mask)
            if value is not None and value.dtype is DType.BOOL:
                scores = self._op("Where", [mask, scores, self._number(-np.inf)])
            else:
                scores = self._op("Add", [scores, mask])
        if not causal:
            return scores
        total, step = self._count(scores, 3), self._count(scores, 2)
        past = (
            self._op("Sub", [total, step])
            if len(self.node.inputs) > 4 and self.node.inputs[4]
            else self._int(0)
        )
        other = self._op("Range", [self._int(0), total, self._int(1)])
        own = self._op("Range", [past, self._op("Add", [past, step]), self._int(1)])
        seen = self._op("LessOrEqual", [other, self._op("Unsqueeze", [own, self._ints([1])])])
        return self._op("Where", [seen, scores, self._number(-np.inf)])

    def _size(self, name: str, axis: int) -> str:
        return self._op("Gather", [self._op("Shape", [name]), self._ints([axis])], axis=0)

    def _count(self, name: str, axis: int) -> str:
        return self._op("Gather", [self._op("Shape", [name]), self._int(axis)], axis=0)

    def _number(self, value: float) -> str:
        return self._constant(np.array(value, np.float32))

    def _ints(self, values: Sequence[int]) -> str:
        return self._constant(np.array(values, np.int64))

    def _int(self, value: int) -> str:
        return self._constant(np.array(value, np.int64))

    def _constant(self, value: Array) -> str:
        return self.editor.add_constant(f"{self.node.output.name}.constant", tensor(value))

    def _op(self, kind: str, inputs: Sequence[str], name: str = "", **attributes: AttributeValue) -> str:
        name = name or self.editor.fresh(f"{self.node.output.name}.{kind}")
        op = Onnx("", kind, 18, tuple(attributes.items()))
        value = Value(name, DType.OTHER, None)
        self.made.append(Node(op, tuple(inputs), (value,), self.node.sources))
        # Reserve the name; the node itself is inserted once all are made.
        self.editor.reserve(value)
        return name

    def _put(self, result: str) -> None:
        """Replace the node by what was made; the last node takes over the name of the output."""
        *first, last = self.made
        assert last.outputs[0].name == result
        final = Node(last.op, last.inputs, (self.node.output,), last.sources)
        rank = self.editor.rank(self.node)
        self.editor.remove(self.node)
        for step, made in enumerate([*first, final]):
            self.editor.place(made, rank + step * 1e-6)
