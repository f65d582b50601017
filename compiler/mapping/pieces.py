"""Pieces of streamed weights: what a tile loads at once, and the tensor of all its pieces in the order of their use.

A piece holds some arrays, each with its column scales, and rows of biases, as `compiler.backend.pieces` takes them
apart. Columns and rows that a piece has room for and the weights do not have are zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compiler.ir.graph import Node
from compiler.ir.streamed import piece_bytes
from isa.instruction import DType
from isa.program import ArraySpec

from .weights import Weights


@dataclass(frozen=True, slots=True)
class Patch:
    """Rows and columns of a linear layer's weight, and where they come to lie in an array.

    `rows` and `cols` are (first, count); `at` is (row, column) of the array. With `bias` the layer's bias comes too.
    """

    node: Node
    rows: tuple[int, int]
    cols: tuple[int, int]
    at: tuple[int, int] = (0, 0)
    bias: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """What one load brings: patches of each array, and which arrays have a row of biases behind."""

    arrays: tuple[ArraySpec, ...]
    patches: tuple[tuple[Patch, ...], ...]
    has_bias: bool = False

    @property
    def bytes(self) -> int:
        """Its size, in whole lines."""
        rows = tuple(spec.cols for spec in self.arrays) if self.has_bias else ()
        return piece_bytes(self.arrays, rows)


class Stack:
    """The pieces of one tile, as a tensor of bytes."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.pieces: list[Piece] = []

    @property
    def bytes(self) -> int:
        """Bytes of all pieces."""
        return sum(piece.bytes for piece in self.pieces)

    def contents(self) -> NDArray[np.int8]:
        """All pieces, one behind the other."""
        out = np.zeros(self.bytes, np.int8)
        at = 0
        for piece in self.pieces:
            data = self._piece(piece)
            out[at : at + data.size] = data
            at += piece.bytes
        return out

    def _piece(self, piece: Piece) -> NDArray[np.int8]:
        parts: list[NDArray[np.int8]] = []
        biases: list[NDArray[np.int8]] = []
        for spec, patches in zip(piece.arrays, piece.patches, strict=True):
            parts += self._array(spec, patches)
            biases.append(_bytes(self._bias(spec, patches)))
        return np.concatenate([*parts, *(biases if piece.has_bias else ())])

    def _array(self, spec: ArraySpec, patches: Sequence[Patch]) -> list[NDArray[np.int8]]:
        cells = np.zeros((spec.rows, spec.cols), spec.dtype.value)
        scales = np.zeros(spec.cols, np.float32)
        for patch in patches:
            values, column_scales = self.weights.cells(patch.node)
            (row, rows), (col, cols) = patch.rows, patch.cols
            (top, left) = patch.at
            cells[top : top + rows, left : left + cols] = values[row : row + rows, col : col + cols]
            if column_scales is not None:
                scales[left : left + cols] = column_scales[col : col + cols]
        return [_bytes(cells)] if spec.dtype is DType.F32 else [_bytes(cells), _bytes(scales)]

    def _bias(self, spec: ArraySpec, patches: Sequence[Patch]) -> NDArray[np.float32]:
        row = np.zeros(spec.cols, np.float32)
        for patch in patches:
            bias = self.weights.bias_row(patch.node) if patch.bias else None
            if bias is not None:
                col, cols = patch.cols
                row[patch.at[1] : patch.at[1] + cols] = bias[col : col + cols]
        return row


def _bytes(values: NDArray[np.generic]) -> NDArray[np.int8]:
    """The bytes of an array, filled up to whole words."""
    flat = np.ascontiguousarray(values).reshape(-1).view(np.int8)
    return np.concatenate([flat, np.zeros(-flat.size % 4, np.int8)])
