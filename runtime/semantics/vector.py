"""Instructions of the vector unit, except softmax (softmax.py). Blocks are float32 [n, cols]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isa import instructions as t
from isa.instruction import DType, Inst
from runtime import numerics
from runtime.engine.state import TileState
from runtime.engine.trap import TrapError
from runtime.numerics import F32

from .registry import semantics


def _size(tile: TileState, i: Any) -> tuple[int, int]:
    return tile.count(i.n), tile.count(i.cols)


# -------------------------------------------------------------------------------------- element by element


def _binary(kind: type[Inst], operation: Callable[[Any, Any], Any]) -> None:
    """dst = operation(a, b)."""

    @semantics(kind)
    def _(tile: TileState, i: Any) -> None:
        n, cols = _size(tile, i)
        tile.write(i.dst, operation(tile.f32(i.a, n, cols), tile.f32(i.b, n, cols)))


_binary(t.Vadd, np.add)
_binary(t.Vsub, np.subtract)
_binary(t.Vmul, np.multiply)
_binary(t.Vdiv, np.divide)
_binary(t.Vmax, numerics.larger)
_binary(t.Vmin, numerics.smaller)


def _unary(kind: type[Inst], operation: Callable[[F32], F32]) -> None:
    """dst = operation(src)."""

    @semantics(kind)
    def _(tile: TileState, i: Any) -> None:
        n, cols = _size(tile, i)
        tile.write(i.dst, operation(tile.f32(i.src, n, cols)))


_unary(t.Vexp, numerics.exp)
_unary(t.Vrecip, numerics.reciprocal)
_unary(t.Vrsqrt, numerics.rsqrt)
_unary(t.Vsqrt, np.sqrt)
_unary(t.Verf, numerics.erf)
_unary(t.Vtanh, numerics.tanh)
_unary(t.Vsigm, numerics.sigmoid)
_unary(t.Vsilu, numerics.silu)
_unary(t.Vgelu, numerics.gelu)
_unary(t.Vgelut, numerics.gelu_tanh)
_unary(t.Vrelu, numerics.relu)
_unary(t.Vabs, np.abs)
_unary(t.Vneg, np.negative)


@semantics(t.Vaddr)
def _(tile: TileState, i: t.Vaddr) -> None:
    n, cols = _size(tile, i)
    tile.write(i.dst, tile.f32(i.src, n, cols) + tile.f32(i.row, 1, cols))


@semantics(t.Vmulr)
def _(tile: TileState, i: t.Vmulr) -> None:
    n, cols = _size(tile, i)
    tile.write(i.dst, tile.f32(i.src, n, cols) * tile.f32(i.row, 1, cols))


@semantics(t.Vsubc)
def _(tile: TileState, i: t.Vsubc) -> None:
    n, cols = _size(tile, i)
    tile.write(i.dst, tile.f32(i.src, n, cols) - tile.f32(i.column, n, 1))


@semantics(t.Vmulc)
def _(tile: TileState, i: t.Vmulc) -> None:
    n, cols = _size(tile, i)
    tile.write(i.dst, tile.f32(i.src, n, cols) * tile.f32(i.column, n, 1))


@semantics(t.Vscale)
def _(tile: TileState, i: t.Vscale) -> None:
    n, cols = _size(tile, i)
    tile.write(i.dst, (tile.f32(i.src, n, cols) * tile.f32(i.column, n, 1)) * tile.f32(i.row, 1, cols))


@semantics(t.Vaddi)
def _(tile: TileState, i: t.Vaddi) -> None:
    tile.write(i.dst, tile.f32(i.src, *_size(tile, i)) + np.float32(i.value))


@semantics(t.Vmuli)
def _(tile: TileState, i: t.Vmuli) -> None:
    tile.write(i.dst, tile.f32(i.src, *_size(tile, i)) * np.float32(i.value))


@semantics(t.Vfill)
def _(tile: TileState, i: t.Vfill) -> None:
    tile.write(i.dst, np.full(_size(tile, i), i.value, np.float32))


# ------------------------------------------------------------------------------------------------ reductions


def _reduction(kind: type[Inst], operation: Callable[[F32], F32]) -> None:
    """dst[i] = operation(row i of src)."""

    @semantics(kind)
    def _(tile: TileState, i: Any) -> None:
        tile.write(i.dst, operation(tile.f32(i.src, *_size(tile, i))))


_reduction(t.Vsum, numerics.row_sum)
_reduction(t.Vsumsq, numerics.row_sum_squares)
_reduction(t.Vmaxr, numerics.row_max)
_reduction(t.Vamax, numerics.row_max_magnitude)


@semantics(t.Vmean)
def _(tile: TileState, i: t.Vmean) -> None:
    tile.write(i.dst, numerics.row_sum(tile.f32(i.src, *_size(tile, i))) * np.float32(i.factor))


def _deviation(tile: TileState, i: t.Vrstd | t.Vrstdm, n: int) -> F32:
    """1 / square root of (src * factor + eps): [n]."""
    return numerics.rsqrt(tile.column(i.src, n) * np.float32(i.factor) + np.float32(i.eps))


@semantics(t.Vrstd)
def _(tile: TileState, i: t.Vrstd) -> None:
    tile.write(i.dst, _deviation(tile, i, tile.count(i.n)))


@semantics(t.Vrstdm)
def _(tile: TileState, i: t.Vrstdm) -> None:
    n = tile.count(i.n)
    tile.write(i.dst, tile.column(i.dst, n) * _deviation(tile, i, n))


@semantics(t.Vsumq)
def _(tile: TileState, i: t.Vsumq) -> None:
    n, cols = _size(tile, i)
    sums = tile.i8(i.src, n, cols).sum(axis=1, dtype=np.int32).astype(np.float32)
    tile.write(i.dst, sums * tile.column(i.scales, n))


@semantics(t.Vouter)
def _(tile: TileState, i: t.Vouter) -> None:
    n, cols = _size(tile, i)
    product = tile.f32(i.column, n, 1) * tile.f32(i.row, 1, cols)
    tile.write(i.dst, tile.f32(i.src, n, cols) + product)


# --------------------------------------------------------------------------- int8, int32 and float16 to and from


@semantics(t.Quant)
def _(tile: TileState, i: t.Quant) -> None:
    codes, scales = numerics.quantise(tile.f32(i.src, *_size(tile, i)))
    tile.write(i.dst, codes)
    tile.write(i.scales, scales)


@semantics(t.Quantl)
def _(tile: TileState, i: t.Quantl) -> None:
    codes, scales = numerics.quantise(tile.f32(i.src, *_size(tile, i)), i.levels)
    tile.write(i.dst, codes)
    tile.write(i.scales, scales)


@semantics(t.Quantx)
def _(tile: TileState, i: t.Quantx) -> None:
    n, cols = _size(tile, i)
    tile.write(i.dst, numerics.quantise_by(tile.f32(i.src, n, cols), tile.column(i.scales, n)))


@semantics(t.Quantm)
def _(tile: TileState, i: t.Quantm) -> None:
    n, cols = _size(tile, i)
    scales = tile.column(i.scales, n) * numerics.ONE_OVER_LEVELS
    tile.write(i.dst, numerics.quantise_by(tile.f32(i.src, n, cols), scales))
    tile.write(i.scales, scales)


@semantics(t.Quantw)
def _(tile: TileState, i: t.Quantw) -> None:
    n, cols = _size(tile, i)
    array = tile.array(i.a, DType.I8)
    weights = array.row_scales[array.window(tile.value(i.row), cols)]
    codes, scales = numerics.quantise(tile.f32(i.src, n, cols) * weights)
    tile.write(i.dst, codes)
    tile.write(i.scales, scales)


@semantics(t.Deqc)
def _(tile: TileState, i: t.Deqc) -> None:
    array, n = tile.array(i.a, DType.I8), tile.count(i.n)
    sums = tile.i32(i.src, n, array.spec.cols).astype(np.float32)
    tile.write(i.dst, (sums * tile.f32(i.scales, n, 1)) * array.group_scales(0))


@semantics(t.Deqb)
def _(tile: TileState, i: t.Deqb) -> None:
    array, n = tile.array(i.a, DType.I8), tile.count(i.n)
    sums = tile.i32(i.src, n, array.spec.cols).astype(np.float32)
    scaled = (sums * tile.f32(i.scales, n, 1)) * array.group_scales(0)
    tile.write(i.dst, scaled + tile.f32(i.row, 1, array.spec.cols))


@semantics(t.Deqg)
def _(tile: TileState, i: t.Deqg) -> None:
    array, n = tile.array(i.a, DType.I8), tile.count(i.n)
    sums = tile.i32(i.src, n, array.spec.cols).astype(np.float32)
    scaled = (sums * tile.f32(i.scales, n, 1)) * array.group_scales(tile.value(i.group))
    tile.write(i.dst, tile.f32(i.dst, n, array.spec.cols) + scaled if i.acc else scaled)


@semantics(t.Deqr)
def _(tile: TileState, i: t.Deqr) -> None:
    n, cols = _size(tile, i)
    array = tile.array(i.a, DType.I8)
    row_scales = array.row_scales[array.window(tile.value(i.row), cols)]
    sums = tile.i32(i.src, n, cols).astype(np.float32)
    tile.write(i.dst, (sums * tile.f32(i.scales, n, 1)) * row_scales)


@semantics(t.Deq)
def _(tile: TileState, i: t.Deq) -> None:
    n, cols = _size(tile, i)
    tile.write(i.dst, tile.i32(i.src, n, cols).astype(np.float32) * tile.f32(i.scales, n, 1))


@semantics(t.Vf16)
def _(tile: TileState, i: t.Vf16) -> None:
    tile.write(i.dst, tile.f32(i.src, *_size(tile, i)).astype(np.float16))


@semantics(t.Vf32)
def _(tile: TileState, i: t.Vf32) -> None:
    n, cols = _size(tile, i)
    tile.write(i.dst, tile.read(i.src, DType.F16, n, cols).astype(np.float32))


# ------------------------------------------------------------------------------------------ biases by distance


def _distances(tile: TileState, i: t.Vrel | t.Vslope, n: int, cols: int) -> NDArray[np.int64]:
    """How far column j lies behind the token of row r: first + j - r / group, [n, cols]."""
    if not i.group:
        raise TrapError("the rows of a token are counted in groups of 0")
    token = np.arange(n, dtype=np.int64)[:, None] // i.group
    return tile.value(i.first) + np.arange(cols, dtype=np.int64)[None, :] - token


@semantics(t.Vrel)
def _(tile: TileState, i: t.Vrel) -> None:
    n, cols = _size(tile, i)
    distances = _distances(tile, i, n, cols)
    width, rest = divmod(i.entries, i.group)
    if rest or width % 2 == 0:
        raise TrapError(f"a table of {i.entries} entries is not {i.group} rows of an odd number")
    reach, row = width // 2, np.arange(n)[:, None] % i.group
    table = tile.f32(i.table, i.group, width)
    tile.write(i.dst, tile.f32(i.src, n, cols) + table[row, reach + distances.clip(-reach, reach)])


@semantics(t.Vslope)
def _(tile: TileState, i: t.Vslope) -> None:
    n, cols = _size(tile, i)
    distances = _distances(tile, i, n, cols).astype(np.float32)
    slopes = tile.column(i.slopes, i.group)[np.arange(n) % i.group]
    tile.write(i.dst, tile.f32(i.src, n, cols) + slopes[:, None] * distances)


# ---------------------------------------------------------------------------------------------------- rotary


def _rotate(heads: F32, table: F32, rot: int, interleaved: bool) -> F32:
    """Turn the first `rot` features of heads [n, heads, dim] by the angles of table [n, rot]."""
    half = rot // 2
    first = slice(0, rot, 2) if interleaved else slice(0, half)
    second = slice(1, rot, 2) if interleaved else slice(half, rot)
    cos, sin = table[:, None, :half], table[:, None, half:]
    x, y = heads[:, :, first], heads[:, :, second]
    turned = heads.copy()
    turned[:, :, first] = x * cos - y * sin
    turned[:, :, second] = y * cos + x * sin
    return turned


@semantics(t.Rope)
def _(tile: TileState, i: t.Rope) -> None:
    n = tile.count(i.n)
    if i.rot % 2 or i.rot > i.dim or (i.cols and (not i.dim or i.cols % i.dim)):
        raise TrapError(f"rope cannot turn {i.rot} features of {i.dim}-wide heads in rows of {i.cols}")
    heads = tile.f32(i.src, n, i.cols).reshape(n, i.cols // max(i.dim, 1), i.dim)
    tile.write(i.dst, _rotate(heads, tile.f32(i.table, n, i.rot), i.rot, i.interleaved))
