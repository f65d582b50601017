"""Channels are evened out before they are rounded: float values stay, outliers no longer cost the others their bits."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from benchmarks.outliers import with_outliers
from compiler.driver import compile_model
from compiler.ir.evaluate import evaluate
from compiler.ir.graph import Graph
from compiler.passes import GRAPH_PIPELINE
from compiler.pipeline import Compilation, CompileOptions, Smoothing, run_pipeline
from compiler.smoothing import Smoother, factors, spread
from isa.assembler import assemble
from isa.disassembler import listing
from isa.program import Program
from models import PYTINY, path
from runtime.check.oracle import Oracle
from runtime.check.values import output_errors, random_inputs
from runtime.machine import Machine
from runtime.values import EngineKind
from tests.compiler.building import run, tiny
from tests.frontend.sketch import WIDTH, Sketch
from tests.quantised.making import dynamic, plain

IDS = np.random.default_rng(5).integers(0, 60, 24)
FAMILIES = ("llama", "gpt2", "opt", "bert")


@cache
def graph_of(file: Path) -> Graph:
    return run_pipeline(GRAPH_PIPELINE, Compilation(file)).require_graph()


def smoothed(graph: Graph, **options: bool) -> tuple[Graph, Smoother]:
    given = {"every": True, "is_narrow": False, "keeps_gains": False} | options
    smoother = Smoother(graph, **given)
    smoother.run()
    return smoother.editor.finish(), smoother


@cache
def outliers(folder: Path, factor: float) -> Path:
    file = folder / "outliers.onnx"
    onnx.save(with_outliers(onnx.load(path(PYTINY)), factor), file)
    return file


@pytest.mark.parametrize("family", FAMILIES)
def test_values_stay(family: str) -> None:
    graph = graph_of(plain(family))
    changed, smoother = smoothed(graph)
    assert smoother.editor.changed and smoother.notes()
    np.testing.assert_allclose(evaluate(changed, IDS), evaluate(graph, IDS), rtol=1e-4, atol=1e-5)


def test_sides_become_equally_large() -> None:
    """s = sqrt(made / read): both sides become sqrt(made * read), whatever was moved from one to the other before."""
    random = np.random.default_rng(0)
    made, read = random.random((3, 16)) + 0.1, random.random((3, 16)) + 0.1
    moved = np.exp2(random.integers(-6, 7, (3, 16)))
    for s, a, b in (
        (factors(made, read), made, read),
        (factors(made * moved, read / moved), made * moved, read / moved),
    ):
        ratio = (a / s) / (b * s)
        np.testing.assert_allclose(ratio, ratio[:, :1] * np.ones_like(ratio), rtol=1e-5)
    assert factors(np.array([1.0, 0.0, 4.0]), np.array([1.0, 1.0, 1.0]))[1] == 1
    assert spread(np.array([[1.0, 1.0, 9.0], [2.0, 2.0, 2.0]])) == 9


def test_outliers_are_found_and_gone(tmp_path: Path) -> None:
    found, smoother = smoothed(graph_of(outliers(tmp_path, 64.0)), every=False)
    assert {place.value for place in smoother._done} == {"norms", "values", "keys", "feed-forward layers"}
    assert set(smoother._done.values()) == {4, 8}, "of two norms a layer, and one of each of the others"
    _, again = smoothed(found, every=False)
    assert not again.editor.changed
    np.testing.assert_allclose(
        evaluate(found, IDS), evaluate(graph_of(path(PYTINY)), IDS), rtol=1e-3, atol=1e-3
    )


def test_models_without_outliers_stay() -> None:
    _, smoother = smoothed(graph_of(path(PYTINY)), every=False)
    assert not smoother.editor.changed and not smoother.factors
    _, narrow = smoothed(graph_of(path(PYTINY)), every=False, is_narrow=True)
    assert sorted(narrow.factors) == [0, 1, 2, 3]


@cache
def program(family: str, smooth: Smoothing, weights: str = "int8") -> Program:
    options = CompileOptions(max_context=32, kv_bits=8, smooth=smooth, weights=weights)
    return compile_model(plain(family), options, tiny(10)).require_program()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_rows_of_caches_are_as_the_file_has_them(family: str) -> None:
    """What is taken out of arrays is multiplied by the factors, what is put in is divided."""
    even, plain_ = (Machine(program(family, s)) for s in (Smoothing.ALL, Smoothing.NONE))
    assert even.program.caches[0].key_factors and not plain_.program.caches[0].key_factors
    for machine in (even, plain_):
        run(machine, IDS)
    for ours, theirs in zip(even.read_cache(0, 0, 24), plain_.read_cache(0, 0, 24), strict=True):
        assert np.sqrt(np.mean((ours - theirs) ** 2)) < 0.03 * np.std(theirs)
    rows = even.read_cache(0, 0, 24)
    fresh = Machine(even.program)
    fresh.write_cache(0, 0, *rows)
    for ours, theirs in zip(fresh.read_cache(0, 0, 24), rows, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=1e-2 * np.abs(theirs).max())


def test_programs_with_factors_round_trip() -> None:
    p = program("llama", Smoothing.ALL)
    text = listing(p, source=False, complete=True)
    assert "factors cache0.keys.factors cache0.values.factors" in text
    assert assemble(text, target=p.target).caches == p.caches
    fast = Machine(p, engine=EngineKind.FAST)
    assert run(fast, IDS).tobytes() == run(Machine(p), IDS).tobytes()


def test_ideal_arithmetic_and_integers_of_files_stay() -> None:
    ideal = [program("llama", s, "float32") for s in (Smoothing.ALL, Smoothing.NONE)]
    assert ideal[0].caches == ideal[1].caches and ideal[0].roles == ideal[1].roles
    _, smoother = smoothed(graph_of(dynamic("llama", per_channel=True)), is_narrow=True)
    assert not smoother.factors and not smoother.editor.changed


def test_outliers_move_no_float_value(tmp_path: Path) -> None:
    """Factors of the outlier model are powers of two: every product of float values is what it was."""
    before = {i.name: numpy_helper.to_array(i) for i in onnx.load(path(PYTINY)).graph.initializer}
    after = {i.name: numpy_helper.to_array(i) for i in onnx.load(outliers(tmp_path, 64.0)).graph.initializer}
    moved = [n for n in before if not np.array_equal(before[n], after[n])]
    assert len(moved) >= 4 * 9
    for name in moved:
        ratio = after[name][before[name] != 0] / before[name][before[name] != 0]
        assert set(np.unique(ratio)) <= {1.0, 64.0, 1 / 64, 2.0**12, 2.0**-12}


def _loud(s: Sketch, x: str, width: int = 48) -> str:
    """A linear layer with one column 100 times as large as the others, and one a hundredth."""
    s.seed += 1
    weight = np.random.default_rng(s.seed).standard_normal((WIDTH, width)).astype(np.float32)
    weight[:, 3] *= 100
    weight[:, 5] /= 100
    return s.op("MatMul", x, s.const(weight))


def _shown(s: Sketch, u: str) -> str:
    s.outputs.append(u)
    return s.op("Relu", u)


USES: dict[str, Callable[[Sketch, str], str]] = {
    "product with itself": lambda s, u: s.op("Mul", u, u),
    "square": lambda s, u: s.op("Pow", u, 2.0),
    "square of relu": lambda s, u: s.op("Pow", s.op("Relu", u), 2.0),
    "product with its relu": lambda s, u: s.op("Mul", u, s.op("Relu", u)),
    "product with its sigmoid": lambda s, u: s.op("Mul", u, s.op("Sigmoid", u)),
    "sum with itself": lambda s, u: s.op("Relu", s.op("Add", u, u)),
    "product of sums with itself": lambda s, u: s.op("Mul", s.op("Add", u, u), s.op("Relu", u)),
    "square of a product": lambda s, u: s.op("Pow", s.op("Mul", u, s.const(np.float32(0.5))), 2.0),
    "an output as well": _shown,
}
"""What stands between two linear layers, where the first one's columns must not be changed by themselves."""

ALONE: dict[str, Callable[[Sketch, str], str]] = {
    "relu": lambda s, u: s.op("Relu", u),
    "product with another": lambda s, u: s.op("Mul", u, s.op("Relu", _loud(s, s.inputs[0].name))),
    "product with a row": lambda s, u: s.op("Mul", u, s.const(np.full(48, 0.5, np.float32))),
}


@pytest.mark.parametrize("smooth", [Smoothing.AUTO, Smoothing.NONE])
@pytest.mark.parametrize("between", [*USES, *ALONE])
def test_what_uses_a_layer_twice_gets_its_values(between: str, smooth: Smoothing, tmp_path: Path) -> None:
    """Columns divided by s and rows multiplied by s fit each other only where the columns are used once."""
    s = Sketch()
    x = s.input("x", onnx.TensorProto.FLOAT, 1, "tokens", WIDTH)
    rows = (USES | ALONE)[between](s, _loud(s, x))
    file = s.save(tmp_path / "two.onnx", s.op("MatMul", rows, s.weight(48, 24)))
    compiled = compile_model(file, CompileOptions(max_context=32, smooth=smooth), tiny(10))
    errors = output_errors(compiled.require_program(), Oracle(file), random_inputs(compiled))
    assert errors and max(e.relative_error for e in errors) < 0.06
    _, smoother = smoothed(graph_of(file), every=False)
    assert smoother.editor.changed is (between in ALONE)
