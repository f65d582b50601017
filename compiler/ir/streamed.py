"""Operations of streamed weights, and how a piece of them lies in memory and in the buffer.

The rows of its first array, in whole words, then that array's column scales (of integers), the same of the next array,
then rows of float32 such as biases; rounded up to whole lines.
"""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Clear:
    """out = 0."""

    out: str


@dataclass(frozen=True, slots=True)
class Prefetch:
    """Begin to load the next piece of streamed weights, `lines` lines, into the value `stage`, and step on behind it.

    `table` is where the first piece lies in DRAM, the others follow it. `changes` are (lines, loops): so many lines
    more are loaded when the innermost `loops` loops around are in their last iteration: what comes next has another
    size.
    """

    out: str
    table: str
    lines: int
    changes: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Columns `col`... of out = x."""

    out: str
    x: str
    col: int


@dataclass(frozen=True, slots=True)
class Advance:
    """Step `table`, an address, `bytes` on: what follows uses the next of what lies there in a row."""

    table: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Install:
    """Move a piece of streamed weights from `stage` to `arrays`: of each first the rows, then the column scales, as
    many arrays as the piece has; behind them lie the rows `rows`, which are copied to values of one row."""

    x: str
    arrays: tuple[str, ...]
    rows: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MultiplyPieces:
    """Columns of out = x times pieces of weights that pass through `array` one after the other, dequantised.

    The first `loaded` pieces come from DRAM, where they lie from `table` on, by way of the value `stage`; `kept` others
    lie in the buffer, in the rows of the constant `pieces`. Each makes as many columns as the array has, in this order;
    `product` is the value of one. In a segment of which no row is wanted, nothing is loaded.
    """

    out: str
    x: str
    array: str
    product: str
    loaded: int = 0
    table: str = ""
    stage: str = ""
    kept: int = 0
    pieces: str = ""
