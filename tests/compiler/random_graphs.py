"""Random canonical graphs: anything that the operators allow, on rows of tokens and of a source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from compiler.ir.dims import axis
from compiler.ir.graph import Add, Attention, Embed, Graph, Input, Mul, Role, Value
from compiler.ir.tensor import DType, tensor

from .structures import DIM, VOCABULARY, Net

T = TypeVar("T")
HEAD = DIM // 2
WIDTHS = (24, 32, 64)
SOURCE_WIDTH = 32


@dataclass(frozen=True)
class Made:
    """A value: its name, columns, and whether its rows are the source's."""

    name: str
    width: int
    of_source: bool = False


class RandomNet:
    """Adds one random operator after another."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.net = Net(seed)
        width = self.pick(WIDTHS)
        table = self.net.weight("embed", VOCABULARY, width, scale=1.0)
        self.values = [Made(self.net.add(Embed(), "ids", table), width)]
        self.has_source = self.chance(0.4)
        if self.has_source:
            self.values.append(Made("source", SOURCE_WIDTH, of_source=True))

    def pick(self, items: Sequence[T]) -> T:
        """One of several."""
        return items[int(self.random.integers(len(items)))]

    def chance(self, share: float) -> bool:
        """True in that share of all cases."""
        return bool(self.random.random() < share)

    def grow(self) -> None:
        """Add an operator on one of the last values."""
        x = self.pick(self.values[-4:])
        steps = (self.linear, self.linear, self.linear, self.rows, self.heads, self.join, self.attention)
        made = self.pick(steps)(x)
        if made is not None:
            self.values.append(made)

    def linear(self, x: Made) -> Made:
        """A linear layer."""
        return self.project(x, self.pick((*WIDTHS, x.width)))

    def project(self, x: Made, width: int) -> Made:
        """A linear layer of so many columns."""
        return Made(self.net.linear(x.name, x.width, width), width, x.of_source)

    def rows(self, x: Made) -> Made:
        """A norm of whole rows, or an activation."""
        name = self.net.norm(x.name, x.width) if self.chance(0.5) else self.net.act(x.name)
        return Made(name, x.width, x.of_source)

    def heads(self, x: Made) -> Made:
        """A norm of heads, or a rotary embedding (the reference has no positions of the source)."""
        heads = x.width // HEAD
        if x.of_source or self.chance(0.5):
            return Made(self.net.norm(x.name, x.width, heads), x.width, x.of_source)
        return Made(self.net.rotary(x.name, heads, HEAD), x.width)

    def join(self, x: Made) -> Made | None:
        """A sum or product with another value."""
        others = [y for y in self.values if (y.width, y.of_source) == (x.width, x.of_source) and y != x]
        if not others:
            return None
        op = Add() if self.chance(0.6) else Mul()
        return Made(self.net.add(op, x.name, self.pick(others).name), x.width, x.of_source)

    def attention(self, x: Made) -> Made:
        """Attention of any kind; keys and values are any rows of a fitting width, or made for it."""
        cross = self.has_source and not x.of_source and self.chance(0.5)
        rows = [y for y in self.values if y.of_source is (cross or x.of_source)]
        heads = x.width // HEAD
        fitting = [y for y in rows if heads % (y.width // HEAD) == 0]
        key = self.pick(fitting) if fitting and self.chance(0.5) else self.project(self.pick(rows), x.width)
        same = [y for y in fitting if y.width == key.width] + [key]
        value = self.pick(same) if self.chance(0.6) else self.project(self.pick(rows), key.width)
        query = x if self.chance(0.4) else self.project(x, x.width)
        window = int(self.random.integers(2, 20)) if not cross and self.chance(0.2) else None
        causal, kv_heads = not cross and self.chance(0.6), key.width // HEAD
        op = Attention(heads, kv_heads, HEAD, HEAD, 0.35, causal, window=window, cross=cross)
        bias = (self.bias(heads),) if not cross and self.chance(0.3) else ()
        return Made(self.net.add(op, query.name, key.name, value.name, *bias), x.width, x.of_source)

    def bias(self, heads: int) -> str:
        """A bias by distance, from a table or by slopes."""
        name = f"bias{len(self.net.nodes)}"
        shape = (heads, 13) if self.chance(0.5) else (heads,)
        self.net.constants[name] = tensor((self.random.standard_normal(shape) * 0.2).astype(np.float32))
        return name


def random_graph(seed: int, operators: int) -> Graph:
    """A graph of about so many operators. Its inputs are `ids` and perhaps `source`, float32 rows.

    Its first output has rows of the tokens, of others there may be rows of the source.
    """
    made = RandomNet(seed)
    for _ in range(operators):
        made.grow()
    if len(made.values) == 1 or made.values[-1].of_source:
        made.values.append(made.project(made.values[0], 32))
    tokens = [value.name for value in made.values[1:] if not value.of_source]
    outputs = dict.fromkeys((tokens[-1], made.pick(tokens) if made.chance(0.3) else tokens[-1]))
    encoded = [value.name for value in made.values[2:] if value.of_source]
    if encoded and made.chance(0.6):
        outputs |= dict.fromkeys((encoded[-1], made.pick(encoded)))
    inputs = [Input(Value("ids", DType.INT64, None), Role.IDS)]
    if made.has_source:
        rows = Value("source", DType.FLOAT32, (axis("source"), SOURCE_WIDTH))
        inputs.append(Input(rows, Role.SOURCE))
    return Graph("random", tuple(inputs), tuple(outputs), tuple(made.net.nodes), made.net.constants)
