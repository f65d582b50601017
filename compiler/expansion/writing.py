"""Writing nodes in the place of one: the tool of the passes that spell out fused operators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from compiler.ir.dims import Shape
from compiler.ir.graph import AttributeValue, Node, Onnx, Value
from compiler.ir.rewrite import Editor
from compiler.ir.tensor import Array, DType, tensor
from compiler.ops.call import Attributes

OPSET = 18
"""The version whose meaning the written nodes have."""


@dataclass(slots=True)
class Writer:
    """Records the ai.onnx nodes that replace `node`. Methods give the name of the value they make."""

    editor: Editor
    node: Node
    made: list[Node] = field(default_factory=list)

    @property
    def attributes(self) -> Attributes:
        """The attributes of the node that is replaced."""
        assert isinstance(self.node.op, Onnx)
        return Attributes(self.node.op)

    def input(self, index: int) -> str:
        """The name of input `index`; "" if it is omitted."""
        return self.node.inputs[index] if index < len(self.node.inputs) else ""

    def output(self, index: int) -> str:
        """The name of output `index`; "" if nobody wants it."""
        return self.node.outputs[index].name if index < len(self.node.outputs) else ""

    def shape(self, index: int) -> Shape | None:
        """The shape of input `index`, if it is known."""
        name = self.input(index)
        return self.editor.shape(name) if name else None

    def rank(self, index: int) -> int:
        """How many axes input `index` has; 0 if omitted or unknown."""
        return len(self.shape(index) or ())

    # Values.

    def op(
        self, kind: str, *inputs: str, name: str = "", version: int = OPSET, **attributes: AttributeValue
    ) -> str:
        """A node of ai.onnx with one output."""
        value = Value(name or self.editor.fresh(f"{self.node.outputs[0].name}.{kind}"), DType.OTHER, None)
        op = Onnx("", kind, version, tuple(attributes.items()))
        self.made.append(Node(op, inputs, (value,), self.node.sources))
        # Reserve the name; the node itself is inserted once all are made.
        self.editor.reserve(value)
        return value.name

    def split(self, x: str, sizes: Sequence[int], axis: int = -1) -> list[str]:
        """Parts of `x` along an axis."""
        names = [self.editor.fresh(f"{self.node.outputs[0].name}.part{i}") for i in range(len(sizes))]
        values = tuple(Value(n, DType.OTHER, None) for n in names)
        op = Onnx("", "Split", OPSET, (("axis", axis),))
        self.made.append(Node(op, (x, self.ints(*sizes)), values, self.node.sources))
        for value in values:
            self.editor.reserve(value)
        return names

    def number(self, value: float) -> str:
        """A float constant."""
        return self.constant(np.array(value, np.float32))

    def ints(self, *values: int) -> str:
        """A constant vector of integers."""
        return self.constant(np.array(values, np.int64))

    def integer(self, value: int) -> str:
        """An integer constant."""
        return self.constant(np.array(value, np.int64))

    def constant(self, value: Array) -> str:
        """A constant."""
        return self.editor.add_constant(f"{self.node.outputs[0].name}.constant", tensor(value))

    def size(self, x: str, axis: int) -> str:
        """The length of an axis of `x`, as a vector of one."""
        return self.op("Gather", self.op("Shape", x), self.ints(axis), axis=0)

    def count(self, x: str, axis: int) -> str:
        """The length of an axis of `x`, as a number."""
        return self.op("Gather", self.op("Shape", x), self.integer(axis), axis=0)

    def range(self, start: str, stop: str) -> str:
        """The integers from `start` up to `stop`."""
        return self.op("Range", start, stop, self.integer(1))

    def unsqueeze(self, x: str, *axes: int) -> str:
        """`x` with further axes of length 1."""
        return self.op("Unsqueeze", x, self.ints(*axes))

    def cast(self, x: str, dtype: int) -> str:
        """`x` as the type with ONNX's number `dtype`."""
        return self.op("Cast", x, to=dtype)

    def heads(self, rows: str, heads: int) -> str:
        """[batch, tokens, heads*d] -> [batch, heads, tokens, d]."""
        return self.op("Transpose", self.op("Reshape", rows, self.ints(0, 0, heads, -1)), perm=(0, 2, 1, 3))

    def rows(self, x: str) -> str:
        """[batch, heads, tokens, d] -> [batch, tokens, heads*d]."""
        return self.op("Reshape", self.op("Transpose", x, perm=(0, 2, 1, 3)), self.ints(0, 0, -1))

    def biased(self, x: str, bias: str) -> str:
        """`x + bias`; without a bias `x` itself."""
        return self.op("Add", x, bias) if bias else x

    # Done.

    def finish(self, results: Sequence[str]) -> None:
        """Put what was made in the place of the node: its outputs, in order, are `results`."""
        for value, result in zip(self.node.outputs, results, strict=False):
            if value.name and result:
                op = Onnx("", "Identity", OPSET)
                self.made.append(Node(op, (result,), (value,), self.node.sources))
        rank = self.editor.rank(self.node)
        self.editor.remove(self.node)
        for step, made in enumerate(self.made):
            self.editor.place(made, rank + step * 1e-6)
