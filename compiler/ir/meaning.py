"""What each canonical operator computes, in plain NumPy. The definition other parts are tested against."""

from __future__ import annotations

from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from compiler.ir.graph import Attention, FakeQuant, Function, Norm, NormKind, Rotary
from compiler.ir.tensor import Array
from compiler.ops.elementwise import gelu, gelu_tanh, sigmoid
from compiler.ops.quantised import dynamic_grid, rounded
from compiler.ops.reduction import layer_norm, rms_norm, softmax

Ints = NDArray[np.int64]


def function(kind: Function, x: Array) -> Array:
    """`kind` of every element of `x`."""
    match kind:
        case Function.RELU:
            return np.maximum(x, 0).astype(x.dtype)
        case Function.GELU:
            return gelu(x)
        case Function.GELU_TANH:
            return gelu_tanh(x)
        case Function.QUICK_GELU:
            return (x * sigmoid(1.702 * x)).astype(x.dtype)
        case Function.SILU:
            return (x * sigmoid(x)).astype(x.dtype)
        case Function.SIGMOID:
            return sigmoid(x)
        case Function.TANH:
            return np.asarray(np.tanh(x))
        case _:
            assert_never(kind)


def fake_quant(op: FakeQuant, x: Array) -> Array:
    """x rounded to the grid of `op`; a grid without a scale is that of all of x."""
    if op.scale is None:
        scale, offset = dynamic_grid(x)
        zero = offset.astype(x.dtype)
    else:
        scale, zero = np.asarray(op.scale, x.dtype), np.asarray(op.zero, x.dtype)
    return np.asarray((rounded(x, scale, zero, op.low, op.high) - zero) * scale, x.dtype)


def norm(op: Norm, x: Array, gamma: Array, beta: Array | None) -> Array:
    """`op` of the rows of `x` [..., features]."""
    parts = x.reshape(*x.shape[:-1], op.groups, x.shape[-1] // op.groups)
    if op.kind is NormKind.RMS:
        out = rms_norm(parts, gamma, op.eps)
        return (out if beta is None else out + beta).reshape(x.shape)
    return layer_norm(parts, gamma, beta, op.eps).reshape(x.shape)


def rotary(op: Rotary, x: Array, inv_freq: Array, positions: Ints) -> Array:
    """`op` of the rows of `x` [..., heads*head_dim] at `positions` [...]."""
    heads = x.reshape(*x.shape[:-1], op.heads, op.head_dim)
    angle = (positions[..., None].astype(inv_freq.dtype) * inv_freq)[..., None, :]
    cos, sin = np.cos(angle) * op.scaling, np.sin(angle) * op.scaling
    half = op.rotary_dim // 2
    if op.interleaved:
        first, second = slice(0, op.rotary_dim, 2), slice(1, op.rotary_dim, 2)
    else:
        first, second = slice(0, half), slice(half, op.rotary_dim)
    out = heads.astype(x.dtype, copy=True)
    out[..., first] = heads[..., first] * cos - heads[..., second] * sin
    out[..., second] = heads[..., second] * cos + heads[..., first] * sin
    return out.reshape(x.shape)


def split_heads(rows: Array, heads: int) -> Array:
    """[batch, tokens, heads*d] -> [batch, heads, tokens, d]."""
    return rows.reshape(*rows.shape[:-1], heads, rows.shape[-1] // heads).swapaxes(-3, -2)


def visible(op: Attention, queries: int, keys: int) -> NDArray[np.bool_]:
    """[queries, keys]: which keys a query sees. The last key belongs to the last query."""
    own = np.arange(keys - queries, keys)[:, None]
    other = np.arange(keys)[None, :]
    seen = np.ones((queries, keys), bool)
    if op.causal:
        seen &= other <= own
    if op.window is not None:
        seen &= other > own - op.window
    return seen


def bias_of(bias: Array, queries: int, keys: int) -> Array:
    """[heads, queries, keys] from the bias of an attention by distance, or by slopes."""
    distance = np.arange(keys)[None, :] - np.arange(keys - queries, keys)[:, None]
    if bias.ndim == 1:
        return np.asarray(bias[:, None, None] * distance.astype(bias.dtype))
    reach = bias.shape[1] // 2
    return np.asarray(bias[:, reach + np.clip(distance, -reach, reach)])


def attention(op: Attention, q: Array, k: Array, v: Array, bias: Array | None = None) -> Array:
    """`op` of q [batch, new, heads*head_dim] on all keys and values [batch, kv_heads, tokens, d]."""
    repeat = op.heads // op.kv_heads
    scores = split_heads(q, op.heads) @ np.repeat(k, repeat, axis=1).swapaxes(-1, -2)
    scores = scores * np.asarray(op.scale, scores.dtype)
    if op.softcap is not None:
        scores = np.tanh(scores / np.asarray(op.softcap, scores.dtype)) * np.asarray(op.softcap, scores.dtype)
    if bias is not None:
        scores = scores + bias_of(bias, *scores.shape[-2:]).astype(scores.dtype)
    seen = visible(op, scores.shape[-2], scores.shape[-1])
    probabilities = softmax(np.where(seen, scores, np.asarray(-np.inf, scores.dtype)))
    context = probabilities @ np.repeat(v, repeat, axis=1)
    return np.asarray(context.swapaxes(-3, -2).reshape(*q.shape[:-1], op.heads * op.v_head_dim))
