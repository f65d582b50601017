"""Small graphs of structures that no layer of the usual models has: what reads what, and where sections end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from compiler.ir.graph import (
    Activation,
    Add,
    Attention,
    Embed,
    Function,
    Graph,
    Input,
    Linear,
    Mul,
    Norm,
    NormKind,
    Role,
    Rotary,
    Value,
)
from compiler.ir.tensor import DType, tensor

from .graphs import Sketch

WIDTH, HEADS, KV_HEADS, DIM, VOCABULARY = 64, 4, 2, 16, 32
SELF = Attention(HEADS, KV_HEADS, DIM, DIM, 0.25, causal=True)
WHOLE = Attention(HEADS, HEADS, DIM, DIM, 0.25, causal=False)

Build = Callable[["Net", str], tuple[str, ...]]


class Net(Sketch):
    """A graph on the rows of an embedding."""

    def norm(self, x: str, width: int = WIDTH, groups: int = 1) -> str:
        gain = self.weight(f"gain{len(self.nodes)}", width // groups, offset=1.0)
        return self.add(Norm(NormKind.RMS, 1e-6, groups), x, gain)

    def linear(self, x: str, rows: int = WIDTH, cols: int = WIDTH) -> str:
        name = f"w{len(self.nodes)}"
        return self.add(
            Linear(), x, self.weight(name, rows, cols, scale=rows**-0.5), self.weight(f"{name}b", cols)
        )

    def rotary(self, x: str, heads: int, dim: int = DIM) -> str:
        name = f"freq{dim}"
        self.constants[name] = tensor((100.0 ** (-np.arange(dim / 2) * 2 / dim)).astype(np.float32))
        return self.add(Rotary(heads, dim, dim), x, name)

    def act(self, x: str, kind: Function = Function.SILU) -> str:
        return self.add(Activation(kind), x)

    def mul(self, a: str, b: str) -> str:
        return self.add(Mul(), a, b)

    def plus(self, a: str, b: str) -> str:
        return self.add(Add(), a, b)

    def small(self, x: str) -> str:
        """The first columns of x for keys and values of fewer heads."""
        return self.linear(x, WIDTH, KV_HEADS * DIM)


def _lanes_of_two_values(n: Net, x: str) -> tuple[str, ...]:
    a, b = n.norm(x), n.norm(n.act(x))
    out = n.add(SELF, n.rotary(n.linear(a), HEADS), n.rotary(n.small(b), KV_HEADS), n.small(x))
    return (n.plus(x, n.linear(out)),)


def _bare(n: Net, x: str) -> tuple[str, ...]:
    return (n.add(WHOLE, x, x, x),)


def _bare_turned(n: Net, x: str) -> tuple[str, ...]:
    q = n.rotary(n.norm(n.norm(x), groups=HEADS), HEADS)
    return (n.plus(n.linear(n.add(SELF, q, n.small(x), n.small(x))), x),)


def _bare_keys_of_another_width(n: Net, x: str) -> tuple[str, ...]:
    k = n.norm(n.small(x), KV_HEADS * DIM)
    return (n.plus(x, n.linear(n.add(SELF, n.linear(x), k, k))),)


def _one_layer_for_keys_and_values(n: Net, x: str) -> tuple[str, ...]:
    k = n.small(x)
    return (n.linear(n.add(SELF, n.linear(x), n.rotary(k, KV_HEADS), k)),)


def _gathered_attention(n: Net, x: str) -> tuple[str, ...]:
    return (n.norm(n.plus(x, n.add(SELF, n.linear(x), n.small(x), n.small(x)))),)


def _attention_read_twice(n: Net, x: str) -> tuple[str, ...]:
    out = n.add(SELF, n.linear(x), n.small(x), n.small(x))
    return (n.plus(n.linear(out), n.linear(out)),)


def _gated_attention(n: Net, x: str) -> tuple[str, ...]:
    gate = n.act(n.linear(x), Function.SIGMOID)
    return (n.plus(x, n.linear(n.mul(n.add(SELF, n.linear(x), n.small(x), n.small(x)), gate))),)


def _after_attention(n: Net, x: str) -> tuple[str, ...]:
    out = n.add(SELF, n.linear(x), n.small(x), n.small(x))
    scaled = n.mul(n.norm(out, groups=HEADS), n.weight("row", WIDTH, offset=1.0))
    return (n.plus(x, n.linear(n.act(scaled))),)


def _keys_are_an_output(n: Net, x: str) -> tuple[str, ...]:
    k = n.small(x)
    return n.linear(n.add(SELF, n.linear(x), k, n.small(x))), k


def _attention_of_attention(n: Net, x: str) -> tuple[str, ...]:
    v = n.add(WHOLE, n.linear(x), n.linear(x), n.linear(x))
    return (n.plus(x, n.linear(n.add(WHOLE, n.linear(x), n.linear(x), v))),)


def _keys_from_before(n: Net, x: str) -> tuple[str, ...]:
    y = n.plus(x, n.linear(n.add(WHOLE, n.linear(x), n.linear(x), n.linear(x))))
    return (n.plus(y, n.linear(n.add(WHOLE, n.linear(y), n.linear(x), n.linear(n.norm(x))))),)


def _gate_at_the_end(n: Net, x: str) -> tuple[str, ...]:
    return (n.mul(n.act(n.linear(x, WIDTH, 96)), n.linear(x, WIDTH, 96)),)


def _layer_read_by_norm_and_layer(n: Net, x: str) -> tuple[str, ...]:
    y = n.linear(x)
    return (n.plus(n.norm(y), n.linear(n.act(n.linear(y)))),)


def _inside_read_by_two_layers(n: Net, x: str) -> tuple[str, ...]:
    h = n.act(n.linear(x, WIDTH, 128))
    return (n.plus(n.linear(h, 128), n.linear(h, 128)),)


def _inside_and_output(n: Net, x: str) -> tuple[str, ...]:
    h = n.act(n.linear(x, WIDTH, 96))
    return n.linear(h, 96), h


def _hub_of_two_widths(n: Net, x: str) -> tuple[str, ...]:
    wide = n.norm(n.linear(x, WIDTH, 96), 96)
    return (n.plus(x, n.linear(n.plus(wide, n.linear(wide, 96, 96)), 96)),)


def _heads_on_the_hub(n: Net, x: str) -> tuple[str, ...]:
    return (n.rotary(n.norm(n.linear(x), groups=HEADS), HEADS),)


def _layers_in_a_row(n: Net, x: str) -> tuple[str, ...]:
    return (n.linear(n.linear(n.linear(n.linear(x, WIDTH, 8), 8))),)


def _sum_of_a_scaled_layer(n: Net, x: str) -> tuple[str, ...]:
    n.constants["half"] = tensor(np.array(0.5, np.float32))
    return (n.plus(n.mul(n.linear(x), "half"), n.mul(n.act(n.linear(x)), "half")),)


def _gate_of_two_values(n: Net, x: str) -> tuple[str, ...]:
    return (n.linear(n.mul(n.linear(x), n.act(n.linear(n.norm(x))))),)


def _attention_alone_of_a_window(n: Net, x: str) -> tuple[str, ...]:
    op = Attention(HEADS, HEADS, DIM, DIM, 0.25, causal=True, window=5, softcap=4.0)
    return (n.add(op, n.rotary(x, HEADS), n.rotary(x, HEADS), n.linear(x)),)


def _window_that_sees_later_tokens(n: Net, x: str) -> tuple[str, ...]:
    op = Attention(HEADS, HEADS, DIM, DIM, 0.25, causal=False, window=5)
    return (n.add(op, n.linear(x), n.linear(x), n.linear(x)),)


def _parallel_layers(n: Net, x: str) -> tuple[str, ...]:
    a, b = n.norm(x), n.norm(x)
    seen = n.linear(n.add(WHOLE, n.linear(a), n.linear(a), n.linear(a)))
    return (n.norm(n.plus(n.plus(x, seen), n.linear(n.act(n.linear(b))))),)


def _nothing_but_rows(n: Net, x: str) -> tuple[str, ...]:
    return (n.norm(x),)


STRUCTURES: dict[str, Build] = {
    build.__name__.strip("_"): build
    for build in (
        _lanes_of_two_values,
        _bare,
        _bare_turned,
        _bare_keys_of_another_width,
        _one_layer_for_keys_and_values,
        _gathered_attention,
        _attention_read_twice,
        _gated_attention,
        _after_attention,
        _keys_are_an_output,
        _attention_of_attention,
        _keys_from_before,
        _gate_at_the_end,
        _layer_read_by_norm_and_layer,
        _inside_read_by_two_layers,
        _inside_and_output,
        _hub_of_two_widths,
        _heads_on_the_hub,
        _layers_in_a_row,
        _sum_of_a_scaled_layer,
        _gate_of_two_values,
        _attention_alone_of_a_window,
        _window_that_sees_later_tokens,
        _parallel_layers,
        _nothing_but_rows,
    )
}


def structure(name: str, seed: int = 0) -> Graph:
    """The graph of this name, on token ids."""
    n = Net(seed)
    x = n.add(Embed(), "ids", n.weight("embed", VOCABULARY, WIDTH, scale=1.0))
    outputs = STRUCTURES[name](n, x)
    ids = Input(Value("ids", DType.INT64, None), Role.IDS)
    return Graph(name, (ids,), outputs, tuple(n.nodes), n.constants)
