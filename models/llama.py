"""Llama family: the graph of `LlamaForCausalLM` as exported with a cache."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.configs import LlamaConfig
from models.decoder import (
    Cache,
    causal_mask,
    declare_ids,
    declare_mask,
    declare_positions,
    step_lengths,
)
from models.graph import INT64_MAX, Architecture, Init, Recorder
from models.layers import BOOL, FLOAT, INT64, attention_bool, embedding, linear


@dataclass(slots=True)
class Rotary:
    """The tables cos and sin, [B, S, head_dim].

    The first layer that asks adds the head axis; later ones share its nodes, as in an export
    (common subexpressions are merged across layers).
    """

    cos: str
    sin: str
    _by_head: tuple[str, str] | None = None

    def by_head(self, g: Recorder) -> tuple[str, str]:
        """cos and sin as [B, 1, S, head_dim]."""
        if self._by_head is None:
            self._by_head = (g.unsqueeze(self.cos, 1), g.unsqueeze(self.sin, 1))
        return self._by_head


def build(config: LlamaConfig, *, with_cache: bool) -> Architecture:
    """The whole model; with `with_cache` False it takes and gives no keys and values."""
    g = Recorder()
    cache = Cache(config.layers, config.kv_heads, config.head_dim, with_cache)
    declare_ids(g)
    declare_mask(g, cache)
    declare_positions(g)
    cache.declare_inputs(g)
    with g.scope("model"):
        x = embedding(g, "embed_tokens", "input_ids", config.vocab, config.hidden)
        lengths = step_lengths(g, x, cache)
        mask = causal_mask(g, x, g.cast("attention_mask", BOOL), lengths)
        rotary = Rotary(*_rotary_tables(g, config))
        for n in range(config.layers):
            with g.scope(f"layers.{n}"):
                x = _layer(g, config, cache, n, x, mask, rotary)
        x, _ = _rms_norm(g, "norm", x, config)
    with g.scope("lm_head"):
        source = "model.embed_tokens.weight" if config.tied else None
        weight = g.parameter("weight", (config.hidden, config.vocab), transposed=True, source=source)
        g.op("MatMul", x, weight, out="logits")
    cache.declare_outputs(g, config.vocab)
    return g.finish()


def inverse_frequencies(config: LlamaConfig) -> np.ndarray:
    """Rotary angles a position: theta^(-2i/head_dim), float32 [head_dim / 2]."""
    powers = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    return (np.float32(1.0) / np.float32(config.rope_theta) ** powers).astype(np.float32)


def _rotary_tables(g: Recorder, config: LlamaConfig) -> tuple[str, str]:
    """cos and sin of position x frequency: [B, S, head_dim] each."""
    frequencies = g.constant(inverse_frequencies(config)[None, :, None])
    with g.scope("rotary_emb"):
        batch = g.size("position_ids", 0)
        spread = g.cast(g.expand(frequencies, (batch, -1, 1)), FLOAT)
        positions = g.cast(g.unsqueeze("position_ids", 1), FLOAT)
        product = g.op("MatMul", g.cast(spread, FLOAT), g.cast(positions, FLOAT))
        angles = g.transpose(product, 0, 2, 1)
        angles = g.op("Concat", angles, angles, axis=-1)
        cos = g.op("Mul", g.op("Cos", angles), g.number(1.0))
        sin = g.op("Mul", g.op("Sin", angles), g.number(1.0))
        return g.cast(cos, FLOAT), g.cast(sin, FLOAT)


def _rms_norm(g: Recorder, name: str, x: str, config: LlamaConfig) -> tuple[str, str]:
    """weight * (x / sqrt(mean(x^2) + eps)); also returns x as the residual path uses it."""
    with g.scope(name):
        weight = g.parameter("weight", (config.hidden,), init=Init.ONES)
        x = g.cast(x, FLOAT)
        mean = g.op("ReduceMean", g.op("Pow", x, g.number(2.0)), g.axes(-1), keepdims=1)
        root = g.op("Sqrt", g.op("Add", mean, g.number(config.norm_eps)))
        scaled = g.op("Mul", x, g.op("Div", g.number(1.0), root))
        return g.op("Mul", weight, g.cast(scaled, FLOAT)), x


def _layer(g: Recorder, config: LlamaConfig, cache: Cache, n: int, x: str, mask: str, rotary: Rotary) -> str:
    """One decoder layer on [B, S, hidden]."""
    normed, x = _rms_norm(g, "input_layernorm", x, config)
    with g.scope("self_attn"):
        x_attention = _self_attention(g, config, cache, n, normed, mask, rotary)
    x = g.op("Add", x, x_attention)
    normed, x = _rms_norm(g, "post_attention_layernorm", x, config)
    with g.scope("mlp"):
        gate = linear(g, "gate_proj", normed, config.hidden, config.ffn)
        with g.scope("act_fn"):
            gate = g.op("Mul", gate, g.op("Sigmoid", gate))
        up = linear(g, "up_proj", normed, config.hidden, config.ffn)
        down = linear(g, "down_proj", g.op("Mul", gate, up), config.ffn, config.hidden)
    return g.op("Add", x, down)


def _self_attention(
    g: Recorder, config: LlamaConfig, cache: Cache, n: int, x: str, mask: str, rotary: Rotary
) -> str:
    """Rotary grouped-query attention."""
    batch, length = g.size(x, 0), g.size(x, 1)
    hidden, width = config.hidden, config.kv_heads * config.head_dim

    def heads(name: str, outputs: int) -> str:
        view = g.view(linear(g, name, x, hidden, outputs), (batch, length, -1, config.head_dim))
        return g.transpose(view, 0, 2, 1, 3)

    q, k, v = heads("q_proj", hidden), heads("k_proj", width), heads("v_proj", width)
    cos, sin = rotary.by_head(g)
    q, k = (g.op("Add", g.op("Mul", t, cos), g.op("Mul", _rotate_half(g, t), sin)) for t in (q, k))
    k, v = cache.append(g, n, k, v)
    group = config.heads // config.kv_heads
    k, v = (_repeat(g, t, group) for t in (k, v))
    y = attention_bool(g, q, k, v, mask, config.head_dim**-0.5)
    return linear(g, "o_proj", g.view(y, (batch, length, -1)), hidden, hidden)


def _rotate_half(g: Recorder, x: str) -> str:
    """(-second half, first half) of the last axis."""
    half = g.op("Div", g.size(x, 3), g.index(2))
    half = g.cast(g.cast(half, INT64), INT64)
    first = g.slice(x, 3, 0, half)
    second = g.slice(x, 3, half, INT64_MAX)
    return g.op("Concat", g.op("Neg", second), first, axis=-1)


def _repeat(g: Recorder, x: str, group: int) -> str:
    """`repeat_kv`: every head `group` times in a row; nothing to do for one."""
    if group == 1:
        return x
    batch, heads, length, size = (g.size(x, axis) for axis in range(4))
    spread = g.expand(g.unsqueeze(x, 2), (batch, heads, group, length, size))
    return g.view(spread, (batch, g.op("Mul", heads, g.index(group)), length, size))
