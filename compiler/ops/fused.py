"""The fused operators of com.microsoft: what they become, and the shapes of what they make.

They have no kernel: their meaning is the ai.onnx operators that `passes.expand_native` writes in their place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from compiler.ir.dims import Extent, Shape, divide
from compiler.ir.tensor import DType
from compiler.ops.call import OutputType, ShapeCall, ShapeRule, UnknownShapeError


@dataclass(frozen=True, slots=True)
class Fused:
    """A fused operator: the canonical operators it becomes, its forms, its shape rule."""

    becomes: tuple[str, ...]
    note: str
    shape: ShapeRule


def _rows(call: ShapeCall) -> list[OutputType]:
    return [(call.dtype_of(0), call.shape(0))]


def _skip_norm(call: ShapeCall) -> list[OutputType]:
    shape, dtype = call.shape(0), call.dtype_of(0)
    few = (*shape[:-1], 1)
    return [(dtype, shape), (DType.FLOAT32, few), (DType.FLOAT32, few), (dtype, shape)]


def _embed_norm(call: ShapeCall) -> list[OutputType]:
    ids, dtype = call.shape(0), call.dtype_of(2)
    rows = (*ids, call.shape(2)[-1])
    return [(dtype, rows), (DType.INT32, ids[:1]), (dtype, rows)]


def _gemm(call: ShapeCall) -> list[OutputType]:
    return [(call.dtype_of(0), (*call.shape(0)[:-1], call.shape(1)[-1]))]


def _attention(call: ShapeCall) -> list[OutputType]:
    x, dtype = call.shape(0), call.dtype_of(0)
    hidden = call.integers("qkv_hidden_sizes")
    heads = call.integer("num_heads", 1)
    width: Extent = hidden[2] if hidden else divide(call.shape(1)[-1], 3)
    old: Extent = call.shape(4)[3] if _has(call, 4) else 0
    return [(dtype, (*x[:2], width)), (dtype, (2, x[0], heads, old + x[1], divide(width, heads)))]


def _multi_head(call: ShapeCall) -> list[OutputType]:
    q, dtype, heads = call.shape(0), call.dtype_of(0), call.integer("num_heads", 1)
    if len(q) == 5:
        depth, tokens = q[4], q[1]
    elif _has(call, 1) and len(call.shape(1)) == 5:
        depth, tokens = call.shape(1)[4], call.shape(1)[1]
    elif _has(call, 1) and len(call.shape(1)) == 4:
        depth, tokens = call.shape(2)[3], call.shape(2)[2]
    else:
        depth, tokens = divide(call.shape(2)[-1], heads), call.shape(2)[1]
    total = tokens + call.shape(6)[2] if _has(call, 6) else tokens
    kept: Shape = (q[0], heads, total, depth)
    return [(dtype, (*q[:2], heads * depth)), (dtype, kept), (dtype, kept)]


def _masked(call: ShapeCall) -> list[OutputType]:
    q, dtype = call.shape(0), call.dtype_of(0)
    return [(dtype, q)]


def _grouped(call: ShapeCall) -> list[OutputType]:
    q, dtype = call.shape(0), call.dtype_of(0)
    heads, kv_heads = call.integer("num_heads", 1), call.integer("kv_num_heads", 1)
    depth = divide(q[2], heads if _has(call, 1) else heads + 2 * kv_heads)
    old: Extent = call.shape(3)[2] if _has(call, 3) else 0
    kept: Shape = (q[0], kv_heads, old + q[1], depth)
    return [(dtype, (*q[:2], heads * depth)), (dtype, kept), (dtype, kept)]


def _relative_bias(call: ShapeCall) -> list[OutputType]:
    counts = [call.values(i) for i in (1, 2)]
    if counts[0] is None or counts[1] is None:
        raise UnknownShapeError
    return [(call.dtype_of(0), (1, call.shape(0)[1], counts[0][0], counts[1][0]))]


def _has(call: ShapeCall, index: int) -> bool:
    return index < len(call.inputs) and call.inputs[index] is not None


_HEADS = ("attention", "linear")

FUSED: Mapping[str, Fused] = {
    "Attention": Fused(
        _HEADS,
        "mask of lengths, of ones and zeros, or none; past as [2, batch, heads, tokens, depth]",
        _attention,
    ),
    "MultiHeadAttention": Fused(
        _HEADS, "apart, packed, or keys and values of an encoder as heads", _multi_head
    ),
    "GroupQueryAttention": Fused(
        ("attention", "rotary"), "apart or packed, rotation inside; no sinks, no quantised cache", _grouped
    ),
    "DecoderMaskedMultiHeadAttention": Fused(_HEADS, "without beams", _masked),
    "SkipLayerNormalization": Fused(("norm", "add"), "outputs 0 and 3", _skip_norm),
    "SkipSimplifiedLayerNormalization": Fused(("norm", "add"), "outputs 0 and 3", _skip_norm),
    "EmbedLayerNormalization": Fused(("embed", "norm", "add"), "", _embed_norm),
    "Gelu": Fused(("activation",), "", _rows),
    "BiasGelu": Fused(("activation", "linear"), "", _rows),
    "FastGelu": Fused(("activation", "linear"), "", _rows),
    "QuickGelu": Fused(("activation",), "", _rows),
    "GemmFastGelu": Fused(("linear", "activation"), "", _gemm),
    "RotaryEmbedding": Fused(("rotary",), "rows or heads, one offset or a position a token", _rows),
    "RelativePositionBias": Fused(("attention",), "added to the scores of an attention", _relative_bias),
}
"""By operator type."""
