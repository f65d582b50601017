"""CIM instructions: activations of arrays, writes and reads of their rows."""

from __future__ import annotations

import numpy as np

from isa import instructions as t
from isa.instruction import DType
from runtime.engine.state import ArrayState, TileState
from runtime.numerics import I8, I32, ideal_product

from .registry import semantics


def _product(tile: TileState, array: ArrayState, x: I8, window: slice, is_across: bool = False) -> I32:
    """What an array makes of vectors (`ArrayState.product`); counted, if that is asked for."""
    if tile.meter is not None:
        tile.meter.note(tile.number, tile.index, x, array.cells[window])
    return array.product(x, window, is_across)


@semantics(t.Mvm)
def _(tile: TileState, i: t.Mvm) -> None:
    array, n, rows = tile.array(i.a, DType.I8), tile.count(i.n), tile.count(i.rows)
    window = array.window(tile.value(i.row), rows)
    sums = _product(tile, array, tile.i8(i.src, n, rows), window)
    tile.write(i.dst, tile.i32(i.dst, n, array.spec.cols) + sums if i.acc else sums)


@semantics(t.Mvmw)
def _(tile: TileState, i: t.Mvmw) -> None:
    array, n, rows = tile.array(i.a, DType.I8), tile.count(i.n), tile.count(i.rows)
    window = array.window(tile.value(i.row), rows)
    sums = _product(tile, array, tile.i8_rows(i.src, n, rows, i.pitch), window)
    tile.write(i.dst, tile.i32(i.dst, n, array.spec.cols) + sums if i.acc else sums)


@semantics(t.Mvmt)
def _(tile: TileState, i: t.Mvmt) -> None:
    array, n, rows = tile.array(i.a, DType.I8), tile.count(i.n), tile.count(i.rows)
    window = array.window(tile.value(i.row), rows)
    sums = _product(tile, array, tile.i8(i.src, n, array.spec.cols), window, is_across=True)
    tile.write(i.dst, tile.i32(i.dst, n, rows) + sums if i.acc else sums)


@semantics(t.Wrow)
def _(tile: TileState, i: t.Wrow) -> None:
    array, n = tile.array(i.a, DType.I8), tile.count(i.n)
    window = array.window(tile.value(i.row), n)
    array.cells[window] = tile.i8(i.src, n, array.spec.cols)
    array.row_scales[window] = tile.column(i.scales, n)


@semantics(t.Wrowc)
def _(tile: TileState, i: t.Wrowc) -> None:
    array, n = tile.array(i.a, DType.I8), tile.count(i.n)
    array.cells[array.window(tile.value(i.row), n)] = tile.i8(i.src, n, array.spec.cols)


@semantics(t.Rrow)
def _(tile: TileState, i: t.Rrow) -> None:
    array, n = tile.array(i.a, DType.I8), tile.count(i.n)
    window = array.window(tile.value(i.row), n)
    codes: I8 = array.cells[window].astype(np.int8)
    tile.write(i.dst, codes)
    tile.write(i.scales, array.row_scales[window])


@semantics(t.Rrowf)
def _(tile: TileState, i: t.Rrowf) -> None:
    array, n = tile.array(i.a, DType.F32), tile.count(i.n)
    tile.write(i.dst, array.cells[array.window(tile.value(i.row), n)].copy())


@semantics(t.Wscale)
def _(tile: TileState, i: t.Wscale) -> None:
    array = tile.array(i.a, DType.I8)
    array.group_scales(0)[:] = tile.column(i.src, array.spec.cols)


@semantics(t.Mvmf)
def _(tile: TileState, i: t.Mvmf) -> None:
    array, n, rows = tile.array(i.a, DType.F32), tile.count(i.n), tile.count(i.rows)
    window = array.window(tile.value(i.row), rows)
    tile.write(i.dst, ideal_product(tile.f32(i.src, n, rows), array.cells[window]))


@semantics(t.Mvmtf)
def _(tile: TileState, i: t.Mvmtf) -> None:
    array, n, rows = tile.array(i.a, DType.F32), tile.count(i.n), tile.count(i.rows)
    window = array.window(tile.value(i.row), rows)
    tile.write(i.dst, ideal_product(tile.f32(i.src, n, array.spec.cols), array.cells[window].T))


@semantics(t.Wrowf)
def _(tile: TileState, i: t.Wrowf) -> None:
    array, n = tile.array(i.a, DType.F32), tile.count(i.n)
    window = array.window(tile.value(i.row), n)
    array.cells[window] = tile.f32(i.src, n, array.spec.cols)
