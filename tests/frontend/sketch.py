"""ONNX models written by hand, a few nodes at a time, as exporters of all kinds would write them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 16


@dataclass
class Sketch:
    """Records nodes. `op` gives the name of the output; numbers and arrays become constants."""

    seed: int = 1
    opset: int = 18
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    """Outputs of the model beside `logits`."""
    count: int = 0

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}_{self.count}"

    def op(self, kind: str, *inputs: object, **attributes: object) -> str:
        return self.many(1, kind, *inputs, **attributes)[0]

    def many(self, count: int, kind: str, *inputs: object, **attributes: object) -> list[str]:
        """A node with several outputs."""
        names = [i if isinstance(i, str) else self.const(i) for i in inputs]
        domain = attributes.pop("domain", "")
        outs = [self.name(kind) for _ in range(count)]
        self.nodes.append(
            helper.make_node(kind, names, outs, name=f"n_{outs[0]}", domain=str(domain), **attributes)
        )
        return outs

    def const(self, value: object) -> str:
        array = np.asarray(value)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        name = self.name("const")
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, *shape: int) -> str:
        self.seed += 1
        return self.const(np.random.default_rng(self.seed).standard_normal(shape).astype(np.float32) * 0.4)

    def ids(self) -> str:
        """`input_ids` [batch, sequence], embedded: rows [batch, sequence, WIDTH]."""
        self.input("input_ids", TensorProto.INT64, "batch", "sequence")
        return self.op("Gather", self.weight(32, WIDTH), "input_ids", axis=0)

    def input(self, name: str, dtype: int, *dims: int | str) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, dtype, list(dims)))
        return name

    def length(self, x: str, axis: int = 1) -> str:
        return self.op("Gather", self.op("Shape", x), np.int64(axis), axis=0)

    def save(self, path: Path, output: str) -> Path:
        self.nodes.append(helper.make_node("Identity", [output], ["logits"], name="last"))
        outs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("logits", *self.outputs)]
        graph = helper.make_graph(self.nodes, "sketch", self.inputs, outs, self.constants)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))
        return path


def heads_of(s: Sketch, x: str, heads: int) -> str:
    """[batch, sequence, heads*d] -> [batch, heads, sequence, d]."""
    split = s.op("Reshape", x, np.array([0, 0, heads, -1]))
    return s.op("Transpose", split, perm=[0, 2, 1, 3])


def joined(s: Sketch, x: str) -> str:
    """The inverse of `heads_of`."""
    return s.op("Reshape", s.op("Transpose", x, perm=[0, 2, 1, 3]), np.array([0, 0, -1]))


def projections(s: Sketch, x: str, heads: int) -> list[str]:
    """Queries, keys and values as heads."""
    return [heads_of(s, s.op("MatMul", x, s.weight(WIDTH, WIDTH)), heads) for _ in range(3)]


def causal(s: Sketch, x: str, window: int | None = None) -> str:
    """A boolean mask [sequence, sequence] from ranges."""
    n = s.length(x)
    row = s.op("Range", np.int64(0), n, np.int64(1))
    column = s.op("Unsqueeze", row, np.array([1]))
    seen = s.op("LessOrEqual", row, column)
    if window is not None:
        near = s.op("Greater", row, s.op("Sub", column, np.int64(window)))
        seen = s.op("And", seen, near)
    return seen
