"""Canonical graphs with two sequences: decoders that look at a source, and an encoder with its decoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compiler.ir.dims import axis
from compiler.ir.graph import (
    Activation,
    Add,
    Attention,
    Cache,
    Embed,
    Function,
    Graph,
    Input,
    Linear,
    Mul,
    Norm,
    NormKind,
    Role,
    Value,
)
from compiler.ir.tensor import DType, tensor

from .graphs import Sketch


@dataclass(frozen=True)
class Cross:
    """Sizes and kind of a small decoder that looks at a source of `source_width` columns.

    `reach` > 0: biases by distance, as T5 has them, in a decoder of RMS norms; else LayerNorm, linear layers with
    biases and learned positions, as Whisper has them. `encoder` layers make the source's rows out of ids. With
    `given` the source's keys and values are never computed.
    """

    width: int = 32
    source_width: int = 48
    layers: int = 1
    heads: int = 2
    inner: int = 64
    vocabulary: int = 32
    reach: int = 0
    encoder: int = 0
    given: bool = False
    positions: int = 256


class _Model(Sketch):
    """A model in the making."""

    shape: Cross
    caches: tuple[Cache, ...] = ()

    def norm(self, x: str, name: str, width: int) -> str:
        gain = self.weight(f"{name}.gain", width, offset=1.0)
        if self.shape.reach:
            return self.add(Norm(NormKind.RMS, 1e-6), x, gain)
        return self.add(Norm(NormKind.LAYER, 1e-5), x, gain, self.weight(f"{name}.shift", width))

    def linear(self, x: str, name: str, rows: int, cols: int) -> str:
        inputs = [x, self.weight(f"{name}.w", rows, cols, scale=rows**-0.5)]
        if not self.shape.reach:
            inputs.append(self.weight(f"{name}.b", cols))
        return self.add(Linear(), *inputs)

    def attention(self, x: str, name: str, *, causal: bool, source: str = "", cross: bool = False) -> str:
        """x plus attention; to the rows `source` if `cross`."""
        shape, width = self.shape, self.shape.width
        n = self.norm(x, f"{name}.norm", width)
        q = self.linear(n, f"{name}.q", width, width)
        k, v = "", ""
        if not cross or not shape.given:
            rows, size = (source, shape.source_width if not shape.encoder else width) if cross else (n, width)
            k, v = (self.linear(rows, f"{name}.{letter}", size, width) for letter in "kv")
        dim = width // shape.heads
        bias = () if cross or not shape.reach else (self.table(f"{name}.bias", causal),)
        cache = None
        if causal or cross:
            cache = len(self.caches)
            self.caches += (Cache(cache, shape.heads, dim, dim, cross=cross),)
        op = Attention(
            shape.heads, shape.heads, dim, dim, dim**-0.5, causal and not cross, cache=cache, cross=cross
        )
        o = self.linear(self.add(op, q, k, v, *bias), f"{name}.o", width, width)
        return self.add(Add(), x, o)

    def table(self, name: str, causal: bool) -> str:
        """A bias by distance: one for each distance up to `reach`; 0 at 0 and for keys that are not seen."""
        reach = self.shape.reach
        values = self.random.standard_normal((self.shape.heads, 2 * reach + 1)).astype(np.float32)
        values[:, reach + int(not causal) * reach :] *= np.float32(not causal)
        values[:, reach] = 0
        self.constants[name] = tensor(values)
        return name

    def feed_forward(self, x: str, name: str) -> str:
        shape = self.shape
        n = self.norm(x, f"{name}.norm", shape.width)
        up = self.linear(n, f"{name}.up", shape.width, shape.inner)
        h = self.add(Activation(Function.GELU), up)
        if shape.reach:
            h = self.add(Mul(), h, self.linear(n, f"{name}.gate", shape.width, shape.inner))
        return self.add(Add(), x, self.linear(h, f"{name}.down", shape.inner, shape.width))


def cross(shape: Cross, seed: int = 0) -> Graph:
    """The model. Its inputs are `ids` and, unless keys and values are given, `source`: rows, or ids for an encoder."""
    m = _Model(seed)
    m.shape = shape
    inputs = [Input(Value("ids", DType.INT64, None), Role.IDS)]
    source = "source"
    if shape.encoder:
        inputs.append(Input(Value("source", DType.INT64, (axis("source"),)), Role.SOURCE))
        source = m.add(Embed(), "source", m.weight("source_embed", shape.vocabulary, shape.width, scale=1.0))
        for layer in range(shape.encoder):
            source = m.attention(source, f"e{layer}.self", causal=False)
            source = m.feed_forward(source, f"e{layer}.ffn")
        source = m.norm(source, "encoded", shape.width)
    elif not shape.given:
        rows = Value("source", DType.FLOAT32, (axis("source"), shape.source_width))
        inputs.append(Input(rows, Role.SOURCE))
    x = m.add(Embed(), "ids", m.weight("embed", shape.vocabulary, shape.width, scale=1.0))
    if not shape.reach:
        inputs.append(Input(Value("positions", DType.INT64, None), Role.POSITIONS))
        learned = m.add(Embed(), "positions", m.weight("learned", shape.positions, shape.width))
        x = m.add(Add(), x, learned)
    for layer in range(shape.layers):
        x = m.attention(x, f"l{layer}.self", causal=True)
        x = m.attention(x, f"l{layer}.cross", causal=False, source=source, cross=True)
        x = m.feed_forward(x, f"l{layer}.ffn")
    n = m.norm(x, "final", shape.width)
    logits = m.add(Linear(), n, m.weight("head.w", shape.width, shape.vocabulary), name="logits")
    return Graph("cross", tuple(inputs), (logits,), tuple(m.nodes), m.constants, m.caches)
