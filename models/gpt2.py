"""GPT-2 family: the graph of `GPT2LMHeadModel` as exported with a cache."""

from __future__ import annotations

from models.configs import Gpt2Config
from models.decoder import (
    Cache,
    causal_mask,
    declare_ids,
    declare_mask,
    declare_positions,
    step_lengths,
)
from models.graph import INT64_MAX, Architecture, Init, Recorder
from models.layers import BOOL, FLOAT, attention_bool, embedding, gelu_tanh, layer_norm


def build(config: Gpt2Config, *, with_cache: bool) -> Architecture:
    """The whole model; with `with_cache` False it takes and gives no keys and values."""
    g = Recorder()
    cache = Cache(config.layers, config.kv_heads, config.head_dim, with_cache)
    declare_ids(g)
    cache.declare_inputs(g)
    declare_mask(g, cache)
    declare_positions(g)
    with g.scope("transformer"):
        length = g.size("input_ids", 1)
        ids = g.view("input_ids", (-1, length))
        batch = g.size(ids, 0)
        x = embedding(g, "wte", ids, config.vocab, config.hidden)
        lengths = step_lengths(g, x, cache)
        places = embedding(g, "wpe", "position_ids", config.max_positions, config.hidden)
        padding = g.cast(g.view("attention_mask", (batch, -1)), BOOL)
        x = g.op("Add", x, g.cast(places, FLOAT))
        mask = causal_mask(g, x, padding, lengths)
        for n in range(config.layers):
            with g.scope(f"h.{n}"):
                x = _layer(g, config, cache, n, x, mask)
        width = _last_size(g, x)
        x = layer_norm(g, "ln_f", x, config.hidden, config.norm_eps)
        x = g.view(x, (-1, length, width))
    with g.scope("lm_head"):
        shape = (config.hidden, config.vocab)
        weight = g.parameter("weight", shape, transposed=True, source="transformer.wte.weight")
        g.op("MatMul", x, weight, out="logits")
    cache.declare_outputs(g, config.vocab)
    return g.finish()


def _last_size(g: Recorder, x: str) -> str:
    """`x.size(-1)` by way of a slice of the shape."""
    tail = g.op("Slice", g.op("Shape", x), g.axes(-1), g.axes(INT64_MAX), g.axes(0))
    return g.op("Squeeze", tail, g.axes(0))


def _conv1d(g: Recorder, name: str, x: str, inputs: int, outputs: int) -> str:
    """`Conv1D`: [B, S, inputs] flattened to rows, Gemm, and back. Its weight is [inputs, outputs]."""
    with g.scope(name):
        batch, length = g.size(x, 0), g.size(x, 1)
        rows = g.view(x, (-1, _last_size(g, x)))
        weight = g.parameter("weight", (inputs, outputs))
        bias = g.parameter("bias", (outputs,), init=Init.ZEROS)
        y = g.op("Gemm", rows, weight, bias, alpha=1.0, beta=1.0)
        return g.view(y, (batch, length, outputs))


def _layer(g: Recorder, config: Gpt2Config, cache: Cache, n: int, x: str, mask: str) -> str:
    """One pre-norm layer on [B, S, hidden]."""
    normed = layer_norm(g, "ln_1", x, config.hidden, config.norm_eps)
    with g.scope("attn"):
        x_attention = _self_attention(g, config, cache, n, normed, mask)
    x = g.op("Add", x_attention, x)
    normed = layer_norm(g, "ln_2", x, config.hidden, config.norm_eps)
    with g.scope("mlp"):
        y = _conv1d(g, "c_fc", normed, config.hidden, config.ffn)
        with g.scope("act"):
            y = gelu_tanh(g, y)
        y = _conv1d(g, "c_proj", y, config.ffn, config.hidden)
    return g.op("Add", x, y)


def _self_attention(g: Recorder, config: Gpt2Config, cache: Cache, n: int, x: str, mask: str) -> str:
    """Causal attention from one fused product."""
    fused = _conv1d(g, "c_attn", x, config.hidden, 3 * config.hidden)
    first = g.op("Split", fused, g.axes(*[config.hidden] * 3), axis=2, results=3)
    parts = [first, *(first.replace("_output_0", f"_output_{i}") for i in (1, 2))]
    old = (g.size(parts[1], 0), g.size(parts[1], 1), -1, config.head_dim)
    k, v = (g.transpose(g.view(part, old), 0, 2, 1, 3) for part in parts[1:])
    new = (g.size(parts[0], 0), g.size(parts[0], 1), -1, config.head_dim)
    q = g.transpose(g.view(parts[0], new), 0, 2, 1, 3)
    k, v = cache.append(g, n, k, v)
    y = attention_bool(g, q, k, v, mask, None)
    y = g.view(y, (g.size(y, 0), g.size(y, 1), -1))
    return _conv1d(g, "c_proj", y, config.hidden, config.hidden)
