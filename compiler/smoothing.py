"""Factors that even out channels, and where in a graph they can be folded (see `compiler.passes.smooth_channels`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from hashlib import sha256
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.explain import Heading, Note
from compiler.ir.graph import Activation, Attention, Function, Graph, Linear, Mul, Node, Norm, Rotary
from compiler.ir.rewrite import Editor
from compiler.ir.tensor import Stored, Tensor

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
Floats = NDArray[np.floating[Any]]

OUTLIER = 8.0
"""How many times the median of its group a factor must be for its channel to be an outlier: it costs the others 3 of 8
bits."""

MOST = 20  # factors are within 2**+-20 of each other's mean


class Place(Enum):
    """What channels are of; the value is what a person reads."""

    NORMS = "norms"
    INNER = "feed-forward layers"
    VALUES = "values"
    KEYS = "keys"


@dataclass(frozen=True, slots=True)
class CacheFactors:
    """What rows of a cache were divided by: [KV heads, d] each."""

    keys: F32
    values: F32


def factors(made: F64, read: F64) -> F32:
    """s = sqrt(made / read) along the last axis, over its geometric mean; 1 where a size is 0."""
    fits = (made > 0) & (read > 0)
    logs = (np.log2(np.where(fits, made, 1)) - np.log2(np.where(fits, read, 1))) / 2
    count = np.maximum(fits.sum(axis=-1, keepdims=True), 1)
    mean = np.where(fits, logs, 0).sum(axis=-1, keepdims=True) / count
    exponents = np.clip(np.where(fits, logs - mean, 0), -MOST, MOST)
    return np.asarray(np.exp2(exponents), np.float32)


def spread(sizes: Floats) -> float:
    """The largest over the median of its group: the last axis."""
    middle = np.median(sizes, axis=-1)
    return float(np.max(sizes.max(axis=-1) / np.where(middle > 0, middle, np.inf), initial=0))


class Smoother:
    """Rewrites a graph place by place. `every`: wherever it is possible; else where factors have outliers, and for keys
    and values of fewer than 8 bits (`is_narrow`). With `keeps_gains` norms stay: their gains go into weights anyway."""

    def __init__(self, graph: Graph, *, every: bool, is_narrow: bool, keeps_gains: bool) -> None:
        self.editor = Editor(graph)
        self.editor.changed = False
        self.factors: dict[int, CacheFactors] = {}
        self._every, self._is_narrow, self._keeps_gains = every, is_narrow, keeps_gains
        self._done: Counter[Place] = Counter()
        self._largest = 0.0

    def run(self) -> None:
        """Smooth every place."""
        names = [node.output.name for node in self.editor.nodes()]
        for name in names:
            node = self.editor.producer(name)
            match node.op if node is not None else None:
                case Attention() as op if node is not None:
                    self._attention(node, op)
                case Norm() as norm if node is not None and norm.groups == 1 and not self._keeps_gains:
                    self._norm(node)
                case Linear() if node is not None:
                    self._inner(node)
                case _:
                    pass

    def notes(self) -> list[Note]:
        """What was done, for `--explain`."""
        if not self._done:
            return []
        done = ", ".join(f"{place.value} ({count})" for place, count in self._done.items())
        text = f"Channels are evened out, by factors that are folded into weights: {done}. "
        return [
            Note(
                Heading.CHOICES,
                text + f"The largest was {self._largest:.3g} times the median of its group.",
            )
        ]

    def _wanted(self, place: Place, sizes: tuple[F64, F64], is_narrow: bool = False) -> F32 | None:
        """The factors of a place; None if nothing is to be done there."""
        found = factors(*sizes)
        largest = spread(found)
        if not (self._every or is_narrow) and largest < OUTLIER:
            return None
        if (found == 1).all():
            return None
        self._done[place] += 1
        self._largest = max(self._largest, largest)
        return found

    # ------------------------------------------------------------------------------------------------ places

    def _norm(self, node: Node) -> None:
        """gain / s, shift / s; rows of all that read it times s."""
        readers = self.editor.users(node.output.name)
        is_read = all(self._is_layer(r) and r.inputs[0] == node.output.name for r in readers)
        names = [name for name in node.inputs[1:] if name]
        if (
            not readers
            or not is_read
            or node.output.name in self.editor.outputs
            or not self._are_floats(names)
        ):
            return
        gain = np.abs(self._data(names[0]).reshape(-1))
        if any(len(gain) != self.editor.constants[r.inputs[1]].shape[0] for r in readers):
            return
        read = np.sqrt(sum(self._rows(reader) ** 2 for reader in readers))
        found = self._wanted(Place.NORMS, (gain, read))
        if found is None:
            return
        made = [self._scaled(name, 1 / found) if name else "" for name in node.inputs[1:]]
        self.editor.replace(node, replace(node, inputs=(node.inputs[0], *made)))
        for reader in readers:
            self._scale_rows(reader, found)

    def _inner(self, node: Node) -> None:
        """Columns of one linear layer / s; rows of the next times s; between them a product, or ReLU."""
        between = self.editor.producer(node.inputs[0])
        if not self._is_layer(node) or between is None or not self._is_private(between):
            return
        match between.op:
            case Activation(kind=Function.RELU):
                up, other = self.editor.producer(between.inputs[0]), None
            case Mul():
                makers = [self.editor.producer(name) for name in between.inputs]
                up = next((m for m in makers if m is not None and self._is_own(m)), None)
                other = next((m for m in makers if m is not up), None)
            case _:
                return
        if up is None or not self._is_own(up):
            return
        if other is not None and isinstance(other.op, Activation):
            other = self.editor.producer(other.inputs[0])
        made = self._columns(up)
        if other is not None and self._is_layer(other):
            made = made * self._columns(other)
        found = self._wanted(Place.INNER, (made, self._rows(node)))
        if found is not None:
            self._scale_columns(up, 1 / found)
            self._scale_rows(node, found)

    def _attention(self, node: Node, op: Attention) -> None:
        keys = self._keys(node, op)
        node = self.editor.producer(node.output.name) or node
        values = self._values(node, op)
        if op.cache is not None and (keys is not None or values is not None):
            ones = np.ones((op.kv_heads, 1), np.float32)
            self.factors[op.cache] = CacheFactors(
                np.repeat(ones, op.head_dim, 1) if keys is None else keys,
                np.repeat(ones, op.v_head_dim, 1) if values is None else values,
            )

    def _values(self, node: Node, op: Attention) -> F32 | None:
        """Columns of values / s; rows of the output projection times s, in all heads that share a KV head."""
        makers, users = self.editor.producer(node.inputs[2]), self.editor.users(node.output.name)
        is_apart = self._is_private(node) and node.inputs[2] not in node.inputs[:2]
        if makers is None or not self._is_own(makers) or not is_apart or not self._is_layer(users[0]):
            return None
        group = op.heads // op.kv_heads
        made = self._columns(makers).reshape(op.kv_heads, op.v_head_dim)
        read = self._rows(users[0]).reshape(op.kv_heads, group, op.v_head_dim)
        sizes = made, np.sqrt(np.square(read).mean(axis=1))
        found = self._wanted(Place.VALUES, sizes, self._is_narrow)
        if found is not None:
            self._scale_columns(makers, 1 / found.reshape(-1))
            self._scale_rows(users[0], np.repeat(found[:, None], group, axis=1).reshape(-1))
        return found

    def _keys(self, node: Node, op: Attention) -> F32 | None:
        """Columns of keys / s, of queries times s; channels that are turned together have one factor."""
        found = [self._before(name) for name in node.inputs[:2]]
        if node.inputs[0] == node.inputs[1] or any(layer is None for layer, _ in found):
            return None
        (q, turn), (k, other) = found
        if q is None or k is None or _form(turn) != _form(other):
            return None
        pairs, group = _pairs(turn, op.head_dim), op.heads // op.kv_heads
        made = _paired(self._columns(k).reshape(op.kv_heads, 1, op.head_dim), pairs)
        read = _paired(self._columns(q).reshape(op.kv_heads, group, op.head_dim), pairs)
        wanted = self._wanted(Place.KEYS, (made, read), self._is_narrow)
        if wanted is None:
            return None
        each = wanted[:, pairs]
        self._scale_columns(k, 1 / each.reshape(-1))
        self._scale_columns(q, np.repeat(each[:, None], group, axis=1).reshape(-1))
        return each

    def _before(self, name: str) -> tuple[Node | None, Rotary | None]:
        """The linear layer that makes queries or keys, and what turns them."""
        node, turn = self.editor.producer(name), None
        if node is not None and isinstance(node.op, Rotary) and self._is_private(node):
            turn = node.op
            node = self.editor.producer(node.inputs[0])
        return (node if node is not None and self._is_own(node) else None), turn

    # ---------------------------------------------------------------------------------------------- constants

    def _is_private(self, node: Node) -> bool:
        """Whether one node reads what a node makes, once, and nobody else."""
        return self.editor.only_user(node.output.name) is not None

    def _is_own(self, node: Node) -> bool:
        """Whether a node is a linear layer that can be changed for its one reader's sake."""
        return self._is_layer(node) and self._is_private(node)

    def _is_layer(self, node: Node) -> bool:
        return isinstance(node.op, Linear) and self._are_floats([name for name in node.inputs[1:] if name])

    def _are_floats(self, names: list[str]) -> bool:
        """Whether these are constants with float values that are no integers of a quantised file."""
        known = [self.editor.constant(name) for name in names]
        return all(c is not None and c.has_data and c.dtype.is_float and not c.is_quantised for c in known)

    def _data(self, name: str) -> F64:
        return np.asarray(self.editor.constants[name].data(), np.float64)

    def _columns(self, layer: Node) -> F64:
        """How large the columns of a layer are where its inputs are independent, of size 1 times the gain of a norm."""
        norm = self.editor.producer(layer.inputs[0])
        weight = self._data(layer.inputs[1])
        if norm is not None and isinstance(norm.op, Norm) and norm.op.groups == 1:
            weight = weight * self._data(norm.inputs[1]).reshape(-1, 1)
        bias = self._data(layer.inputs[2]).reshape(-1) if layer.inputs[2:] and layer.inputs[2] else 0.0
        return np.asarray(np.sqrt(np.square(weight).sum(axis=0) + np.square(bias)))

    def _rows(self, layer: Node) -> F64:
        """How much each row of a layer's weight can do."""
        return np.asarray(np.sqrt(np.square(self._data(layer.inputs[1])).sum(axis=1)))

    def _scale_columns(self, layer: Node, by: Floats) -> None:
        made = [self._scaled(name, by) if name else "" for name in layer.inputs[1:]]
        self.editor.replace(layer, replace(layer, inputs=(layer.inputs[0], *made)))

    def _scale_rows(self, layer: Node, by: Floats) -> None:
        made = self._scaled(layer.inputs[1], by[:, None])
        self.editor.replace(layer, replace(layer, inputs=(layer.inputs[0], made, *layer.inputs[2:])))

    def _scaled(self, name: str, by: Floats) -> str:
        """A constant with its last axis (or its rows, if `by` is a column) multiplied."""
        base = self.editor.constants[name]
        key = f"{name}*sha256:{sha256(by.tobytes()).hexdigest()[:16]}x{prod(by.shape)}"
        return self.editor.add_constant(
            f"{name}.smooth", Tensor(base.dtype, base.shape, Stored(key, _maker(base, by)))
        )


def _maker(base: Tensor, by: Floats) -> Callable[[], Floats]:
    def make() -> Floats:
        data = base.data()
        return np.asarray(data * by.astype(data.dtype), data.dtype)

    return make


def _form(turn: Rotary | None) -> tuple[int, bool] | None:
    return None if turn is None else (turn.rotary_dim, turn.interleaved)


def _pairs(turn: Rotary | None, dim: int) -> NDArray[np.int64]:
    """For each channel of a head the number of its group: pairs that are turned together, others by themselves."""
    if turn is None:
        return np.arange(dim)
    at, half = np.arange(dim), turn.rotary_dim // 2
    turned = at // 2 if turn.interleaved else at % max(half, 1)
    return np.where(at < turn.rotary_dim, turned, at - half)


def _paired(sizes: F64, pairs: NDArray[np.int64]) -> F64:
    """Sizes [KV heads, some, channels] as root mean squares [KV heads, groups of channels]."""
    squares, groups = np.square(sizes).mean(axis=1), int(pairs.max()) + 1
    means = [squares[:, pairs == group].mean(axis=1) for group in range(groups)]
    return np.asarray(np.sqrt(np.stack(means, axis=1)))
