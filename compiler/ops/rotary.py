"""Kernel of the rotary embedding that ONNX has as an operator of its own."""

from __future__ import annotations

import numpy as np

from compiler.ir.tensor import Array
from compiler.ops.call import Call, Kernel


def _turned(x: Array, cos: Array, sin: Array, interleaved: bool) -> Array:
    """The pairs of `x` [batch, tokens, heads, width] turned; cos and sin are [batch, tokens, 1, width/2]."""
    half = x.shape[-1] // 2
    first, second = (
        (slice(0, None, 2), slice(1, None, 2)) if interleaved else (slice(0, half), slice(half, None))
    )
    out = np.empty_like(x)
    out[..., first] = x[..., first] * cos - x[..., second] * sin
    out[..., second] = x[..., second] * cos + x[..., first] * sin
    return out


def _rotary_embedding(call: Call) -> Array:
    x, cos, sin, positions = call[0], call[1], call[2], call.optional(3)
    if positions is not None:
        cos, sin = cos[positions], sin[positions]
    if x.ndim == 4:
        rows = x.swapaxes(1, 2)
    else:
        rows = x.reshape(*x.shape[:2], call.integer("num_heads", 1), -1)
    width = call.integer("rotary_embedding_dim", 0) or rows.shape[-1]
    cos, sin = (np.expand_dims(t[..., : width // 2], 2) for t in (cos, sin))
    turned = _turned(rows[..., :width], cos, sin, bool(call.integer("interleaved", 0)))
    out = np.concatenate([turned, rows[..., width:]], axis=-1)
    return out.swapaxes(1, 2) if x.ndim == 4 else out.reshape(x.shape)


ROTARY: dict[str, Kernel] = {"RotaryEmbedding": _rotary_embedding}
"""Kernels of ai.onnx by operator type."""
