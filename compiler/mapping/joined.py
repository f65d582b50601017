"""Weights of a head's queries, keys and values in one array on its tile: one activation, one pass through the vector
unit to dequantise them, one to add their biases, one to quantise them, where apart each is a start and a tree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compiler.ir.graph import Node
from compiler.ir.side_by_side import Part, name_of
from isa.instruction import DType
from isa.program import ArrayData, Slice

from .weights import Weights


@dataclass(frozen=True, slots=True)
class Columns:
    """What one linear layer gives each head: `cols` columns, from `firsts[head]` on."""

    node: Node
    cols: int
    firsts: tuple[int, ...]

    def of(self, row: NDArray[np.generic], head: int) -> NDArray[np.generic]:
        """A head's columns of a row, or of a matrix."""
        first = self.firsts[head]
        return row[..., first : first + self.cols]


class JoinedWeights:
    """Weights (int8, a scale a column) and biases of several linear layers of one input, side by side head by head."""

    def __init__(self, weights: Weights, parts: Sequence[Columns]) -> None:
        self._weights, self._parts = weights, tuple(parts)
        self.nodes = [part.node for part in parts]
        self.cols = sum(part.cols for part in parts)
        self._heads = len(parts[0].firsts)
        self._name = name_of([Part(part.node.inputs[1], part.cols, self._heads) for part in parts])

    def array(self, head: int) -> ArrayData:
        """What the array of a head's columns holds."""
        (rows, _), all_cols = self._weights.shape(self.nodes[0]), self.cols * self._heads

        def values() -> NDArray[np.int8]:
            return np.asarray(self._side_by_side([self._weights.cells(n)[0] for n in self.nodes]), np.int8)

        def scales() -> NDArray[np.float32]:
            return np.asarray(self._side_by_side([self._scales(n) for n in self.nodes]), np.float32)

        builder, at = self._weights.builder, head * self.cols
        made = builder.tensor(f"{self._name}.int8", DType.I8, (rows, all_cols), values)
        scale = builder.tensor(f"{self._name}.scale", DType.F32, (all_cols,), scales)
        return ArrayData(Slice(made, (0, at)), Slice(scale, (at,)))

    def bias(self, head: int) -> Slice | None:
        """The biases of a head's columns, None if no layer has one."""
        own = [self._weights.bias(node, 0) for node in self.nodes]
        if all(bias is None for bias in own):
            return None
        makers = [self._row(node, bias) for node, bias in zip(self.nodes, own, strict=True)]

        def make() -> NDArray[np.float32]:
            return np.asarray(self._side_by_side([maker() for maker in makers]), np.float32)

        shape = (self.cols * self._heads,)
        return Slice(
            self._weights.builder.tensor(f"{self._name}.bias", DType.F32, shape, make), (head * self.cols,)
        )

    def _row(self, node: Node, bias: Slice | None) -> Callable[[], NDArray[np.generic]]:
        """What makes the bias of a whole layer: zeros if it has none."""
        cols = self._weights.shape(node)[1]
        return self._weights.builder.data[bias.tensor] if bias else lambda: np.zeros(cols, np.float32)

    def _scales(self, node: Node) -> NDArray[np.float32]:
        scales = self._weights.cells(node)[1]
        assert scales is not None
        return scales

    def _side_by_side(self, wholes: Sequence[NDArray[np.generic]]) -> NDArray[np.generic]:
        heads = range(self._heads)
        columns = [p.of(whole, head) for head in heads for p, whole in zip(self._parts, wholes, strict=True)]
        return np.concatenate(columns, axis=-1)
