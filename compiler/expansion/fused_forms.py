"""The operators that fuse sums, norms, tables or activations, spelled out in ai.onnx."""

from __future__ import annotations

import numpy as np

from compiler.expansion.attention_forms import FLOAT, INT64, FormError
from compiler.expansion.writing import Writer

INT32 = 6


def skip_layer_norm(w: Writer) -> list[str]:
    """SkipLayerNormalization(x, skip, gamma, beta?, bias?): y, mean, 1/std, x + skip + bias."""
    total = w.biased(w.op("Add", w.input(0), w.input(1)), w.input(4))
    return [_layer_norm(w, total, w.input(2), w.input(3)), "", "", total]


def skip_rms_norm(w: Writer) -> list[str]:
    """SkipSimplifiedLayerNormalization(x, skip, gamma, bias?): y, mean, 1/rms, x + skip + bias."""
    total = w.biased(w.op("Add", w.input(0), w.input(1)), w.input(3))
    return [_rms_norm(w, total, w.input(2)), "", "", total]


def _layer_norm(w: Writer, x: str, gamma: str, beta: str) -> str:
    epsilon = w.attributes.number("epsilon", 1e-12)
    inputs = (x, gamma, beta) if beta else (x, gamma)
    return w.op("LayerNormalization", *inputs, axis=-1, epsilon=epsilon)


def _rms_norm(w: Writer, x: str, gamma: str) -> str:
    epsilon = w.attributes.number("epsilon", 1e-12)
    return w.op("RMSNormalization", x, gamma, axis=-1, epsilon=epsilon, version=23)


def length(w: Writer) -> list[str]:
    """ReduceL2: Sqrt(ReduceSum(x * x))."""
    axes = w.attributes.integers("axes")
    where = w.ints(*axes) if axes else w.input(1)
    squares = (w.op("Mul", w.input(0), w.input(0)), *([where] if where else []))
    return [w.op("Sqrt", w.op("ReduceSum", *squares, keepdims=w.attributes.integer("keepdims", 1)))]


def embed_layer_norm(w: Writer) -> list[str]:
    """EmbedLayerNormalization: the sum of the rows of three tables, normalised; the mask's lengths; the sum."""
    ids, segments, positions = w.input(0), w.input(1), w.input(8)
    if not positions:
        positions = w.range(w.integer(0), w.count(ids, 1))
    total = w.op("Add", w.op("Gather", w.input(2), ids), w.op("Gather", w.input(3), positions))
    if segments:
        total = w.op("Add", total, w.op("Gather", w.input(4), segments))
    lengths = ""
    if w.output(1):
        lengths = _lengths(w, ids, w.input(7))
    return [_layer_norm(w, total, w.input(5), w.input(6)), lengths, total]


def _lengths(w: Writer, ids: str, mask: str) -> str:
    if mask:
        return w.op("ReduceSum", w.cast(mask, INT32), w.ints(1), keepdims=0)
    return w.op("Expand", w.constant(np.zeros(1, np.int32)), w.size(ids, 0))


def gelu(w: Writer) -> list[str]:
    """Gelu and BiasGelu."""
    return [w.op("Gelu", w.biased(w.input(0), w.input(1)), version=20)]


def fast_gelu(w: Writer) -> list[str]:
    """FastGelu(x, bias?): the tanh approximation."""
    return [w.op("Gelu", w.biased(w.input(0), w.input(1)), version=20, approximate="tanh")]


def quick_gelu(w: Writer) -> list[str]:
    """QuickGelu(x) with any alpha: x sigmoid(alpha x) = silu(alpha x) / alpha."""
    alpha = w.number(w.attributes.number("alpha", 1.702))
    scaled = w.op("Mul", w.input(0), alpha)
    return [w.op("Div", w.op("Mul", scaled, w.op("Sigmoid", scaled)), alpha)]


def gemm_fast_gelu(w: Writer) -> list[str]:
    """GemmFastGelu(x, weight, bias?)."""
    product = w.biased(w.op("MatMul", w.input(0), w.input(1)), w.input(2))
    return [w.op("Gelu", product, version=20, approximate="tanh")]


def rotary(w: Writer) -> list[str]:
    """RotaryEmbedding(x, positions, cos, sin) of com.microsoft, on rows or heads."""
    a = w.attributes
    x, positions = w.input(0), w.input(1)
    table = w.shape(2)
    half = table[-1] if table else None
    if not isinstance(half, int):
        raise FormError("the width of its tables is not known")
    width = a.integer("rotary_embedding_dim", 0) or 2 * half
    heads = a.integer("num_heads", 0)
    rank, shape = w.rank(0), w.shape(0)
    if not heads and rank == 3 and shape is not None:
        if not isinstance(shape[-1], int):
            raise FormError("the width of its rows is not known")
        heads = shape[-1] // (2 * half)
    if w.shape(1) == (1,):
        # One offset for all: token i stands at offset + i.
        length = w.count(x, 1 if rank == 3 else 2)
        own = w.op("Add", w.range(w.integer(0), length), w.cast(positions, INT64))
        positions = w.op("Expand", w.unsqueeze(own, 0), w.op("Concat", w.size(x, 0), w.ints(1), axis=0))
    interleaved = a.integer("interleaved", 0)
    return [
        w.op(
            "RotaryEmbedding",
            x,
            w.input(2),
            w.input(3),
            positions,
            interleaved=interleaved,
            num_heads=heads,
            rotary_embedding_dim=width,
        )
    ]


def rotary_rows(w: Writer) -> list[str] | None:
    """RotaryEmbedding of ai.onnx on rows [batch, tokens, heads*depth]: on heads, where the pairs show."""
    heads = w.attributes.integer("num_heads", 0)
    if w.rank(0) != 3 or not heads:
        return None
    a = w.attributes
    turned = w.op(
        "RotaryEmbedding",
        w.heads(w.input(0), heads),
        *w.node.inputs[1:],
        version=23,
        interleaved=a.integer("interleaved", 0),
        rotary_embedding_dim=a.integer("rotary_embedding_dim", 0),
    )
    return [w.rows(turned)]


def relative_bias(w: Writer) -> list[str]:
    """RelativePositionBias(table[buckets, heads], queries, keys) of T5: [1, heads, queries, keys]."""
    a = w.attributes
    shape = w.shape(0)
    buckets = shape[0] if shape else None
    if not isinstance(buckets, int):
        raise FormError("the number of its buckets is not known")
    both, far = bool(a.integer("is_bidirectional", 0)), a.integer("max_distance", 128)
    own, other = (
        w.range(w.integer(0), w.op("Reshape", w.input(i), w.constant(np.zeros(0, np.int64)))) for i in (1, 2)
    )
    distance = w.op("Sub", other, w.unsqueeze(own, 1))
    start = w.integer(0)
    if both:
        buckets //= 2
        start = w.op("Mul", w.cast(w.op("Greater", distance, w.integer(0)), INT64), w.integer(buckets))
        distance = w.op("Abs", distance)
    else:
        distance = w.op("Neg", w.op("Min", distance, w.integer(0)))
    exact = buckets // 2
    ratio = w.op("Div", w.cast(w.op("Max", distance, w.integer(1)), FLOAT), w.number(exact))
    factor = (buckets - exact) / np.log(far / exact)
    large = w.op(
        "Add", w.cast(w.op("Mul", w.op("Log", ratio), w.number(float(factor))), INT64), w.integer(exact)
    )
    large = w.op("Min", large, w.integer(buckets - 1))
    bucket = w.op("Add", start, w.op("Where", w.op("Less", distance, w.integer(exact)), distance, large))
    return [w.unsqueeze(w.op("Transpose", w.op("Gather", w.input(0), bucket), perm=(2, 0, 1)), 0)]
