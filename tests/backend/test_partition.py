"""The host's part of a model: what is cut, that the values are the same, what is said about it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compiler.frontend.submodel import ModelFile
from compiler.ir.dims import axis
from compiler.ir.graph import Attention, Graph, Role, op_name
from compiler.ir.graph_text import parse_graph, print_graph
from compiler.ir.graph_verify import verify_graph
from compiler.ir.hosted import run_hosted
from compiler.ops.explain import Verdict, explain_model
from compiler.ops.hosting import host_refusal
from isa.diagnostics import CimError
from isa.program import Moment
from runtime.host import run_part
from tests.backend.vision import TOKENS, head, images, layer, norm, recognised, reference, stem, write_vision
from tests.frontend.sketch import WIDTH, Sketch


def _graph(path: Path) -> Graph:
    return recognised(path).require_graph()


@pytest.mark.parametrize("batch", ["images", 2])
def test_stem_and_classifier_go_to_the_host(tmp_path: Path, batch: int | str) -> None:
    graph = _graph(write_vision(tmp_path / "m.onnx", batch))
    verify_graph(graph)
    assert [(part.name, part.moment) for part in graph.hosts] == [
        ("stem", Moment.BEFORE),
        ("back", Moment.AFTER),
    ]
    front, back = graph.hosts
    assert (front.inputs, back.outputs) == (("pixels",), ("logits",))
    assert front.outputs == tuple(i.name for i in graph.inputs)
    assert back.inputs == graph.outputs
    assert graph.results == ("logits",)
    (rows,) = graph.inputs
    assert rows.role is Role.OTHER
    assert rows.value.shape == (axis("tokens"), WIDTH)
    assert sum(isinstance(n.op, Attention) for n in graph.nodes) == 1
    assert sorted({op_name(n.op) for n in graph.nodes}) == [
        "activation",
        "add",
        "attention",
        "linear",
        "norm",
    ]


@pytest.mark.parametrize("batch", [1, 3])
def test_values_are_those_of_the_file(tmp_path: Path, batch: int) -> None:
    path, feeds = write_vision(tmp_path / "m.onnx"), images(batch)
    got = run_hosted(_graph(path), feeds, run_part)
    wanted = reference(path, feeds)
    assert list(got) == ["logits"]
    np.testing.assert_allclose(got["logits"], wanted, rtol=1e-4, atol=1e-5)


def test_the_text_of_a_graph_has_its_partitions(tmp_path: Path) -> None:
    graph = _graph(write_vision(tmp_path / "m.onnx"))
    assert parse_graph(print_graph(graph)) == graph


def test_each_node_says_where_it_runs(tmp_path: Path) -> None:
    found = {v.node: v for v in explain_model(write_vision(tmp_path / "m.onnx"))}
    by_op = {v.op: v for v in found.values()}
    assert by_op["onnx.Conv"].verdict is Verdict.HOST
    assert "convolutions" in by_op["onnx.Conv"].reason
    assert (
        by_op["onnx.Gather"].reason == "behind the chip's part: this use of Gather has no place on the chip"
    )
    assert by_op["onnx.Gemm"].reason == "behind the chip's part: goes with its neighbours"
    assert by_op["onnx.Softmax"].verdict is Verdict.CHIP
    assert Verdict.REFUSED not in {v.verdict for v in found.values()}


def test_rows_as_input_need_no_host(tmp_path: Path) -> None:
    s = Sketch()
    rows = s.input("rows", 1, "batch", "sequence", WIDTH)
    graph = _graph(s.save(tmp_path / "m.onnx", layer(s, rows)))
    assert graph.hosts == ()
    assert [i.name for i in graph.inputs] == ["rows"]


def test_between_two_layers_nothing_goes_to_the_host(tmp_path: Path) -> None:
    s = Sketch()
    x = layer(s, s.ids())
    x = s.op("CumSum", x, np.int64(1))
    path = s.save(tmp_path / "m.onnx", norm(s, layer(s, x)))
    with pytest.raises(CimError) as caught:
        recognised(path)
    (problem,) = caught.value.diagnostics
    assert problem.code == "E0203"
    assert "CumSum" in str(problem.place)


def test_what_follows_the_layers_goes_to_the_host(tmp_path: Path) -> None:
    s = Sketch()
    path = s.save(tmp_path / "m.onnx", s.op("CumSum", norm(s, layer(s, s.ids())), np.int64(1)))
    graph = _graph(path)
    assert [part.name for part in graph.hosts] == ["back"]
    feeds = {"input_ids": np.array([[3, 1, 4, 1, 5]])}
    got = run_hosted(graph, feeds, run_part)["logits"]
    np.testing.assert_allclose(got, reference(path, feeds), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["RandomNormalLike", "Bernoulli"])
def test_what_the_host_refuses_is_refused(tmp_path: Path, kind: str) -> None:
    s = Sketch()
    path = s.save(tmp_path / "m.onnx", s.op(kind, norm(s, layer(s, s.ids()))))
    with pytest.raises(CimError, match=kind):
        recognised(path)


def test_a_model_without_attention_is_not_cut(tmp_path: Path) -> None:
    s = Sketch()
    with pytest.raises(CimError, match="Conv"):
        recognised(s.save(tmp_path / "m.onnx", head(s, stem(s))))


def test_custom_domains_are_refused_by_name() -> None:
    refusal = host_refusal("com.example", "Sparkle")
    assert refusal is not None and "com.example" in refusal.reason
    assert host_refusal("com.microsoft", "BeamSearch") is not None
    assert host_refusal("", "Conv") is None


def test_a_piece_is_what_lies_between_names(tmp_path: Path) -> None:
    path = write_vision(tmp_path / "m.onnx")
    file = ModelFile(path)
    border = recognised(path).require_graph().hosts[0].outputs[0]
    piece = file.cut("stem", (), (border,), {})
    assert [v.name for v in piece.inputs] == ["pixels"]
    assert piece.outputs[0].shape is not None and piece.outputs[0].shape[1:] == (TOKENS, WIDTH)
    made = run_part(piece.model.data(), images(2))[border]
    assert made.shape == (2, TOKENS, WIDTH)
    with pytest.raises(CimError, match="no node of the file"):
        file.cut("x", (), ("nowhere",), {})
