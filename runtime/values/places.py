"""Instructions of the vector unit that know where a row or a column stands: rotary embedding, biases by distance."""

from __future__ import annotations

import numpy as np

from . import layout as at
from .jit import compiled
from .operands import apart, is_size, mark, number, source, target
from .plan import OPCODE
from .state import F32, State

VREL = OPCODE["vrel"]


@compiled
def turn(made: F32, head: F32, table: F32, half: int, is_interleaved: bool) -> None:
    """Turn the first 2 * half features of a head by the angles of a row: cosines, then sines."""
    for j in range(made.size):
        made[j] = head[j]
    if is_interleaved:
        for j in range(half):
            x, y, cos, sin = head[2 * j], head[2 * j + 1], table[j], table[half + j]
            made[2 * j] = x * cos - y * sin
            made[2 * j + 1] = y * cos + x * sin
        return
    for j in range(half):
        made[j] = head[j] * table[j] - head[half + j] * table[half + j]
        made[half + j] = head[half + j] * table[j] + head[j] * table[half + j]


@compiled
def run_rope(s: State, tile: int, code: int) -> int:
    """`rope`: addresses dst, src, table; numbers n, cols, dim, rot, interleaved."""
    n, cols, dim = number(s, tile, code, 0), number(s, tile, code, 1), number(s, tile, code, 2)
    rot, is_interleaved = number(s, tile, code, 3), number(s, tile, code, 4) != 0
    if not is_size(n, cols) or not cols or not dim or cols % dim or rot % 2 or rot > dim:
        return at.TROUBLE
    words = n * cols
    d, x, table = (
        target(s, tile, code, 0, words),
        source(s, tile, code, 1, words),
        source(s, tile, code, 2, n * rot),
    )
    if d < 0 or x < 0 or table < 0:
        return at.TROUBLE
    x, table = apart(s, x, words, d, words, 0), apart(s, table, n * rot, d, words, 1)
    for i in range(n):
        angles = s.f[table + i * rot : table + (i + 1) * rot]
        for first in range(i * cols, (i + 1) * cols, dim):
            turn(
                s.f[d + first : d + first + dim],
                s.f[x + first : x + first + dim],
                angles,
                rot // 2,
                is_interleaved,
            )
    mark(s, d, words)
    return at.DONE


@compiled
def add_by_distance(made: F32, x: F32, table: F32, first: int) -> None:
    """made[j] = x[j] + table[reach + (first + j)], clipped to the table."""
    reach = table.size // 2
    for j in range(made.size):
        made[j] = x[j] + table[reach + min(max(first + j, -reach), reach)]


@compiled
def run_relative(s: State, tile: int, code: int) -> int:
    """`vrel`: addresses dst, src, table; numbers n, cols, first, group, entries."""
    n, cols, first = number(s, tile, code, 0), number(s, tile, code, 1), number(s, tile, code, 2)
    group, entries = number(s, tile, code, 3), number(s, tile, code, 4)
    if not is_size(n, cols) or not group or entries % group or not (entries // group) % 2:
        return at.TROUBLE
    words, width = n * cols, entries // group
    d, x, table = (
        target(s, tile, code, 0, words),
        source(s, tile, code, 1, words),
        source(s, tile, code, 2, entries),
    )
    if d < 0 or x < 0 or table < 0:
        return at.TROUBLE
    x, table = apart(s, x, words, d, words, 0), apart(s, table, entries, d, words, 1)
    for i in range(n):
        row, start = table + i % group * width, i * cols
        made, given = s.f[d + start : d + start + cols], s.f[x + start : x + start + cols]
        add_by_distance(made, given, s.f[row : row + width], first - i // group)
    mark(s, d, words)
    return at.DONE


@compiled
def run_slope(s: State, tile: int, code: int) -> int:
    """`vslope`: addresses dst, src, slopes; numbers n, cols, first, group."""
    n, cols = number(s, tile, code, 0), number(s, tile, code, 1)
    first, group = number(s, tile, code, 2), number(s, tile, code, 3)
    if not is_size(n, cols) or not group:
        return at.TROUBLE
    words = n * cols
    d, x, slopes = (
        target(s, tile, code, 0, words),
        source(s, tile, code, 1, words),
        source(s, tile, code, 2, group),
    )
    if d < 0 or x < 0 or slopes < 0:
        return at.TROUBLE
    x, slopes = apart(s, x, words, d, words, 0), apart(s, slopes, group, d, words, 1)
    for i in range(n):
        slope, start, distance = s.f[slopes + i % group], i * cols, first - i // group
        made, given = s.f[d + start : d + start + cols], s.f[x + start : x + start + cols]
        for j in range(cols):
            made[j] = given[j] + slope * np.float32(distance + j)
    mark(s, d, words)
    return at.DONE
