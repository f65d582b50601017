"""Quantisation to int8 and back, float16: instructions of the vector unit between element types."""

from __future__ import annotations

import numpy as np

from . import functions as fn
from . import layout as at
from .functions import F
from .jit import compiled
from .operands import apart, is_size, is_window, mark, number, overlap, source, target, typed_array
from .plan import OPCODE
from .reductions import row_max_magnitude
from .state import F32, I8, I32, State

QUANT, QUANTL, QUANTX, QUANTM = OPCODE["quant"], OPCODE["quantl"], OPCODE["quantx"], OPCODE["quantm"]
DEQC, DEQB, DEQG = OPCODE["deqc"], OPCODE["deqb"], OPCODE["deqg"]

_SMALLEST_HALF = F(2.0**-24)


@compiled
def encode(codes: I8, x: F32, scale: F, levels: F) -> None:
    """The codes of a row."""
    inverse = fn.inverse_scale(scale)
    for j in range(codes.size):
        codes[j] = fn.code_of(x[j], inverse, levels)


@compiled
def encode_rows(s: State, d: int, x: int, scales: int, n: int, cols: int, levels: F) -> None:
    """The codes of rows, by their scales."""
    for i in range(n):
        codes = s.b[4 * d + i * cols : 4 * d + (i + 1) * cols]
        encode(codes, s.f[x + i * cols : x + (i + 1) * cols], s.f[scales + i], levels)
    mark(s, d, (n * cols + 3) >> 2)


@compiled
def find_scales(s: State, scales: int, x: int, n: int, cols: int, one_over: F) -> None:
    """The scales of rows, from their largest magnitudes and 1 / levels."""
    lanes = s.m[at.H_SCRATCH]
    for i in range(n):
        row = s.f[x + i * cols : x + (i + 1) * cols]
        s.f[scales + i] = row_max_magnitude(s.f[lanes : lanes + at.LANES], row) * one_over
    mark(s, scales, n)


@compiled
def run_quantise(s: State, tile: int, code: int, kind: int) -> int:
    """`quant`, `quantl`, `quantx`, `quantm`: addresses dst, scales, src."""
    n, cols = number(s, tile, code, 0), number(s, tile, code, 1)
    finds = kind in (QUANT, QUANTL)
    levels, one_over = fn.LEVELS, fn.ONE_OVER_LEVELS
    if kind == QUANTL:
        levels, one_over = F(number(s, tile, code, 2)), fn.one_over(number(s, tile, code, 2))
    if not is_size(n, cols):
        return at.TROUBLE
    words, size = n * cols, (n * cols + 3) >> 2
    d, x = target(s, tile, code, 0, size), source(s, tile, code, 2, words)
    scales = target(s, tile, code, 1, n) if finds else source(s, tile, code, 1, n)
    if d < 0 or x < 0 or scales < 0:
        return at.TROUBLE
    if kind == QUANTX:
        scales = apart(s, scales, n, d, size, 1)
    elif overlap(d, size, scales, n):
        return at.TROUBLE
    x = apart(s, x, words, d, size, 0)
    if kind != QUANTX:
        x = apart(s, x, words, scales, n, 0)
    if finds:
        find_scales(s, scales, x, n, cols, one_over)
    elif kind == QUANTM:
        for i in range(n):
            s.f[scales + i] = s.f[scales + i] * one_over
    encode_rows(s, d, x, scales, n, cols, levels)
    return at.DONE


@compiled
def run_quantise_weighted(s: State, tile: int, code: int) -> int:
    """`quantw`: `quant` of src times the scales of rows of an array."""
    n, row, cols = number(s, tile, code, 0), number(s, tile, code, 1), number(s, tile, code, 2)
    array = typed_array(s, tile, code, 0)
    if not is_size(n, cols) or array < 0 or not is_window(s, array, row, cols):
        return at.TROUBLE
    words, size = n * cols, (n * cols + 3) >> 2
    if words > s.m[at.H_SCRATCH_WORDS]:
        return at.TROUBLE
    d, scales, x = (
        target(s, tile, code, 0, size),
        target(s, tile, code, 1, n),
        source(s, tile, code, 2, words),
    )
    if d < 0 or x < 0 or scales < 0 or overlap(d, size, scales, n):
        return at.TROUBLE
    product = s.m[at.H_SCRATCH] + at.LANES
    first = s.k[array + at.A_ROW_SCALES] + row
    weights = s.f[first : first + cols]
    for i in range(n):
        to, given = (
            s.f[product + i * cols : product + (i + 1) * cols],
            s.f[x + i * cols : x + (i + 1) * cols],
        )
        for j in range(cols):
            to[j] = given[j] * weights[j]
    find_scales(s, scales, product, n, cols, fn.ONE_OVER_LEVELS)
    encode_rows(s, d, product, scales, n, cols, fn.LEVELS)
    return at.DONE


# ----------------------------------------------------------------------------------------------------- and back


@compiled
def decode_row(d: F32, sums: I32, scale: F, weights: F32) -> None:
    """Sums to numbers: (sum * scale) * weight."""
    for j in range(d.size):
        d[j] = (np.float32(sums[j]) * scale) * weights[j]


@compiled
def decode_and_add(d: F32, sums: I32, scale: F, weights: F32, bias: F32) -> None:
    """Sums to numbers, and a bias: (sum * scale) * weight + bias."""
    for j in range(d.size):
        d[j] = (np.float32(sums[j]) * scale) * weights[j] + bias[j]


@compiled
def decode_onto(d: F32, sums: I32, scale: F, weights: F32) -> None:
    """Sums to numbers, added to what is there: d + (sum * scale) * weight."""
    for j in range(d.size):
        d[j] = d[j] + (np.float32(sums[j]) * scale) * weights[j]


@compiled
def run_decode_columns(s: State, tile: int, code: int, kind: int) -> int:
    """`deqc`, `deqb`, `deqg`: sums by their row's scale and the scales of an array's columns."""
    n, array = number(s, tile, code, 0), typed_array(s, tile, code, 0)
    if not is_size(n, 0) or array < 0:
        return at.TROUBLE
    group = number(s, tile, code, 1) if kind == DEQG else 0
    is_added = kind == DEQG and number(s, tile, code, 2) != 0
    cols = s.k[array + at.A_COLS]
    words = n * cols
    d, x, scales = (
        target(s, tile, code, 0, words),
        source(s, tile, code, 1, words),
        source(s, tile, code, 2, n),
    )
    bias = source(s, tile, code, 3, cols) if kind == DEQB else 0
    if d < 0 or x < 0 or scales < 0 or bias < 0 or not 0 <= group < s.k[array + at.A_GROUPS]:
        return at.TROUBLE
    if is_added and source(s, tile, code, 0, words) < 0:
        return at.TROUBLE
    x, scales = apart(s, x, words, d, words, 0), apart(s, scales, n, d, words, 1)
    if kind == DEQB:
        bias = apart(s, bias, cols, d, words, 2)
    first = s.k[array + at.A_COLUMN_SCALES] + group * cols
    weights = s.f[first : first + cols]
    for i in range(n):
        to, sums = s.f[d + i * cols : d + (i + 1) * cols], s.i[x + i * cols : x + (i + 1) * cols]
        if kind == DEQB:
            decode_and_add(to, sums, s.f[scales + i], weights, s.f[bias : bias + cols])
        elif is_added:
            decode_onto(to, sums, s.f[scales + i], weights)
        else:
            decode_row(to, sums, s.f[scales + i], weights)
    mark(s, d, words)
    return at.DONE


@compiled
def run_decode_rows(s: State, tile: int, code: int) -> int:
    """`deqr`: sums by their row's scale and the scales of an array's rows."""
    n, row, cols = number(s, tile, code, 0), number(s, tile, code, 1), number(s, tile, code, 2)
    array = typed_array(s, tile, code, 0)
    if not is_size(n, cols) or array < 0 or not is_window(s, array, row, cols):
        return at.TROUBLE
    words = n * cols
    d, x, scales = (
        target(s, tile, code, 0, words),
        source(s, tile, code, 1, words),
        source(s, tile, code, 2, n),
    )
    if d < 0 or x < 0 or scales < 0:
        return at.TROUBLE
    x, scales = apart(s, x, words, d, words, 0), apart(s, scales, n, d, words, 1)
    first = s.k[array + at.A_ROW_SCALES] + row
    for i in range(n):
        to, sums = s.f[d + i * cols : d + (i + 1) * cols], s.i[x + i * cols : x + (i + 1) * cols]
        decode_row(to, sums, s.f[scales + i], s.f[first : first + cols])
    mark(s, d, words)
    return at.DONE


@compiled
def run_decode(s: State, tile: int, code: int) -> int:
    """`deq`: sums by their row's scale alone."""
    n, cols = number(s, tile, code, 0), number(s, tile, code, 1)
    if not is_size(n, cols):
        return at.TROUBLE
    words = n * cols
    d, x, scales = (
        target(s, tile, code, 0, words),
        source(s, tile, code, 1, words),
        source(s, tile, code, 2, n),
    )
    if d < 0 or x < 0 or scales < 0:
        return at.TROUBLE
    x, scales = apart(s, x, words, d, words, 0), apart(s, scales, n, d, words, 1)
    for i in range(n):
        to, sums = s.f[d + i * cols : d + (i + 1) * cols], s.i[x + i * cols : x + (i + 1) * cols]
        scale = s.f[scales + i]
        for j in range(cols):
            to[j] = np.float32(sums[j]) * scale
    mark(s, d, words)
    return at.DONE


# ------------------------------------------------------------------------------------------------------ float16


@compiled
def half_of(x: F) -> int:
    """The bits of a float32 rounded to float16, to nearest even."""
    bits = int(fn.bits_of(x))
    sign, size = (bits >> 16) & 0x8000, bits & 0x7FFFFFFF
    if size > 0x7F800000:
        return sign | 0x7E00
    if size >= 0x477FF000:  # halfway between the largest number and what would be the next
        return sign | 0x7C00
    if size < 0x38800000:  # below the smallest normal number: what is left is a count of the smallest
        shift = 126 - (size >> 23)
        if shift > 24:
            return sign
        whole = (size & 0x7FFFFF) | 0x800000
        return sign | ((whole + (1 << (shift - 1)) - 1 + ((whole >> shift) & 1)) >> shift)
    return sign | ((size - 0x38000000 + 0xFFF + ((size >> 13) & 1)) >> 13)


@compiled
def from_half(bits: int) -> F:
    """A float16 as float32."""
    exponent, rest = (bits >> 10) & 31, bits & 1023
    if exponent == 0:
        size = np.float32(rest) * _SMALLEST_HALF
    else:
        size = fn.float_of(np.int32((255 if exponent == 31 else exponent + 112) << 23 | rest << 13))
    return fn.with_sign(size, fn.float_of(np.int32(-1 if bits & 0x8000 else 0)))


@compiled
def run_to_half(s: State, tile: int, code: int) -> int:
    """dst = src rounded to float16."""
    n, cols = number(s, tile, code, 0), number(s, tile, code, 1)
    if not is_size(n, cols):
        return at.TROUBLE
    words, size = n * cols, (n * cols + 1) >> 1
    d, x = target(s, tile, code, 0, size), source(s, tile, code, 1, words)
    if d < 0 or x < 0:
        return at.TROUBLE
    x = apart(s, x, words, d, size, 0)
    for j in range(words):
        s.h[2 * d + j] = half_of(s.f[x + j])
    mark(s, d, size)
    return at.DONE


@compiled
def run_from_half(s: State, tile: int, code: int) -> int:
    """dst = src widened from float16."""
    n, cols = number(s, tile, code, 0), number(s, tile, code, 1)
    if not is_size(n, cols):
        return at.TROUBLE
    words, size = n * cols, (n * cols + 1) >> 1
    d, x = target(s, tile, code, 0, words), source(s, tile, code, 1, size)
    if d < 0 or x < 0:
        return at.TROUBLE
    x = apart(s, x, size, d, words, 0)
    for j in range(words):
        s.f[d + j] = from_half(int(s.h[2 * x + j]))
    mark(s, d, words)
    return at.DONE
