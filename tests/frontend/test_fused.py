"""Fused operators are spelled out, recognised, and compute what ONNX Runtime computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from compiler.ir.evaluate import run
from compiler.ir.graph import Activation, Add, Attention, Function, Graph, Norm, Rotary
from tests.frontend.oracle import compiled, difference, expected, feeds_for, raw
from tests.frontend.sketch import WIDTH, Sketch

MS = "com.microsoft"
HEADS, DEPTH = 2, 16
WIDE = HEADS * DEPTH


def _checked(s: Sketch, output: str, path: Path, past: int = 3, lengths: tuple[int, ...] = (5, 1)) -> Graph:
    s.save(path / "model.onnx", output)
    graph = compiled(path / "model.onnx")
    for sequence in lengths:
        feeds = feeds_for(raw(path / "model.onnx"), sequence, past=past, vocab=32)
        assert difference(run(graph, feeds), expected(path / "model.onnx", feeds)) < 2e-5
    return graph


def _one(graph: Graph, kind: type) -> object:
    (found,) = [node.op for node in graph.nodes if isinstance(node.op, kind)]
    return found


def _mask(s: Sketch) -> str:
    return s.input("attention_mask", TensorProto.INT64, "batch", "total")


# com.microsoft.Attention.


def _fused(s: Sketch, mask: str = "", past: str = "", bias: str = "", **attributes: object) -> str:
    x = s.ids()
    weight, added = s.weight(WIDTH, 3 * WIDE), s.weight(3 * WIDE)
    return s.op("Attention", x, weight, added, mask, past, bias, domain=MS, num_heads=HEADS, **attributes)


def _behind(s: Sketch) -> str:
    x = s.ids()
    past = s.input("past_0", TensorProto.FLOAT, 2, "batch", 2, "past", 16)
    names = [x, s.weight(WIDTH, 3 * WIDE), s.weight(3 * WIDE), "", past]
    out, present = s.many(2, "Attention", *names, domain=MS, num_heads=HEADS, unidirectional=1)
    s.outputs.append(present)
    return out


def _lengths(s: Sketch) -> str:
    total = s.op("ReduceSum", _mask(s), np.array([1]), keepdims=0)
    return s.op("Cast", total, to=TensorProto.INT32)


def _as_int32(s: Sketch, *axes: int) -> str:
    mask = s.op("Cast", _mask(s), to=TensorProto.INT32)
    return s.op("Unsqueeze", mask, np.array(axes)) if axes else mask


def _square(s: Sketch) -> str:
    mask = _as_int32(s, 1)
    return s.op(
        "Expand",
        mask,
        s.op("Concat", np.array([1]), s.op("Shape", "input_ids", start=1), np.array([1]), axis=0),
    )


FUSED: dict[str, tuple[Attention, Callable[[Sketch], str]]] = {
    "plain": (Attention(2, 2, 16, 16, 0.25, False), lambda s: _fused(s)),
    "scaled": (Attention(2, 2, 16, 16, 0.5, False), lambda s: _fused(s, scale=0.5)),
    "causal": (Attention(2, 2, 16, 16, 0.25, True, cache=0), lambda s: _fused(s, unidirectional=1)),
    "mask of lengths": (Attention(2, 2, 16, 16, 0.25, False), lambda s: _fused(s, _lengths(s))),
    "mask of keys": (Attention(2, 2, 16, 16, 0.25, False), lambda s: _fused(s, _as_int32(s))),
    "mask of queries and keys": (Attention(2, 2, 16, 16, 0.25, False), lambda s: _fused(s, _square(s))),
    "past": (Attention(2, 2, 16, 16, 0.25, True, cache=0), lambda s: _behind(s)),
}


@pytest.mark.parametrize("form", list(FUSED))
def test_attention_with_its_projections(form: str, tmp_path: Path) -> None:
    wanted, write = FUSED[form]
    s = Sketch()
    graph = _checked(s, write(s), tmp_path)
    found = _one(graph, Attention)
    assert isinstance(found, Attention)
    assert found.scale == pytest.approx(wanted.scale)
    assert (found.causal, found.cache, found.heads) == (wanted.causal, wanted.cache, wanted.heads)
    assert all(c.past_key == c.past_value for c in graph.caches)


def test_attention_with_heads_of_other_widths(tmp_path: Path) -> None:
    s = Sketch()
    x = s.ids()
    weight, bias = s.weight(WIDTH, 32 + 32 + 16), s.weight(80)
    out = s.op("Attention", x, weight, bias, domain=MS, num_heads=2, qkv_hidden_sizes=[32, 32, 16])
    found = _one(_checked(s, out, tmp_path), Attention)
    assert isinstance(found, Attention)
    assert (found.head_dim, found.v_head_dim) == (16, 8)


# MultiHeadAttention.


def _three(s: Sketch) -> tuple[str, str, str]:
    x = s.ids()
    q, k, v = (s.op("MatMul", x, s.weight(WIDTH, WIDE)) for _ in range(3))
    return q, k, v


def _apart(s: Sketch, bias: bool, causal: int = 0) -> str:
    q, k, v = _three(s)
    added = s.weight(3 * WIDE) if bias else ""
    return s.op("MultiHeadAttention", q, k, v, added, domain=MS, num_heads=HEADS, unidirectional=causal)


def _padded(s: Sketch) -> str:
    q, k, v = _three(s)
    return s.op("MultiHeadAttention", q, k, v, "", _as_int32(s), domain=MS, num_heads=HEADS)


def _biased(s: Sketch) -> str:
    """Scores that get -0.5 for every token of distance."""
    q, k, v = _three(s)
    n = s.op("Cast", s.op("Range", np.int64(0), s.length(q), np.int64(1)), to=TensorProto.FLOAT)
    distance = s.op("Abs", s.op("Sub", n, s.op("Unsqueeze", n, np.array([1]))))
    bias = s.op("Unsqueeze", s.op("Mul", s.op("Min", distance, 7.0), -0.5), np.array([0, 1]))
    both = s.op("Tile", bias, np.array([1, HEADS, 1, 1]))
    return s.op("MultiHeadAttention", q, k, v, "", "", both, domain=MS, num_heads=HEADS)


def _behind_a_cache(s: Sketch) -> str:
    q, k, v = _three(s)
    old = [
        s.input(f"past_key_values.0.{n}", TensorProto.FLOAT, "batch", HEADS, "past", DEPTH)
        for n in ("key", "value")
    ]
    out, *presents = s.many(
        3, "MultiHeadAttention", q, k, v, "", "", "", *old, domain=MS, num_heads=HEADS, unidirectional=1
    )
    s.outputs += presents
    return out


MULTI: dict[str, Callable[[Sketch], str]] = {
    "apart": lambda s: _apart(s, bias=False),
    "biases": lambda s: _apart(s, bias=True),
    "causal": lambda s: _apart(s, bias=True, causal=1),
    "padding": _padded,
    "bias by distance": _biased,
    "past": _behind_a_cache,
}


@pytest.mark.parametrize("form", list(MULTI))
def test_multi_head_attention(form: str, tmp_path: Path) -> None:
    s = Sketch()
    graph = _checked(s, MULTI[form](s), tmp_path)
    (node,) = [n for n in graph.nodes if isinstance(n.op, Attention)]
    assert isinstance(node.op, Attention)
    assert node.op.causal is (form in ("causal", "past"))
    if form == "bias by distance":
        bias = graph.constants[node.inputs[3]].data()
        np.testing.assert_allclose(bias[0], -0.5 * np.abs(np.arange(-7, 8)), atol=1e-6)


# GroupQueryAttention.


def _grouped(s: Sketch, packed: bool, rotary: bool, **attributes: object) -> str:
    x = s.ids()
    mask = _mask(s)
    total = s.op("Gather", s.op("Shape", mask), np.int64(1), axis=0)
    counts = s.op("Sub", s.op("ReduceSum", mask, np.array([1]), keepdims=0), np.int64(1))
    last, count = (s.op("Cast", i, to=TensorProto.INT32) for i in (counts, total))
    heads = (4, 2, 2)
    if packed:
        rows = [s.op("MatMul", x, s.weight(WIDTH, sum(heads) * DEPTH)), "", ""]
    else:
        rows = [s.op("MatMul", x, s.weight(WIDTH, n * DEPTH)) for n in heads]
    old = [
        s.input(f"past_key_values.0.{n}", TensorProto.FLOAT, "batch", 2, "past", DEPTH)
        for n in ("key", "value")
    ]
    angles = np.arange(64)[:, None] * (10.0 ** -np.arange(0, 2, 0.25))
    tables = [s.const(np.cos(angles)), s.const(np.sin(angles))] if rotary else []
    out, *presents = s.many(
        3,
        "GroupQueryAttention",
        *rows, *old, last, count, *tables,
        domain=MS, num_heads=4, kv_num_heads=2, do_rotary=int(rotary), **attributes,
    )  # fmt: skip
    s.outputs += presents
    return out


GROUPED: dict[str, dict[str, object]] = {
    "packed": {"packed": True, "rotary": True},
    "apart": {"packed": False, "rotary": True},
    "without rotation": {"packed": True, "rotary": False},
    "interleaved": {"packed": True, "rotary": True, "rotary_interleaved": 1},
    "window": {"packed": True, "rotary": True, "local_window_size": 3},
    "soft cap": {"packed": True, "rotary": False, "softcap": 2.0},
    "scale": {"packed": True, "rotary": False, "scale": 0.4},
}


@pytest.mark.parametrize("form", list(GROUPED))
def test_group_query_attention(form: str, tmp_path: Path) -> None:
    s = Sketch(opset=21)
    # A step of several tokens behind a cache is no form that ONNX Runtime has.
    out = _grouped(s, **GROUPED[form])  # type: ignore[arg-type]
    graph = _checked(s, out, tmp_path, lengths=(1,))
    feeds = feeds_for(raw(tmp_path / "model.onnx"), 5, past=0, vocab=32)
    assert difference(run(graph, feeds), expected(tmp_path / "model.onnx", feeds)) < 2e-5
    op = _one(graph, Attention)
    assert isinstance(op, Attention)
    assert (op.heads, op.kv_heads, op.causal, op.cache) == (4, 2, True, 0)
    turned = [n.op for n in graph.nodes if isinstance(n.op, Rotary)]
    assert len(turned) == (2 if GROUPED[form]["rotary"] else 0)
    assert all(t.interleaved is (form == "interleaved") for t in turned)


def test_windows_of_grouped_attention_are_counted_as_onnx_runtime_does(tmp_path: Path) -> None:
    s = Sketch(opset=21)
    graph = _checked(s, _grouped(s, True, True, local_window_size=3), tmp_path, past=9, lengths=(1,))
    op = _one(graph, Attention)
    assert isinstance(op, Attention)
    assert op.window is not None


# Norms, tables, activations.


def _skip(s: Sketch, kind: str, *more: str) -> str:
    x = s.ids()
    y = s.op("MatMul", x, s.weight(WIDTH, WIDTH))
    out, _, _, total = s.many(4, kind, x, y, s.weight(WIDTH), *more, domain=MS, epsilon=1e-6)
    return s.op("Add", s.op("MatMul", out, s.weight(WIDTH, WIDTH)), total)


@pytest.mark.parametrize("extra", ["", "bias"])
@pytest.mark.parametrize("kind", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
def test_norms_with_their_sums(kind: str, extra: str, tmp_path: Path) -> None:
    s = Sketch()
    betas = [s.weight(WIDTH)] if kind == "SkipLayerNormalization" else []
    graph = _checked(s, _skip(s, kind, *betas, *([s.weight(WIDTH)] if extra else [])), tmp_path)
    assert isinstance(_one(graph, Norm), Norm)
    assert sum(isinstance(n.op, Add) for n in graph.nodes) == (3 if extra else 2)


def test_tables_with_their_norm(tmp_path: Path) -> None:
    s = Sketch()
    ids = s.input("input_ids", TensorProto.INT32, "batch", "sequence")
    types = s.input("token_type_ids", TensorProto.INT32, "batch", "sequence")
    tables = [s.weight(32, WIDTH), s.weight(40, WIDTH), s.weight(2, WIDTH), s.weight(WIDTH), s.weight(WIDTH)]
    out, _ = s.many(2, "EmbedLayerNormalization", ids, types, *tables, domain=MS, epsilon=1e-5)
    graph = _checked(s, out, tmp_path)
    assert [type(n.op).__name__ for n in graph.nodes].count("Embed") == 3


ACTIVATIONS: dict[str, tuple[Function, Callable[[Sketch, str], str]]] = {
    "Gelu": (Function.GELU, lambda s, x: s.op("Gelu", x, domain=MS)),
    "BiasGelu": (Function.GELU, lambda s, x: s.op("BiasGelu", x, s.weight(24), domain=MS)),
    "FastGelu": (Function.GELU_TANH, lambda s, x: s.op("FastGelu", x, domain=MS)),
    "FastGelu with a bias": (Function.GELU_TANH, lambda s, x: s.op("FastGelu", x, s.weight(24), domain=MS)),
    "QuickGelu": (Function.QUICK_GELU, lambda s, x: s.op("QuickGelu", x, domain=MS, alpha=1.702)),
    "QuickGelu of another slope": (Function.SILU, lambda s, x: s.op("QuickGelu", x, domain=MS, alpha=2.5)),
}


@pytest.mark.parametrize("form", list(ACTIVATIONS))
def test_fused_activations(form: str, tmp_path: Path) -> None:
    kind, write = ACTIVATIONS[form]
    s = Sketch()
    x = s.op("MatMul", s.ids(), s.weight(WIDTH, 24))
    graph = _checked(s, s.op("MatMul", write(s, x), s.weight(24, 8)), tmp_path)
    assert _one(graph, Activation) == Activation(kind)


# Products.


def test_einsum_projections_and_attention(tmp_path: Path) -> None:
    s = Sketch()
    x = s.ids()
    q, k, v = (s.op("Einsum", x, s.weight(WIDTH, HEADS, DEPTH), equation="abc,cde->abde") for _ in range(3))
    scores = s.op("Mul", s.op("Einsum", q, k, equation="bqhd,bkhd->bhqk"), 0.25)
    context = s.op("Einsum", s.op("Softmax", scores, axis=-1), v, equation="bhqk,bkhd->bqhd")
    out = s.op("Einsum", context, s.weight(HEADS, DEPTH, WIDTH), equation="abcd,cde->abe")
    graph = _checked(s, out, tmp_path)
    assert isinstance(_one(graph, Attention), Attention)
    assert sum(type(n.op).__name__ == "Linear" for n in graph.nodes) == 4


def test_heads_that_take_turns_in_one_projection(tmp_path: Path) -> None:
    """Queries, keys and values of a head side by side, head after head."""
    s = Sketch()
    rows = s.op("MatMul", s.ids(), s.weight(WIDTH, 3 * WIDE))
    split = s.op("Reshape", rows, np.array([0, 0, HEADS, 3 * DEPTH]))
    heads = s.op("Transpose", split, perm=[0, 2, 1, 3])
    q, k, v = (
        s.op("Slice", heads, np.array([i * DEPTH]), np.array([(i + 1) * DEPTH]), np.array([3]))
        for i in range(3)
    )
    scores = s.op("MatMul", q, s.op("Transpose", k, perm=[0, 1, 3, 2]))
    context = s.op("MatMul", s.op("Softmax", scores, axis=-1), v)
    out = s.op("Reshape", s.op("Transpose", context, perm=[0, 2, 1, 3]), np.array([0, 0, -1]))
    graph = _checked(s, out, tmp_path)
    assert isinstance(_one(graph, Attention), Attention)


def test_rows_that_are_joined_in_front_of_a_layer(tmp_path: Path) -> None:
    s = Sketch()
    x = s.ids()
    y = s.op("MatMul", x, s.weight(WIDTH, 24))
    z = s.op("MatMul", x, s.weight(WIDTH, 8))
    joint = s.op("Concat", y, x, z, axis=-1)
    out = s.op("Add", s.op("MatMul", joint, s.weight(24 + WIDTH + 8, 12)), s.weight(12))
    graph = _checked(s, out, tmp_path)
    assert sum(type(n.op).__name__ == "Linear" for n in graph.nodes) == 5
