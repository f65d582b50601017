"""Online softmax (runtime/semantics/softmax.py): one block of scores, the merge of two, parts on several tiles."""

from __future__ import annotations

import numpy as np

from . import functions as fn
from . import layout as at
from .functions import F
from .jit import compiled
from .operands import apart, is_size, is_window, mark, number, overlap, source, target, typed_array
from .plan import OPCODE
from .reductions import row_max, row_sum
from .state import F32, I32, State

SMX = OPCODE["smx"]

_ZERO, _ONE, _LOWEST = F(0), F(1), F(-np.inf)


@compiled
def bounds(s: State, tile: int, code: int, first: int, i: int, cols: int) -> tuple[int, int]:
    """The columns that row i may see: from the first to before the second. Numbers hi, lo, group, causal, window
    begin at number `first`."""
    hi, lo, group = (
        number(s, tile, code, first),
        number(s, tile, code, first + 1),
        number(s, tile, code, first + 2),
    )
    token = i // max(group, 1)
    high = min(hi + token if number(s, tile, code, first + 3) else hi, cols)
    low = max(lo + token, 0) if number(s, tile, code, first + 4) else 0
    return min(low, cols), max(high, min(low, cols))


@compiled
def is_grouped(s: State, tile: int, code: int, first: int) -> bool:
    """Whether rows are counted in groups of some, if they must be."""
    if number(s, tile, code, first + 2):
        return True
    return not number(s, tile, code, first + 3) and not number(s, tile, code, first + 4)


@compiled
def exponentials(p: F32, scores: F32, m: F) -> None:
    """e to the scores less m."""
    for j in range(p.size):
        p[j] = fn.exp(scores[j] - m)


@compiled
def soften(s: State, p: int, scores: int, cols: int, low: int, high: int, ml: int) -> None:
    """One row: scores to probabilities, m and l. What lies outside of low..high is not seen."""
    lanes = s.f[s.m[at.H_SCRATCH] : s.m[at.H_SCRATCH] + at.LANES]
    row, made = s.f[scores : scores + cols], s.f[p : p + cols]
    for j in range(low):
        row[j] = _LOWEST
    for j in range(high, cols):
        row[j] = _LOWEST
    m = row_max(lanes, row)
    for j in range(cols):
        made[j] = _ZERO
    if m != _LOWEST:
        exponentials(made[low:high], row[low:high], m)
    s.f[ml], s.f[ml + 1] = m, row_sum(lanes, made)


@compiled
def run_block(s: State, tile: int, code: int) -> int:
    """`smx`: addresses p, s, ml; numbers n, cols, hi, lo, group, causal, window."""
    n, cols = number(s, tile, code, 0), number(s, tile, code, 1)
    if not is_size(n, cols) or not is_grouped(s, tile, code, 2):
        return at.TROUBLE
    words = n * cols
    p, scores, ml = (
        target(s, tile, code, 0, words),
        source(s, tile, code, 1, words),
        target(s, tile, code, 2, 2 * n),
    )
    if p < 0 or scores < 0 or ml < 0 or overlap(p, words, ml, 2 * n):
        return at.TROUBLE
    scores = apart(s, scores, words, p, words, 0)
    scores = apart(s, scores, words, ml, 2 * n, 0)
    row = s.m[at.H_SCRATCH] + at.LANES + s.m[at.H_SCRATCH_WORDS]
    for i in range(n):
        copy, given = s.f[row : row + cols], s.f[scores + i * cols : scores + (i + 1) * cols]
        for j in range(cols):
            copy[j] = given[j]
        low, high = bounds(s, tile, code, 2, i, cols)
        soften(s, p + i * cols, row, cols, low, high, ml + 2 * i)
    mark(s, p, words)
    mark(s, ml, 2 * n)
    return at.DONE


@compiled
def scale_sums(scores: F32, sums: I32, scale: F, weights: F32) -> None:
    """Sums of a row to scores."""
    for j in range(scores.size):
        scores[j] = (np.float32(sums[j]) * scale) * weights[j]


@compiled
def run_block_of_sums(s: State, tile: int, code: int) -> int:
    """`smxi`: addresses s, ml, scales; numbers n, row, cols, hi, lo, group, causal, window."""
    n, first, cols = number(s, tile, code, 0), number(s, tile, code, 1), number(s, tile, code, 2)
    array = typed_array(s, tile, code, 0)
    if not is_size(n, cols) or array < 0 or not is_window(s, array, first, cols):
        return at.TROUBLE
    words = n * cols
    p, ml, scales = (
        source(s, tile, code, 0, words),
        target(s, tile, code, 1, 2 * n),
        source(s, tile, code, 2, n),
    )
    if p < 0 or ml < 0 or scales < 0 or not is_grouped(s, tile, code, 3) or overlap(p, words, ml, 2 * n):
        return at.TROUBLE
    scales = apart(s, scales, n, p, words, 0)
    scales = apart(s, scales, n, ml, 2 * n, 0)
    row = s.m[at.H_SCRATCH] + at.LANES + s.m[at.H_SCRATCH_WORDS]
    weights = s.k[array + at.A_ROW_SCALES] + first
    for i in range(n):
        sums = s.i[p + i * cols : p + (i + 1) * cols]
        scale_sums(s.f[row : row + cols], sums, s.f[scales + i], s.f[weights : weights + cols])
        low, high = bounds(s, tile, code, 3, i, cols)
        soften(s, p + i * cols, row, cols, low, high, ml + 2 * i)
    mark(s, ml, 2 * n)
    return at.DONE


@compiled
def weigh(o: F32, ob: F32, a: F, b: F) -> None:
    """o = o * a + ob * b."""
    for j in range(o.size):
        o[j] = o[j] * a + ob[j] * b


@compiled
def merge_row(s: State, ml: int, o: int, mlb: int, ob: int, cols: int) -> None:
    """Merge one row of a block into another."""
    m, mb = s.f[ml], s.f[mlb]
    if mb == _LOWEST:
        return
    if m == _LOWEST:
        s.f[ml], s.f[ml + 1] = mb, s.f[mlb + 1]
        to, given = s.f[o : o + cols], s.f[ob : ob + cols]
        for j in range(cols):
            to[j] = given[j]
        return
    top = fn.larger(m, mb)
    a, b = fn.exp(m - top), fn.exp(mb - top)
    weigh(s.f[o : o + cols], s.f[ob : ob + cols], a, b)
    s.f[ml + 1] = s.f[ml + 1] * a + s.f[mlb + 1] * b
    s.f[ml] = top


@compiled
def run_merge(s: State, tile: int, code: int) -> int:
    """`smxm`: addresses ml, o, mlb, ob."""
    n, cols = number(s, tile, code, 0), number(s, tile, code, 1)
    if not is_size(n, cols):
        return at.TROUBLE
    words = n * cols
    ml, o = source(s, tile, code, 0, 2 * n), source(s, tile, code, 1, words)
    mlb, ob = source(s, tile, code, 2, 2 * n), source(s, tile, code, 3, words)
    if ml < 0 or o < 0 or mlb < 0 or ob < 0 or overlap(ml, 2 * n, o, words):
        return at.TROUBLE
    if overlap(mlb, 2 * n, ml, 2 * n) or overlap(ob, words, ml, 2 * n) or overlap(mlb, 2 * n, o, words):
        return at.TROUBLE
    ob = apart(s, ob, words, o, words, 0)
    for i in range(n):
        merge_row(s, ml + 2 * i, o + i * cols, mlb + 2 * i, ob + i * cols, cols)
    return at.DONE


@compiled
def run_rescale(s: State, tile: int, code: int) -> int:
    """`smxs`: addresses ml, o, top."""
    n, cols = number(s, tile, code, 0), number(s, tile, code, 1)
    if not is_size(n, cols):
        return at.TROUBLE
    words = n * cols
    ml, o, top = (
        source(s, tile, code, 0, 2 * n),
        source(s, tile, code, 1, words),
        source(s, tile, code, 2, n),
    )
    if ml < 0 or o < 0 or top < 0 or overlap(ml, 2 * n, o, words):
        return at.TROUBLE
    top = apart(s, top, n, ml, 2 * n, 0)
    top = apart(s, top, n, o, words, 0)
    for i in range(n):
        m, row = s.f[ml + 2 * i], s.f[o + i * cols : o + (i + 1) * cols]
        if m != _LOWEST:
            weight = fn.exp(m - s.f[top + i])
            for j in range(cols):
                row[j] = row[j] * weight
            s.f[ml + 2 * i + 1] = s.f[ml + 2 * i + 1] * weight
        else:
            for j in range(cols):
                row[j] = _ZERO
            s.f[ml + 2 * i + 1] = _ZERO
        s.f[ml + 2 * i] = _ZERO
    return at.DONE


@compiled
def run_finish(s: State, tile: int, code: int) -> int:
    """`smxd`: addresses dst, o, ml."""
    n, cols = number(s, tile, code, 0), number(s, tile, code, 1)
    if not is_size(n, cols):
        return at.TROUBLE
    words = n * cols
    d, o, ml = (
        target(s, tile, code, 0, words),
        source(s, tile, code, 1, words),
        source(s, tile, code, 2, 2 * n),
    )
    if d < 0 or o < 0 or ml < 0:
        return at.TROUBLE
    o, ml = apart(s, o, words, d, words, 0), apart(s, ml, 2 * n, d, words, 1)
    for i in range(n):
        total = s.f[ml + 2 * i + 1]
        made, given = s.f[d + i * cols : d + (i + 1) * cols], s.f[o + i * cols : o + (i + 1) * cols]
        inverse = _ONE / total
        for j in range(cols):
            made[j] = given[j] * inverse
        if total == _ZERO:
            for j in range(cols):
                made[j] = _ZERO
    mark(s, d, words)
    return at.DONE
