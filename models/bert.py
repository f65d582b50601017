"""BERT family: the graph of `BertForMaskedLM` (an encoder: no cache)."""

from __future__ import annotations

import numpy as np

from models.configs import BertConfig
from models.decoder import BATCH, SEQUENCE
from models.graph import Architecture, Init, Recorder
from models.layers import BOOL, FLOAT, INT64, attention, embedding, gelu_erf, layer_norm, linear, split_heads

LOWEST = float(np.finfo(np.float32).min)


def build(config: BertConfig) -> Architecture:
    """The whole model with its masked-language head."""
    g = Recorder()
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        g.input(name, INT64, (BATCH, SEQUENCE))
    with g.scope("bert"):
        length = g.size("input_ids", 1)
        x = _embeddings(g, config, length)
        mask = _mask(g, length)
        for n in range(config.layers):
            with g.scope("encoder", f"layer.{n}"):
                x = _layer(g, config, x, mask)
    with g.scope("cls", "predictions"):
        with g.scope("transform"):
            x = linear(g, "dense", x, config.hidden, config.hidden, bias=True)
            with g.scope("transform_act_fn"):
                x = gelu_erf(g, x)
            x = layer_norm(g, "LayerNorm", x, config.hidden, config.norm_eps)
        bias = g.parameter("bias", (config.vocab,), init=Init.ZEROS)
        with g.scope("decoder"):
            source = "bert.embeddings.word_embeddings.weight"
            shape = (config.hidden, config.vocab)
            x = g.op("MatMul", x, g.parameter("weight", shape, transposed=True, source=source))
            g.op("Add", bias, x, out="logits")
    g.output("logits", FLOAT, (BATCH, SEQUENCE, config.vocab))
    return g.finish()


def _embeddings(g: Recorder, config: BertConfig, length: str) -> str:
    """Words + token types + positions, normalised: [B, S, hidden]."""
    with g.scope("embeddings"):
        every = g.constant(np.arange(config.max_positions, dtype=np.int64)[None])
        places = g.slice(every, 1, 0, length)
        x = embedding(g, "word_embeddings", "input_ids", config.vocab, config.hidden)
        kinds = embedding(g, "token_type_embeddings", "token_type_ids", config.token_types, config.hidden)
        x = g.op("Add", x, kinds)
        rows = embedding(g, "position_embeddings", places, config.max_positions, config.hidden)
        return layer_norm(g, "LayerNorm", g.op("Add", x, rows), config.hidden, config.norm_eps)


def _mask(g: Recorder, length: str) -> str:
    """Float mask [B, 1, S, S]: 0 for tokens, the lowest float for padding."""
    batch, total = g.size("attention_mask", 0), g.size("attention_mask", 1)
    spread = g.unsqueeze(g.unsqueeze("attention_mask", 1), 2)
    spread = g.cast(g.expand(spread, (batch, 1, length, total)), FLOAT)
    inverted = g.op("Sub", g.number(1.0), spread)
    return g.op("Where", g.cast(g.cast(inverted, BOOL), BOOL), g.number(LOWEST), inverted)


def _layer(g: Recorder, config: BertConfig, x: str, mask: str) -> str:
    """One post-norm layer on [B, S, hidden]."""
    hidden, eps = config.hidden, config.norm_eps
    with g.scope("attention"):
        with g.scope("self"):
            y = _self_attention(g, config, x, mask)
        with g.scope("output"):
            y = g.op("Add", linear(g, "dense", y, hidden, hidden, bias=True), x)
            x = layer_norm(g, "LayerNorm", y, hidden, eps)
    with g.scope("intermediate"):
        y = linear(g, "dense", x, hidden, config.ffn, bias=True)
        with g.scope("intermediate_act_fn"):
            y = gelu_erf(g, y)
    with g.scope("output"):
        y = g.op("Add", linear(g, "dense", y, config.ffn, hidden, bias=True), x)
        return layer_norm(g, "LayerNorm", y, hidden, eps)


def _self_attention(g: Recorder, config: BertConfig, x: str, mask: str) -> str:
    """Attention of every token to every other."""
    batch, length = g.size(x, 0), g.size(x, 1)
    heads = (config.heads, config.head_dim)
    q, k, v = (
        linear(g, name, x, config.hidden, config.hidden, bias=True) for name in ("query", "key", "value")
    )
    q = split_heads(g, q, batch, heads)
    k = g.view(k, (batch, -1, *heads))
    v = split_heads(g, v, batch, heads)
    y = attention(g, q, g.transpose(k, 0, 2, 3, 1), v, mask, None)
    return g.view(y, (batch, length, config.hidden))
