"""Forms that recent exporters write: counted positions, two-sided windows, tables that end, heads beside tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from compiler.ir.dims import axis
from compiler.ir.evaluate import run
from compiler.ir.graph import Attention, Embed, Graph, Mul, Norm, NormKind, Role, Rotary
from compiler.passes import GRAPH_PIPELINE
from compiler.pipeline import Compilation, run_pipeline
from compiler.recognition.biases import HIDDEN
from tests.frontend.oracle import compiled, expected
from tests.frontend.sketch import WIDTH, Sketch, causal, heads_of, joined, projections
from tests.frontend.test_recognition import HEADS, checked, of

VOCABULARY, PADDING = 32, 1


def _agrees(path: Path, graph: Graph, tokens: int) -> bool:
    feeds = {"input_ids": np.random.default_rng(tokens).integers(2, VOCABULARY, (1, tokens))}
    return np.allclose(run(graph, feeds)["logits"], expected(path, feeds)["logits"], atol=2e-5)


def _counted(s: Sketch, rows: str) -> str:
    """Positions as RoBERTa counts them: what is no padding, from behind the padding's own row on."""
    real = s.op("Cast", s.op("Not", s.op("Equal", "input_ids", np.int64(PADDING))), to=TensorProto.INT32)
    count = s.op("Mul", s.op("CumSum", real, np.int64(1)), real)
    at = s.op("Add", s.op("Cast", count, to=TensorProto.INT64), np.int64(PADDING))
    return s.op("Add", rows, s.op("Gather", s.weight(64, WIDTH), at, axis=0))


def test_positions_counted_from_the_ids(tmp_path: Path) -> None:
    s = Sketch()
    rows = s.ids()
    path = s.save(tmp_path / "m.onnx", _counted(s, rows))
    c = run_pipeline(GRAPH_PIPELINE, Compilation(path))
    graph = c.require_graph()
    by_position = [n.op for n in graph.nodes if isinstance(n.op, Embed) and n.inputs[0] != "input_ids"]
    assert by_position == [Embed(offset=PADDING + 1)]
    assert graph.input(Role.POSITIONS) is not None
    assert _agrees(path, graph, 9)
    assert any(f"no token is padding (id {PADDING})" in note.text for note in c.notes)
    assert c.padding == (PADDING,)


def test_what_counts_only_some_tokens_is_no_position(tmp_path: Path) -> None:
    s = Sketch()
    rows = s.ids()
    odd = s.op("Cast", s.op("Mod", "input_ids", np.int64(2)), to=TensorProto.INT64)
    at = s.op("CumSum", odd, np.int64(1))
    path = s.save(tmp_path / "m.onnx", s.op("Add", rows, s.op("Gather", s.weight(64, WIDTH), at, axis=0)))
    c = Compilation(path)
    run_pipeline(GRAPH_PIPELINE[:-2], c)
    assert [n.op for n in c.require_graph().nodes if isinstance(n.op, Embed)].count(Embed(offset=1)) == 0


def _masked(s: Sketch, mask: str) -> str:
    q, k, v = projections(s, s.nodes[0].output[0], HEADS)
    scores = s.op("Where", mask, s.op("MatMul", q, s.op("Transpose", k, perm=[0, 1, 3, 2])), -np.inf)
    return joined(s, s.op("MatMul", s.op("Softmax", scores, axis=-1), v))


def _attention(graph: Graph) -> tuple[Attention, np.ndarray | None]:
    (node,) = [n for n in graph.nodes if isinstance(n.op, Attention)]
    assert isinstance(node.op, Attention)
    bias = graph.constants[node.inputs[3]].data() if len(node.inputs) > 3 else None
    return node.op, bias


def test_a_window_to_both_sides_is_a_bias(tmp_path: Path) -> None:
    s = Sketch()
    n = s.op("Range", np.int64(0), s.length(s.ids()), np.int64(1))
    distance = s.op("Abs", s.op("Sub", n, s.op("Unsqueeze", n, np.array([1]))))
    path = s.save(tmp_path / "m.onnx", _masked(s, s.op("LessOrEqual", distance, np.int64(2))))
    graph = compiled(path)
    op, bias = _attention(graph)
    assert (op.causal, op.window) == (False, None)
    assert bias is not None
    assert np.array_equal(bias, np.tile(np.array([HIDDEN, 0, 0, 0, 0, 0, HIDDEN]), (HEADS, 1)))
    assert all(_agrees(path, graph, n) for n in (1, 3, 12))


def test_a_window_that_only_a_table_knows(tmp_path: Path) -> None:
    """No number in the mask's graph says how wide it is (local attention of GPT-Neo)."""
    s = Sketch()
    n = s.op("Unsqueeze", s.length(s.ids()), np.array([0]))
    table = s.const(np.tril(np.triu(np.ones((1, 1, 40, 40), bool), -4)))
    for at in (2, 3):
        table = s.op("Slice", table, np.array([0]), n, np.array([at]), np.array([1]))
    path = s.save(tmp_path / "m.onnx", _masked(s, table))
    graph = compiled(path)
    assert _attention(graph)[0].window == 5
    assert all(_agrees(path, graph, n) for n in (4, 20, 40))


def test_a_bias_from_a_table_that_ends(tmp_path: Path) -> None:
    """The last rows of a table, as long as it reaches: no shape rule says how many these are (MPT)."""
    s = Sketch()
    x = s.ids()
    start = s.op("Max", s.op("Sub", np.int64(24), s.length(x)), np.int64(0))
    slopes = np.array([0.5, 0.25])[:, None, None] * np.arange(-23, 1)
    bias = s.op("Slice", slopes, s.op("Unsqueeze", start, np.array([0])), np.array([1 << 40]), np.array([2]))
    q, k, v = projections(s, x, HEADS)
    scores = s.op("Add", s.op("MatMul", q, s.op("Transpose", k, perm=[0, 1, 3, 2])), bias)
    scores = s.op("Where", causal(s, x), scores, -np.inf)
    path = s.save(tmp_path / "m.onnx", joined(s, s.op("MatMul", s.op("Softmax", scores, axis=-1), v)))
    graph = compiled(path)
    assert np.allclose(_attention(graph)[1], [0.5, 0.25])
    assert all(_agrees(path, graph, n) for n in (5, 24))


def test_buckets_are_those_of_the_files_own_arithmetic(tmp_path: Path) -> None:
    """In float64 the logarithm of 2 times 8 / ln 16 falls just below 2, in float32 it does not (T5)."""
    s = Sketch()
    n = s.op("Range", np.int64(0), s.length(s.ids()), np.int64(1))
    distance = s.op("Abs", s.op("Sub", n, s.op("Unsqueeze", n, np.array([1]))))
    ratio = s.op("Div", s.op("Cast", s.op("Max", distance, np.int64(8)), to=TensorProto.FLOAT), 8.0)
    large = s.op("Mul", s.op("Div", s.op("Log", ratio), np.float32(np.log(16))), 8.0)
    bucket = s.op("Min", s.op("Add", s.op("Cast", large, to=TensorProto.INT64), np.int64(8)), np.int64(15))
    bucket = s.op("Where", s.op("Less", distance, np.int64(8)), distance, bucket)
    bias = s.op("Transpose", s.op("Gather", s.weight(16, HEADS), bucket, axis=0), perm=[2, 0, 1])
    q, k, v = projections(s, s.nodes[0].output[0], HEADS)
    scores = s.op("Add", s.op("MatMul", q, s.op("Transpose", k, perm=[0, 1, 3, 2])), bias)
    path = s.save(tmp_path / "m.onnx", joined(s, s.op("MatMul", s.op("Softmax", scores, axis=-1), v)))
    assert _agrees(path, compiled(path), 150)


@pytest.mark.parametrize("regrouped", [False, True])
def test_one_head_of_keys_for_all_queries(regrouped: bool, tmp_path: Path) -> None:
    """The product repeats the head; probabilities may be counted with the batch before they meet the values."""
    s = Sketch()
    x = s.ids()
    q = heads_of(s, s.op("MatMul", x, s.weight(WIDTH, WIDTH)), HEADS)
    kv = 1 if not regrouped else HEADS
    k, v = (heads_of(s, s.op("MatMul", x, s.weight(WIDTH, 8 * kv)), kv) for _ in range(2))
    scores = s.op("MatMul", q, s.op("Transpose", k, perm=[0, 1, 3, 2]))
    shares = s.op("Softmax", s.op("Where", causal(s, x), scores, -np.inf), axis=-1)
    if regrouped:
        n = s.op("Unsqueeze", s.length(x), np.array([0]))
        shares = s.op("Reshape", shares, s.op("Concat", np.array([-1]), n, n, axis=0))
        v = s.op("Reshape", v, s.op("Concat", np.array([-1]), n, np.array([8]), axis=0))
        context = s.op("MatMul", shares, v)
        context = s.op("Reshape", context, s.op("Concat", np.array([-1, HEADS]), n, np.array([8]), axis=0))
    else:
        context = s.op("MatMul", shares, v)
    (op,) = of(checked(s, joined(s, context), tmp_path), Attention)
    assert isinstance(op, Attention)
    assert op.kv_heads == kv


def test_norms_of_heads_that_are_counted_with_the_tokens(tmp_path: Path) -> None:
    s = Sketch(opset=23)
    rows = s.op("MatMul", s.ids(), s.weight(WIDTH, WIDTH))
    apart = s.op("Reshape", rows, np.array([0, -1, 8]))
    normed = s.op("RMSNormalization", apart, s.weight(8), axis=-1, epsilon=1e-6)
    graph = checked(s, s.op("Reshape", normed, np.array([0, -1, WIDTH])), tmp_path)
    (norm,) = of(graph, Norm)
    assert isinstance(norm, Norm)
    assert norm.groups == 2


@pytest.mark.parametrize("transposed", [False, True])
def test_norms_with_a_scale_for_each_head(transposed: bool, tmp_path: Path) -> None:
    s = Sketch(opset=23)
    rows = s.op("MatMul", s.ids(), s.weight(WIDTH, WIDTH))
    apart = s.op("Reshape", rows, np.array([0, 0, HEADS, 8]))
    if transposed:
        apart = s.op("Transpose", apart, perm=[0, 2, 1, 3])
    scale = s.weight(HEADS, 1, 8) if transposed else s.weight(HEADS, 8)
    normed = s.op("RMSNormalization", apart, scale, axis=-1, epsilon=1e-6)
    if transposed:
        normed = s.op("Transpose", normed, perm=[0, 2, 1, 3])
    graph = checked(s, s.op("Reshape", normed, np.array([0, 0, WIDTH])), tmp_path)
    (norm,) = of(graph, Norm)
    assert isinstance(norm, Norm)
    assert norm.groups == HEADS
    assert of(graph, Mul) == [Mul()]


def test_means_of_rows_written_as_pooling(tmp_path: Path) -> None:
    """As TensorFlow's converter writes them: the spatial axes of three are the last one."""
    s = Sketch()
    x = s.ids()
    centred = s.op("Sub", x, s.op("GlobalAveragePool", x))
    variance = s.op("GlobalAveragePool", s.op("Mul", centred, centred))
    turned = s.op("Mul", centred, s.op("Reciprocal", s.op("Sqrt", s.op("Add", variance, 1e-5))))
    graph = checked(s, s.op("Add", s.op("Mul", turned, s.weight(WIDTH)), s.weight(WIDTH)), tmp_path)
    assert of(graph, Norm) == [Norm(NormKind.LAYER, 9.999999747378752e-06)]


def test_a_norm_of_rows_without_their_mean_is_a_layer_norm(tmp_path: Path) -> None:
    s = Sketch(opset=23)
    x = s.ids()
    centred = s.op("Sub", x, s.op("ReduceMean", x, np.array([-1])))
    graph = checked(s, s.op("RMSNormalization", centred, s.weight(WIDTH), axis=-1, epsilon=1e-5), tmp_path)
    (norm,) = of(graph, Norm)
    assert isinstance(norm, Norm)
    assert norm.kind is NormKind.LAYER


def _turned(s: Sketch, heads: str, angle: np.ndarray) -> str:
    """x cos + rotate(x) sin with tables that the exporter has computed."""
    first, second = (
        s.op("Slice", heads, np.array([i]), np.array([i + 4]), np.array([-1]), np.array([1])) for i in (0, 4)
    )
    rotated = s.op("Concat", s.op("Neg", second), first, axis=-1)
    whole = np.concatenate([angle, angle], axis=-1)[None, None]
    return s.op("Add", s.op("Mul", heads, np.cos(whole)), s.op("Mul", rotated, np.sin(whole)))


def test_rotations_by_tables_of_a_fixed_length(tmp_path: Path) -> None:
    s = Sketch()
    s.input("input_ids", TensorProto.INT64, 1, 6)
    x = s.op("Gather", s.weight(VOCABULARY, WIDTH), "input_ids", axis=0)
    q, k, v = projections(s, x, HEADS)
    angle = np.arange(6)[:, None] * np.array([1.0, 0.3, 0.1, 0.03])
    q, k = _turned(s, q, angle), _turned(s, k, angle)
    scores = s.op("Where", causal(s, x), s.op("MatMul", q, s.op("Transpose", k, perm=[0, 1, 3, 2])), -np.inf)
    path = s.save(tmp_path / "m.onnx", joined(s, s.op("MatMul", s.op("Softmax", scores, axis=-1), v)))
    graph = compiled(path)
    assert of(graph, Rotary) == [Rotary(HEADS, 8, 8)] * 2
    assert _agrees(path, graph, 6)


def test_rotations_of_repeated_heads_turn_each_once(tmp_path: Path) -> None:
    s = Sketch(opset=23)
    x = s.ids()
    n = s.op("Range", np.int64(0), s.length(x), np.int64(1))
    angle = s.op(
        "Mul", s.op("Unsqueeze", s.op("Cast", n, to=TensorProto.FLOAT), np.array([0, 2])), np.full(4, 0.2)
    )
    q, k, v = (heads_of(s, s.op("MatMul", x, s.weight(WIDTH, 8 * h)), h) for h in (4, 2, 2))
    k, v = (s.op("Gather", h, np.array([0, 0, 1, 1]), axis=1) for h in (k, v))
    q, k = (s.op("RotaryEmbedding", h, s.op("Cos", angle), s.op("Sin", angle)) for h in (q, k))
    graph = checked(s, joined(s, s.op("Attention", q, k, v, is_causal=1)), tmp_path)
    assert sorted(op.heads for op in of(graph, Rotary) if isinstance(op, Rotary)) == [2, 4]


def test_ids_are_known_by_what_they_look_up(tmp_path: Path) -> None:
    from compiler.frontend.importer import import_model

    s = Sketch()
    s.input("x.1", TensorProto.INT64, "n", "len")
    rows = s.op("Gather", s.weight(VOCABULARY, WIDTH), s.op("Cast", "x.1", to=TensorProto.INT32), axis=0)
    (given,) = import_model(s.save(tmp_path / "m.onnx", s.op("Relu", rows))).inputs
    assert given.role is Role.IDS
    assert given.value.shape == (axis("batch"), axis("sequence"))


def test_axes_of_pictures_count_no_tokens(tmp_path: Path) -> None:
    from compiler.frontend.importer import import_model

    s = Sketch()
    s.input("pixel_values", TensorProto.FLOAT, "n", 3, "height", "width")
    out = s.op("Conv", s.op("Div", "pixel_values", 255.0), s.weight(8, 3, 4, 4), strides=[4, 4])
    (given,) = import_model(s.save(tmp_path / "m.onnx", out)).inputs
    assert given.value.shape == (axis("batch"), 3, axis("height"), axis("width"))
