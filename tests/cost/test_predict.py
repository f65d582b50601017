"""The cost model against the simulation: within 15 % on a selection of the mapping suite."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.mapping.cases import PYTINY, Model, Phase, Setup, System
from benchmarks.mapping.measure import measure
from benchmarks.mapping.table import text
from compiler.cost import Predictor, predict
from compiler.cost.samples import LONG, runs_of, thinned
from compiler.driver import compile_model
from compiler.explain.binds import binds_of
from compiler.explain.expected import Expectation
from compiler.pipeline import CompileOptions
from isa.events import Bound
from isa.hardware import hardware_from_dict, load_target
from isa.program import Program, Segment, segments_of
from models import PYTINY as FILE
from models import path
from models.make import make
from tests.compiler.building import Choices, program_of, tiny
from tests.compiler.graphs import Shape, decoder

OFF = 0.15
BOTH = (Phase.DECODE, Phase.PREFILL)


@pytest.fixture(scope="module")
def pytiny() -> Program:
    target = load_target("dcim22")
    return compile_model(path(FILE), CompileOptions(max_context=128), target).require_program()


def _is_close(setup: Setup, model: Path) -> None:
    for result in measure(setup, model):
        assert result.refused == ""
        assert abs(result.accuracy - 1) < OFF, f"{result.case}: {result.predicted} for {result.measured}"


@pytest.mark.parametrize("batch", [1, 4])
def test_the_trained_model(batch: int) -> None:
    _is_close(Setup(PYTINY, 256, batch, System.DCIM22, (Phase.DECODE,)), path(FILE))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "context", "batch", "system", "phases"),
    [
        (Model("gpt2", 1), 512, 1, System.DCIM22, BOTH),
        (Model("opt-6.7b", 1), 512, 1, System.DENSE, (Phase.DECODE,)),
        (Model("llama-3-8b", 1), 2048, 1, System.DCIM22, (Phase.DECODE,)),
        (Model("gpt2", 2), 512, 1, System.SMALL, BOTH),
        (Model("bert-base", 1, 512, encoder=True), 128, 1, System.DCIM22, (Phase.PREFILL,)),
    ],
)
def test_shapes_of_the_suite(
    tmp_path: Path, model: Model, context: int, batch: int, system: System, phases: tuple[Phase, ...]
) -> None:
    file = tmp_path / "m.onnx"
    make(model.config, file, layers=model.layers, shapes_only=True)
    _is_close(Setup(model, context, batch, system, phases), file)


def test_one_tile_stands_for_its_class(pytiny: Program) -> None:
    predictor = Predictor(pytiny)
    classes = predictor.classes.classes
    assert sum(len(each.members) for each in classes) == len(pytiny.tiles)
    for each in classes:
        kinds = {(pytiny.tiles[i].role, pytiny.tiles[i].nodes) for i in each.members}
        assert len(kinds) == 1
    assert len(classes) < len(pytiny.tiles)


def test_critical_cycles_are_those_of_the_step(pytiny: Program) -> None:
    told = predict(pytiny, segments_of(20, 0, pytiny.limits.chunk))
    assert sum(told.critical.values()) == told.cycles
    assert told.bound_by in Bound


def test_predictions_do_not_depend_on_each_other(pytiny: Program) -> None:
    predictor = Predictor(pytiny)
    steps = [(Segment(1, 100, 1),), segments_of(24, 0, pytiny.limits.chunk)]
    first = [predictor.step(step).cycles for step in steps]
    assert [predictor.step(step).cycles for step in reversed(steps)] == first[::-1]


def test_longer_steps_take_longer(pytiny: Program) -> None:
    predictor = Predictor(pytiny)
    cycles = [predictor.step(segments_of(n, 0, pytiny.limits.chunk)).cycles for n in (1, 16, 32, 64)]
    assert cycles == sorted(set(cycles))


@pytest.fixture(scope="module")
def batch() -> Program:
    return program_of(decoder(Shape(32, 1)), tiny(14), Choices(64, sequences=12, chunk=8))


def _sequences(program: Program, tokens: int, sequences: int) -> tuple[Segment, ...]:
    cuts = (segments_of(tokens, 64 - tokens, program.limits.chunk, sequence=q) for q in range(sequences))
    return tuple(segment for cut in cuts for segment in cut)


def test_of_many_sequences_some_tell_how_long_all_take(batch: Program) -> None:
    segments, predictor = _sequences(batch, 64, 12), Predictor(batch)
    assert len(segments) > LONG
    told, whole = predictor.step(segments), predictor.whole(segments)
    assert told.cycles == pytest.approx(whole.cycles, rel=0.03)
    assert told.instructions < 0.6 * whole.instructions
    assert sum(told.critical.values()) == told.cycles


def test_the_first_two_sequences_tell_about_how_long_all_take(batch: Program) -> None:
    segments, predictor = _sequences(batch, 64, 12), Predictor(batch)
    quick, whole = predictor.pair(segments), predictor.whole(segments)
    assert quick is not None and quick.instructions < whole.instructions / 4
    assert quick.cycles == pytest.approx(whole.cycles, rel=0.1)
    in_turn = sorted(segments, key=lambda segment: segment.position)
    assert predictor.pair(segments[:8]) is None and predictor.pair(in_turn) is None
    two = _sequences(batch, 64, 2)
    assert predictor.pair(two) == predictor.whole(two)


def test_of_many_segments_some_tell_how_long_all_take(pytiny: Program) -> None:
    segments, predictor = segments_of(100, 28, 1), Predictor(pytiny)
    told, whole = predictor.step(segments), predictor.whole(segments)
    assert told.cycles == pytest.approx(whole.cycles, rel=0.03)
    assert told.instructions < 0.8 * whole.instructions
    assert sum(told.critical.values()) == told.cycles


def test_short_and_mixed_steps_are_run_as_a_whole(batch: Program) -> None:
    assert runs_of(_sequences(batch, 16, 12)) == []
    mixed = (*_sequences(batch, 64, 11), *segments_of(1, 63, 8, sequence=11))
    assert len(mixed) > LONG and runs_of(mixed) == []


def test_segments_at_even_distances_end_with_the_last() -> None:
    run = segments_of(1000, 0, 4)
    for size in (1, 7, 24):
        assert len(set(thinned(run, size))) == size
        assert thinned(run, size)[-1] == run[-1]


def test_what_is_expected_is_explained(pytiny: Program) -> None:
    said = [note.text for note in binds_of(pytiny, Expectation(pytiny))]
    assert any(text.startswith("A token with this mapping: predicted ") for text in said)


def test_the_table_says_how_far_predictions_are_off() -> None:
    (result,) = measure(Setup(PYTINY, 256, 1, System.DCIM22, (Phase.DECODE,)), path(FILE))
    shown = text([result])
    assert f"{result.accuracy:.2f}" in shown
    assert "predicted / measured" in shown


@pytest.mark.parametrize(
    ("section", "key", "is_shared"),
    [("host_link", "bandwidth", True), ("network", "link_width", True), ("chip_link", "latency", False)],
)
def test_ways_are_found_once_for_targets_of_the_same_geometry(
    pytiny: Program, section: str, key: str, is_shared: bool
) -> None:
    values = pytiny.target.model_dump(mode="json")
    values[section][key]["value"] *= 2
    other = replace(pytiny, target=hardware_from_dict(values, "other"))
    first, segments = Predictor(pytiny), segments_of(8, 100, pytiny.limits.chunk)
    alike = Predictor(other, first)
    assert (alike._flows.flows[0].route is first._flows.flows[0].route) is is_shared
    assert alike.step(segments) == Predictor(other).step(segments)
    assert first.step(segments) == Predictor(pytiny).step(segments)
