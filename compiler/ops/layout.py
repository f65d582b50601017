"""Kernels of the operators that only move elements, or that make shapes and ranges."""

from __future__ import annotations

import numpy as np

from compiler.ir.dims import Dim, Extent, divide, size_of
from compiler.ir.tensor import Array
from compiler.ops.call import Call, Kernel, KernelError


def _reshape(call: Call) -> Array:
    x = call[0]
    target = [int(v) for v in call[1]]
    if not call.integer("allowzero", 0):
        target = [x.shape[i] if v == 0 else v for i, v in enumerate(target)]
    return x.reshape(target)


def _flatten(call: Call) -> Array:
    x = call[0]
    at = call.integer("axis", 1)
    at += x.ndim if at < 0 else 0
    return x.reshape(int(np.prod(x.shape[:at], dtype=np.int64)), -1)


def _transpose(call: Call) -> Array:
    return call[0].transpose(call.integers("perm"))


def _squeeze(call: Call) -> Array:
    return np.squeeze(call[0], axis=call.integers_at(1, "axes"))


def _unsqueeze(call: Call) -> Array:
    axes = call.integers_at(1, "axes")
    if axes is None:
        raise KernelError("Unsqueeze without axes")
    return np.expand_dims(call[0], axes)


def _slice(call: Call) -> Array:
    x = call[0]
    starts, ends = call.integers_at(1, "starts"), call.integers_at(2, "ends")
    if starts is None or ends is None:
        raise KernelError("Slice without bounds")
    axes = call.integers_at(3, "axes") or tuple(range(len(starts)))
    steps = call.integers_at(4, "steps") or (1,) * len(starts)
    index = [slice(None)] * x.ndim
    for start, end, at, step in zip(starts, ends, axes, steps, strict=True):
        stop = None if step < 0 and end < -x.shape[at] else end
        index[at] = slice(start, stop, step)
    return x[tuple(index)]


def _split(call: Call) -> tuple[Array, ...]:
    x, at = call[0], call.integer("axis", 0)
    sizes = call.integers_at(1, "split")
    if sizes is None:
        chunk = -(-x.shape[at] // call.outputs)
        sizes = (chunk,) * (call.outputs - 1) + (x.shape[at] - chunk * (call.outputs - 1),)
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis=at))


def _concat(call: Call) -> Array:
    return np.concatenate([call[i] for i in range(len(call.inputs))], axis=call.integer("axis", 1))


def _expand(call: Call) -> Array:
    x = call[0]
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(int(v) for v in call[1])))


def _tile(call: Call) -> Array:
    return np.tile(call[0], tuple(int(v) for v in call[1]))


def _gather(call: Call) -> Array:
    x, at = call[0], call.integer("axis", 0)
    index = call[1]
    if index.dtype == object:
        raise KernelError("Gather at a position known only at run time")
    return np.take(x, np.where(index < 0, index + x.shape[at], index), axis=at)


def _gather_nd(call: Call) -> Array:
    x, index, batch = call[0], call[1], call.integer("batch_dims", 0)
    if batch:
        if x.shape[:batch] != index.shape[:batch]:
            raise KernelError("GatherND with batch axes that differ")
        lead = np.ix_(*(np.arange(n) for n in x.shape[:batch]))
        pad = (1,) * (index.ndim - 1 - batch)
        at = (*(g.reshape(g.shape + pad) for g in lead), *np.moveaxis(index, -1, 0))
    else:
        at = tuple(np.moveaxis(index, -1, 0))
    return np.asarray(x[at])


def _gather_elements(call: Call) -> Array:
    at = call.integer("axis", 0)
    index = np.where(call[1] < 0, call[1] + call[0].shape[at], call[1])
    return np.take_along_axis(call[0], index, axis=at)


def _scatter_nd(call: Call) -> Array:
    if call.text("reduction", "none") != "none":
        raise KernelError("ScatterND with a reduction")
    out = call[0].copy()
    out[tuple(np.moveaxis(call[1], -1, 0))] = call[2]
    return out


def _trilu(call: Call) -> Array:
    at = call.optional(1)
    k = 0 if at is None else int(at.reshape(-1)[0])
    return np.triu(call[0], k) if call.integer("upper", 1) else np.tril(call[0], k)


def _pad(call: Call) -> Array:
    if call.text("mode", "constant") != "constant":
        raise KernelError("Pad other than with a constant")
    x, pads, fill = call[0], call.integers_at(1, "pads"), call.optional(2)
    axes = call.integers_at(3, "axes") or tuple(range(x.ndim))
    if pads is None or any(p < 0 for p in pads):
        raise KernelError("Pad with negative or missing sizes")
    widths = [(0, 0)] * x.ndim
    for i, at in enumerate(axes):
        widths[at] = (pads[i], pads[i + len(axes)])
    value = call.number("value", 0.0) if fill is None else fill.reshape(-1)[0]
    return np.pad(x, widths, constant_values=value)


def _shape(call: Call) -> Array:
    shape = call[0].shape
    end = call.integer("end", len(shape))
    return np.array(shape[call.integer("start", 0) : end], np.int64)


def _range(call: Call) -> Array:
    start, limit, delta = (call[i].reshape(-1)[0] for i in range(3))
    if any(isinstance(v, Dim) for v in (start, limit, delta)):
        return _symbolic_range(start, limit, delta)
    count = max(0, int(np.ceil((limit - start) / delta)))
    return np.asarray(start + np.arange(count) * delta, call[0].dtype)


def _symbolic_range(start: Extent, limit: Extent, delta: Extent) -> Array:
    count = divide(limit - start, delta)
    if not isinstance(count, int):
        raise KernelError("Range of a length known only at run time")
    out = np.empty(count, object)
    out[:] = [start + delta * i for i in range(count)]
    return out


def _constant_of_shape(call: Call) -> Array:
    value = call.tensor("value")
    fill: Array = np.zeros(1, np.float32) if value is None else value.data()
    if call.wide and np.issubdtype(fill.dtype, np.floating):
        fill = fill.astype(np.float64)
    return np.full(tuple(int(v) for v in call[0]), fill.reshape(-1)[0], dtype=fill.dtype)


def _constant(call: Call) -> Array:
    value = call.tensor("value")
    if value is not None:
        return value.data()
    for name, dtype in (("value_int", np.int64), ("value_ints", np.int64)):
        if (number := call.get(name)) is not None:
            return np.array(number, dtype)
    for name in ("value_float", "value_floats"):
        if (number := call.get(name)) is not None:
            return np.array(number, np.float32)
    raise KernelError("Constant of a kind that is not supported")


def _size(call: Call) -> Array:
    return np.array(size_of(call[0].shape), np.int64)


def _one_hot(call: Call) -> Array:
    depth = int(call[1].reshape(-1)[0])
    at = call.integer("axis", -1)
    index = np.where(call[0] < 0, call[0] + depth, call[0])
    hot = index[..., None] == np.arange(depth)
    return np.moveaxis(np.where(hot, call[2][1], call[2][0]), -1, at)


def _eye_like(call: Call) -> Array:
    dtype = call.dtype("dtype")
    rows, columns = call[0].shape
    return np.eye(rows, columns, call.integer("k", 0), dtype=dtype.numpy if dtype else call[0].dtype)


def _nonzero(call: Call) -> Array:
    return np.array(np.nonzero(call[0]), np.int64)


LAYOUT: dict[str, Kernel] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Slice": _slice,
    "Split": _split,
    "Concat": _concat,
    "Expand": _expand,
    "Tile": _tile,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "GatherElements": _gather_elements,
}
"""Kernels of the operators whose outputs are elements of their first input (or inputs), moved."""

MAKING: dict[str, Kernel] = {
    "ScatterND": _scatter_nd,
    "Trilu": _trilu,
    "Pad": _pad,
    "Shape": _shape,
    "Size": _size,
    "Range": _range,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "OneHot": _one_hot,
    "EyeLike": _eye_like,
    "NonZero": _nonzero,
}
"""Kernels of the operators that make or patch tensors."""
