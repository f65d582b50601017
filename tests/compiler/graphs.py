"""Canonical graphs built by hand, for tests of the mapper and the backend."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from compiler.ir.graph import (
    Activation,
    Add,
    Attention,
    Cache,
    Canonical,
    Embed,
    Function,
    Graph,
    Input,
    Linear,
    Mul,
    Node,
    Norm,
    NormKind,
    Role,
    Rotary,
    Value,
)
from compiler.ir.tensor import DType, Tensor, tensor


@dataclass
class Sketch:
    """A canonical graph in the making."""

    seed: int = 0
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def weight(self, name: str, *shape: int, scale: float = 0.1, offset: float = 0.0) -> str:
        values = (self.random.standard_normal(shape) * scale + offset).astype(np.float32)
        self.constants[name] = tensor(values)
        return name

    def add(self, op: Canonical, *inputs: str, name: str = "") -> str:
        name = name or f"v{len(self.nodes)}"
        self.nodes.append(
            Node(op, inputs, (Value(name, DType.FLOAT32, None),), (f"/{type(op).__name__}_{name}",))
        )
        return name


@dataclass(frozen=True)
class Shape:
    """Sizes of a small decoder."""

    width: int = 64
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    inner: int = 128
    vocabulary: int = 96
    bias: bool = False
    causal: bool = True
    head_norm: bool = False
    window: int | None = None
    softcap: float | None = None


def decoder(shape: Shape = Shape(), seed: int = 0) -> Graph:
    """A Llama-style decoder with random weights (with biases and LayerNorm if `shape.bias`)."""
    s = Sketch(seed)
    dim = shape.width // shape.heads
    x = s.add(Embed(), "ids", s.weight("embed", shape.vocabulary, shape.width, scale=1.0))
    s.constants["freq"] = tensor((10000.0 ** (-np.arange(0, dim, 2) / dim)).astype(np.float32))
    for layer in range(shape.layers):
        x = _attention(s, x, shape, layer, dim)
        x = _feed_forward(s, x, shape, layer)
    n = _norm(s, x, shape, "final")
    logits = s.add(Linear(), n, s.weight("head.w", shape.width, shape.vocabulary), name="logits")
    caches = tuple(Cache(i, shape.kv_heads, dim, dim) for i in range(shape.layers))
    ids = Input(Value("ids", DType.INT64, None), Role.IDS)
    return Graph("sketch", (ids,), (logits,), tuple(s.nodes), s.constants, caches)


def _norm(s: Sketch, x: str, shape: Shape, name: str) -> str:
    gain = s.weight(f"{name}.gain", shape.width, offset=1.0)
    if shape.bias:
        return s.add(Norm(NormKind.LAYER, 1e-5), x, gain, s.weight(f"{name}.shift", shape.width))
    return s.add(Norm(NormKind.RMS, 1e-6), x, gain)


def _linear(s: Sketch, x: str, name: str, rows: int, cols: int, bias: bool) -> str:
    inputs = [x, s.weight(f"{name}.w", rows, cols, scale=rows**-0.5)]
    if bias:
        inputs.append(s.weight(f"{name}.b", cols))
    return s.add(Linear(), *inputs)


def _attention(s: Sketch, x: str, shape: Shape, layer: int, dim: int) -> str:
    n = _norm(s, x, shape, f"l{layer}.norm1")
    q = _linear(s, n, f"l{layer}.q", shape.width, shape.heads * dim, shape.bias)
    k = _linear(s, n, f"l{layer}.k", shape.width, shape.kv_heads * dim, shape.bias)
    v = _linear(s, n, f"l{layer}.v", shape.width, shape.kv_heads * dim, shape.bias)
    if shape.head_norm:
        q, k = (_head_norm(s, x, f"l{layer}.{x}", h, dim) for x, h in ((q, shape.heads), (k, shape.kv_heads)))
    q = s.add(Rotary(shape.heads, dim, dim), q, "freq")
    k = s.add(Rotary(shape.kv_heads, dim, dim), k, "freq")
    op = Attention(
        shape.heads,
        shape.kv_heads,
        dim,
        dim,
        dim**-0.5,
        shape.causal,
        shape.window,
        shape.softcap,
        layer if shape.causal else None,
    )
    o = _linear(s, s.add(op, q, k, v), f"l{layer}.o", shape.heads * dim, shape.width, shape.bias)
    return s.add(Add(), x, o)


def _head_norm(s: Sketch, x: str, name: str, heads: int, dim: int) -> str:
    gain, shift = s.weight(f"{name}.gain", dim, offset=1.0), s.weight(f"{name}.shift", dim)
    return s.add(Norm(NormKind.LAYER, 1e-5, heads), x, gain, shift)


def _feed_forward(s: Sketch, x: str, shape: Shape, layer: int) -> str:
    n = _norm(s, x, shape, f"l{layer}.norm2")
    up = _linear(s, n, f"l{layer}.up", shape.width, shape.inner, shape.bias)
    if shape.bias:
        h = s.add(Activation(Function.GELU_TANH), up)
    else:
        gate = s.add(
            Activation(Function.SILU), _linear(s, n, f"l{layer}.gate", shape.width, shape.inner, False)
        )
        h = s.add(Mul(), gate, up)
    return s.add(Add(), x, _linear(s, h, f"l{layer}.down", shape.inner, shape.width, shape.bias))
