"""What people write by hand in their own networks, as their exporter puts it into the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from compiler.driver import compile_model
from compiler.ir.graph import Attention, Embed, Graph, Mul, Norm, NormKind, Role, Rotary
from compiler.pipeline import CompileOptions
from isa.hardware import load_target
from runtime.inference import Inference
from tests.frontend.oracle import compiled, difference, expected
from tests.frontend.sketch import WIDTH, Sketch, causal, heads_of, joined, projections
from tests.frontend.test_recognition import HEADS, checked, of
from tests.frontend.test_refusals import refusals


def on_chip(path: Path, feeds: dict[str, np.ndarray]) -> None:
    """The program's outputs, for a whole batch, are ONNX Runtime's."""
    options = CompileOptions(weights="float32")
    program = compile_model(path, options, load_target("dcim22")).require_program()
    got, wanted = Inference(program).run(feeds), expected(path, feeds)
    assert {name: value.shape for name, value in got.items()} == {n: v.shape for n, v in wanted.items()}
    assert difference(got, wanted) < 1e-4


def _rows(s: Sketch, batch: int | str = "batch", tokens: int | str = "tokens") -> str:
    return s.input("features", TensorProto.FLOAT, batch, tokens, WIDTH)


def _time_first(s: Sketch, rows: str, sizes: tuple[str, str]) -> str:
    """Attention as modules have it that keep time first: heads are counted with the sequences; [tokens, batch, .]."""
    tokens, batch = sizes
    x = s.op("Transpose", rows, perm=[1, 0, 2])
    grouped = s.op("Concat", tokens, s.op("Mul", batch, np.array([HEADS])), np.array([8]), axis=0)
    q, k, v = (
        s.op("Transpose", s.op("Reshape", s.op("MatMul", x, s.weight(WIDTH, WIDTH)), grouped), perm=[1, 0, 2])
        for _ in range(3)
    )
    scores = s.op("Mul", s.op("MatMul", q, s.op("Transpose", k, perm=[0, 2, 1])), 0.35)
    out = s.op("Transpose", s.op("MatMul", s.op("Softmax", scores, axis=-1), v), perm=[1, 0, 2])
    flat = s.op("MatMul", s.op("Reshape", out, np.array([-1, WIDTH])), s.weight(WIDTH, WIDTH))
    whole = s.op("Reshape", flat, s.op("Concat", tokens, batch, np.array([WIDTH]), axis=0))
    return s.op("Add", rows, s.op("Transpose", whole, perm=[1, 0, 2]))


@pytest.mark.parametrize("form", ["free", "fixed"])
def test_modules_that_keep_time_first(form: str, tmp_path: Path) -> None:
    s = Sketch()
    rows = _rows(s, 2, 5) if form == "fixed" else _rows(s)
    shape = s.op("Shape", rows)
    tokens, batch = (s.op("Gather", shape, np.array([at]), axis=0) for at in (1, 0))
    path = s.save(tmp_path / "model.onnx", _time_first(s, rows, (tokens, batch)))
    (attention,) = of(compiled(path), Attention)
    assert isinstance(attention, Attention)
    assert (attention.heads, attention.head_dim, attention.causal) == (2, 8, False)
    on_chip(path, {"features": np.random.default_rng(3).standard_normal((2, 5, WIDTH)).astype(np.float32)})


@pytest.mark.parametrize("tokens", ["tokens", 5])
def test_ids_that_are_turned_first(tokens: str | int, tmp_path: Path) -> None:
    """Positions are [length, 1, width] then, and added time first."""
    s = Sketch()
    ids = s.input("input_ids", TensorProto.INT64, "batch" if tokens == "tokens" else 2, tokens)
    x = s.op("Mul", s.op("Gather", s.weight(32, WIDTH), s.op("Transpose", ids, perm=[1, 0]), axis=0), 3.0)
    size = s.op("Gather", s.op("Shape", ids), np.array([1]), axis=0)
    x = s.op("Add", x, s.op("Slice", s.weight(20, 1, WIDTH), np.array([0]), size, np.array([0])))
    rows = s.op("Transpose", s.op("MatMul", x, s.weight(WIDTH, WIDTH)), perm=[1, 0, 2])
    out = s.op("Add", rows, joined(s, _self_attention(s, rows)))
    path = s.save(tmp_path / "model.onnx", out)
    assert not compiled(path).hosts
    on_chip(path, {"input_ids": np.random.default_rng(3).integers(0, 32, (2, 5))})


def test_the_first_row_of_one_sequence_is_no_turned_rows(tmp_path: Path) -> None:
    s = Sketch()
    rows = _rows(s, 1)
    q, k, v = projections(s, rows, HEADS)
    shares = s.op("Softmax", s.op("MatMul", q, s.op("Transpose", k, perm=[0, 1, 3, 2])), axis=-1)
    all_rows = s.op("Add", rows, joined(s, s.op("MatMul", shares, v)))
    first = s.op("Gather", all_rows, np.int64(0), axis=1)
    s.outputs.append(s.op("Tanh", s.op("MatMul", first, s.weight(WIDTH, WIDTH))))
    path = s.save(tmp_path / "model.onnx", all_rows)
    on_chip(path, {"features": np.random.default_rng(3).standard_normal((1, 4, WIDTH)).astype(np.float32)})


@pytest.mark.parametrize("start", ["ids", "rows"])
def test_one_sequence_without_an_axis_of_sequences(start: str, tmp_path: Path) -> None:
    s = Sketch()
    if start == "ids":
        x = s.op("Gather", s.weight(32, WIDTH), s.input("ids", TensorProto.INT64, "tokens"), axis=0)
    else:
        x = s.input("rows", TensorProto.FLOAT, "tokens", WIDTH)
    q, k, v = (
        s.op("Transpose", s.op("Reshape", s.op("MatMul", x, w), np.array([-1, HEADS, 8])), perm=[1, 0, 2])
        for w in (s.weight(WIDTH, WIDTH) for _ in range(3))
    )
    shares = s.op("Softmax", s.op("MatMul", q, s.op("Transpose", k, perm=[0, 2, 1])), axis=-1)
    out = s.op("Transpose", s.op("MatMul", shares, v), perm=[1, 0, 2])
    path = s.save(tmp_path / "model.onnx", s.op("Add", x, s.op("Reshape", out, np.array([-1, WIDTH]))))
    draw = np.random.default_rng(3)
    rows = draw.standard_normal((6, WIDTH)).astype(np.float32)
    on_chip(path, {"ids": draw.integers(0, 32, 6)} if start == "ids" else {"rows": rows})


def test_flat_rows_from_the_host_know_their_sequences(tmp_path: Path) -> None:
    """[batch * tokens, features] would not say where a sequence ends."""
    s = Sketch()
    odd = s.op("Sin", _rows(s))
    flat = s.op("MatMul", s.op("Reshape", odd, np.array([-1, WIDTH])), s.weight(WIDTH, WIDTH))
    rows = s.op("Reshape", flat, s.op("Shape", odd))
    path = s.save(tmp_path / "model.onnx", joined(s, _self_attention(s, rows)))
    assert len(compiled(path).hosts) == 1
    on_chip(path, {"features": np.random.default_rng(3).standard_normal((2, 4, WIDTH)).astype(np.float32)})


# Norms.


def _length(s: Sketch, x: str) -> str:
    return s.op("ReduceL2", x, np.array([-1]), keepdims=1)


def _normalised(s: Sketch, x: str) -> str:
    """x / max(|x|, e), the divisor expanded first."""
    guarded = s.op("Clip", _length(s, x), np.float32(1e-12))
    unit = s.op("Div", x, s.op("Expand", guarded, s.op("Shape", x)))
    return s.op("Mul", s.op("Mul", unit, 4.0), s.weight(WIDTH))


def _by_rms(s: Sketch, x: str) -> str:
    return s.op("Mul", s.op("Div", x, s.op("Add", s.op("Mul", _length(s, x), 0.25), 1e-8)), s.weight(WIDTH))


def _unit(s: Sketch, x: str) -> str:
    return s.op("Div", x, s.op("Max", _length(s, x), np.float32(1e-12)))


NORMS: dict[str, Callable[[Sketch, str], str]] = {"unit": _unit, "normalised": _normalised, "rms": _by_rms}


@pytest.mark.parametrize("form", list(NORMS))
def test_norms_by_length(form: str, tmp_path: Path) -> None:
    s = Sketch()
    graph = checked(s, s.op("MatMul", NORMS[form](s, s.ids()), s.weight(WIDTH, 32)), tmp_path)
    (norm,) = of(graph, Norm)
    assert isinstance(norm, Norm)
    # A row of zeros stays one.
    assert norm.kind is NormKind.RMS
    assert 0 < norm.eps < 1e-11


def test_a_factor_in_front_of_a_norm_stays_outside_of_it(tmp_path: Path) -> None:
    """norm(8 x) is norm(x) with another epsilon: a free factor must not hide that."""
    s = Sketch()
    x = s.op("Mul", s.ids(), 8.0)
    mean = s.op("ReduceMean", s.op("Mul", x, x), np.array([-1]), keepdims=1)
    rows = s.op("Div", x, s.op("Sqrt", s.op("Add", mean, 1e-6)))
    (norm,) = of(checked(s, s.op("MatMul", rows, s.weight(WIDTH, 32)), tmp_path), Norm)
    assert isinstance(norm, Norm)
    assert norm.eps == pytest.approx(1e-6)


# Small things.


def test_squares(tmp_path: Path) -> None:
    s = Sketch()
    x = s.op("Relu", s.op("MatMul", s.ids(), s.weight(WIDTH, 24)))
    graph = checked(s, s.op("MatMul", s.op("Pow", x, 2.0), s.weight(24, 32)), tmp_path)
    assert len(of(graph, Mul)) == 1


def _sliced(s: Sketch, x: str) -> str:
    n = s.op("Unsqueeze", s.length(x), np.array([0]))
    return s.op("Slice", s.weight(1, 40, WIDTH), np.array([0]), n, np.array([1]))


def _sines(s: Sketch, x: str) -> str:
    n = s.op("Cast", s.op("Range", np.int64(0), s.length(x), np.int64(1)), to=TensorProto.FLOAT)
    angles = s.op("Mul", s.op("Unsqueeze", n, np.array([1])), 0.7 ** np.arange(WIDTH // 2))
    return s.op("Concat", s.op("Sin", angles), s.op("Cos", angles), axis=-1)


@pytest.mark.parametrize(("write", "rows"), [(_sliced, 40), (_sines, 512)])
def test_positions_that_are_no_lookup(write: Callable[[Sketch, str], str], rows: int, tmp_path: Path) -> None:
    s = Sketch()
    x = s.op("Mul", s.ids(), 4.0)
    graph = checked(s, s.op("MatMul", s.op("Add", x, write(s, x)), s.weight(WIDTH, 32)), tmp_path)
    tables = [graph.constants[n.inputs[1]].shape for n in graph.nodes if isinstance(n.op, Embed)]
    assert sorted(tables) == sorted([(32, WIDTH), (rows, WIDTH)])


# Attention.


def _scores(s: Sketch, q: str, k: str) -> str:
    return s.op("MatMul", q, s.op("Transpose", k, perm=[0, 1, 3, 2]))


@pytest.mark.parametrize("kind", ["Mul", "Div"])
def test_a_temperature_by_head(kind: str, tmp_path: Path) -> None:
    s = Sketch()
    x = s.ids()
    q, k, v = projections(s, x, HEADS)
    warm = s.op(kind, s.op("Mul", _scores(s, q, k), 0.25), np.array([0.5, 1.5])[:, None, None])
    masked = s.op("Where", causal(s, x), warm, -np.inf)
    graph = checked(s, joined(s, s.op("MatMul", s.op("Softmax", masked, axis=-1), v)), tmp_path)
    assert of(graph, Attention) == [Attention(2, 2, 8, 8, 0.25, True, cache=0)]
    assert len(of(graph, Mul)) == 1


def test_one_head_of_keys_in_an_equation(tmp_path: Path) -> None:
    s = Sketch()
    x = s.ids()
    q = s.op("Reshape", s.op("MatMul", x, s.weight(WIDTH, WIDTH)), np.array([0, 0, HEADS, -1]))
    k, v = (s.op("MatMul", x, s.weight(WIDTH, 8)) for _ in range(2))
    scores = s.op("Einsum", q, k, equation="bthd,bsd->bhts")
    shares = s.op("Softmax", s.op("Where", causal(s, x), scores, -np.inf), axis=-1)
    out = s.op("Einsum", shares, v, equation="bhts,bsd->bthd")
    graph = checked(s, s.op("Reshape", out, np.array([0, 0, -1])), tmp_path)
    assert of(graph, Attention) == [Attention(2, 1, 8, 8, 1.0, True, cache=0)]


def test_rotations_of_a_fixed_batch(tmp_path: Path) -> None:
    s = Sketch()
    rows = _rows(s, 2, 5)
    angles = np.arange(5)[:, None] * (0.3 ** np.arange(4))[None]
    cos, sin = (np.tile(f(angles), 2)[None, None] for f in (np.cos, np.sin))

    def turned(x: str) -> str:
        a, b = s.many(2, "Split", x, np.array([4, 4]), axis=-1)
        rest = s.op("Concat", s.op("Neg", b), a, axis=-1)
        return s.op("Add", s.op("Mul", x, cos), s.op("Mul", rest, sin))

    q, k, v = projections(s, rows, HEADS)
    shares = s.op("Softmax", _scores(s, turned(q), turned(k)), axis=-1)
    path = s.save(tmp_path / "model.onnx", joined(s, s.op("MatMul", shares, v)))
    assert len(of(compiled(path), Rotary)) == 2
    on_chip(path, {"features": np.random.default_rng(3).standard_normal((2, 5, WIDTH)).astype(np.float32)})


def test_rotations_by_rounded_tables(tmp_path: Path) -> None:
    s = Sketch()
    rows = _rows(s, 1, 6)
    angles = np.tile(np.arange(6)[:, None] * (0.3 ** np.arange(4))[None], 2)[None, None]
    cos, sin = (s.op("Cast", f(angles).astype(np.float16), to=TensorProto.FLOAT) for f in (np.cos, np.sin))

    def turned(x: str) -> str:
        a, b = s.many(2, "Split", x, np.array([4, 4]), axis=-1)
        return s.op("Add", s.op("Mul", x, cos), s.op("Mul", s.op("Concat", s.op("Neg", b), a, axis=-1), sin))

    q, k, v = projections(s, rows, HEADS)
    shares = s.op("Softmax", _scores(s, turned(q), turned(k)), axis=-1)
    graph = compiled(s.save(tmp_path / "model.onnx", joined(s, s.op("MatMul", shares, v))))
    (frequencies,) = {n.inputs[1] for n in graph.nodes if isinstance(n.op, Rotary)}
    np.testing.assert_allclose(graph.constants[frequencies].data(), 0.3 ** np.arange(4), atol=5e-4)


# Sources, whatever they are called.


def _crossed(s: Sketch, rows: str, other: str) -> str:
    q = heads_of(s, s.op("MatMul", rows, s.weight(WIDTH, WIDTH)), HEADS)
    k, v = (heads_of(s, s.op("MatMul", other, s.weight(WIDTH, WIDTH)), HEADS) for _ in range(2))
    shares = s.op("Softmax", s.op("Mul", _scores(s, q, k), 0.3), axis=-1)
    return s.op("Add", rows, joined(s, s.op("MatMul", shares, v)))


def _roles(graph: Graph) -> dict[str, Role]:
    return {i.name: i.role for i in graph.inputs}


def test_rows_that_are_only_attended_to_are_a_source(tmp_path: Path) -> None:
    s = Sketch()
    queries = s.input("queries", TensorProto.FLOAT, "batch", "n", WIDTH)
    pixels = s.input("features", TensorProto.FLOAT, "batch", "m", WIDTH)
    path = s.save(tmp_path / "model.onnx", _crossed(s, queries, pixels))
    assert _roles(compiled(path)) == {"queries": Role.OTHER, "features": Role.SOURCE}
    draw = np.random.default_rng(3).standard_normal
    feeds = {n: draw((2, c, WIDTH)).astype(np.float32) for n, c in (("queries", 3), ("features", 6))}
    on_chip(path, feeds)


def test_ids_of_two_sequences_that_do_not_call_themselves_ids(tmp_path: Path) -> None:
    s = Sketch()
    src, tgt = (s.input(n, TensorProto.INT64, "batch", f"{n}_length") for n in ("src", "tgt"))
    theirs, mine = (s.op("Gather", s.weight(32, WIDTH), ids, axis=0) for ids in (src, tgt))
    encoded = joined(s, _self_attention(s, theirs))
    path = s.save(tmp_path / "model.onnx", _crossed(s, mine, encoded))
    roles = _roles(compiled(path))
    assert (roles["src"], roles["tgt"]) == (Role.SOURCE_IDS, Role.IDS)
    ids = np.random.default_rng(3).integers(0, 32, (2, 9))
    on_chip(path, {"src": ids[:, :5], "tgt": ids[:, 5:]})


def _self_attention(s: Sketch, x: str) -> str:
    q, k, v = projections(s, x, HEADS)
    return s.op("MatMul", s.op("Softmax", s.op("Mul", _scores(s, q, k), 0.3), axis=-1), v)


# Refusals say what to do.


def test_slopes_to_both_sides_need_a_fixed_length(tmp_path: Path) -> None:
    """-|d| grows without end on both sides, which is no table; for one length it is."""
    s = Sketch()
    rows = _rows(s)
    q, k, v = projections(s, rows, HEADS)
    n = s.op("Cast", s.op("Range", np.int64(0), s.length(rows), np.int64(1)), to=TensorProto.FLOAT)
    distance = s.op("Abs", s.op("Sub", n, s.op("Unsqueeze", n, np.array([1]))))
    scores = s.op("Add", _scores(s, q, k), s.op("Mul", distance, np.array([-0.5, -0.1])[:, None, None]))
    path = s.save(tmp_path / "model.onnx", joined(s, s.op("MatMul", s.op("Softmax", scores, axis=-1), v)))
    assert any("--dim NAME=VALUE" in (d.help or "") for d in refusals(path))
    options = CompileOptions(weights="float32", dims=(("tokens", 9),))
    assert compile_model(path, options, load_target("dcim22")).require_program().limits.max_context == 9


def _masked(s: Sketch, kind: str) -> str:
    rows = _rows(s)
    if kind == "time first":
        rows = s.op("Transpose", rows, perm=[1, 0, 2])
    if kind == "two rows each":
        rows = s.op("Reshape", s.op("MatMul", rows, s.weight(WIDTH, 2 * WIDTH)), np.array([0, -1, WIDTH]))
    q, k, v = projections(s, rows, HEADS)
    scores = _scores(s, q, k)
    if kind in ("key_padding", "padding_mask"):
        given = s.input(kind, TensorProto.BOOL, "batch", "tokens")
        scores = s.op("Where", s.op("Unsqueeze", given, np.array([1, 2])), -np.inf, scores)
    if kind == "soft_padding_mask":
        given = s.op("Cast", s.input(kind, TensorProto.BOOL, "batch", "tokens"), to=TensorProto.FLOAT)
        scores = s.op("Add", scores, s.op("Mul", s.op("Unsqueeze", given, np.array([1, 2])), -1e4))
    shares = s.op("Softmax", scores, axis=-1)
    if kind == "weights":
        s.outputs.append(s.op("ReduceMean", shares, np.array([1])))
    return joined(s, s.op("MatMul", shares, v))


@pytest.mark.parametrize(
    ("kind", "reason", "way_out"),
    [
        ("key_padding", "made of the input 'key_padding'", "attention_mask"),
        ("padding_mask", "hides where it is 1", "attention_mask"),
        ("soft_padding_mask", "hides where it is 1", "attention_mask"),
        ("time first", "have the time first", "batch_first"),
        ("two rows each", "not one row a token", "a row for each token"),
        ("weights", "the probabilities themselves are wanted", "need_weights=False"),
    ],
)
def test_attention_that_is_refused(kind: str, reason: str, way_out: str, tmp_path: Path) -> None:
    s = Sketch()
    path = s.save(tmp_path / "model.onnx", _masked(s, kind))
    found = next(d for d in refusals(path) if "Softmax" in str(d.place))
    assert reason in found.message
    assert way_out in (found.help or "")
