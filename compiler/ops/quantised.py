"""Kernels of quantised operators: exact integers, and float32 where ONNX Runtime has float32."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from compiler.ir.quantised import dequantise, is_integer, ranges, spread
from compiler.ir.tensor import Array, DType
from compiler.ops.call import Call, Kernel, KernelError
from compiler.ops.elementwise import sigmoid
from compiler.ops.reduction import softmax

Ints = NDArray[np.int64]


def rounded(x: Array, scale: Array, zero: Array, low: int, high: int) -> Array:
    """The integers clip(round-half-even(x / scale) + zero), as floats."""
    with np.errstate(all="ignore"):
        return np.asarray(np.clip(np.rint(x / scale) + zero, low, high))


def narrowed(x: Array, kind: np.dtype[np.generic]) -> Array:
    """x as the nearest number of a narrow float type, within its range."""
    import ml_dtypes

    limit = np.float32(ml_dtypes.finfo(kind).max)  # type: ignore[no-untyped-call]
    return np.clip(x, -limit, limit).astype(kind)


def dynamic_grid(x: Array) -> tuple[Array, Array]:
    """Scale and zero point that DynamicQuantizeLinear chooses for a whole tensor: uint8, with 0 exact."""
    low, high = np.minimum(x.min(initial=0), 0), np.maximum(x.max(initial=0), 0)
    scale = np.asarray((high - low) / np.asarray(255, x.dtype), x.dtype)
    if not scale:
        return np.ones_like(scale), np.zeros((), np.uint8)
    return scale, np.asarray(np.rint(np.clip(-low / scale, 0, 255)), np.uint8)


def _quantize_linear(call: Call) -> Array:
    x, zero = call[0], call.optional(2)
    out = call.dtype("output_dtype") if zero is None else None
    kind = zero.dtype if zero is not None else (out or DType.UINT8).numpy
    kind = np.dtype(kind)
    axis, block = call.integer("axis", 1), call.integer("block_size", 0)
    scale = spread(call[1], x.shape, axis, block).astype(np.float64 if call.wide else np.float32)
    if not is_integer(kind):
        return narrowed(x / scale, kind)
    low, high = ranges(kind)
    offset = 0 if zero is None else spread(zero, x.shape, axis, block).astype(np.int32)
    q = rounded(x.astype(scale.dtype), scale, np.asarray(offset), low, high)
    # A scale that is infinite or nan gives no number at all: ONNX Runtime stores the zero point.
    return np.where(np.isnan(q), offset, q).astype(np.int32).astype(kind)


def _dequantize_linear(call: Call) -> Array:
    axis, block = call.integer("axis", 1), call.integer("block_size", 0)
    out = dequantise(call[0], call[1], call.optional(2), axis, block)
    return out.astype(np.float64) if call.wide else out


def _dynamic_quantize_linear(call: Call) -> tuple[Array, Array, Array]:
    x = call[0]
    scale, zero = dynamic_grid(x)
    q = rounded(x, scale, zero.astype(np.float32), 0, 255).astype(np.uint8)
    return q, scale, zero


def _shifted(q: Array, zero: Array | None, axis: int) -> NDArray[np.float64]:
    """Integers minus their zero points, exact in float64 (for fast products)."""
    wide = q.astype(np.int32)
    if zero is not None:
        wide = wide - spread(zero, q.shape, axis, 0).astype(np.int32)
    return wide.astype(np.float64)


def integer_product(a: Array, a_zero: Array | None, b: Array, b_zero: Array | None) -> Ints:
    """(a - a_zero) @ (b - b_zero), exact. Zero points of `a` go by row, those of `b` by column."""
    return (_shifted(a, a_zero, a.ndim - 2) @ _shifted(b, b_zero, b.ndim - 1)).astype(np.int64)


def _matmul_integer(call: Call) -> Array:
    return integer_product(call[0], call.optional(2), call[1], call.optional(3)).astype(np.int32)


def _requantised(call: Call, x: Array, scale: int) -> Array:
    """x as integers of the grid whose scale and zero point are inputs `scale` and `scale` + 1."""
    zero = call.optional(scale + 1)
    kind = np.dtype(np.uint8) if zero is None else zero.dtype
    low, high = ranges(kind)
    offset = np.asarray(0 if zero is None else zero.astype(np.int32))
    return rounded(np.asarray(x, np.float32), call[scale], offset, low, high).astype(np.int32).astype(kind)


def _qlinear_matmul(call: Call) -> Array:
    product = integer_product(call[0], call[2], call[3], call[5])
    scale = np.float32(call[1]) * call[4].astype(np.float32)
    return _requantised(call, product.astype(np.float32) * scale, 6)


def _q_gemm(call: Call) -> Array:
    """com.microsoft.QGemm: a, b and an int32 bias; a float result if it names no output grid."""
    a = call[0].T if call.integer("transA", 0) else call[0]
    flipped = bool(call.integer("transB", 0))
    b = dequantise(call[3], np.ones((), np.float32), None, 0, 0)
    b = b - spread(call[5], b.shape, 0 if flipped else 1, 0).astype(np.float32)
    product = _shifted(a, call[2], 0) @ (b.T if flipped else b).astype(np.float64)
    if (bias := call.optional(6)) is not None:
        product = product + bias
    scale = call.number("alpha", 1.0) * call[1].astype(np.float32) * call[4].astype(np.float32)
    out = np.asarray(product * scale, np.float32)
    return out if call.optional(7) is None else _requantised(call, out, 7)


def _operand(call: Call, at: int) -> Array:
    return dequantise(call[at], call[at + 1], call.optional(at + 2), 0, 0)


def _qlinear_binary(combine: Callable[[Array, Array], Array]) -> Kernel:
    return lambda call: _requantised(call, combine(_operand(call, 0), _operand(call, 3)), 6)


def _qlinear_unary(function: Callable[[Call, Array], Array]) -> Kernel:
    return lambda call: _requantised(call, function(call, _operand(call, 0)), 3)


def _leaky(call: Call, x: Array) -> Array:
    return np.where(x < 0, np.float32(call.number("alpha", 0.01)) * x, x)


def _softmax(call: Call, x: Array) -> Array:
    return softmax(x, call.integer("axis", -1))


def _qlinear_concat(call: Call) -> Array:
    parts = [_operand(call, at) for at in range(2, len(call.inputs), 3)]
    return _requantised(call, np.concatenate(parts, axis=call.integer("axis", 0)), 0)


def _matmul_integer_to_float(call: Call) -> Array:
    """com.microsoft: inputs A, B, a_scale, b_scale, a_zero?, b_zero?, bias?."""
    product = integer_product(call[0], call.optional(4), call[1], call.optional(5))
    out = product.astype(np.float32) * (call[2] * call[3])
    bias = call.optional(6)
    return out if bias is None else np.asarray(out + bias)


def _dynamic_quantize_matmul(call: Call) -> Array:
    """com.microsoft: inputs A (float), B, b_scale, b_zero?, bias?."""
    scale, zero = dynamic_grid(call[0])
    q = rounded(call[0], scale, zero.astype(np.float32), 0, 255)
    out = integer_product(q, zero, call[1], call.optional(3)).astype(np.float32) * (scale * call[2])
    bias = call.optional(4)
    return out if bias is None else np.asarray(out + bias)


def unpack(data: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.uint8]:
    """The first `count` numbers of `bits` bits in each row of bytes, low bits first."""
    if bits == 8:
        return data[..., :count]
    steps = np.arange(0, 8, bits, dtype=np.uint8)
    wide = (data[..., None] >> steps) & np.uint8((1 << bits) - 1)
    return wide.reshape(*data.shape[:-1], -1)[..., :count]


def nbits_matrix(call: Call) -> tuple[Array, Array, Array]:
    """B of MatMulNBits: integers [N, K], scales [N, blocks], zero points [N, blocks]."""
    rows, cols = call.integer("N", 0), call.integer("K", 0)
    bits, block = call.integer("bits", 4), call.integer("block_size", 32)
    if (index := call.optional(4)) is not None and np.any(index != np.arange(cols) // block):
        raise KernelError("MatMulNBits with its input rows in another order (g_idx)")
    blocks = -(-cols // block)
    values = unpack(call[1].reshape(rows, -1).view(np.uint8), bits, blocks * block)[:, :cols]
    scales = call[2].reshape(rows, blocks)
    return values, scales, nbits_zeros(call.optional(3), rows, blocks, bits)


def nbits_zeros(zeros: Array | None, rows: int, blocks: int, bits: int) -> Array:
    """Zero points [rows, blocks]: packed like the data, or numbers like the scales, or the middle."""
    if zeros is None:
        return np.full((rows, blocks), 1 << (bits - 1), np.uint8)
    if zeros.dtype != np.uint8:
        return zeros.reshape(rows, blocks)
    return unpack(zeros.reshape(rows, -1), bits, blocks)


def _matmul_nbits(call: Call) -> Array:
    values, scales, zeros = nbits_matrix(call)
    weight = dequantise(values, scales, zeros, 1, call.integer("block_size", 32))
    out = call[0] @ weight.T.astype(call[0].dtype)
    bias = call.optional(5)
    return out if bias is None else np.asarray(out + bias)


def _gather_block_quantized(call: Call) -> Array:
    """com.microsoft: rows of a block-quantised table."""
    bits, block = call.integer("bits", 4), call.integer("block_size", 128)
    gathered, quantised = call.integer("gather_axis", 0), call.integer("quantize_axis", 1)
    data, zeros = call[0], call.optional(3)
    if data.dtype == np.uint8:
        width = data.shape[-1] * 8 // bits
        data = unpack(data, bits, width)
        blocks = call[2].shape[-1]
        zeros = (
            nbits_zeros(zeros, data.shape[0], blocks, bits)
            if zeros is not None
            else np.asarray(1 << bits - 1)
        )
    table = dequantise(data, call[2], zeros, quantised, block)
    return np.take(table, call[1].astype(np.int64), axis=gathered)


QUANTISED: dict[str, Kernel] = {
    "QuantizeLinear": _quantize_linear,
    "DequantizeLinear": _dequantize_linear,
    "DynamicQuantizeLinear": _dynamic_quantize_linear,
    "MatMulInteger": _matmul_integer,
    "QLinearMatMul": _qlinear_matmul,
}
"""Kernels of ai.onnx."""

QUANTISED_MICROSOFT: dict[str, Kernel] = {
    "QuantizeLinear": _quantize_linear,
    "DequantizeLinear": _dequantize_linear,
    "QGemm": _q_gemm,
    "QLinearAdd": _qlinear_binary(lambda a, b: np.asarray(a + b)),
    "QLinearMul": _qlinear_binary(lambda a, b: np.asarray(a * b)),
    "QLinearSigmoid": _qlinear_unary(lambda _, x: sigmoid(x)),
    "QLinearLeakyRelu": _qlinear_unary(_leaky),
    "QLinearSoftmax": _qlinear_unary(_softmax),
    "QLinearConcat": _qlinear_concat,
    "MatMulIntegerToFloat": _matmul_integer_to_float,
    "DynamicQuantizeMatMul": _dynamic_quantize_matmul,
    "MatMulNBits": _matmul_nbits,
    "GatherBlockQuantized": _gather_block_quantized,
}
"""Kernels of com.microsoft."""

QUANTISED_NOTES: dict[str, tuple[tuple[str, ...], str]] = {
    "QuantizeLinear": (("fakequant",), "of activations, one scale for all"),
    "DequantizeLinear": (
        ("linear", "embed", "fakequant"),
        "of weights, any scales; of activations, one scale",
    ),
    "DynamicQuantizeLinear": (("fakequant",), "before MatMulInteger or ConvInteger"),
    "MatMulInteger": (("linear",), "activation x integer weight, then scaled"),
    "QLinearMatMul": (("linear", "attention"), "integers of the weight go into arrays as they are"),
    "QGemm": (("linear",), "integers of the weight go into arrays as they are"),
    "MatMulNBits": (("linear",), "2, 4 or 8 bits, scales by block; g_idx in order"),
    "GatherBlockQuantized": (("embed",), "rows of a table, scales by block"),
    "MatMulIntegerToFloat": (("linear",), "activation x integer weight"),
    "DynamicQuantizeMatMul": (("linear",), "activation x integer weight"),
    "QLinearAdd": (("add",), "written out with its roundings"),
    "QLinearMul": (("mul",), "written out with its roundings"),
    "QLinearSigmoid": (("activation",), "written out with its roundings"),
    "QLinearSoftmax": (("attention",), "written out with its roundings"),
    "QLinearConcat": ((), "written out with its roundings"),
    "QLinearLeakyRelu": ((), "written out with its roundings"),
}
"""What becomes of each, and in which forms."""
