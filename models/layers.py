"""Layers shared by the model families, in the decompositions that the exporter writes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from models.graph import INT64_MAX, Dim, Init, Recorder

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def linear(g: Recorder, name: str, x: str, inputs: int, outputs: int, *, bias: bool = False) -> str:
    """`nn.Linear` on [B, S, inputs]: MatMul with the transposed weight, then bias + product."""
    with g.scope(name):
        y = g.op("MatMul", x, g.parameter("weight", (inputs, outputs), transposed=True))
        if bias:
            y = g.op("Add", g.parameter("bias", (outputs,), init=Init.ZEROS), y)
    return y


def layer_norm(g: Recorder, name: str, x: str, size: int, eps: float) -> str:
    """`nn.LayerNorm` over the last axis."""
    with g.scope(name):
        weight = g.parameter("weight", (size,), init=Init.ONES)
        bias = g.parameter("bias", (size,), init=Init.ZEROS)
        return g.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=eps)


def embedding(g: Recorder, name: str, ids: str, rows: int, size: int) -> str:
    """`nn.Embedding`: Gather of rows."""
    with g.scope(name):
        return g.op("Gather", g.parameter("weight", (rows, size)), ids)


def split_heads(g: Recorder, x: str, batch: str, heads: Sequence[Dim]) -> str:
    """[B, S, H*D] -> [B, H, S, D]; `heads` are the last two sizes of the view."""
    return g.transpose(g.view(x, (batch, -1, *heads)), 0, 2, 1, 3)


def attention(g: Recorder, q: str, kt: str, v: str, mask: str, scale: float | None) -> str:
    """`scaled_dot_product_attention` with a float mask, which is added to the scores.

    q and v are [B, H, S, D], kt is [B, H, D, S]. The square root of the scale multiplies both q
    and k. With `scale` None it is computed in the graph from the head size, as for models that
    leave it out. Returns [B, S, H, D].
    """
    q_root, k_root = _roots(g, q, scale)
    scores = g.op("MatMul", g.op("Mul", q, q_root), g.op("Mul", kt, k_root))
    p = g.op("Softmax", g.op("Add", scores, mask), axis=-1)
    return g.transpose(g.op("MatMul", p, v), 0, 2, 1, 3)


def attention_bool(g: Recorder, q: str, k: str, v: str, mask: str, scale: float | None) -> str:
    """As `attention`, for k [B, H, S, D] and a boolean mask [B, 1, S, T].

    A row with nothing to attend to gives 0.
    """
    mask = g.slice(mask, 3, 0, g.size(k, 2))
    q_root, k_root = _roots(g, q, scale)
    kt = g.transpose(k, 0, 1, 3, 2)
    scores = g.op("MatMul", g.op("Mul", q, q_root), g.op("Mul", kt, k_root))
    zero, low = (g.constant(np.array([value], np.float32)) for value in (0.0, -math.inf))
    p = g.op("Softmax", g.op("Add", scores, g.op("Where", mask, zero, low)), axis=-1)
    p = g.op("Where", g.op("IsNaN", p), g.constant(np.zeros(1, np.float32)), p)
    return g.transpose(g.op("MatMul", p, v), 0, 2, 1, 3)


def _roots(g: Recorder, q: str, scale: float | None) -> tuple[str, str]:
    """The factors of q and of k."""
    if scale is not None:
        return g.number(math.sqrt(scale)), g.number(math.sqrt(scale))
    head = g.op("Slice", g.op("Shape", q), g.axes(-1), g.axes(INT64_MAX))
    root = g.op("Sqrt", g.cast(head, FLOAT))
    inverse = g.cast(g.op("Div", g.constant(np.ones(1, np.float32)), root), FLOAT)
    return g.op("Sqrt", inverse), g.op("Sqrt", inverse)


def gelu_erf(g: Recorder, x: str) -> str:
    """x * (1 + erf(x / sqrt 2)) * 0.5."""
    e = g.op("Add", g.op("Erf", g.op("Div", x, g.number(math.sqrt(2)))), g.number(1.0))
    return g.op("Mul", g.op("Mul", x, e), g.number(0.5))


def gelu_tanh(g: Recorder, x: str) -> str:
    """0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))."""
    half = g.op("Mul", x, g.number(0.5))
    cubic = g.op("Mul", g.op("Pow", x, g.number(3.0)), g.number(0.044715))
    inner = g.op("Mul", g.op("Add", x, cubic), g.number(math.sqrt(2 / math.pi)))
    return g.op("Mul", half, g.op("Add", g.op("Tanh", inner), g.number(1.0)))
