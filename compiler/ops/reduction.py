"""Kernels of products, reductions, softmax and normalisations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from compiler.ir.tensor import Array
from compiler.ops.call import Call, Kernel, KernelError


def softmax(x: Array, at: int = -1) -> Array:
    """Softmax along one axis; a row that is all -inf gives NaN, as in ONNX."""
    with np.errstate(invalid="ignore"):
        e = np.exp(x - x.max(axis=at, keepdims=True, initial=-np.inf))
        return np.asarray(e / e.sum(axis=at, keepdims=True), x.dtype)


def layer_norm(x: Array, gamma: Array, beta: Array | None, eps: float) -> Array:
    """Layer normalisation of the last axis."""
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + eps)
    out = scaled * gamma
    return np.asarray(out if beta is None else out + beta, x.dtype)


def rms_norm(x: Array, gamma: Array, eps: float) -> Array:
    """Root-mean-square normalisation of the last axis."""
    return np.asarray(x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * gamma, x.dtype)


def _rows(call: Call) -> tuple[Array, list[Array | None]]:
    """The input with all axes from `axis` on as one, gamma and beta likewise."""
    x, at = call[0], call.integer("axis", -1) % call[0].ndim
    inner = x.shape[at:]
    vectors = (call.optional(i) for i in (1, 2))
    flat = [None if v is None else np.broadcast_to(v, inner).reshape(-1) for v in vectors]
    return x.reshape(*x.shape[:at], -1), flat


def _layer_normalization(call: Call) -> tuple[Array, ...]:
    x, (gamma, beta) = _rows(call)
    if gamma is None:
        raise KernelError("LayerNormalization without a scale")
    return (layer_norm(x, gamma, beta, call.number("epsilon", 1e-5)).reshape(call[0].shape),)


def _rms_normalization(call: Call) -> tuple[Array, ...]:
    x, (gamma, _) = _rows(call)
    if gamma is None:
        raise KernelError("a normalisation without a scale")
    return (rms_norm(x, gamma, call.number("epsilon", 1e-5)).reshape(call[0].shape),)


def _gemm(call: Call) -> Array:
    a = call[0].T if call.integer("transA", 0) else call[0]
    b = call[1].T if call.integer("transB", 0) else call[1]
    out = call.number("alpha", 1.0) * (a @ b)
    if (c := call.optional(2)) is not None:
        out = out + call.number("beta", 1.0) * c
    return out.astype(call[0].dtype)


def _einsum(call: Call) -> Array:
    operands = [call[i] for i in range(len(call.inputs))]
    return np.asarray(np.einsum(call.text("equation", ""), *operands))


def _reduce(function: Callable[..., Array]) -> Kernel:
    def kernel(call: Call) -> Array:
        x = call[0]
        axes = call.integers_at(1, "axes")
        if not axes and call.integer("noop_with_empty_axes", 0):
            return x
        return np.asarray(function(x, axis=axes or None, keepdims=bool(call.integer("keepdims", 1)))).astype(
            x.dtype
        )

    return kernel


def _square_sum(x: Array, axis: tuple[int, ...] | None, keepdims: bool) -> Array:
    return np.asarray(np.sum(x * x, axis=axis, keepdims=keepdims))


def _norm2(x: Array, axis: tuple[int, ...] | None, keepdims: bool) -> Array:
    return np.asarray(np.sqrt(_square_sum(x, axis, keepdims)))


def _softmax(call: Call) -> Array:
    x = call[0]
    if call.version >= 13:
        return softmax(x, call.integer("axis", -1))
    at = call.integer("axis", 1) % x.ndim
    flat = x.reshape(int(np.prod(x.shape[:at], dtype=np.int64)), -1)
    return softmax(flat).reshape(x.shape)


def _cumsum(call: Call) -> Array:
    x, at = call[0], int(call[1].reshape(-1)[0])
    if call.integer("reverse", 0):
        x = np.flip(x, at)
    out = np.cumsum(x, axis=at, dtype=x.dtype)
    if call.integer("exclusive", 0):
        out = out - x
    return np.flip(out, at) if call.integer("reverse", 0) else out


def _argmax(call: Call) -> Array:
    x, at = call[0], call.integer("axis", 0)
    out = np.argmax(x, axis=at)
    if call.integer("select_last_index", 0):
        out = x.shape[at] - 1 - np.argmax(np.flip(x, at), axis=at)
    return np.expand_dims(out, at) if call.integer("keepdims", 1) else np.asarray(out)


PRODUCTS: dict[str, Kernel] = {
    "MatMul": lambda c: np.asarray(np.matmul(c[0], c[1])),
    "Gemm": _gemm,
    "Einsum": _einsum,
}
"""Kernels of the products."""

REDUCTIONS: dict[str, Kernel] = {
    "ReduceMean": _reduce(np.mean),
    "ReduceSum": _reduce(np.sum),
    "ReduceMax": _reduce(np.max),
    "ReduceMin": _reduce(np.min),
    "ReduceProd": _reduce(np.prod),
    "ReduceSumSquare": _reduce(_square_sum),
    "ReduceL2": _reduce(_norm2),
}
"""Kernels of the reductions."""

ROWWISE: dict[str, Kernel] = {
    "Softmax": _softmax,
    "LogSoftmax": lambda c: np.log(_softmax(c)),
    "CumSum": _cumsum,
    "ArgMax": _argmax,
    "LayerNormalization": _layer_normalization,
    "RMSNormalization": _rms_normalization,
    "SimplifiedLayerNormalization": _rms_normalization,
}
"""Kernels that mix the elements of a row."""
