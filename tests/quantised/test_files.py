"""Quantised files of other people's tools: what they say, and what the chip makes of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from benchmarks.frontends import without_empty_places
from benchmarks.quantised import exactly, first_sequence, without_roundings
from benchmarks.references import read_reference
from compiler.driver import compile_model
from compiler.ir.evaluate import evaluate, run
from compiler.ir.graph import Graph, Linear, Role
from compiler.ir.quantised import integers
from compiler.passes import GRAPH_PIPELINE
from compiler.pipeline import Compilation, CompileOptions, run_pipeline
from isa.diagnostics import CimError
from isa.hardware import load_target
from isa.program import Program, segments_of
from runtime.machine import Machine
from tests.compiler import building
from tests.frontend.oracle import SHARED, difference
from tests.quantised.joining import apart
from tests.quantised.making import normalised, spread_of

pytestmark = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"the collected ONNX files are not at {SHARED} (set CIM_SHARED)"
)

DYNAMIC = ["gen_quant__gpt2_past_dyn_u8s8", "gen_quant__llama_past_dyn_u8s8"]
BLOCKS = ["gen_quant__gpt2_past_nbits", "gen_quant__llama_past_int4qdq"]
GENAI = [f"gen_genai__{n}_int4_model" for n in ("llama", "llama3rope", "qwen2")]
ENCODERS = ["gen_quant__bert_dyn_u8s8", "gen_quant__bert_static_qop"]
STATIC_DECODERS = [
    f"gen_quant__{n}" for n in ("gpt2_past_static_qdq", "gpt2_past_static_qop", "llama_past_static_qop")
]
WEIGHTS_AS_INPUTS = [
    "ort__dynamic_quantize_matmul",
    "ort__dynamic_quantize_matmul_bias",
    "migraphx__matmulnbits_mm_test",
    "migraphx__matmulnbits_mm2_test",
    "ort__matmulnbits_add",
]
IDS = np.random.default_rng(5).integers(0, 100, 12)


def path_of(name: str) -> Path:
    """A file of the collection; some lie in a folder of their own, with their weights beside them."""
    plain = SHARED / f"{name}.onnx"
    return plain if plain.exists() else SHARED / name / f"{name}.onnx"


@cache
def canonical(name: str) -> Graph:
    return run_pipeline(GRAPH_PIPELINE, Compilation(path_of(name))).require_graph()


@cache
def program(name: str, weights: str = "int8") -> Program:
    options = CompileOptions(max_context=32, weights=weights)
    return compile_model(path_of(name), options, load_target("dcim22")).require_program()


def reference(name: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    return read_reference(path_of(name).with_suffix(".io.npz"))


@pytest.mark.parametrize("name", [*DYNAMIC, *ENCODERS])
def test_outputs_of_the_file_to_the_last_rounding(name: str) -> None:
    """A batch of two: scales found at run time are those of both sequences."""
    feeds, wanted = reference(name)
    assert difference(run(normalised(path_of(name)), feeds), wanted) < 1e-6


@pytest.mark.parametrize("name", [*DYNAMIC, *BLOCKS, *GENAI, "gen_quant__bert_dyn_u8s8"])
def test_canonical_graphs_mean_what_the_file_says(name: str) -> None:
    feeds = first_sequence(reference(name)[0])
    graph = canonical(name)
    got = run(graph, without_empty_places(graph, feeds))
    assert difference(got, exactly(path_of(name), feeds)) < 1e-6


@pytest.mark.parametrize("name", BLOCKS + GENAI)
def test_fused_kernels_round_activations(name: str) -> None:
    """The reference values of these files hold the noise of kernels that take int8 activations."""
    feeds, wanted = reference(name)
    assert spread_of(exactly(path_of(name), feeds), wanted) < 0.01


def test_a_static_encoder_is_nearer_to_its_file_than_without_roundings() -> None:
    name = "gen_quant__bert_static_qop"
    feeds, wanted = reference(name)
    kept, bare = run(canonical(name), feeds), run(without_roundings(canonical(name)), feeds)
    assert spread_of(kept, wanted) < spread_of(bare, wanted) < 0.04


@pytest.mark.parametrize("name", STATIC_DECODERS)
def test_files_calibrated_on_masked_scores_are_refused(name: str) -> None:
    with pytest.raises(CimError, match="the scale here is inf") as caught:
        canonical(name)
    assert {d.code for d in caught.value.diagnostics} == {"E0203"}


@pytest.mark.parametrize("name", WEIGHTS_AS_INPUTS)
def test_weights_that_are_inputs_take_the_values_given(name: str) -> None:
    """Single operators: their weights are inputs, whose values the reference file holds."""
    path = path_of(name)
    bound = CompileOptions(bind=str(path.with_suffix(".io.npz")))
    graph = run_pipeline(GRAPH_PIPELINE, Compilation(path, bound)).require_graph()
    feeds, wanted = reference(name)
    assert difference(run(graph, feeds), wanted) < 1e-6
    (linear,) = [n for n in graph.nodes if isinstance(n.op, Linear)]
    assert graph.constants[linear.inputs[1]].is_quantised


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ort__attention_past_state.u8s8", "the weight 'weight' is an input of the model"),
        ("ort__dynamic_quantize_matmul_int8_bias", "is not known: its last axis is K"),
        ("ort__qdq_minimal_model", "Resize"),
        ("migraphx__quantizelinear_2d_blocked_with_zp_test", "scale"),
    ],
)
def test_what_cannot_be_taken_is_refused_by_name(name: str, reason: str) -> None:
    with pytest.raises(CimError, match=reason) as caught:
        canonical(name)
    assert all(d.code == "E0203" for d in caught.value.diagnostics)


@pytest.mark.parametrize("name", [*DYNAMIC, *BLOCKS, *GENAI])
def test_the_chip_computes_with_the_integers_of_the_file(name: str) -> None:
    graph, p = canonical(name), program(name)
    assert p.data is not None
    tensors = (t.name for t in p.tensors if t.name.endswith(".int8"))
    held = {name: values for whole in tensors for name, values in apart(whole, p.data[whole]).items()}
    taken = 0
    for node in graph.nodes:
        if isinstance(node.op, Linear) and graph.constants[node.inputs[1]].is_quantised:
            weight = integers(graph.constants[node.inputs[1]])
            assert weight is not None
            assert np.array_equal(held[f"{node.inputs[1]}.int8"], weight.values)
            taken += 1
    assert taken == (1 if name == "gen_quant__gpt2_past_nbits" else len(linears(graph)))
    expected = evaluate(without_roundings(graph), IDS)
    error = building.run(Machine(p), IDS) - expected
    assert np.sqrt(np.mean(error**2)) / np.std(expected) < 0.02


@pytest.mark.parametrize("name", [*DYNAMIC, *BLOCKS, *GENAI])
def test_ideal_arithmetic_is_the_file_without_rounded_activations(name: str) -> None:
    expected = evaluate(without_roundings(canonical(name)), IDS)
    got = building.run(Machine(program(name, "float32")), IDS)
    assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max()


def linears(graph: Graph) -> list[str]:
    """The weights of linear layers."""
    return [n.inputs[1] for n in graph.nodes if isinstance(n.op, Linear)]


@pytest.mark.parametrize("name", ["gen_quant__vit_dyn_u8s8", "gen_quant__vit_static_qdq", *ENCODERS])
def test_encoders_keep_the_integers_of_every_layer(name: str) -> None:
    graph = canonical(name)
    assert all(graph.constants[w].is_quantised for w in linears(graph))
    p = program(name)
    assert p.data is not None
    for weight in linears(graph):
        found = integers(graph.constants[weight])
        assert found is not None and np.array_equal(p.data[f"{weight}.int8"], found.values)


@pytest.mark.parametrize("weights", ["int8", "float32"])
@pytest.mark.parametrize("name", ["gen_quant__vit_dyn_u8s8", "gen_quant__vit_static_qdq", *ENCODERS])
def test_encoders_on_the_chip(name: str, weights: str) -> None:
    """What the chip makes of tokens, or of the rows that a stem on the host makes of an image."""
    graph, p = without_roundings(canonical(name)), program(name, weights)
    length = 17 if name.startswith("gen_quant__vit") else 12
    generator = np.random.default_rng(8)
    feeds: dict[str, np.ndarray] = {}
    for given in graph.inputs:
        if given.role is Role.POSITIONS:
            continue  # counted by the chip itself
        shape = given.value.shape or ()
        if given.value.dtype.is_float:
            feeds[given.name] = generator.standard_normal((length, int(str(shape[-1])))).astype(np.float32)
        else:
            feeds[given.name] = generator.integers(0, 2, length)
    expected = run(graph, feeds)[graph.outputs[0]]
    columns = {n: f if f.ndim == 2 else f.astype(np.int32)[:, None] for n, f in feeds.items()}
    segments = segments_of(length, 0, p.limits.chunk, last_only=False)
    (got,) = Machine(p).step(segments, columns).values()
    error = float(np.sqrt(np.mean((got - expected) ** 2)) / np.std(expected))
    assert error < (0.02 if weights == "int8" else 1e-5)
