"""Quantised constants: integers with scales, as files hold them, and as arrays take them.

`Tensor.data` of a dequantised constant gives (integers - zero points) * scales; `integers` gives the
integers themselves and their scales, through whatever views stand between, so that nothing is
rounded twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import numpy as np
from numpy.typing import NDArray

from compiler.ir.tensor import Array, Dequantised, DType, Reshaped, Sliced, Tensor, Transposed

_MIDDLE = {DType.UINT8: 128, DType.INT8: 0}
"""What is taken from 8-bit integers so that they fit the cells whatever their zero points are."""

LEAST_BLOCK = 8
"""Scales that change more often than every so many rows are not worth array activations of their own."""

_RANGES = {"int4": (-8, 7), "uint4": (0, 15), "int2": (-2, 1), "uint2": (0, 3)}


@dataclass(frozen=True, slots=True)
class IntegerWeight:
    """weight[k, n] = values[k, n] * scales[k // block, n] + offsets[n]; one group of all rows if `block` is 0.

    values: int8 [K, N]. scales: float32 [groups, N]. offsets: float32 [N], or None if there are none.
    """

    values: NDArray[np.int8]
    scales: NDArray[np.float32]
    block: int
    offsets: NDArray[np.float32] | None = None


def is_integer(kind: np.dtype[np.generic]) -> bool:
    """Whether a type holds integers (those of 2 and 4 bits are not NumPy's own)."""
    return kind.kind in "iu" or kind.name in _RANGES


def ranges(kind: np.dtype[np.generic]) -> tuple[int, int]:
    """The smallest and the largest number of an integer type."""
    if kind.name in _RANGES:
        return _RANGES[kind.name]
    info = np.iinfo(kind.name)
    return int(info.min), int(info.max)


def spread(parameter: Array, shape: tuple[int, ...], axis: int, block: int) -> Array:
    """Scales or zero points, made to broadcast against `shape`.

    One number for all; one for each index along `axis`; or one for every `block` elements along it.
    """
    if parameter.size == 1 and (not block or not parameter.ndim):
        return parameter.reshape(())
    if block:
        axis %= len(shape)
        return np.repeat(parameter, block, axis=axis)[(slice(None),) * axis + (slice(0, shape[axis]),)]
    if parameter.ndim == 1:
        axis %= len(shape)
        return parameter.reshape(tuple(-1 if i == axis else 1 for i in range(len(shape))))
    return parameter


def dequantise(values: Array, scales: Array, zeros: Array | None, axis: int, block: int) -> Array:
    """(values - zeros) * scales, in float32 at least; then of the type of the scales."""
    factor = spread(scales, values.shape, axis, block)
    shifted = values.astype(np.float32 if values.dtype.itemsize < 4 else np.float64)
    if zeros is not None:
        shifted = shifted - spread(zeros, values.shape, axis, block).astype(shifted.dtype)
    kind = np.promote_types(np.float32, factor.dtype) if factor.dtype.kind == "f" else np.float32
    return np.asarray(shifted.astype(kind) * factor.astype(kind)).astype(scales.dtype)


def dequantised(
    values: Tensor, scales: Tensor, zeros: Tensor | None, axis: int | None = None, block: int = 0
) -> Tensor:
    """The constant (values - zeros) * scales; see `Dequantised`."""
    if scales.count == 1 and not block:
        axis = None
    elif axis is not None:
        axis %= len(values.shape)
    return Tensor(scales.dtype, values.shape, Dequantised(values, scales, zeros, axis, block))


def blocks_of(tensor: Tensor) -> tuple[int, ...] | None:
    """How often the scale changes along each axis: 0 never, b after every b elements. None: no integers."""
    match tensor.source:
        case Dequantised(values, _, _, axis, block):
            if axis is None:
                return (0,) * len(values.shape)
            other = 1 if block else 0
            return tuple((block or 1) if i == axis else other for i in range(len(values.shape)))
        case Transposed(base, perm):
            inner = blocks_of(base)
            return None if inner is None else tuple(inner[i] for i in perm)
        case Sliced(base, axis, start, _):
            inner = blocks_of(base)
            if inner is None:
                return None
            return tuple(gcd(b, start) if i == axis else b for i, b in enumerate(inner))
        case Reshaped(base):
            return _reshaped_blocks(base, tensor.shape)
        case _:
            return None


def _reshaped_blocks(base: Tensor, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Adding and dropping axes of length one keeps the others as they are."""
    inner = blocks_of(base)
    if inner is None:
        return None
    wide = [b for b, extent in zip(inner, base.shape, strict=True) if extent != 1]
    if [e for e in base.shape if e != 1] != [e for e in shape if e != 1]:
        return None
    return tuple(wide.pop(0) if extent != 1 else 0 for extent in shape)


def row_block(tensor: Tensor) -> int | None:
    """Rows of a matrix [K, N] that share a scale in each column: 0 for all. None if arrays cannot take
    its integers: there are none, or their scales change along K with every row or so."""
    blocks = blocks_of(tensor)
    if blocks is None or len(blocks) != 2:
        return None
    block, _ = blocks
    rows = tensor.shape[0]
    if block >= rows:
        return 0
    return block if block == 0 or block >= LEAST_BLOCK else None


def fits_int8(tensor: Tensor) -> bool:
    """Whether the integers of a quantised constant, less their zero points, fit int8.

    Types and zero points mostly say so; only where they do not, the integers are looked at.
    """
    source = _origin(tensor)
    if source is None or not _has_whole_zeros(source):
        return False
    low, high = ranges(source.values.dtype.numpy)
    if source.zeros is None or not source.zeros.has_data:
        return high - low < 256
    zeros = source.zeros.data().astype(np.int64)
    if low - zeros.max(initial=0) >= -128 and high - zeros.min(initial=high) <= 127:
        return True
    if not source.values.has_data:
        return False
    values, offset, _ = _own_parts(source)
    real = values - offset
    return bool(real.min(initial=0) >= -128 and real.max(initial=0) <= 127)


def has_offset(tensor: Tensor) -> bool:
    """Whether arrays take the integers as they are (uint8 less 128), zero points being added to the products.

    That is so where they do not fit int8 without their zero points, and all rows share the scales.
    """
    source = _origin(tensor)
    if source is None or row_block(tensor) != 0 or not _has_whole_zeros(source):
        return False
    return source.values.dtype in _MIDDLE and not fits_int8(tensor)


def integers(tensor: Tensor) -> IntegerWeight | None:
    """A matrix [K, N] as arrays take it; None if it has no integers, or none that fit int8."""
    block = row_block(tensor)
    source = _origin(tensor)
    if block is None or source is None or not tensor.has_data:
        return None
    values, zeros, scales = (_through(tensor, part) for part in _own_parts(source))
    kept = np.ascontiguousarray(scales[:: block or tensor.shape[0]], np.float32)
    if fits_int8(tensor):
        return IntegerWeight((values - zeros).astype(np.int8), kept, block)
    if not has_offset(tensor):
        return None
    middle = _MIDDLE[source.values.dtype]
    offsets = (middle - zeros[0]).astype(np.float32) * kept[0]
    return IntegerWeight((values - middle).astype(np.int8), kept, block, offsets)


def _origin(tensor: Tensor) -> Dequantised | None:
    """The integers that a tensor is or views."""
    source = tensor.source
    while isinstance(source, Transposed | Sliced | Reshaped):
        source = source.base.source
    return source if isinstance(source, Dequantised) else None


def _has_whole_zeros(source: Dequantised) -> bool:
    """Whether zero points are integers (some files have them as floats)."""
    if source.zeros is None or source.zeros.dtype.is_integer or not source.zeros.has_data:
        return True
    zeros = source.zeros.data().astype(np.float64)
    return np.array_equal(np.rint(zeros), zeros)


def _own_parts(source: Dequantised) -> tuple[NDArray[np.int32], NDArray[np.int32], Array]:
    """Integers, zero points and scales, each of the shape of the constant."""
    values, axis = source.values.data().astype(np.int32), source.axis or 0
    zeros = np.zeros((), np.int32)
    if source.zeros is not None:
        zeros = spread(source.zeros.data(), values.shape, axis, source.block).astype(np.int32)
    scales = spread(source.scales.data(), values.shape, axis, source.block)
    return values, np.broadcast_to(zeros, values.shape), np.broadcast_to(scales, values.shape)


def _through(tensor: Tensor, data: Array) -> Array:
    """The same views of `data` as `tensor` has of its integers."""
    match tensor.source:
        case Transposed(base) | Sliced(base) | Reshaped(base):
            return _viewed(tensor, _through(base, data))
        case _:
            return data


def _viewed(tensor: Tensor, data: Array) -> Array:
    match tensor.source:
        case Transposed(_, perm):
            return data.transpose(perm)
        case Sliced(_, at, start, stop):
            return data[(slice(None),) * at + (slice(start, stop),)]
        case _:
            return data.reshape(tensor.shape)


__all__ = [
    "IntegerWeight",
    "blocks_of",
    "dequantise",
    "dequantised",
    "fits_int8",
    "has_offset",
    "integers",
    "is_integer",
    "ranges",
    "row_block",
    "spread",
]
