"""Attention, however it is masked, biased, shared and laid out, computes what ONNX Runtime computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from compiler.ir.graph import Attention
from compiler.ir.graph_text import parse_graph, print_graph
from tests.frontend.sketch import WIDTH, Sketch, causal, heads_of, joined, projections
from tests.frontend.test_recognition import HEADS, Write, checked, of


def _where(s: Sketch, x: str, scores: str) -> str:
    return s.op("Where", causal(s, x), scores, -10000.0)


def _added(s: Sketch, x: str, scores: str) -> str:
    return s.op("Add", scores, s.op("Where", causal(s, x), 0.0, -np.inf))


def _lower_triangle(s: Sketch, x: str, scores: str) -> str:
    buffer = s.const(np.tril(np.ones((1, 1, 32, 32), bool)))
    n = s.op("Unsqueeze", s.length(x), np.array([0]))
    cut = buffer
    for axis in (2, 3):
        cut = s.op("Slice", cut, np.array([0]), n, np.array([axis]), np.array([1]))
    return s.op("Where", cut, scores, float(np.finfo(np.float32).min))


def _windowed(s: Sketch, x: str, scores: str) -> str:
    return s.op("Where", causal(s, x, window=3), scores, -np.inf)


def _capped(s: Sketch, x: str, scores: str) -> str:
    return _added(s, x, s.op("Mul", s.op("Tanh", s.op("Div", scores, 5.0)), 5.0))


MASKS: dict[str, tuple[Attention, Callable[[Sketch, str, str], str]]] = {
    "none": (Attention(2, 2, 8, 8, 0.25, False), lambda s, x, scores: scores),
    "where": (Attention(2, 2, 8, 8, 0.25, True, cache=0), _where),
    "added": (Attention(2, 2, 8, 8, 0.25, True, cache=0), _added),
    "lower triangle": (Attention(2, 2, 8, 8, 0.25, True, cache=0), _lower_triangle),
    "window": (Attention(2, 2, 8, 8, 0.25, True, window=3, cache=0), _windowed),
    "soft cap": (Attention(2, 2, 8, 8, 0.25, True, softcap=5.0, cache=0), _capped),
}


@pytest.mark.parametrize("form", list(MASKS))
def test_masks(form: str, tmp_path: Path) -> None:
    wanted, write = MASKS[form]
    s = Sketch()
    x = s.ids()
    q, k, v = projections(s, x, HEADS)
    scores = s.op("Div", s.op("MatMul", q, s.op("Transpose", k, perm=[0, 1, 3, 2])), 4.0)
    shares = s.op("Softmax", write(s, x, scores), axis=-1)
    graph = checked(s, joined(s, s.op("MatMul", shares, v)), tmp_path)
    assert of(graph, Attention) == [wanted]


def _slopes(s: Sketch, x: str) -> str:
    """A number that grows with the key, one slope a head: with a softmax, as good as one by distance."""
    n = s.op("Cast", s.op("Range", np.int64(0), s.length(x), np.int64(1)), to=TensorProto.FLOAT)
    return s.op("Mul", n, np.array([0.5, 0.25])[None, :, None, None])


def _buckets(s: Sketch, x: str) -> str:
    """A number from a table by distance, up to four."""
    n = s.op("Range", np.int64(0), s.length(x), np.int64(1))
    distance = s.op("Sub", n, s.op("Unsqueeze", n, np.array([1])))
    near = s.op("Min", s.op("Max", distance, np.int64(-4)), np.int64(4))
    table = np.linspace(-1, 1, 18).reshape(9, 2) ** 3
    return s.op("Transpose", s.op("Gather", table, s.op("Add", near, np.int64(4)), axis=0), perm=[2, 0, 1])


def _future_is_better(s: Sketch, x: str) -> str:
    return s.op("Where", causal(s, x), -20.0, 0.0)


BIASES: dict[str, tuple[Write, bool, tuple[int, ...]]] = {
    "slopes": (_slopes, True, (2,)),
    "slopes, both ways": (_slopes, False, (2,)),
    "table": (_buckets, True, (2, 9)),
    "table, both ways": (_buckets, False, (2, 9)),
    "future first": (_future_is_better, False, (2, 3)),
}


@pytest.mark.parametrize("form", list(BIASES))
def test_biases_by_distance(form: str, tmp_path: Path) -> None:
    write, is_causal, shape = BIASES[form]
    s = Sketch()
    x = s.ids()
    q, k, v = projections(s, x, HEADS)
    scores = s.op("Add", s.op("MatMul", q, s.op("Transpose", k, perm=[0, 1, 3, 2])), write(s, x))
    if is_causal:
        scores = _added(s, x, scores)
    graph = checked(s, joined(s, s.op("MatMul", s.op("Softmax", scores, axis=-1), v)), tmp_path)
    (node,) = [n for n in graph.nodes if isinstance(n.op, Attention)]
    assert isinstance(node.op, Attention)
    assert node.op.causal is is_causal
    assert graph.constants[node.inputs[3]].shape == shape


def _source(s: Sketch, form: str) -> tuple[str, str]:
    """Keys and values of an encoder as heads: made here, or from the first step."""
    if form == "kept":
        names = [f"past_key_values.0.encoder.{n}" for n in ("key", "value")]
        k, v = (s.input(n, TensorProto.FLOAT, "batch", HEADS, "encoder_length", 8) for n in names)
        return k, v
    rows = s.input("encoder_hidden_states", TensorProto.FLOAT, "batch", "encoder_length", 12)
    k, v = (heads_of(s, s.op("MatMul", rows, s.weight(12, WIDTH)), HEADS) for _ in range(2))
    return k, v


@pytest.mark.parametrize("form", ["made", "kept"])
def test_attention_to_a_source(form: str, tmp_path: Path) -> None:
    s = Sketch()
    q = heads_of(s, s.op("MatMul", s.ids(), s.weight(WIDTH, WIDTH)), HEADS)
    k, v = _source(s, form)
    scores = s.op("Mul", s.op("MatMul", q, s.op("Transpose", k, perm=[0, 1, 3, 2])), 0.25)
    graph = checked(s, joined(s, s.op("MatMul", s.op("Softmax", scores, axis=-1), v)), tmp_path)
    (node,) = [n for n in graph.nodes if isinstance(n.op, Attention)]
    assert node.op == Attention(2, 2, 8, 8, 0.25, False, cache=0, cross=True)
    assert (node.inputs[1:3] == ("", "")) is (form == "kept")
    assert [c.cross for c in graph.caches] == [True]
    assert parse_graph(print_graph(graph)) == graph


@pytest.mark.parametrize("repeat", ["expand", "tile", "gather", "native"])
def test_repeated_heads(repeat: str, tmp_path: Path) -> None:
    s = Sketch()
    x = s.ids()
    q = heads_of(s, s.op("MatMul", x, s.weight(WIDTH, 32)), 4)
    k, v = (heads_of(s, s.op("MatMul", x, s.weight(WIDTH, 16)), 2) for _ in range(2))

    def repeated(h: str) -> str:
        if repeat == "gather":
            return s.op("Gather", h, np.array([0, 0, 1, 1]), axis=1)
        wide = s.op("Unsqueeze", h, np.array([2]))
        if repeat == "tile":
            wide = s.op("Tile", wide, np.array([1, 1, 2, 1, 1]))
        else:
            wide = s.op("Expand", wide, np.array([1, 1, 2, 1, 1]))
        return s.op(
            "Reshape",
            wide,
            s.op(
                "Concat",
                np.array([-1, 4]),
                s.op("Unsqueeze", s.length(x), np.array([0])),
                np.array([8]),
                axis=0,
            ),
        )

    if repeat == "native":
        s.opset = 23
        context = s.op("Attention", q, k, v, is_causal=1)
    else:
        scores = s.op("MatMul", s.op("Mul", q, 0.5), s.op("Transpose", repeated(k), perm=[0, 1, 3, 2]))
        context = s.op("MatMul", s.op("Softmax", _added(s, x, scores), axis=-1), repeated(v))
    graph = checked(s, joined(s, context), tmp_path)
    (op,) = of(graph, Attention)
    assert isinstance(op, Attention)
    assert (op.heads, op.kv_heads, op.head_dim) == (4, 2, 8)
