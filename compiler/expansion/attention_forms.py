"""The operators that are a whole attention, spelled out as products and a softmax.

One meaning for all: heads of queries, keys and values, what stands before the keys, what is added to the scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

from compiler.expansion.writing import Writer
from compiler.ir.dims import Extent

FLOAT, INT64, BOOL = 1, 7, 9
"""ONNX's numbers of element types."""

ROTARY_BASE = 10000.0


class FormError(ValueError):
    """The node asks for something that cannot be spelled out; says what."""


@dataclass(slots=True)
class Heads:
    """Queries, keys and values as [batch, heads, tokens, depth], keys and values with their past."""

    q: str
    k: str
    v: str
    repeat: int = 1


def attend(
    w: Writer, h: Heads, scale: float, *, softcap: float = 0.0, masks: tuple[str, ...] = (), seen: str = ""
) -> str:
    """softmax(softcap(scale q k^T) + masks, where seen) v as heads."""
    keys, values = (repeated(w, x, h.repeat) for x in (h.k, h.v))
    scores = w.op("MatMul", h.q, w.op("Transpose", keys, perm=(0, 1, 3, 2)))
    scores = w.op("Mul", scores, w.number(scale))
    if softcap:
        scores = w.op("Mul", w.op("Tanh", w.op("Div", scores, w.number(softcap))), w.number(softcap))
    for mask in masks:
        scores = w.op("Add", scores, mask)
    if seen:
        scores = w.op("Where", seen, scores, w.number(-np.inf))
    return w.op("MatMul", w.op("Softmax", scores, axis=-1), values)


def repeated(w: Writer, x: str, times: int) -> str:
    """Each head `times` times."""
    if times == 1:
        return x
    wide = w.op("Expand", w.unsqueeze(x, 2), w.ints(1, 1, times, 1, 1))
    shape = w.op("Concat", w.size(x, 0), w.ints(-1), w.size(x, 2), w.size(x, 3), axis=0)
    return w.op("Reshape", wide, shape)


def causal(w: Writer, q: str, k: str, window: int | None = None) -> str:
    """[queries, keys]: whether a query sees a key; the last query belongs to the last key."""
    own = positions(w, q, k)
    other = w.range(w.integer(0), w.count(k, 2))
    column = w.unsqueeze(own, 1)
    seen = w.op("LessOrEqual", other, column)
    if window is None:
        return seen
    return w.op("And", seen, w.op("Greater", other, w.op("Sub", column, w.integer(window))))


def positions(w: Writer, q: str, k: str) -> str:
    """Where the queries stand among the keys."""
    total, step = w.count(k, 2), w.count(q, 2)
    return w.range(w.op("Sub", total, step), total)


def behind(w: Writer, past: str, new: str) -> str:
    """`new` behind the cache input `past`, if there is one."""
    return w.op("Concat", past, new, axis=2) if past else new


def depth_of(extent: Extent | None, heads: int) -> int:
    """The width of a head. `FormError` if it is not known."""
    if not isinstance(extent, int) or not heads or extent % heads:
        raise FormError("the width of its heads does not follow from the model's input shapes")
    return extent // heads


def width_of(w: Writer, index: int) -> Extent | None:
    """The last axis of input `index`."""
    shape = w.shape(index)
    return shape[-1] if shape else None


# com.microsoft.


def fused(w: Writer) -> list[str]:
    """Attention of com.microsoft: projections inside, keys and values of the past stacked."""
    a = w.attributes
    heads = a.integer("num_heads", 0)
    widths = a.integers("qkv_hidden_sizes")
    if widths is None:
        third = depth_of(width_of(w, 1), 3)
        widths = (third, third, third)
    depth = depth_of(widths[0], heads)
    projected = w.biased(w.op("MatMul", w.input(0), w.input(1)), w.input(2))
    q, k, v = (w.heads(part, heads) for part in w.split(projected, widths))
    past = w.input(4)
    old = w.split(past, (1, 1), axis=0) if past else []
    start = w.count(past, 3) if past else w.integer(0)
    if a.integer("do_rotary", 0):
        width = a.integer("rotary_embedding_dim", 0) or depth
        q, k = (_turned(w, x, start, width) for x in (q, k))
    if old:
        k, v = (
            behind(w, w.op("Squeeze", before, w.ints(0)), new)
            for before, new in zip(old, (k, v), strict=True)
        )
    masks = _filters(w, 3, k, 0) + _added(w, 5)
    seen = causal(w, q, k) if a.integer("unidirectional", 0) else ""
    out = attend(w, Heads(q, k, v), a.number("scale", 0.0) or 1 / sqrt(depth), masks=masks, seen=seen)
    present = w.op("Concat", w.unsqueeze(k, 0), w.unsqueeze(v, 0), axis=0) if w.output(1) else ""
    return [w.rows(out), present]


def _turned(w: Writer, x: str, start: str, width: int) -> str:
    """The rotary embedding of heads from position `start` on."""
    own = w.range(start, w.op("Add", start, w.count(x, 2)))
    inverse = (ROTARY_BASE ** (-np.arange(0, width, 2) / width)).astype(np.float32)
    angle = w.op("Mul", w.unsqueeze(w.cast(own, FLOAT), 0, 2), w.constant(inverse))
    shape = w.op("Concat", w.size(x, 0), w.ints(1, 1), axis=0)
    cos, sin = (w.op("Expand", w.op(kind, angle), shape) for kind in ("Cos", "Sin"))
    return w.op("RotaryEmbedding", x, cos, sin, rotary_embedding_dim=width)


def _filters(w: Writer, index: int, k: str, batch_of: int) -> tuple[str, ...]:
    """The padding mask in any of its forms, as something added to the scores."""
    mask = w.input(index)
    if not mask:
        return ()
    value = w.attributes.number("mask_filter_value", -10000.0)
    rank = w.rank(index)
    if rank == 1:
        kept = _by_length(w, mask, k, index, batch_of)
    elif rank in (2, 3):
        kept = w.unsqueeze(mask, *((1, 2) if rank == 2 else (1,)))
    else:
        raise FormError(f"its mask has {rank} axes")
    hidden = w.op("Not", w.cast(kept, BOOL))
    return (w.op("Mul", w.cast(hidden, FLOAT), w.number(value)),)


def _by_length(w: Writer, ends: str, k: str, index: int, batch_of: int) -> str:
    """[batch, 1, 1, keys] from the number of keys of each sequence; a second half holds where they start."""
    other = w.range(w.integer(0), w.count(k, 2))
    shape, lead = w.shape(index), w.shape(batch_of)
    double = shape is not None and lead is not None and shape[0] == 2 * lead[0]
    if (
        not double
        and shape is not None
        and lead is not None
        and shape[0] != lead[0]
        and isinstance(shape[0], int)
    ):
        raise FormError("its mask has a form that is not known")
    if double:
        ends, starts = (w.op("Squeeze", h, w.ints(0)) for h in _halves(w, ends))
        late = w.op("GreaterOrEqual", other, _column(w, starts))
        return w.op("And", late, w.op("Less", other, _column(w, ends)))
    return w.op("Less", other, _column(w, ends))


def _halves(w: Writer, ends: str) -> list[str]:
    return w.split(w.op("Reshape", ends, w.ints(2, -1)), (1, 1), axis=0)


def _column(w: Writer, values: str) -> str:
    return w.unsqueeze(w.cast(values, INT64), 1, 2, 3)


def _added(w: Writer, index: int) -> tuple[str, ...]:
    return (w.input(index),) if w.input(index) else ()


def multi_head(w: Writer) -> list[str]:
    """MultiHeadAttention: queries, keys and values apart or packed, with biases, padding and past."""
    a = w.attributes
    heads = a.integer("num_heads", 0)
    q, k, v, depth = _operands(w, heads)
    k, v = behind(w, w.input(6), k), behind(w, w.input(7), v)
    masks = _filters(w, 4, k, 0) + _added(w, 5)
    seen = causal(w, q, k) if a.integer("unidirectional", 0) else ""
    out = attend(w, Heads(q, k, v), a.number("scale", 0.0) or 1 / sqrt(depth), masks=masks, seen=seen)
    return [w.rows(out), k, v]


def _operands(w: Writer, heads: int) -> tuple[str, str, str, int]:
    """Heads of queries, keys and values, and their depth, from each of the layouts."""
    bias = w.input(3)
    if w.rank(0) == 5:
        # [batch, tokens, heads, 3, depth]
        depth = depth_of(width_of(w, 0), 1)
        q, k, v = (_unpacked(w, part) for part in w.split(w.input(0), (1, 1, 1), axis=3))
        return (*_biased_heads(w, (q, k, v), heads, (depth, depth, depth)), depth)
    depth = depth_of(width_of(w, 0), heads)
    if w.rank(1) == 5:
        k, v = (_unpacked(w, part) for part in w.split(w.input(1), (1, 1), axis=3))
        return (*_biased_heads(w, (w.input(0), k, v), heads, (depth, depth, depth)), depth)
    if w.rank(1) == 4:
        # Keys and values of another sequence, already heads: only the queries have a bias.
        first = w.split(bias, _bias_parts(w, heads * depth), axis=0)[0] if bias else ""
        return w.heads(w.biased(w.input(0), first), heads), w.input(1), w.input(2), depth
    if not w.input(1):
        raise FormError("its keys are missing")
    v_depth = depth_of(width_of(w, 2), heads)
    return (*_biased_heads(w, w.node.inputs[:3], heads, (depth, depth, v_depth)), depth)


def _bias_parts(w: Writer, first: int) -> tuple[int, int]:
    width = width_of(w, 3)
    if not isinstance(width, int):
        raise FormError("the width of its bias is not known")
    return first, width - first


def _unpacked(w: Writer, part: str) -> str:
    """[batch, tokens, heads, 1, depth] -> [batch, tokens, heads*depth]."""
    return w.op("Reshape", part, w.ints(0, 0, -1))


def _biased_heads(
    w: Writer, rows: tuple[str, ...], heads: int, depths: tuple[int, ...]
) -> tuple[str, str, str]:
    biases = w.split(w.input(3), [heads * d for d in depths], axis=0) if w.input(3) else ["", "", ""]
    q, k, v = (w.heads(w.biased(x, b), heads) for x, b in zip(rows, biases, strict=True))
    return q, k, v


def grouped(w: Writer) -> list[str]:
    """GroupQueryAttention: causal, fewer heads of keys than of queries, rotation and cache inside.

    `seqlens_k` and `total_sequence_length` say how long each sequence is; without padding that is the length
    of the keys.
    """
    a = w.attributes
    heads, kv_heads = a.integer("num_heads", 0), a.integer("kv_num_heads", 0)
    if w.input(11) or a.integer("smooth_softmax", 0):
        raise FormError("a sink beside the scores is not supported")
    if any(w.input(i) for i in (12, 13)) or a.text("k_quant_type", "NONE") not in ("", "NONE"):
        raise FormError("its cache is quantised")
    if not heads or not kv_heads or heads % kv_heads:
        raise FormError("the number of its heads is not known")
    packed = not w.input(1)
    if w.rank(1) not in (0, 3):
        raise FormError(
            "its keys are no rows [batch, tokens, features] (packed with the queries they must be left out)"
        )
    depth = depth_of(width_of(w, 0), heads + 2 * kv_heads if packed else heads)
    sizes = [n * depth for n in (heads, kv_heads, kv_heads)]
    rows = w.split(w.input(0), sizes) if packed else [w.input(i) for i in range(3)]
    q, k, v = (w.heads(x, n) for x, n in zip(rows, (heads, kv_heads, kv_heads), strict=True))
    if w.input(14):
        q, k = (
            w.op("RMSNormalization", x, w.input(i), axis=-1, epsilon=1e-6, version=23)
            for x, i in ((q, 14), (k, 15))
        )
    if a.integer("do_rotary", 0):
        q, k = _cached_turn(w, q), _cached_turn(w, k)
    k, v = behind(w, w.input(3), k), behind(w, w.input(4), v)
    window = a.integer("local_window_size", -1)
    seen = causal(w, q, k, window if window > 0 else None) if a.integer("causal", 1) else ""
    out = attend(
        w,
        Heads(q, k, v, heads // kv_heads),
        a.number("scale", 0.0) or 1 / sqrt(depth),
        softcap=a.number("softcap", 0.0),
        masks=_added(w, 10),
        seen=seen,
    )
    return [w.rows(out), k, v]


def _cached_turn(w: Writer, x: str) -> str:
    """Rotation of new heads by rows of the tables, from the length of the past on."""
    positions_of = w.input(9)
    if not positions_of:
        start = w.count(w.input(3), 2) if w.input(3) else w.integer(0)
        own = w.unsqueeze(w.range(start, w.op("Add", start, w.count(x, 2))), 0)
        positions_of = w.op("Expand", own, w.op("Concat", w.size(x, 0), w.ints(1), axis=0))
    cos, sin = w.input(7), w.input(8)
    interleaved = w.attributes.integer("rotary_interleaved", 0)
    table = w.editor.shape(cos)
    width = table[-1] if table and isinstance(table[-1], int) else 0
    return w.op(
        "RotaryEmbedding", x, cos, sin, positions_of, interleaved=interleaved, rotary_embedding_dim=2 * width
    )


def masked(w: Writer) -> list[str]:
    """DecoderMaskedMultiHeadAttention: one new token, or another sequence's keys as heads."""
    a = w.attributes
    heads = a.integer("num_heads", 0)
    if w.input(9):
        raise FormError("it reorders its cache by beams")
    depth = depth_of(width_of(w, 0), heads)
    past = [w.input(5), w.input(6)]
    if w.rank(1) == 4:
        q, k, v = w.heads(w.input(0), heads), w.input(1), w.input(2)
    else:
        biases = w.split(w.input(10), [heads * depth] * 3, axis=0) if w.input(10) else ["", "", ""]
        q, k, v = (w.heads(w.biased(w.input(i), b), heads) for i, b in enumerate(biases))
        k, v = (behind(w, before, new) for before, new in zip(past, (k, v), strict=True))
    masks = _filters(w, 3, k, 0) + _added(w, 4)
    out = attend(w, Heads(q, k, v), a.number("scale", 0.0) or 1 / sqrt(depth), masks=masks)
    return [w.rows(out), k, v]
