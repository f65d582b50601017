"""The ONNX backend interface, and the standard node tests through it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any
from unittest import SkipTest

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks import onnx_nodes
from benchmarks.onnx_nodes import MIN_CASES, TRANSFORMER, Result, Verdict
from isa.diagnostics import CimError
from runtime.onnx_backend import CimBackend, Place, RefusedError
from tests.backend.vision import images, reference, write_vision

X = np.random.default_rng(3).standard_normal((2, 5, 8)).astype(np.float32)


def _model(kind: str, *arrays: np.ndarray, shape: list[int], **attributes: Any) -> onnx.ModelProto:
    names = [f"x{i}" for i in range(len(arrays))]
    element = helper.np_dtype_to_tensor_dtype
    inputs = [
        helper.make_tensor_value_info(n, element(a.dtype), a.shape)
        for n, a in zip(names, arrays, strict=True)
    ]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    graph = helper.make_graph([helper.make_node(kind, names, ["y"], **attributes)], "g", inputs, [out])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def test_a_norm_runs_on_the_chip_with_its_weight_compiled_in() -> None:
    gain = np.linspace(0.5, 2, 8, dtype=np.float32)
    rep = CimBackend.prepare(_model("RMSNormalization", X, gain, shape=[2, 5, 8]))
    (got,) = rep.run([X, gain])
    assert rep.place is Place.CHIP
    wanted = X / np.sqrt((X**2).mean(-1, keepdims=True) + 1e-5) * gain
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(rep.run({"x1": gain, "x0": X})[0], got)


def test_what_the_chip_cannot_do_runs_on_the_host_and_says_why() -> None:
    rep = CimBackend.prepare(_model("CumSum", X, np.array(1), shape=[2, 5, 8]))
    (got,) = rep.run([X, np.array(1)])
    assert (rep.place, "CumSum" in rep.why) == (Place.HOST, True)
    np.testing.assert_allclose(got, X.cumsum(axis=1), rtol=1e-5, atol=1e-5)


def test_what_can_run_nowhere_is_refused() -> None:
    model = _model("RandomNormalLike", X, shape=[2, 5, 8])
    assert not CimBackend.is_compatible(model)
    with pytest.raises(RefusedError, match="random") as caught:
        CimBackend.prepare(model)
    assert isinstance(caught.value, CimError) and isinstance(caught.value, SkipTest)
    assert CimBackend.is_compatible(_model("CumSum", X, np.array(1), shape=[2, 5, 8]))


def test_run_node_and_devices() -> None:
    node = helper.make_node("Relu", ["a"], ["b"])
    (got,) = CimBackend.run_node(node, [X])
    np.testing.assert_array_equal(got, np.maximum(X, 0))
    info = [(np.dtype(np.float32), X.shape)]
    (again,) = CimBackend.run_node(node, {"a": X}, outputs_info=info, opset_version=14)
    np.testing.assert_array_equal(again, got)
    assert CimBackend.supports_device("CPU") and CimBackend.supports_device("CPU:0")
    assert not CimBackend.supports_device("CUDA")


@pytest.mark.parametrize(("weights", "tolerance"), [("float32", 1e-4), ("int8", 0.1)])
def test_a_whole_model_goes_host_chip_host(tmp_path: Path, weights: str, tolerance: float) -> None:
    path = write_vision(tmp_path / "m.onnx", 2)
    (got,) = CimBackend.run_model(onnx.load(path), [images(2)["pixels"]], weights=weights)
    wanted = reference(path, images(2))
    assert np.abs(got - wanted).max() < tolerance * np.abs(wanted).max()


# ------------------------------------------------------------------------------------------- standard node tests


ON_CHIP = ("test_relu", "test_gelu_default_2", "test_add", "test_mul", "test_rms_normalization_2d_axis1")
"""Cases that must not silently become the host's."""


KNOWN_DEFECTS = {"Gemm", "MatMul"}
"""Operators of which the compiler makes programs that the verifier refuses (a linear layer on the model's input)."""


@cache
def _cases() -> tuple[Any, ...]:
    return tuple(onnx_nodes.cases())


def _sample() -> list[Any]:
    """The first case of every operator that occurs in transformers, and every twentieth of all."""
    base = onnx_nodes.base_operators(_cases())
    first: dict[str, Any] = {}
    for case in _cases():
        first.setdefault(onnx_nodes.operator_of(case, base), case)
    some = [case for op, case in first.items() if op in TRANSFORMER]
    some += [case for case in _cases() if case.name in ON_CHIP]
    return list({case.name: case for case in (*some, *_cases()[::20])}.values())


def _bad(results: list[Result]) -> list[Result]:
    return [r for r in results if r.verdict in (Verdict.FAIL, Verdict.CRASH)]


def test_a_sample_of_the_node_tests() -> None:
    results = onnx_nodes.run_all(_sample())
    assert len(results) >= 150
    assert _bad(results) == []
    assert all(r.reason for r in results if r.verdict in (Verdict.HOST, Verdict.REFUSED))
    by_name = {r.case: r.verdict for r in results}
    assert {name: by_name[name] for name in ON_CHIP} == dict.fromkeys(ON_CHIP, Verdict.CHIP)


def test_every_transformer_operator_has_cases() -> None:
    base = onnx_nodes.base_operators(_cases())
    found = {onnx_nodes.operator_of(case, base) for case in _cases()}
    assert [op for op in TRANSFORMER if op not in found] == []


def test_a_shrunken_corpus_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    few = list(_cases()[:100])
    monkeypatch.setattr("onnx.backend.test.loader.load_model_tests", lambda kind: few)
    with pytest.raises(RuntimeError, match="100 node cases"):
        onnx_nodes.cases()


@pytest.mark.slow
def test_all_node_tests_and_their_document() -> None:
    results = onnx_nodes.run_all(_cases())
    assert len(results) >= MIN_CASES
    assert _bad(results) == []
    assert all(r.reason for r in results if r.verdict is not Verdict.CHIP)
    assert {r.op for r in results if r.defect} <= KNOWN_DEFECTS
    refused = {r.op for r in results if r.verdict is Verdict.REFUSED and r.op in TRANSFORMER}
    assert refused <= {"Loop", "Range"}
    if onnx.__version__ in onnx_nodes.DOCUMENT.read_text(encoding="utf-8"):
        text = onnx_nodes.document(results)
        assert onnx_nodes.DOCUMENT.read_text(encoding="utf-8") == text, (
            "python -m benchmarks.onnx_nodes --write"
        )
