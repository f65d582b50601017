"""Comparing with ONNX Runtime, as a whole and layer by layer: what is found, and that a defect would be."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import models
from compiler.driver import compile_model
from compiler.ir.graph import op_name
from compiler.pipeline import Compilation, CompileOptions
from isa.diagnostics import CimError
from isa.hardware import load_target
from models.make import make
from runtime.check.compare import compare, surprise, text_ids, windows_of
from runtime.check.layers import layer_errors, node_name
from runtime.check.oracle import Oracle
from runtime.check.values import output_errors, random_inputs
from runtime.session import Session
from tests.frontend.oracle import write_small

IDS = tuple(b"def f(x):\n    return x + 1\n\n\nclass")
EXACT = 1e-4  # relative; float32 sums in another order differ by 1e-6
CONTEXT = 64


def _compiled(path: Path, weights: str) -> Compilation:
    options = CompileOptions(max_context=CONTEXT, weights=weights)
    return compile_model(path, options, load_target("dcim22"))


@pytest.fixture(scope="module")
def pytiny() -> Path:
    return models.path(models.PYTINY)


@pytest.fixture(scope="module")
def quantised(pytiny: Path) -> Compilation:
    return _compiled(pytiny, "int8")


def _random(tmp_path: Path, with_cache: bool) -> Path:
    path = tmp_path / "gpt2.onnx"
    make("gpt2-tiny", path, seed=5, with_cache=with_cache)
    return path


@pytest.mark.parametrize("with_cache", [True, False])
def test_ideal_arithmetic_agrees_with_onnx_runtime(tmp_path: Path, with_cache: bool) -> None:
    """Both conventions of inputs are fed as they should be, and the mapping is right."""
    path = _random(tmp_path, with_cache)
    got = Session(_compiled(path, "float32").require_program()).score(IDS)
    want = Oracle(path).logits(IDS)
    assert np.abs(got - want).max() <= EXACT * np.abs(want).max()


def test_every_operator_is_observed(quantised: Compilation, tmp_path: Path) -> None:
    for compilation in (quantised, _compiled(_random(tmp_path, True), "int8")):
        nodes = compilation.require_graph().nodes
        errors = layer_errors(compilation, IDS)
        assert [(e.node, e.op) for e in errors] == [(node_name(node), op_name(node.op)) for node in nodes]


def test_without_quantisation_every_layer_is_exact(pytiny: Path, tmp_path: Path) -> None:
    for path in (pytiny, _random(tmp_path, True)):
        errors = layer_errors(_compiled(path, "float32"), IDS)
        assert max(error.relative_error for error in errors) < EXACT


@pytest.mark.parametrize("part", ["self_attn.k_proj", "self_attn.o_proj", "mlp.down_proj"])
def test_a_wrong_weight_is_found_where_it_is(quantised: Compilation, part: str) -> None:
    """The first operator that is far off is the one whose weights were spoilt."""
    program = quantised.require_program()
    assert program.data is not None
    (name,) = (t.name for t in program.tensors if f"layers.2.{part}" in t.name and t.name.endswith(".int8"))
    spoilt = replace(program, data={**program.data, name: -np.asarray(program.data[name])})
    errors = layer_errors(replace(quantised, program=spoilt), IDS)
    first = next(error for error in errors if error.relative_error > 0.1)
    assert first.node.endswith(f"layers.2/{part.replace('.', '/')}/MatMul")


def test_comparison_of_the_shipped_model(quantised: Compilation, pytiny: Path) -> None:
    ids, what = text_ids(models.path(models.HELD_OUT).read_bytes(), 256)
    windows = windows_of(ids, 2, 24, 24)
    seen: list[int] = []
    found = compare(Session(quantised.require_program()), Oracle(pytiny), windows, seen.append)
    assert (found.windows, found.tokens, seen, what) == (2, 48, [0, 1], "text")
    assert found.agreement >= 0.9  # of 48 tokens; the slow test below has enough of them for the real bound
    assert abs(found.perplexity_change) < 0.02
    assert 0 < found.largest_difference < 1


@pytest.mark.slow
def test_the_shipped_model_is_as_accurate_as_promised(pytiny: Path) -> None:
    """20 held-out prompts, 64 tokens each: at least 97 % agreement, perplexity within 1 %."""
    program = compile_model(pytiny, CompileOptions(max_context=128), load_target("dcim22")).require_program()
    ids, _ = text_ids(models.path(models.HELD_OUT).read_bytes(), 256)
    found = compare(Session(program), Oracle(pytiny), windows_of(ids, 20, 64, 64))
    assert found.tokens == 1280
    assert found.agreement >= 0.97
    assert abs(found.perplexity_change) <= 0.01


def test_windows_are_spread_over_the_text() -> None:
    windows = windows_of(range(100), 3, 4, 6)
    assert [window.ids[0] for window in windows] == [0, 45, 90]
    assert windows[-1].ids == tuple(range(90, 100))
    assert windows[-1].inputs == tuple(range(90, 99))
    assert windows[-1].truth == tuple(range(94, 100))
    rows = np.arange(9, dtype=np.float32)[:, None]
    assert windows[-1].predictions(rows)[:, 0].tolist() == [3, 4, 5, 6, 7, 8]


def test_a_short_text_is_refused() -> None:
    with pytest.raises(CimError, match="E0601"):
        windows_of(range(9), 1, 4, 6)


def test_surprise_is_minus_the_logarithm_of_the_probability() -> None:
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]], np.float32)) + np.float32(3)
    assert surprise(logits, (0, 2)) == pytest.approx(-math.log(0.5) - math.log(0.8))


def test_random_tokens_where_tokens_are_no_bytes() -> None:
    ids, what = text_ids(b"abc", 1000, seed=1)
    assert ids == text_ids(b"xyz", 1000, seed=1)[0]
    assert max(ids) > 255
    assert "seed 1" in what


def test_a_model_that_onnx_runtime_refuses(tmp_path: Path) -> None:
    node = helper.make_node("Frobnicate", ["input_ids"], ["logits"], "n", domain="com.example")
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "sequence"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, "sequence", 8])
    path = tmp_path / "odd.onnx"
    onnx.save(helper.make_model(helper.make_graph([node], "odd", [ids], [logits])), path)
    with pytest.raises(CimError, match="ONNX Runtime does not run the model"):
        Oracle(path).logits(IDS)


@pytest.mark.parametrize(("weights", "least", "most"), [("float32", 0.0, 1e-5), ("int8", 1e-4, 0.06)])
def test_outputs_on_random_inputs(tmp_path: Path, weights: str, least: float, most: float) -> None:
    path = write_small("llama", tmp_path / "m.onnx")
    compilation = _compiled(path, weights)
    feeds = random_inputs(compilation)
    assert feeds["past_key_values.0.key"].shape == (2, 2, 3, 8)
    errors = output_errors(compilation.require_program(), Oracle(path), feeds)
    assert [e.name for e in errors][:2] == ["logits", "present.0.key"]
    assert len(errors) == 5
    assert least <= max(e.relative_error for e in errors) < most
    assert errors[0].shape == (2, 16, 64)


def test_inputs_that_onnx_runtime_refuses(tmp_path: Path) -> None:
    path = write_small("bert", tmp_path / "m.onnx")
    with pytest.raises(CimError, match="--dim"):
        Oracle(path).outputs({"input_ids": np.zeros((1, 2, 3), np.int64)})
