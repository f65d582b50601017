"""Online softmax: one block of scores, the merge of two blocks, parts on several tiles, the end."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isa import instructions as t
from isa.instruction import DType
from runtime import numerics
from runtime.engine.state import TileState
from runtime.engine.trap import TrapError
from runtime.numerics import F32

from .registry import semantics


def _valid(tile: TileState, i: t.Smx | t.Smxi, n: int, cols: int) -> NDArray[np.bool_]:
    """Which columns each row may see: [n, cols]."""
    if (i.causal or i.window) and i.group == 0:
        raise TrapError("the rows of a token are counted in groups of 0")
    token = np.arange(n, dtype=np.int64)[:, None] // max(i.group, 1)
    column = np.arange(cols, dtype=np.int64)[None, :]
    hi, lo = tile.value(i.hi), tile.value(i.lo)
    valid = column < (hi + token if i.causal else hi + 0 * token)
    return valid & (column >= lo + token) if i.window else valid


def _block(scores: F32, valid: NDArray[np.bool_]) -> tuple[F32, F32]:
    """p [n, cols] and pairs (m, l) [n, 2] of scores [n, cols]."""
    scores = np.where(valid, scores, np.float32(-np.inf))
    m = numerics.row_max(scores)
    some = valid & (m != -np.inf)[:, None]
    p: F32 = np.where(some, numerics.exp(scores - m[:, None]), np.float32(0))
    return p, np.stack([m, numerics.row_sum(p)], axis=1)


@semantics(t.Smx)
def _(tile: TileState, i: t.Smx) -> None:
    n, cols = tile.count(i.n), tile.count(i.cols)
    p, ml = _block(tile.f32(i.s, n, cols), _valid(tile, i, n, cols))
    tile.write(i.p, p)
    tile.write(i.ml, ml)


@semantics(t.Smxi)
def _(tile: TileState, i: t.Smxi) -> None:
    n, cols = tile.count(i.n), tile.count(i.cols)
    array = tile.array(i.a, DType.I8)
    row_scales = array.row_scales[array.window(tile.value(i.row), cols)]
    sums = tile.i32(i.s, n, cols).astype(np.float32)
    p, ml = _block((sums * tile.f32(i.scales, n, 1)) * row_scales, _valid(tile, i, n, cols))
    tile.write(i.s, p)
    tile.write(i.ml, ml)


@semantics(t.Smxm)
def _(tile: TileState, i: t.Smxm) -> None:
    n, cols = tile.count(i.n), tile.count(i.cols)
    ml, mlb = tile.f32(i.ml, n, 2), tile.f32(i.mlb, n, 2)
    o, ob = tile.f32(i.o, n, cols), tile.f32(i.ob, n, cols)
    (m, l), (mb, lb) = ml.T, mlb.T
    top = numerics.larger(m, mb)
    a, b = numerics.exp(np.stack([m, mb]) - top)
    merged = np.stack([top, l * a + lb * b], axis=1)
    total = o * a[:, None] + ob * b[:, None]
    ours, theirs = (mb == -np.inf)[:, None], (m == -np.inf)[:, None]  # the other side is empty
    tile.write(i.o, np.where(ours, o, np.where(theirs, ob, total)))
    tile.write(i.ml, np.where(ours, ml, np.where(theirs, mlb, merged)))


@semantics(t.Smxs)
def _(tile: TileState, i: t.Smxs) -> None:
    n, cols = tile.count(i.n), tile.count(i.cols)
    (m, l), top = tile.f32(i.ml, n, 2).T, tile.f32(i.top, n, 1)[:, 0]
    some = m != -np.inf
    weight: F32 = np.where(some, numerics.exp(m - top), np.float32(0))
    o: F32 = np.where(some[:, None], tile.f32(i.o, n, cols) * weight[:, None], np.float32(0))
    tile.write(i.o, o)
    tile.write(i.ml, np.stack([np.zeros(n, np.float32), np.where(some, l * weight, np.float32(0))], axis=1))


@semantics(t.Smxd)
def _(tile: TileState, i: t.Smxd) -> None:
    n, cols = tile.count(i.n), tile.count(i.cols)
    l = tile.f32(i.ml, n, 2)[:, 1:]
    o = tile.f32(i.o, n, cols)
    tile.write(i.dst, np.where(l == 0, np.float32(0), o * numerics.reciprocal(l)))
