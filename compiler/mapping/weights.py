"""Weights as arrays hold them: int8 with a scale for each output channel, or float32 in ideal arithmetic."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compiler.ir.graph import Graph, Node, Rotary
from compiler.ir.mapping import Arithmetic
from compiler.ir.tensor import Tensor
from isa.instruction import DType
from isa.program import ArrayData, Slice

from .builder import MappingBuilder

WEIGHT_LEVELS = 127


def float32(tensor: Tensor) -> NDArray[np.float32]:
    """The data of a constant as float32."""
    return np.asarray(tensor.data(), dtype=np.float32)


def quantise_weight(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 values and a scale a column: weight[k, n] is about values[k, n] * scales[n]. Zero columns get scale 0."""
    largest = np.abs(weight).max(axis=0)
    scales = (largest / np.float32(WEIGHT_LEVELS)).astype(np.float32)
    inverse = np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=scales > 0)
    values = np.clip(np.rint(weight * inverse), -WEIGHT_LEVELS, WEIGHT_LEVELS).astype(np.int8)
    return values, scales


class Weights:
    """Declares the tensors of linear layers, constants and tables in a `MappingBuilder`."""

    def __init__(self, graph: Graph, builder: MappingBuilder) -> None:
        self.graph, self.builder = graph, builder
        self._quantised: dict[str, tuple[NDArray[np.int8], NDArray[np.float32]]] = {}

    def shape(self, node: Node) -> tuple[int, int]:
        """Rows K and columns N of a linear layer's weight."""
        rows, cols = self.graph.constants[node.inputs[1]].shape
        return int(rows), int(cols)

    def array(self, node: Node, row: int, col: int) -> ArrayData:
        """What an array holds whose first element is weight[row, col] of a linear layer."""
        name = node.inputs[1]
        weight = self.graph.constants[name]
        if self.builder.arithmetic is Arithmetic.FLOAT32:
            self.builder.tensor(name, DType.F32, weight.shape, lambda: float32(weight))
            return ArrayData(Slice(name, (row, col)))
        values, scales = f"{name}.int8", f"{name}.scale"
        self.builder.tensor(values, DType.I8, weight.shape, lambda: self._both(name)[0])
        self.builder.tensor(scales, DType.F32, weight.shape[1:], lambda: self._both(name)[1])
        return ArrayData(Slice(values, (row, col)), Slice(scales, (col,)))

    def _both(self, name: str) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        if name not in self._quantised:
            self._quantised[name] = quantise_weight(float32(self.graph.constants[name]))
        return self._quantised[name]

    def bias(self, node: Node, col: int) -> Slice | None:
        """The bias of a linear layer from column `col` on, or None if it has none."""
        if len(node.inputs) < 3 or not node.inputs[2]:
            return None
        return self.row(node.inputs[2], int(self.shape(node)[1]), col)

    def row(self, name: str, cols: int, col: int) -> Slice:
        """A constant of one row of `cols` columns (a single number is repeated), from column `col` on."""
        constant = self.graph.constants[name]

        def make() -> NDArray[np.float32]:
            return np.broadcast_to(float32(constant).reshape(-1), (cols,))

        self.builder.tensor(name, DType.F32, (cols,), make)
        return Slice(name, (col,))

    def scalar(self, name: str) -> float | None:
        """The value of a constant of one element, or None if it has more."""
        constant = self.graph.constants[name]
        return float(float32(constant).reshape(-1)[0]) if constant.count == 1 else None

    def columns(self, name: str, col: int, cols: int) -> str:
        """A table [rows, cols] made of columns of a constant [rows, all]."""
        constant = self.graph.constants[name]
        rows, total = (int(extent) for extent in constant.shape)
        table = name if (col, cols) == (0, total) else f"{name}[{col}:{col + cols}]"

        def make() -> NDArray[np.float32]:
            return np.ascontiguousarray(float32(constant)[:, col : col + cols])

        return self.builder.tensor(table, DType.F32, (rows, cols), make)

    def rotary_table(self, node: Node, context: int) -> str:
        """A table [context, rotary_dim]: for each position rotary_dim/2 cosines, then as many sines.

        The angle is position * inv_freq in float32, as exporters compute it.
        """
        op = node.op
        assert isinstance(op, Rotary)
        frequencies = self.graph.constants[node.inputs[1]]

        def make() -> NDArray[np.float32]:
            angles = np.arange(context, dtype=np.float32)[:, None] * float32(frequencies).reshape(1, -1)
            turn = np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
            return np.asarray(turn * np.float32(op.scaling), dtype=np.float32)

        return self.builder.tensor(f"rotary.{node.inputs[1]}", DType.F32, (context, op.rotary_dim), make)
