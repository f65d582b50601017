"""The reference meaning of a graph, at every level, in plain NumPy float32.

`evaluate` runs a canonical decoder or encoder on token ids; `run` runs any graph on the inputs that
the ONNX file names and gives the outputs that it names, cache included: so `run` of a graph before and after a
pass must agree. `Interpreter` computes single values on demand; recognition uses it to find out
what a piece of graph does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from compiler.ir import meaning
from compiler.ir.dims import resolve
from compiler.ir.feeding import (
    Sizes,
    as_heads,
    as_rows,
    canonical_feeds,
    default_feed,
    is_of_source,
    join,
    sequences,
    sizes_of,
    with_caches,
    without_caches,
)
from compiler.ir.graph import (
    Activation,
    Add,
    Attention,
    Cache,
    Canonical,
    Embed,
    FakeQuant,
    Graph,
    Input,
    Linear,
    Mul,
    Node,
    Norm,
    Onnx,
    Role,
    Rotary,
)
from compiler.ir.meaning import Ints
from compiler.ir.tensor import Array, DType, Symbolic, Tensor
from compiler.ops.call import Call, KernelError
from compiler.ops.registry import kernel_of

Observer = Callable[[Node, Array], None]


class UnavailableError(LookupError):
    """A value depends on an input that was not given."""


class Lookup(Protocol):
    """A graph to look things up in: an `Index` or a `rewrite.Editor`."""

    def producer(self, value: str) -> Node | None:
        """The node that makes `value`."""

    def constant(self, name: str) -> Tensor | None:
        """The constant `name`."""


@dataclass(frozen=True, slots=True)
class Index:
    """A `Graph` as a `Lookup`."""

    nodes: Mapping[str, Node]
    constants: Mapping[str, Tensor]

    def producer(self, value: str) -> Node | None:
        """The node that makes `value`."""
        return self.nodes.get(value)

    def constant(self, name: str) -> Tensor | None:
        """The constant `name`."""
        return self.constants.get(name)


@dataclass(slots=True)
class KvCache:
    """Keys and values so far: for each of `Graph.caches` [batch, kv_heads, tokens, head_dim]."""

    keys: list[Array] = field(default_factory=list)
    values: list[Array] = field(default_factory=list)
    cross: list[bool] = field(default_factory=list)

    @classmethod
    def empty(cls, graph: Graph, batch: int = 1) -> KvCache:
        """A cache without tokens."""
        return cls(
            [np.zeros((batch, c.kv_heads, 0, c.head_dim), np.float32) for c in graph.caches],
            [np.zeros((batch, c.kv_heads, 0, c.v_head_dim), np.float32) for c in graph.caches],
            [c.cross for c in graph.caches],
        )

    @property
    def length(self) -> int:
        """Tokens in the cache (0 if the model has no attention with a cache). Those of a source do not count."""
        own = (key for key, cross in zip(self.keys, self.cross, strict=True) if not cross)
        return next((key.shape[2] for key in own), 0)

    def append(self, index: int, key: Array, value: Array) -> None:
        """Add the rows of new tokens, [batch, kv_heads, new, head_dim]."""
        self.keys[index] = np.concatenate([self.keys[index], key], axis=2)
        self.values[index] = np.concatenate([self.values[index], value], axis=2)


@dataclass(slots=True)
class Interpreter:
    """Computes values of a graph on demand, each once.

    `feeds` gives inputs (or overrides any value); `sizes` the lengths of the free axes; `wide` computes in
    float64 regardless of casts; `single` reads weights of narrower types as float32.
    """

    graph: Lookup
    feeds: dict[str, Array]
    sizes: Sizes
    positions: Ints | None = None
    cache: KvCache | None = None
    wide: bool = False
    single: bool = False

    def value(self, name: str) -> Array:
        """The value `name`. `UnavailableError` if an input it depends on is missing."""
        stack = [name]
        while stack:
            top = stack[-1]
            if top in self.feeds or self._constant(top):
                stack.pop()
                continue
            node = self.graph.producer(top)
            if node is None:
                raise UnavailableError(top)
            missing = [i for i in node.inputs if i and i not in self.feeds and not self._constant(i)]
            if missing:
                stack += missing
            else:
                self.run_node(node)
        return self.feeds[name]

    def run_node(self, node: Node) -> None:
        """Compute one node; its inputs are there."""
        inputs = tuple(self.feeds[i] if i else None for i in node.inputs)
        if isinstance(node.op, Onnx):
            results = self._onnx(node.op, inputs, len(node.outputs))
        else:
            results = (self._canonical(node.op, inputs),)
        for value, result in zip(node.outputs, results, strict=False):
            self.feeds[value.name] = result

    def _constant(self, name: str) -> bool:
        constant = self.graph.constant(name)
        if constant is None:
            return False
        if isinstance(constant.source, Symbolic):
            items = [resolve(i, self.sizes) for i in constant.source.items]
            self.feeds[name] = np.array(items, np.int64).reshape(constant.shape)
        elif self.wide and not constant.has_data:
            # A probe may meet weights that are only declared.
            raise UnavailableError(name)
        else:
            self.feeds[name] = self._widened(constant.data())
        return True

    def _widened(self, data: Array) -> Array:
        is_float = np.issubdtype(data.dtype, np.floating) or data.dtype.name == "bfloat16"
        if self.wide and is_float:
            return data.astype(np.float64)
        return data.astype(np.float32) if self.single and is_float and data.dtype.itemsize < 4 else data

    def _onnx(self, op: Onnx, inputs: tuple[Array | None, ...], outputs: int) -> tuple[Array, ...]:
        kernel = kernel_of(op)
        if kernel is None:
            raise KernelError(f"{op.domain or 'ai.onnx'}.{op.kind} has no reference meaning here")
        with np.errstate(all="ignore"):
            result = kernel(Call(op, inputs, outputs, self.wide))
        return result if isinstance(result, tuple) else (result,)

    def _canonical(self, op: Canonical, inputs: tuple[Array | None, ...]) -> Array:
        x = _given(inputs, 0)
        match op:
            case Embed(offset):
                return np.take(_given(inputs, 1), x.astype(np.int64) + offset, axis=0)
            case Linear():
                out = x @ _given(inputs, 1)
                return out + _given(inputs, 2) if len(inputs) > 2 else out
            case Norm():
                return meaning.norm(op, x, _given(inputs, 1), _given(inputs, 2) if len(inputs) > 2 else None)
            case Rotary():
                return meaning.rotary(op, x, _given(inputs, 1), self._positions(x))
            case Attention():
                return self._attention(op, x, inputs)
            case Activation(kind):
                return meaning.function(kind, x)
            case Add():
                return x + _given(inputs, 1)
            case Mul():
                return x * _given(inputs, 1)
            case FakeQuant():
                return meaning.fake_quant(op, x)

    def _positions(self, rows: Array) -> Ints:
        if self.positions is not None:
            return self.positions
        past = self.sizes.get("past", 0)
        return np.arange(past, past + rows.shape[-2])

    def _attention(self, op: Attention, q: Array, inputs: tuple[Array | None, ...]) -> Array:
        flat = q.ndim == 2
        if op.cache is not None and self.cache is not None:
            if not op.cross or not self.cache.keys[op.cache].shape[2]:
                self.cache.append(op.cache, *self._new_heads(op, inputs, flat))
            keys, values = self.cache.keys[op.cache], self.cache.values[op.cache]
        else:
            keys, values = self._new_heads(op, inputs, flat)
        bias = inputs[3] if len(inputs) > 3 else None
        out = meaning.attention(op, q[None] if flat else q, keys, values, bias)
        return out[0] if flat else out

    def _new_heads(self, op: Attention, inputs: tuple[Array | None, ...], flat: bool) -> tuple[Array, Array]:
        """Keys and values of the step as [batch, kv_heads, tokens, d]."""
        k, v = (meaning.split_heads(_given(inputs, i), op.kv_heads) for i in (1, 2))
        return (k[None], v[None]) if flat else (k, v)


def _given(inputs: tuple[Array | None, ...], index: int) -> Array:
    value = inputs[index]
    if value is None:
        raise KernelError(f"input {index} is missing")
    return value


def evaluate(
    graph: Graph,
    ids: Ints,
    *,
    positions: Ints | None = None,
    cache: KvCache | None = None,
    observe: Observer | None = None,
    rows: Mapping[str, Array] | None = None,
) -> Array:
    """The first output of a canonical graph, float32 [n, features], for the tokens `ids` [n].

    `positions` are the absolute positions of the tokens, by default those after the tokens in `cache`.
    `cache` is appended to; without one the tokens are the whole sequence. `observe` is called with
    every node and its value, in order. `rows` are the inputs that are rows: of the tokens, or of a source (which may
    be left out once the cache holds the source's keys and values).
    """
    cache = KvCache.empty(graph) if cache is None else cache
    past = cache.length
    at = np.arange(past, past + len(ids)) if positions is None else np.asarray(positions, np.int64)
    found = canonical_feeds(graph, np.asarray(ids, np.int64), at, rows or {})
    missing = next((name for name, feed in found.items() if feed is None), None)
    if missing is not None:
        raise UnavailableError(missing)
    feeds = {name: feed for name, feed in found.items() if feed is not None}
    sizes = {"tokens": len(ids), "batch": 1, "sequence": len(ids), "past": past}
    interpreter = Interpreter(_index(graph), feeds, sizes, at, cache, single=True)
    return _walk(graph, interpreter, observe)[graph.outputs[0]]


def run(
    graph: Graph, feeds: Mapping[str, Array], observe: Observer | None = None, *, wide: bool = False
) -> dict[str, Array]:
    """The outputs of a graph of any level, by the names of the ONNX file, from its inputs likewise.

    Inputs that have a default may be left out: the mask (all ones), positions (counted from the
    past length) and token types (zeros). At the canonical level a batch is several sequences, one after another.
    `wide` computes in float64.
    """
    feeds = with_caches(graph, as_rows(graph, feeds))
    parts = sequences(graph, feeds)
    results = [_run_one(graph, part, observe, wide) for part in parts]
    return without_caches(graph, join(results, graph) if _has_batch(parts, feeds) else results[0])


def _has_batch(parts: list[dict[str, Array]], feeds: Mapping[str, Array]) -> bool:
    return any(parts[0][name].ndim < feed.ndim for name, feed in feeds.items())


def _run_one(
    graph: Graph, feeds: Mapping[str, Array], observe: Observer | None, wide: bool
) -> dict[str, Array]:
    sizes = sizes_of(graph, feeds)
    given = {i.name: _fed(feeds.get(i.name), i, sizes) for i in graph.inputs}
    at = next((given[i.name] for i in graph.inputs if i.role is Role.POSITIONS and not is_of_source(i)), None)
    cache = _past(graph, feeds, sizes)
    positions = at if graph.is_canonical else None
    values = _walk(graph, Interpreter(_index(graph), given, sizes, positions, cache, wide), observe)
    for number in range(len(graph.caches)):
        values[f"cache {number} keys"], values[f"cache {number} values"] = (
            cache.keys[number],
            cache.values[number],
        )
    return as_heads(graph, values)


def _walk(graph: Graph, interpreter: Interpreter, observe: Observer | None) -> dict[str, Array]:
    """Run all nodes, dropping values after their last use; returns the graph's outputs."""
    last = {name: node for node in graph.nodes for name in node.inputs}
    kept = set(graph.outputs)
    for node in graph.nodes:
        for name in node.inputs:
            if name:
                interpreter.value(name)
        interpreter.run_node(node)
        if observe is not None:
            observe(node, interpreter.feeds[node.output.name])
        for name in node.inputs:
            if last[name] is node and name not in kept:
                interpreter.feeds.pop(name, None)
    return {name: interpreter.value(name) for name in graph.outputs}


def _index(graph: Graph) -> Index:
    return Index(graph.producers(), graph.constants)


def _past(graph: Graph, feeds: Mapping[str, Array], sizes: Sizes) -> KvCache:
    cache = KvCache.empty(graph, sizes.get("batch", 1))
    for at in range(len(graph.caches)):
        if f"cache {at} keys" in feeds:
            cache.keys[at], cache.values[at] = feeds[f"cache {at} keys"], feeds[f"cache {at} values"]
    return cache


def _fed(feed: Array | None, given: Input, sizes: Sizes) -> Array:
    if feed is None:
        feed = default_feed(given, sizes)
    if feed is None:
        raise UnavailableError(given.name)
    return feed


__all__ = [
    "Cache",
    "DType",
    "Interpreter",
    "KvCache",
    "UnavailableError",
    "default_feed",
    "evaluate",
    "run",
    "sizes_of",
]
