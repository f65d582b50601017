"""The mapping suite: its cases, the rule for its systems, its results and their comparison."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.mapping.ablation import document, effect_of
from benchmarks.mapping.bench import bench
from benchmarks.mapping.cases import MODELS, PREFILL, PYTINY, Phase, Setup, System, full, quick
from benchmarks.mapping.measure import Result, measure, steps_of, work_of
from benchmarks.mapping.systems import FILL, base, hardware_for, kv_macros, weight_macros, with_chips
from benchmarks.mapping.table import data, geometric_mean, means, read_baseline, text
from compiler.optimisations import Optimisation
from isa.diagnostics import CimError, fail
from isa.hardware import load_target
from isa.program import Program
from models import PYTINY as FILE
from models import path
from tests.bound.test_bound import decoder


def test_each_case_occurs_once_and_the_selection_has_every_model_system_and_phase() -> None:
    cases, some = list(full()), list(quick())
    assert len({setup.name for setup in cases}) == len(cases)
    assert {setup.model for setup in some} == set(MODELS)
    assert {setup.system for setup in some} == set(System)
    assert {phase for setup in some for phase in setup.phases} == set(Phase)
    assert all(setup.context <= setup.model.longest for setup in (*cases, *some))


@pytest.mark.parametrize("system", [System.DCIM22, System.DENSE])
@pytest.mark.parametrize("batch", [1, 8])
def test_a_system_has_just_enough_chips(system: System, batch: int) -> None:
    work = decoder(width=4096, layers=4)
    hardware = hardware_for(system, work, 2048, batch)
    need = weight_macros(work, hardware) + kv_macros(work, hardware, 2048, batch)
    across, down = int(hardware.system.chips_x.value), int(hardware.system.chips_y.value)
    a_row_less = hardware.tiles * hardware.macros_per_tile * (across * down - across) // (across * down)
    assert a_row_less * FILL < need <= hardware.tiles * hardware.macros_per_tile * FILL
    assert across - 1 <= down <= across


def test_a_grid_is_as_square_as_it_can_be() -> None:
    shapes = [with_chips(base(System.DCIM22), chips).system for chips in (1, 2, 3, 5, 7, 30)]
    assert [(int(s.chips_x.value), int(s.chips_y.value)) for s in shapes] == [
        (1, 1),
        (2, 1),
        (2, 2),
        (3, 2),
        (3, 3),
        (6, 5),
    ]


def test_the_dense_target_is_as_dense_as_its_source_says() -> None:
    macro = load_target("dense").macro
    megabits = macro.rows.value * macro.cols.value * 8 / 1e6
    assert megabits / macro.area.value == pytest.approx(3.78, rel=0.01)


def test_steps_end_at_the_context() -> None:
    setup = Setup(PYTINY, 512, 3, System.DCIM22)
    for phase, tokens in ((Phase.DECODE, 1), (Phase.PREFILL, PREFILL)):
        segments = steps_of(setup, phase, 16)
        assert sum(segment.tokens for segment in segments) == 3 * tokens
        assert {s.sequence for s in segments} == {0, 1, 2}
        assert max(s.position + s.tokens for s in segments) == 512


def test_the_trained_model_is_measured_beside_its_bound() -> None:
    (result,) = measure(Setup(PYTINY, 512, 1, System.DCIM22, (Phase.DECODE,)), path(FILE))
    assert result.measured >= result.bound > 0
    assert result.energy_per_token_j > 0
    assert work_of(path(FILE)).weights == 4 * (256 * 384 + 256 * 256 + 256 * 1024 + 512 * 256) + 256 * 256


def test_a_refusal_is_a_result_with_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Program:
        raise fail("E0303", "the model needs 99 tiles")

    monkeypatch.setattr("benchmarks.mapping.measure._compiled", refuse)
    (result,) = measure(Setup(PYTINY, 512, 1, System.DCIM22, (Phase.DECODE,)), path(FILE))
    assert (result.refused, result.reason) == ("E0303", "the model needs 99 tiles")
    assert "E0303" in text([result])
    assert means([result])["all"] == {}


def test_results_can_be_compared_with_an_earlier_run(tmp_path: Path) -> None:
    (now,) = measure(Setup(PYTINY, 512, 1, System.DCIM22, (Phase.DECODE,)), path(FILE))
    old = tmp_path / "old.json"
    old.write_text(json.dumps(data([replace(now, measured=2 * now.measured)])))
    shown = text([now], read_baseline(old))
    assert "0.500" in shown
    assert f"{2 * now.ratio:.3f}" in shown
    old.write_text("{}")
    with pytest.raises(CimError, match="E0605"):
        read_baseline(old)


def test_geometric_mean() -> None:
    assert geometric_mean([1.0, 4.0]) == pytest.approx(2.0)
    assert geometric_mean([]) == 0.0


def test_the_benchmark_in_one_process() -> None:
    said: list[str] = []
    options = Namespace(full=False, only="pytiny 512x1 ", jobs=1, baseline=None)
    report = bench(options, said.append)
    assert report.good
    assert said == ["1 of 1: pytiny 512x1 on dcim22"]


def test_leaving_an_optimisation_out_is_measured(tmp_path: Path) -> None:
    with_all = [
        Result("a", "m", 1, 1, "s", "decode", 100, 50, energy_j=2.0),
        Result("b", "m", 1, 1, "s", "prefill", 10),
    ]
    without = [replace(with_all[0], measured=200, energy_j=1.0), replace(with_all[1], refused="E0303")]
    effect = effect_of(Optimisation.SCHEDULE, with_all, without)
    assert (effect.decode, effect.prefill, effect.energy) == (pytest.approx(2.0), 0.0, pytest.approx(0.5))
    assert (effect.changed, effect.cases, effect.lost) == (1, 1, 1)
    text = document([effect], list(quick())[:1])
    assert "| schedule | 2.000 | - | 0.500 | 1 of 1; 1 no longer fit |" in text
    assert "Generated" in text
