"""CIM instructions: activations of arrays, writes and reads of their rows.

Cells of weights lie turned, column after column, so that a sum over rows is a product of two vectors that lie
together; cells of the KV cache and of streams of weights lie row after row, as they are written.
"""

from __future__ import annotations

import numpy as np

from runtime.activity import CODES, SAMPLE

from . import layout as at
from .analog import analog_product
from .dots import dots
from .jit import compiled
from .operands import (
    apart,
    is_size,
    is_window,
    is_written,
    mark,
    move,
    number,
    overlap,
    place_of,
    source,
    target,
    typed_array,
)
from .plan import OPCODE
from .state import F32, F64, I8, I32, Product, State

MVM, MVMT, MVMW = OPCODE["mvm"], OPCODE["mvmt"], OPCODE["mvmw"]
WROW, WROWC, RROW = OPCODE["wrow"], OPCODE["wrowc"], OPCODE["rrow"]
MVMF, MVMTF = OPCODE["mvmf"], OPCODE["mvmtf"]


@compiled
def add_multiple(sums: I32, w: I8, x: np.int16) -> None:
    """sums += x * w; a product of two int8 fits int16."""
    for c in range(sums.size):
        sums[c] = np.int32(sums[c] + np.int32(np.int16(np.int16(w[c]) * x)))


@compiled
def add_rows(
    s: State, to: int, x: int, pitch: int, n: int, cells: int, step: int, many: int, size: int
) -> None:
    """sums[i] += x[i, r] * cells[r], summed over r: `size` vectors of `many` bytes, `step` apart."""
    for i in range(n):
        sums = s.i[to + i * many : to + (i + 1) * many]
        for r in range(size):
            w = s.b[cells + r * step : cells + r * step + many]
            add_multiple(sums, w, np.int16(s.b[x + i * pitch + r]))


@compiled
def activate(s: State, p: Product) -> None:
    """Add to the sums what a product gives."""
    if s.k[p.array + at.A_ANALOG]:
        analog_product(s, p)
        return
    cols, all_rows = s.k[p.array + at.A_COLS], s.k[p.array + at.A_ROWS]
    cells = s.k[p.array + at.A_CELLS]
    if s.k[p.array + at.A_IS_TURNED]:
        if p.is_across:
            add_rows(s, p.to, p.x, p.pitch, p.n, cells + p.row, all_rows, p.rows, cols)
        else:
            dots(s, p.to, p.x, p.pitch, p.n, cells + p.row, all_rows, cols, p.rows)
    elif p.is_across:
        dots(s, p.to, p.x, p.pitch, p.n, cells + p.row * cols, cols, p.rows, cols)
    else:
        add_rows(s, p.to, p.x, p.pitch, p.n, cells + p.row * cols, cols, cols, p.rows)


@compiled
def count_codes(s: State, first: int, size: int, counts: int) -> None:
    """Count the codes of `size` bytes of the memory."""
    for j in range(first, first + size):
        s.a[counts + (np.int64(s.b[j]) & 255)] += 1


@compiled
def count_product(s: State, tile: int, code: int, p: Product) -> None:
    """Count the vectors of a product and the cells that they are multiplied with (runtime/activity.py)."""
    entry = s.m[tile + at.V_METER] + 2 * s.k[code + at.C_INDEX]
    slot, done = s.a[entry], s.a[entry + 1]
    s.a[entry + 1] = done + 1
    if not slot or done % SAMPLE:
        return
    cols, all_rows, cells = s.k[p.array + at.A_COLS], s.k[p.array + at.A_ROWS], s.k[p.array + at.A_CELLS]
    for i in range(p.n):
        count_codes(s, p.x + i * p.pitch, cols if p.is_across else p.rows, slot)
    if s.k[p.array + at.A_IS_TURNED]:
        for col in range(cols):
            count_codes(s, cells + col * all_rows + p.row, p.rows, slot + CODES)
    else:
        count_codes(s, cells + p.row * cols, p.rows * cols, slot + CODES)


@compiled
def vectors(s: State, tile: int, code: int, n: int, size: int, pitch: int) -> int:
    """Where n int8 vectors begin, `pitch` words apart (0: dense); -1 if something is amiss."""
    if not pitch:
        return source(s, tile, code, 1, (n * size + 3) >> 2)
    words = (size + 3) >> 2
    if not n or not words:
        return 0
    place = place_of(s, tile, code, 1, (n - 1) * pitch + words)
    if place >= 0:
        for i in range(n):
            if not is_written(s, place + i * pitch, words):
                return -1
    return place


@compiled
def span(n: int, size: int, pitch: int) -> int:
    """Words from the first to the last of n int8 vectors, `pitch` words apart (0: dense)."""
    if not pitch or not n:
        return (n * size + 3) >> 2
    return (n - 1) * pitch + ((size + 3) >> 2)


@compiled
def run_product(s: State, tile: int, code: int, kind: int) -> int:
    """`mvm`, `mvmt`, `mvmw`: addresses dst, src."""
    n, row, rows = number(s, tile, code, 0), number(s, tile, code, 1), number(s, tile, code, 2)
    array = typed_array(s, tile, code, 0)
    if not is_size(n, rows) or array < 0 or not is_window(s, array, row, rows):
        return at.TROUBLE
    pitch = number(s, tile, code, 3) if kind == MVMW else 0
    is_added = number(s, tile, code, 4 if kind == MVMW else 3) != 0
    cols = s.k[array + at.A_COLS]
    size, many = (cols, rows) if kind == MVMT else (rows, cols)
    words, given = n * many, span(n, size, pitch)
    d, x = target(s, tile, code, 0, words), vectors(s, tile, code, n, size, pitch)
    if d < 0 or x < 0 or (is_added and source(s, tile, code, 0, words) < 0):
        return at.TROUBLE
    if pitch and overlap(x, given, d, words):
        return at.TROUBLE
    x = apart(s, x, given, d, words, 0)
    if not is_added:
        sums = s.i[d : d + words]
        for j in range(words):
            sums[j] = 0
    product = Product(array, kind == MVMT, d, 4 * x, 4 * pitch if pitch else size, n, row, rows)
    if s.m[tile + at.V_METER]:
        count_product(s, tile, code, product)
    activate(s, product)
    mark(s, d, words)
    return at.DONE


# ---------------------------------------------------------------------------------------------- ideal arithmetic


@compiled
def add_wide(sums: F64, w: F32, x: float) -> None:
    """sums += x * w in float64, where products of float32 are exact."""
    for c in range(sums.size):
        sums[c] = sums[c] + x * np.float64(w[c])


@compiled
def ideal_row(s: State, d: int, x: int, size: int, cells: int, step: int, many: int, between: int) -> None:
    """One vector of `size` with `many` sums: cell (r, c) is r * step + c * between words behind `cells`."""
    wide = (s.m[at.H_SCRATCH] + at.LANES + 2 * s.m[at.H_SCRATCH_WORDS]) // 2
    sums = s.d[wide : wide + many]
    for c in range(many):
        sums[c] = 0.0
    if between == 1:
        for r in range(size):
            add_wide(sums, s.f[cells + r * step : cells + r * step + many], np.float64(s.f[x + r]))
    else:
        for c in range(many):
            total = 0.0
            for r in range(size):
                total = total + np.float64(s.f[x + r]) * np.float64(s.f[cells + r * step + c * between])
            sums[c] = total
    for c in range(many):
        s.f[d + c] = np.float32(sums[c])


@compiled
def run_ideal(s: State, tile: int, code: int, kind: int) -> int:
    """`mvmf`, `mvmtf`: sums in the order of the rows (columns) in float64, rounded once."""
    n, row, rows = number(s, tile, code, 0), number(s, tile, code, 1), number(s, tile, code, 2)
    array = typed_array(s, tile, code, 1)
    if not is_size(n, rows) or array < 0 or not is_window(s, array, row, rows):
        return at.TROUBLE
    cols = s.k[array + at.A_COLS]
    size, many = (cols, rows) if kind == MVMTF else (rows, cols)
    words, given = n * many, n * size
    d, x = target(s, tile, code, 0, words), source(s, tile, code, 1, given)
    if d < 0 or x < 0:
        return at.TROUBLE
    x = apart(s, x, given, d, words, 0)
    cells = s.k[array + at.A_CELLS] + row * cols
    for i in range(n):
        if kind == MVMTF:
            ideal_row(s, d + i * many, x + i * size, size, cells, 1, many, cols)
        else:
            ideal_row(s, d + i * many, x + i * size, size, cells, cols, many, 1)
    mark(s, d, words)
    return at.DONE


# ------------------------------------------------------------------------------------------------- rows of cells


@compiled
def put_cells(s: State, array: int, row: int, x: int, n: int) -> None:
    """Write n int8 rows at byte x into an array."""
    cols, rows, cells = s.k[array + at.A_COLS], s.k[array + at.A_ROWS], s.k[array + at.A_CELLS]
    if s.k[array + at.A_IS_TURNED]:
        for i in range(n):
            for c in range(cols):
                s.b[cells + c * rows + row + i] = s.b[x + i * cols + c]
        return
    to, given = s.b[cells + row * cols : cells + (row + n) * cols], s.b[x : x + n * cols]
    for j in range(n * cols):
        to[j] = given[j]


@compiled
def run_write_rows(s: State, tile: int, code: int, kind: int) -> int:
    """`wrow`, `wrowc`: addresses src, and of `wrow` the scales."""
    n, row, array = number(s, tile, code, 0), number(s, tile, code, 1), typed_array(s, tile, code, 0)
    if not is_size(n, 0) or array < 0 or not is_window(s, array, row, n):
        return at.TROUBLE
    x = source(s, tile, code, 0, (n * s.k[array + at.A_COLS] + 3) >> 2)
    scales = source(s, tile, code, 1, n) if kind == WROW else 0
    if x < 0 or scales < 0:
        return at.TROUBLE
    put_cells(s, array, row, 4 * x, n)
    if kind == WROW:
        move(s, s.k[array + at.A_ROW_SCALES] + row, scales, n)
    return at.DONE


@compiled
def run_read_rows(s: State, tile: int, code: int) -> int:
    """`rrow`: addresses dst, scales."""
    n, row, array = number(s, tile, code, 0), number(s, tile, code, 1), typed_array(s, tile, code, 0)
    if not is_size(n, 0) or array < 0 or not is_window(s, array, row, n):
        return at.TROUBLE
    cols, rows, cells = s.k[array + at.A_COLS], s.k[array + at.A_ROWS], s.k[array + at.A_CELLS]
    words = (n * cols + 3) >> 2
    d, scales = target(s, tile, code, 0, words), target(s, tile, code, 1, n)
    if d < 0 or scales < 0 or overlap(d, words, scales, n):
        return at.TROUBLE
    is_turned = s.k[array + at.A_IS_TURNED]
    for i in range(n):
        for c in range(cols):
            cell = cells + c * rows + row + i if is_turned else cells + (row + i) * cols + c
            s.b[4 * d + i * cols + c] = s.b[cell]
    move(s, scales, s.k[array + at.A_ROW_SCALES] + row, n)
    mark(s, d, words)
    mark(s, scales, n)
    return at.DONE


@compiled
def run_float_rows(s: State, tile: int, code: int, is_read: bool) -> int:
    """`wrowf`, `rrowf`."""
    n, row, array = number(s, tile, code, 0), number(s, tile, code, 1), typed_array(s, tile, code, 1)
    if not is_size(n, 0) or array < 0 or not is_window(s, array, row, n):
        return at.TROUBLE
    cols = s.k[array + at.A_COLS]
    words, cells = n * cols, s.k[array + at.A_CELLS] + row * cols
    place = target(s, tile, code, 0, words) if is_read else source(s, tile, code, 0, words)
    if place < 0:
        return at.TROUBLE
    if is_read:
        move(s, place, cells, words)
        mark(s, place, words)
    else:
        move(s, cells, place, words)
    return at.DONE


@compiled
def run_write_scales(s: State, tile: int, code: int) -> int:
    """`wscale`: the scales of an array's columns."""
    array = typed_array(s, tile, code, 0)
    if array < 0 or s.k[array + at.A_GROUPS] < 1:
        return at.TROUBLE
    cols = s.k[array + at.A_COLS]
    x = source(s, tile, code, 0, cols)
    if x < 0:
        return at.TROUBLE
    move(s, s.k[array + at.A_COLUMN_SCALES], x, cols)
    return at.DONE
