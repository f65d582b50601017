"""Reductions of rows: 64 lane-strided partial results, then a binary tree (runtime/numerics.py)."""

from __future__ import annotations

import numpy as np

from . import functions as fn
from . import layout as at
from .functions import F
from .jit import compiled
from .operands import apart, is_size, mark, number, source, target
from .plan import OPCODE
from .state import F32, State

VSUM, VSUMSQ, VMAXR, VMEAN = OPCODE["vsum"], OPCODE["vsumsq"], OPCODE["vmaxr"], OPCODE["vmean"]
VRSTDM = OPCODE["vrstdm"]

_ZERO, _LOWEST = F(0), F(-np.inf)
_LANES = at.LANES


@compiled
def tree_sum(lanes: F32) -> F:
    """The partial results added up: each lane takes in the one half as many behind it, level after level."""
    half = _LANES // 2
    while half:
        for j in range(half):
            lanes[j] = lanes[j] + lanes[j + half]
        half //= 2
    return lanes[0]  # type: ignore[no-any-return]


@compiled
def tree_max(lanes: F32) -> F:
    """The largest of the partial results."""
    half = _LANES // 2
    while half:
        for j in range(half):
            lanes[j] = fn.larger(lanes[j], lanes[j + half])
        half //= 2
    return lanes[0]  # type: ignore[no-any-return]


@compiled
def row_sum(lanes: F32, x: F32) -> F:
    """The sum of a row; 0 for an empty one."""
    for j in range(_LANES):
        lanes[j] = _ZERO
    for start in range(0, x.size, _LANES):
        part = x[start : start + _LANES]
        for j in range(part.size):
            lanes[j] = lanes[j] + part[j]
    return tree_sum(lanes)


@compiled
def row_sum_squares(lanes: F32, x: F32) -> F:
    """The sum of the squares of a row; 0 for an empty one."""
    for j in range(_LANES):
        lanes[j] = _ZERO
    for start in range(0, x.size, _LANES):
        part = x[start : start + _LANES]
        for j in range(part.size):
            lanes[j] = lanes[j] + part[j] * part[j]
    return tree_sum(lanes)


@compiled
def row_max(lanes: F32, x: F32) -> F:
    """The largest element of a row; -inf for an empty one."""
    for j in range(_LANES):
        lanes[j] = _LOWEST
    for start in range(0, x.size, _LANES):
        part = x[start : start + _LANES]
        for j in range(part.size):
            lanes[j] = fn.larger(lanes[j], part[j])
    return tree_max(lanes)


@compiled
def row_max_magnitude(lanes: F32, x: F32) -> F:
    """The largest magnitude in a row; 0 for an empty one."""
    for j in range(_LANES):
        lanes[j] = _ZERO
    for start in range(0, x.size, _LANES):
        part = x[start : start + _LANES]
        for j in range(part.size):
            lanes[j] = fn.larger(lanes[j], fn.magnitude(part[j]))
    return tree_max(lanes)


@compiled
def reduced(kind: int, lanes: F32, x: F32, factor: F) -> F:
    """What an instruction makes of a row."""
    if kind == VSUM:
        return row_sum(lanes, x)
    if kind == VMEAN:
        return row_sum(lanes, x) * factor
    if kind == VSUMSQ:
        return row_sum_squares(lanes, x)
    return row_max(lanes, x) if kind == VMAXR else row_max_magnitude(lanes, x)


@compiled
def run_reduction(s: State, tile: int, code: int, kind: int) -> int:
    """dst[i] of row i of src."""
    n, cols = number(s, tile, code, 0), number(s, tile, code, 1)
    if not is_size(n, cols):
        return at.TROUBLE
    words = n * cols
    d, x = target(s, tile, code, 0, n), source(s, tile, code, 1, words)
    if d < 0 or x < 0:
        return at.TROUBLE
    x = apart(s, x, words, d, n, 0)
    lanes, factor = s.m[at.H_SCRATCH], np.float32(s.reals[code + at.U_FLOAT])
    for i in range(n):
        start = x + i * cols
        s.f[d + i] = reduced(kind, s.f[lanes : lanes + _LANES], s.f[start : start + cols], factor)
    mark(s, d, n)
    return at.DONE


@compiled
def run_deviation(s: State, tile: int, code: int, kind: int) -> int:
    """dst[i] = 1 / square root of (src[i] * factor + eps), or that times what it was."""
    n = number(s, tile, code, 0)
    if not is_size(n, 0):
        return at.TROUBLE
    d, x = target(s, tile, code, 0, n), source(s, tile, code, 1, n)
    if d < 0 or x < 0 or (kind == VRSTDM and source(s, tile, code, 0, n) < 0):
        return at.TROUBLE
    x = apart(s, x, n, d, n, 0)
    factor, eps = np.float32(s.reals[code + at.U_FLOAT]), np.float32(s.reals[code + at.U_FLOAT + 1])
    for i in range(n):
        found = fn.rsqrt(s.f[x + i] * factor + eps)
        s.f[d + i] = s.f[d + i] * found if kind == VRSTDM else found
    mark(s, d, n)
    return at.DONE


@compiled
def run_sum_of_codes(s: State, tile: int, code: int) -> int:
    """dst[i] = (sum of the integers of row i) * scales[i]; row by row, so that sums of any length are modulo 2**32."""
    n, cols = number(s, tile, code, 0), number(s, tile, code, 1)
    if not is_size(n, cols):
        return at.TROUBLE
    words = (n * cols + 3) >> 2
    d, x, scales = target(s, tile, code, 0, n), source(s, tile, code, 1, words), source(s, tile, code, 2, n)
    if d < 0 or x < 0 or scales < 0:
        return at.TROUBLE
    x, scales = apart(s, x, words, d, n, 0), apart(s, scales, n, d, n, 1)
    for i in range(n):
        codes = s.b[4 * x + i * cols : 4 * x + (i + 1) * cols]
        total = np.int32(0)
        for j in range(cols):
            total = np.int32(total + np.int32(codes[j]))
        s.f[d + i] = np.float32(total) * s.f[scales + i]
    mark(s, d, n)
    return at.DONE
