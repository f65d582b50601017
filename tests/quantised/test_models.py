"""Whole models quantised by ONNX Runtime's tools: meaning at graph level."""

from __future__ import annotations

import pytest
from onnxruntime.quantization import QuantFormat, QuantType

from compiler.ir.evaluate import run
from compiler.ir.graph import FakeQuant, Graph, Linear
from compiler.passes import GRAPH_PIPELINE
from compiler.passes.drop_roundings import DropRoundings
from compiler.pipeline import Compilation, run_pipeline
from isa.diagnostics import CimError
from tests.frontend.oracle import compiled, difference, expected, feeds_for, raw
from tests.quantised.making import blocks, dynamic, exactly, normalised, plain, spread_of, static

FAMILIES = ("llama", "gpt2", "opt", "bert")


def linears(graph: Graph) -> list[bool]:
    """For each linear layer, whether its weight is integers with scales."""
    return [graph.constants[n.inputs[1]].is_quantised for n in graph.nodes if isinstance(n.op, Linear)]


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("weights", [QuantType.QInt8, QuantType.QUInt8])
@pytest.mark.parametrize("family", FAMILIES)
def test_dynamic_files_mean_what_onnx_runtime_computes(
    family: str, weights: QuantType, per_channel: bool
) -> None:
    path = dynamic(family, weights, per_channel=per_channel)
    feeds = feeds_for(raw(path), sequence=4, past=3)
    wanted, graph = exactly(path, feeds), compiled(path)
    assert difference(run(normalised(path), feeds), wanted) < 1e-6
    assert difference(run(graph, feeds), wanted) < 1e-6
    assert all(linears(graph))
    roundings = [n for n in graph.nodes if isinstance(n.op, FakeQuant)]
    assert roundings and all(n.op == FakeQuant() for n in roundings)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_in_blocks_mean_what_onnx_runtime_computes(family: str, symmetric: bool) -> None:
    path = blocks(family, symmetric=symmetric)
    feeds = feeds_for(raw(path), sequence=4, past=3)
    graph = compiled(path)
    assert difference(run(graph, feeds), exactly(path, feeds)) < 1e-6
    assert any(linears(graph)) and not any(isinstance(n.op, FakeQuant) for n in graph.nodes)


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_weights_in_blocks_between_dequantising_nodes(family: str) -> None:
    path = blocks(family, qdq=True)
    feeds = feeds_for(raw(path), sequence=4, past=3)
    graph = compiled(path)
    assert difference(run(graph, feeds), exactly(path, feeds)) < 1e-6
    assert all(linears(graph))


@pytest.mark.parametrize(
    ("form", "activations"),
    [  # ONNX Runtime has no kernels for QOperator with uint8 activations and int8 weights by channel
        (QuantFormat.QOperator, QuantType.QInt8),
        (QuantFormat.QDQ, QuantType.QInt8),
        (QuantFormat.QDQ, QuantType.QUInt8),
    ],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_static_files_are_understood_to_the_last_rounding(
    family: str, form: QuantFormat, activations: QuantType
) -> None:
    path = static(family, form, activations=activations)
    feeds = feeds_for(raw(path), sequence=4, past=3)
    assert difference(run(normalised(path), feeds), exactly(path, feeds)) < 1e-6


@pytest.mark.parametrize("form", QuantFormat)
@pytest.mark.parametrize("family", FAMILIES)
def test_static_files_without_their_roundings_are_nearer_to_the_float_model(
    family: str, form: QuantFormat
) -> None:
    """Roundings inside attention and activations are left out; that takes noise of the file away, and adds none."""
    path = static(family, form)
    feeds = feeds_for(raw(path), sequence=4, past=3)
    float_model, file = expected(plain(family), feeds), exactly(path, feeds)
    c = run_pipeline(GRAPH_PIPELINE, Compilation(path))
    own_noise = spread_of(file, float_model)
    kept = run(c.require_graph(), feeds)
    assert all(linears(c.require_graph()))
    assert spread_of(kept, file) < 1.5 * own_noise
    DropRoundings().run(c)
    assert not any(isinstance(n.op, FakeQuant) for n in c.require_graph().nodes)
    bare = run(c.require_graph(), feeds)
    assert set(bare) == set(kept)
    assert spread_of(bare, float_model) < min(0.02, own_noise)


def test_everything_rounded_in_an_encoder() -> None:
    for form in QuantFormat:
        path = static("bert", form, everything=True)
        feeds = feeds_for(raw(path), sequence=4)
        assert difference(run(normalised(path), feeds), exactly(path, feeds)) < 1e-6
        assert spread_of(run(compiled(path), feeds), exactly(path, feeds)) < 0.02


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
def test_calibration_on_masked_scores_is_refused(family: str) -> None:
    """The mask's -inf makes a scale that nothing survives; ONNX Runtime's own result is noise then."""
    with pytest.raises(CimError, match="every value becomes zero or not a number") as caught:
        compiled(static(family, QuantFormat.QDQ, everything=True))
    assert {d.code for d in caught.value.diagnostics} == {"E0203"}


def test_notes_say_what_was_left_out() -> None:
    c = run_pipeline(GRAPH_PIPELINE, Compilation(static("llama", QuantFormat.QDQ)))
    assert any("inside operators that the chip computes in float32" in note.text for note in c.notes)
