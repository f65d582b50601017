"""How a program's outputs are judged: ideal arithmetic to 1e-4, int8 by its relative error, amplified rounding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import chip
from benchmarks.judging import TOLERANCE, Arithmetic, FileClass, class_of, judged, of_weights, relative_error
from compiler.ir.evaluate import run
from compiler.ir.graph import Graph
from tests.frontend.oracle import compiled, feeds_for, raw, write_small

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Graph, Arrays, Arrays]:
    """A canonical graph, inputs, and its outputs."""
    path = write_small("llama", tmp_path_factory.mktemp("judging") / "m.onnx")
    graph, feeds = compiled(path), feeds_for(raw(path), 4)
    return graph, feeds, run(graph, feeds)


def test_relative_errors_are_the_worst_output_s() -> None:
    wanted = {"a": np.array([3.0, 4.0]), "b": np.array([1.0, -1.0]), "none": np.zeros((0, 2))}
    assert relative_error(wanted, wanted) == 0
    assert relative_error(wanted | {"b": np.array([1.1, -1.0])}, wanted) == pytest.approx(0.1 / np.sqrt(2))
    assert relative_error({"a": wanted["a"]}, wanted) == np.inf
    assert relative_error(wanted | {"a": np.zeros(3)}, wanted) == np.inf


def test_ideal_arithmetic_is_held_to_float32(case: tuple[Graph, Arrays, Arrays]) -> None:
    graph, feeds, wanted = case
    assert class_of(graph) is FileClass.FLOAT
    off = {n: v * np.float32(1 + 5e-5) for n, v in wanted.items()}
    error, relative = judged(graph, FileClass.FLOAT, Arithmetic.IDEAL, feeds, off, wanted)
    assert 0.4 < error < 0.6 and relative == pytest.approx(5e-5, rel=0.1)
    far = {n: v * np.float32(1 + 5e-4) for n, v in wanted.items()}
    assert judged(graph, FileClass.FLOAT, Arithmetic.IDEAL, feeds, far, wanted)[0] > 1


def test_int8_is_held_to_its_rounding(case: tuple[Graph, Arrays, Arrays]) -> None:
    graph, feeds, wanted = case
    for share, good in ((0.5, True), (3.0, False)):
        off = {n: v * np.float32(1 + share * TOLERANCE) for n, v in wanted.items()}
        error, _ = judged(graph, FileClass.FLOAT, Arithmetic.INT8, feeds, off, wanted)
        assert (error <= 1) is good


def test_rounded_weights_make_about_a_percent(case: tuple[Graph, Arrays, Arrays]) -> None:
    assert 0.002 < of_weights(*case) < 0.05


def test_a_table_counts_by_source(tmp_path: Path) -> None:
    verdicts = [
        chip.Verdict("gen_x__a.onnx", "generated", Arithmetic.IDEAL, chip.Outcome.CHIP),
        chip.Verdict("gen_x__b.onnx", "generated", Arithmetic.IDEAL, chip.Outcome.HOST, hosted=3, own=True),
        chip.Verdict("own.onnx", "mine", Arithmetic.INT8, chip.Outcome.DIFFERS, error=2.0, relative=0.12),
    ]
    lines = chip.table(verdicts).splitlines()
    assert lines[0].split() == ["weights", "float32", *(o.value for o in chip.Outcome)]
    assert lines[1].split() == ["gen_x", "1", "1", "0", "0", "0", "0"]
    assert lines[5].split() == ["mine", "0", "0", "0", "0", "1", "0"]
    assert lines[-2].endswith("gen_x__b.onnx  host: 3 nodes; inputs of ours")
    assert lines[-1].startswith("int8    differs         2     0.12")
