"""OPT family: the graph of `OPTForCausalLM` as exported with a cache."""

from __future__ import annotations

import numpy as np
from onnx import numpy_helper

from models.configs import OptConfig
from models.decoder import Cache, Lengths, declare_ids, declare_mask, declare_positions, step_lengths
from models.graph import INT64_MAX, Architecture, Init, Recorder
from models.layers import BOOL, FLOAT, INT64, attention, embedding, layer_norm, linear, split_heads

LOWEST = float(np.finfo(np.float32).min)
POSITION_OFFSET = 2
"""The first rows of the position table stand for padding."""


def build(config: OptConfig, *, with_cache: bool) -> Architecture:
    """The whole model; with `with_cache` False it takes and gives no keys and values."""
    g = Recorder()
    cache = Cache(config.layers, config.kv_heads, config.head_dim, with_cache)
    declare_ids(g)
    declare_mask(g, cache)
    cache.declare_inputs(g)
    declare_positions(g)
    with g.scope("model", "decoder"):
        ids = g.view("input_ids", (-1, g.size("input_ids", 1)))
        x = embedding(g, "embed_tokens", ids, config.vocab, config.hidden)
        mask = _mask(g, x, step_lengths(g, x, cache))
        with g.scope("embed_positions"):
            rows = config.max_positions + POSITION_OFFSET
            table = g.parameter("weight", (rows, config.hidden))
            places = g.op("Gather", table, g.op("Add", "position_ids", g.index(POSITION_OFFSET)))
        x = g.op("Add", x, g.cast(places, FLOAT))
        for n in range(config.layers):
            with g.scope(f"layers.{n}"):
                x = _layer(g, config, cache, n, x, mask)
        x = layer_norm(g, "final_layer_norm", x, config.hidden, config.norm_eps)
    with g.scope("lm_head"):
        shape = (config.hidden, config.vocab)
        weight = g.parameter("weight", shape, transposed=True, source="model.decoder.embed_tokens.weight")
        g.op("MatMul", x, weight, out="logits")
    cache.declare_outputs(g, config.vocab)
    return g.finish()


def _mask(g: Recorder, x: str, lengths: Lengths) -> str:
    """Float mask [B, 1, S, T]: 0 where a token may look, the lowest float elsewhere.

    A triangle is cut at the tokens' positions; padding is then written into it element by element
    (`mask[:, :, :, :T] = ...`, which the exporter spells as ScatterND over all indices).
    """
    total, batch = g.size("attention_mask", 1), g.size(x, 0)
    low = numpy_helper.from_array(np.array([LOWEST], np.float32))
    full = g.op("ConstantOfShape", g.stack((lengths.new, total)), value=low)
    triangle = g.op("Trilu", full, g.index(1), upper=1)
    column = g.op("Reshape", lengths.positions, g.axes(-1, 1), allowzero=0)
    later = g.op("Greater", g.arange(total), column)
    causal = g.op("Mul", triangle, g.cast(later, FLOAT))
    causal = g.expand(g.unsqueeze(g.unsqueeze(causal, 0), 1), (batch, 1, -1, -1))
    padding = g.unsqueeze(g.unsqueeze("attention_mask", 1), 2)
    padding = g.cast(g.cast(padding, INT64), FLOAT)
    total_mask = g.op("Add", g.slice(causal, 3, 0, total), padding)
    masked = g.cast(g.op("Equal", total_mask, g.number(0.0)), BOOL)
    update = g.op("Where", masked, g.number(LOWEST), g.slice(causal, 3, 0, total))
    update = g.op("Expand", update, g.op("Shape", g.slice(causal, 3, 0, total)))
    return _write_columns(g, causal, update, total)


def _write_columns(g: Recorder, x: str, update: str, end: str) -> str:
    """`x[:, :, :, :end] = update`."""
    ranges = [g.arange(g.size(x, axis)) for axis in range(4)]
    ranges[3] = g.slice(ranges[3], 0, 0, end)
    columns = [
        g.op("Reshape", r, g.axes(-1, *[1] * (3 - axis)), allowzero=0) if axis < 3 else r
        for axis, r in enumerate(ranges)
    ]
    total = columns[0]
    for column in columns[1:]:
        total = g.op("Add", total, column)
    shape = g.op("Shape", total)
    indices = [g.unsqueeze(g.expand_to(column, shape), -1) for column in columns]
    tail = g.op("Slice", g.op("Shape", x), g.axes(4), g.axes(INT64_MAX), g.axes(0))
    flat = g.op("Reshape", update, g.op("Concat", shape, tail, axis=0), allowzero=0)
    return g.op("ScatterND", x, g.op("Concat", *indices, axis=-1), flat)


def _layer(g: Recorder, config: OptConfig, cache: Cache, n: int, x: str, mask: str) -> str:
    """One pre-norm layer on [B, S, hidden]; the feed-forward part works on rows [B*S, hidden]."""
    normed = layer_norm(g, "self_attn_layer_norm", x, config.hidden, config.norm_eps)
    with g.scope("self_attn"):
        x_attention = _self_attention(g, config, cache, n, normed, mask)
    x = g.op("Add", x, x_attention)
    sizes = [g.size(x, axis) for axis in range(3)]
    tail = g.op("Slice", g.op("Shape", x), g.axes(-1), g.axes(INT64_MAX), g.axes(0))
    rows = g.view(x, (-1, g.op("Squeeze", tail, g.axes(0))))
    y = layer_norm(g, "final_layer_norm", rows, config.hidden, config.norm_eps)
    y = _gemm(g, "fc1", y, config.hidden, config.ffn)
    with g.scope("activation_fn"):
        y = g.op("Relu", y)
    y = _gemm(g, "fc2", y, config.ffn, config.hidden)
    return g.view(g.op("Add", rows, y), sizes)


def _gemm(g: Recorder, name: str, x: str, inputs: int, outputs: int) -> str:
    """`nn.Linear` on rows: Gemm with the weight as stored, [outputs, inputs]."""
    with g.scope(name):
        weight = g.parameter("weight", (outputs, inputs))
        bias = g.parameter("bias", (outputs,), init=Init.ZEROS)
        return g.op("Gemm", x, weight, bias, alpha=1.0, beta=1.0, transB=1)


def _self_attention(g: Recorder, config: OptConfig, cache: Cache, n: int, x: str, mask: str) -> str:
    """Causal attention; q is scaled before it is split, so the product itself has scale one."""
    batch, length = g.size(x, 0), g.size(x, 1)
    heads = (config.heads, config.head_dim)
    q, k, v = (
        linear(g, name, x, config.hidden, config.hidden, bias=True) for name in ("q_proj", "k_proj", "v_proj")
    )
    q = g.op("Mul", q, g.number(config.head_dim**-0.5))
    q, k, v = (split_heads(g, t, batch, heads) for t in (q, k, v))
    k, v = cache.append(g, n, k, v)
    mask = g.slice(mask, 3, 0, g.size(k, 2))
    y = attention(g, q, g.transpose(k, 0, 1, 3, 2), v, mask, 1.0)
    y = g.view(y, (batch, length, -1))
    return linear(g, "out_proj", y, config.hidden, config.hidden, bias=True)
