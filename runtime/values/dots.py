"""Products of vectors of int8: exact int32 sums, modulo 2**32.

Where the processor multiplies 64 pairs of bytes at once, some vectors are multiplied with four others at a time, so
that each byte is loaded once for several products, and the sums of four products are added up side by side.
"""

from __future__ import annotations

import numpy as np

from . import layout as at
from .jit import compiled
from .state import I8, State
from .vnni import BLOCK, COLUMNS, HAS_BYTE_PRODUCTS, add_four, add_one, add_two

_MANY = 4
"""Segments of a step from which on an array is in the cache most times it is used, since tiles run ahead. A single
vector waits for memory, which is faster in order: four columns at a time take 17 ms for a token of gpt2, one 10."""


@compiled
def dot(x: I8, w: I8) -> np.int32:
    """The product of two vectors, modulo 2**32."""
    total = np.int32(0)
    for j in range(x.size):
        total = np.int32(total + np.int32(x[j]) * np.int32(w[j]))
    return total


@compiled
def total_of(x: I8) -> np.int32:
    """The sum of a vector's bytes."""
    total = np.int32(0)
    for j in range(x.size):
        total = np.int32(total + np.int32(x[j]))
    return total


@compiled
def add_blocks(
    s: State, to: int, x: int, pitch: int, n: int, cells: int, step: int, many: int, whole: int, blocks: int
) -> None:
    """`dots` of the first `blocks` of each vector, for `whole` of the cells' vectors."""
    base, rest = s.b.ctypes.data, 4 * many
    for i in range(n):
        lifted = np.int32(128) * total_of(s.b[x + i * pitch : x + i * pitch + blocks * BLOCK])
        sums = s.i[to + i * many : to + i * many + whole]
        for c in range(whole):
            sums[c] = np.int32(sums[c] - lifted)
    for c in range(0, whole, COLUMNS):
        first, i = base + cells + c * step, 0
        while n - i >= 4:
            add_four(base + 4 * (to + i * many + c), rest, base + x + i * pitch, pitch, first, step, blocks)
            i += 4
        if n - i >= 2:
            add_two(base + 4 * (to + i * many + c), rest, base + x + i * pitch, pitch, first, step, blocks)
            i += 2
        if n > i:
            add_one(base + 4 * (to + i * many + c), rest, base + x + i * pitch, pitch, first, step, blocks)


@compiled
def dots(s: State, to: int, x: int, pitch: int, n: int, cells: int, step: int, many: int, size: int) -> None:
    """sums[i, c] += x[i] . cells[c]: `many` vectors of `size` bytes, `step` apart; those at x are `pitch` apart."""
    are_near = n > 1 or s.m[at.H_SEGMENTS] >= _MANY
    blocks = size // BLOCK if HAS_BYTE_PRODUCTS and are_near else 0
    whole, done = many // COLUMNS * COLUMNS if blocks else 0, blocks * BLOCK
    if blocks:
        add_blocks(s, to, x, pitch, n, cells, step, many, whole, blocks)
    if done < size:
        for c in range(whole):
            rest = s.b[cells + c * step + done : cells + c * step + size]
            for i in range(n):
                s.i[to + i * many + c] += dot(s.b[x + i * pitch + done : x + i * pitch + size], rest)
    for c in range(whole, many):
        w = s.b[cells + c * step : cells + c * step + size]
        for i in range(n):
            s.i[to + i * many + c] += dot(s.b[x + i * pitch : x + i * pitch + size], w)
