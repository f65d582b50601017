"""An encoder and a decoder in one file: whose rows are whose, and that both compute what ONNX Runtime computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from compiler.frontend.importer import import_model
from compiler.ir.dims import axis
from compiler.ir.evaluate import KvCache, evaluate, run
from compiler.ir.graph import Attention, Embed, Graph, Role
from compiler.ir.graph_text import parse_graph, print_graph
from compiler.ir.hosted import run_hosted
from compiler.recognition.sequences import Step, source_inputs
from isa.diagnostics import CimError
from runtime.host import run_part
from tests.frontend.oracle import compiled, expected
from tests.frontend.sketch import WIDTH, Sketch, causal, heads_of, joined, projections

HEADS = 2


def _attended(s: Sketch, q: str, k: str, v: str, mask: str | None = None) -> str:
    scores = s.op("Mul", s.op("MatMul", q, s.op("Transpose", k, perm=[0, 1, 3, 2])), 0.3)
    scores = s.op("Where", mask, scores, -np.inf) if mask else scores
    return joined(s, s.op("MatMul", s.op("Softmax", scores, axis=-1), v))


def _by_position(s: Sketch, rows: str) -> str:
    """Rows plus rows of a table, one for each, as BART has them."""
    n = s.op("Range", np.int64(0), s.length(rows), np.int64(1))
    return s.op("Add", rows, s.op("Gather", s.weight(64, WIDTH), n, axis=0))


def _encoder_decoder(s: Sketch, names: tuple[str, str]) -> str:
    """One layer of each; the names of the ids tell nothing."""
    encoded, own = names
    s.input(encoded, TensorProto.INT64, "batch", "m")
    s.input(own, TensorProto.INT64, "batch", "n")
    table = s.weight(32, WIDTH)
    x = _by_position(s, s.op("Gather", table, encoded, axis=0))
    x = s.op("Add", x, _attended(s, *projections(s, x, HEADS)))
    y = _by_position(s, s.op("Gather", table, own, axis=0))
    y = s.op("Add", y, _attended(s, *projections(s, y, HEADS), mask=causal(s, y)))
    q = heads_of(s, s.op("MatMul", y, s.weight(WIDTH, WIDTH)), HEADS)
    k, v = (heads_of(s, s.op("MatMul", x, s.weight(WIDTH, WIDTH)), HEADS) for _ in range(2))
    return s.op("MatMul", s.op("Add", y, _attended(s, q, k, v)), s.weight(WIDTH, 32))


def _model(folder: Path, names: tuple[str, str] = ("input_ids", "decoder_input_ids")) -> tuple[Path, Graph]:
    s = Sketch()
    path = s.save(folder / "m.onnx", _encoder_decoder(s, names))
    return path, compiled(path)


@pytest.mark.parametrize("names", [("input_ids", "decoder_input_ids"), ("ids", "tokens")])
def test_rows_of_the_encoder_are_the_source(names: tuple[str, str], tmp_path: Path) -> None:
    path, graph = _model(tmp_path, names)
    roles = {i.name: i.role for i in import_model(path).inputs}
    assert roles == {names[0]: Role.SOURCE_IDS, names[1]: Role.IDS}
    own, encoder, cross = (
        next(n for n in graph.nodes if isinstance(n.op, Attention) and test(n.op))
        for test in (lambda op: op.causal, lambda op: op.cache is None, lambda op: op.cross)
    )
    rows = {v.name: v.shape for v in graph.values()}
    assert encoder.output.shape == (axis("source"), WIDTH)
    assert rows[cross.inputs[1]] == (axis("source"), WIDTH)
    assert own.output.shape == cross.output.shape == (axis("tokens"), WIDTH)
    positions = [n.inputs[0] for n in graph.nodes if isinstance(n.op, Embed)]
    assert {graph_input.value.shape for graph_input in graph.inputs if graph_input.name in positions} == {
        (axis("source"),),
        (axis("tokens"),),
    }
    assert parse_graph(print_graph(graph)) == graph


@pytest.mark.parametrize(("source", "tokens"), [(3, 5), (7, 2), (4, 4)])
def test_both_sequences_have_lengths_of_their_own(source: int, tokens: int, tmp_path: Path) -> None:
    path, graph = _model(tmp_path)
    ids = np.random.default_rng(source)
    feeds = {
        "input_ids": ids.integers(0, 32, (2, source)),
        "decoder_input_ids": ids.integers(0, 32, (2, tokens)),
    }
    assert np.allclose(run(graph, feeds)["logits"], expected(path, feeds)["logits"], atol=1e-5)


def test_the_source_is_read_by_the_first_step_only(tmp_path: Path) -> None:
    path, graph = _model(tmp_path)
    ids = np.random.default_rng(3)
    source, tokens = ids.integers(0, 32, 6), ids.integers(0, 32, 5)
    whole = expected(path, {"input_ids": source[None], "decoder_input_ids": tokens[None]})["logits"][0]
    cache = KvCache.empty(graph)
    first = evaluate(graph, tokens[:2], cache=cache, rows={"input_ids": source})
    rest = [evaluate(graph, tokens[i : i + 1], cache=cache) for i in range(2, 5)]
    assert np.allclose(np.concatenate([first, *rest]), whole, atol=1e-5)


def _seen(s: Sketch, own: str) -> str:
    """Patches of a picture as rows, a norm among the convolutions; `own` attends to them."""
    s.input("pixel_values", TensorProto.FLOAT, "batch", 3, 8, 8)
    patches = s.op("Conv", "pixel_values", s.weight(WIDTH, 3, 2, 2), strides=[2, 2])
    normed = s.op("LayerNormalization", s.op("Reshape", patches, np.array([0, WIDTH, 16])), s.weight(16))
    mixed = s.op("Conv", normed, s.weight(WIDTH, WIDTH, 1))
    rows = s.op("Transpose", mixed, perm=[0, 2, 1])
    q = heads_of(s, s.op("MatMul", own, s.weight(WIDTH, WIDTH)), HEADS)
    k, v = (heads_of(s, s.op("MatMul", rows, s.weight(WIDTH, WIDTH)), HEADS) for _ in range(2))
    return s.op("Add", own, _attended(s, q, k, v))


def test_rows_of_a_stem_are_a_source_beside_tokens(tmp_path: Path) -> None:
    s = Sketch()
    path = s.save(tmp_path / "m.onnx", _seen(s, s.ids()))
    graph = compiled(path)
    (stem,) = graph.hosts
    assert len(stem.sources) >= 3
    source = graph.input(Role.SOURCE)
    assert source is not None
    # The file fixes how many rows there are.
    assert source.value.shape == (16, WIDTH)
    feeds = {
        "input_ids": np.arange(5)[None],
        "pixel_values": np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32),
    }
    made = run_hosted(graph, feeds, run_part)["logits"]
    assert np.allclose(made, expected(path, feeds)["logits"], atol=1e-5)


def test_two_models_side_by_side_are_refused(tmp_path: Path) -> None:
    s = Sketch()
    words = s.ids()
    words = s.op("Add", words, _attended(s, *projections(s, words, HEADS)))
    s.input("pixel_values", TensorProto.FLOAT, "batch", 3, 8, 8)
    patches = s.op("Conv", "pixel_values", s.weight(WIDTH, 3, 2, 2), strides=[2, 2])
    rows = s.op("Transpose", s.op("Reshape", patches, np.array([0, WIDTH, 16])), perm=[0, 2, 1])
    rows = s.op("Add", rows, _attended(s, *projections(s, rows, HEADS)))
    likeness = s.op("MatMul", words, s.op("Transpose", rows, perm=[0, 2, 1]))
    with pytest.raises(CimError, match="holds models side by side: rows of input_ids"):
        compiled(s.save(tmp_path / "m.onnx", likeness))


@pytest.mark.parametrize(
    ("meeting", "wanted"),
    [
        ([("MatMul", "a", "b"), ("Add", "b", "x")], {"a"}),
        ([("Add", "a", "b")], set()),
        ([("MatMul", "a", "b")], set()),
        ([("Shape", "a", ""), ("Add", "x", "b")], set()),
    ],
)
def test_a_source_meets_the_others_in_products_only(
    meeting: list[tuple[str, str, str]], wanted: set[str]
) -> None:
    """The last of several steps comes first: files need not be sorted."""
    steps = [Step(kind, (left, right), ("x" if kind != "Add" else "y",)) for kind, left, right in meeting]
    assert source_inputs(steps[::-1], frozenset("ab")) == wanted
