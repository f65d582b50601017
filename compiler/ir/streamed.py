"""How a piece of streamed weights lies in memory and in the buffer.

The rows of its first array, in whole words, then that array's column scales (of integers), the same of the next array,
then rows of float32 such as biases; rounded up to whole lines.
"""

from __future__ import annotations

from isa.operands import WORD_BYTES
from isa.program import ArraySpec

LINE_BYTES = 256
"""Bytes of a line, in which pieces are counted: an interleaving block of the DRAM."""


def array_bytes(spec: ArraySpec) -> int:
    """Bytes of an array's part of a piece: its rows in whole words, and, of integers, its column scales."""
    cells = spec.rows * spec.cols * spec.dtype.bytes
    whole = -(-cells // WORD_BYTES) * WORD_BYTES
    return whole + (WORD_BYTES * spec.cols if spec.dtype.bytes == 1 else 0)


def piece_bytes(arrays: tuple[ArraySpec, ...], row_columns: tuple[int, ...]) -> int:
    """Bytes of a piece with these arrays and rows of so many columns, in whole lines."""
    size = sum(array_bytes(spec) for spec in arrays) + WORD_BYTES * sum(row_columns)
    return -(-size // LINE_BYTES) * LINE_BYTES
