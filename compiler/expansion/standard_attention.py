"""Attention as ai.onnx has it, and its static cache, in plain operators."""

from __future__ import annotations

from math import sqrt

import numpy as np

from compiler.expansion.attention_forms import FormError, Heads, attend, behind, depth_of, width_of
from compiler.expansion.writing import Writer
from compiler.ir.graph import Role
from compiler.ir.tensor import DType


def standard(w: Writer) -> list[str]:
    """Attention of ai.onnx, versions 23 to 25."""
    a = w.attributes
    if w.output(3):
        raise FormError("it gives the scores away as an output")
    if a.integer("right_window_size", -1) >= 0:
        raise FormError("a window to the right is not supported")
    flat = w.rank(0) == 3
    heads = _declared(w, "q_num_heads", 0)
    kv_heads = _declared(w, "kv_num_heads", 1)
    if not heads or not kv_heads or heads % kv_heads:
        raise FormError("the number of its heads is not known")
    depth = depth_of(width_of(w, 0), heads if flat else 1)
    q, k, v = (
        w.heads(w.input(i), n) if flat else w.input(i) for i, n in enumerate((heads, kv_heads, kv_heads))
    )
    k, v = behind(w, w.input(4), k), behind(w, w.input(5), v)
    masks, seen = _masks(w, 3)
    left = a.integer("left_window_size", -1)
    window = left + 1 if left >= 0 else None
    # Without padding, nonpad_kv_seqlen is the number of keys; the last query belongs to the last of them.
    _check_all_count(w)
    if a.integer("is_causal", 0) or window is not None:
        has_past = bool(w.input(4) or w.input(6))
        limits = _limits(w, q, k, bool(a.integer("is_causal", 0)), has_past, window)
        seen = w.op("And", seen, limits) if seen else limits
    scale = a.number("scale", 0.0) or 1 / sqrt(depth)
    out = attend(
        w, Heads(q, k, v, heads // kv_heads), scale, softcap=a.number("softcap", 0.0), masks=masks, seen=seen
    )
    return [w.rows(out) if flat else out, k, v]


def _check_all_count(w: Writer) -> None:
    """Refuse a constant nonpad_kv_seqlen that leaves keys out: they would be padding."""
    constant = w.editor.constants.get(w.input(6)) if w.input(6) else None
    key = w.shape(1)
    keys = key[-2] if key else None
    if constant is not None and any(int(n) != keys for n in np.ravel(constant.data())):
        raise FormError("nonpad_kv_seqlen is fixed in the file, and leaves keys out")


def _declared(w: Writer, attribute: str, index: int) -> int:
    shape = w.shape(index)
    declared = w.attributes.integer(attribute, 0)
    if declared or shape is None or len(shape) != 4:
        return declared
    return shape[1] if isinstance(shape[1], int) else 0


def _masks(w: Writer, index: int) -> tuple[tuple[str, ...], str]:
    """What is added to the scores, and where they count, from a mask of either type."""
    mask = w.input(index)
    value = w.editor.value(mask) if mask else None
    if value is None:
        return (), ""
    return ((), mask) if value.dtype is DType.BOOL else ((mask,), "")


def _limits(w: Writer, q: str, k: str, is_causal: bool, has_past: bool, window: int | None) -> str:
    """Causality of ai.onnx counts from the first key unless there is a past."""
    step, total = w.count(q, 2), w.count(k, 2)
    past = w.op("Sub", total, step) if has_past else w.integer(0)
    own = w.unsqueeze(w.range(past, w.op("Add", past, step)), 1)
    other = w.range(w.integer(0), total)
    seen = w.op("LessOrEqual", other, own) if is_causal else ""
    if window is None:
        return seen
    near = w.op("Greater", other, w.op("Sub", own, w.integer(window)))
    return w.op("And", seen, near) if seen else near


def scattered(w: Writer) -> list[str]:
    """TensorScatter(cache, new rows, where): a buffer that holds only the tokens so far grows by them."""
    if w.attributes.text("mode", "linear") != "linear":
        raise FormError("a cache whose oldest tokens are overwritten is not supported")
    given = next((i for i in w.editor.inputs if i.name == w.input(0)), None)
    if given is None or given.role is not Role.PAST:
        raise FormError("it writes into something else than a cache input")
    return [w.op("Concat", w.input(0), w.input(1), axis=w.attributes.integer("axis", -2))]
