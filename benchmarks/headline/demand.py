"""What a step of decoding asks of any machine: bytes of cache and of weights, and operations, from a model's sizes.

Each sequence has one token, which sees `context` tokens. Weights are read once a step. What is small beside these is
left out, to the favour of the machines that are compared with: norms, embeddings, activations, softmax.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.headline.cases import Cell, Scope
from models.configs import CONFIGS, BertConfig, Config, LlamaConfig

HALF, BYTE = 2, 1
"""Bytes of an element: float16, int8."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Bytes and operations (a multiply-accumulate is two) of one step."""

    cache_bytes: float
    cache_flops: float
    weight_bytes: float
    weight_flops: float


def cache_heads(config: Config) -> int:
    """Heads of one layer's cache. Encoders have none, and are refused before this (`bench.known_model`)."""
    assert not isinstance(config, BertConfig)
    return config.kv_heads


def cache_elements(config: Config, context: int, batch: int) -> int:
    """Keys and values of all layers: 2 x layers x heads of the cache x width x context x batch."""
    return 2 * config.layers * cache_heads(config) * config.head_dim * context * batch


def ffn_weights(config: Config) -> int:
    """Weights of the feed-forward layers: three matrices a layer with a gate, else two."""
    matrices = 3 if isinstance(config, LlamaConfig) else 2
    return matrices * config.layers * config.hidden * config.ffn


def other_weights(config: Config) -> int:
    """Weights of q, k, v and output projections, and of the output layer."""
    projections = 2 * config.hidden * (config.heads + cache_heads(config)) * config.head_dim
    return config.layers * projections + config.hidden * config.vocab


def demand(cell: Cell, scope: Scope, element_bytes: int = HALF) -> Demand:
    """What the scope of a cell asks for, with cache and weights of so many bytes an element."""
    config = CONFIGS[cell.model]
    cached = cache_elements(config, cell.context, cell.batch)
    groups = config.heads // cache_heads(config)
    weights = 0 if scope is Scope.ATTENTION else ffn_weights(config)
    weights += other_weights(config) if scope is Scope.WHOLE else 0
    return Demand(
        float(element_bytes * cached),
        2.0 * cached * groups,
        float(element_bytes * weights),
        2.0 * weights * cell.batch,
    )
