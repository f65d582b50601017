"""The trained model with outlier channels: some are made large where they are made, and small where they are read.

Factors are powers of two, so that every float value of the network's outputs is the same to the bit; but a row that is
rounded with one scale has a few large channels, which leave the others few levels. Such channels are what large trained
models have (Dettmers et al., NeurIPS 2022), in what norms give, in keys and in values.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

LAYERS, HEADS, KV_HEADS, DIM = 4, 8, 2, 32
FEW = 4  # channels of a row
SEED = 0

Weights = dict[str, NDArray[np.float32]]


def with_outliers(model: onnx.ModelProto, factor: float, seed: int = SEED) -> onnx.ModelProto:
    """The shipped model with `factor` times as large channels, in every layer: in both norms, between the layers of the
    feed-forward part, in values and in keys. The model is changed."""
    stored = {i.name: i for i in model.graph.initializer}
    weights = {name: numpy_helper.to_array(i).copy() for name, i in stored.items() if i.dims}
    random = np.random.default_rng(seed)
    for layer in range(LAYERS):
        _Layer(weights, layer, np.float32(factor)).make(random)
    for name, values in weights.items():
        stored[name].CopyFrom(numpy_helper.from_array(values, name))
    return model


class _Layer:
    """The weights of one layer, in place."""

    def __init__(self, weights: Weights, layer: int, factor: np.float32) -> None:
        self._weights, self._stem, self._factor = weights, f"model.layers.{layer}.", factor

    def _at(self, name: str) -> NDArray[np.float32]:
        return self._weights[f"{self._stem}{name}.weight"]

    def make(self, random: np.random.Generator) -> None:
        """Make some channels large."""
        attention = [f"self_attn.{x}_proj" for x in "qkv"]
        for norm, readers in (
            ("input_layernorm", attention),
            ("post_attention_layernorm", ["mlp.gate_proj", "mlp.up_proj"]),
        ):
            few = _few(random, self._at(norm).size, FEW)
            self._at(norm)[few] *= self._factor
            for reader in readers:
                self._at(reader)[few] /= self._factor
        few = _few(random, self._at("mlp.down_proj").shape[0], FEW)
        self._at("mlp.up_proj")[:, few] *= self._factor
        self._at("mlp.down_proj")[few] /= self._factor
        group = HEADS // KV_HEADS
        for head in range(KV_HEADS):
            queries = np.arange(head * group, (head + 1) * group) * DIM
            few = _few(random, DIM, FEW // 2)
            self._at("self_attn.v_proj")[:, head * DIM + few] *= self._factor
            self._at("self_attn.o_proj")[np.add.outer(queries, few).reshape(-1)] /= self._factor
            pair = _few(random, DIM // 2, 1)
            pair = np.concatenate([pair, pair + DIM // 2])  # which rotary embedding turns
            self._at("self_attn.k_proj")[:, head * DIM + pair] *= self._factor
            self._at("self_attn.q_proj")[:, np.add.outer(queries, pair).reshape(-1)] /= self._factor


def _few(random: np.random.Generator, size: int, count: int) -> NDArray[np.int64]:
    return random.choice(size, count, replace=False)
