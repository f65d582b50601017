"""The mapping suite: its cases, the rule for its systems, its results and their comparison."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.mapping.ablation import document, effect_of, idle
from benchmarks.mapping.bench import bench
from benchmarks.mapping.cases import (
    MODELS,
    PREFILL,
    PYTINY,
    Phase,
    Setup,
    System,
    ablation,
    full,
    matching,
    quick,
)
from benchmarks.mapping.kept import append_results, read_baseline, read_results
from benchmarks.mapping.measure import Result, measure, steps_of, wants_chips, work_of
from benchmarks.mapping.reasons import FAR, without_link
from benchmarks.mapping.systems import FILL, base, hardware_for, kv_macros, weight_macros, with_chips
from benchmarks.mapping.table import RESIDENT, data, geometric_mean, means, phases, text
from compiler.driver import compile_model
from compiler.optimisations import Optimisation
from compiler.pipeline import CompileOptions
from isa.diagnostics import CimError, fail
from isa.hardware import Hardware, load_target
from isa.program import Program
from models import PYTINY as FILE
from models import path
from tests.bound.test_bound import decoder


def test_each_case_occurs_once_and_the_selection_has_every_model_system_and_phase() -> None:
    cases, some = list(full()), list(quick())
    assert len({setup.name for setup in cases}) == len(cases)
    assert {setup.model for setup in some} >= set(MODELS)
    assert any(not setup.model.layers and setup.model.config.startswith("llama") for setup in some)
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
    macro = load_target("dcim3").macro
    megabits = macro.rows.value * macro.cols.value * 8 / 1e6
    assert megabits / macro.area.value == pytest.approx(3.78, rel=0.01)


def test_steps_end_at_the_context() -> None:
    setup = Setup(PYTINY, 512, 3, System.DCIM22)
    for phase, tokens in ((Phase.DECODE, 1), (Phase.PREFILL, PREFILL)):
        segments = steps_of(setup, phase, 16)
        assert sum(segment.tokens for segment in segments) == 3 * tokens
        assert {s.sequence for s in segments} == {0, 1, 2}
        assert max(s.position + s.tokens for s in segments) == 512


def test_steps_of_pages_end_where_all_sequences_have_room() -> None:
    setup = Setup(PYTINY, 512, 16, System.DCIM22, kv_tokens=4096)
    segments = steps_of(setup, Phase.DECODE, 16)
    assert {s.position + s.tokens for s in segments} == {256}


def test_the_trained_model_is_measured_beside_its_bound() -> None:
    (result,) = measure(Setup(PYTINY, 512, 1, System.DCIM22, (Phase.DECODE,)), path(FILE))
    assert result.measured >= result.bound > 0
    assert result.energy_per_token_j > 0
    assert work_of(path(FILE)).weights == 4 * (256 * 384 + 256 * 256 + 256 * 1024 + 512 * 256) + 256 * 256


def test_a_refusal_is_a_result_with_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Program:
        raise fail("E0303", "the model needs 99 tiles")

    monkeypatch.setattr("benchmarks.mapping.measure.compiled", refuse)
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


def test_a_run_goes_on_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "kept.jsonl"
    assert read_results(kept) == {}
    done, todo = [setup for setup in quick() if setup.model is PYTINY]
    append_results(kept, done.name, [_case("done before", Phase.DECODE, measured=123)])
    ran = []

    def instead(setup: Setup, *_: object) -> list[Result]:
        ran.append(setup)
        return [_case("new", Phase.DECODE, measured=456)]

    monkeypatch.setattr("benchmarks.mapping.bench.measure", instead)
    options = Namespace(full=False, only="pytiny", jobs=1, baseline=None, no_predictions=False, resume=kept)
    report = bench(options, lambda _: None)
    assert ran == [todo]
    assert "done before" in report.text
    assert {name: [r.measured for r in some] for name, some in read_results(kept).items()} == {
        done.name: [123],
        todo.name: [456],
    }
    kept.write_text("{}\n")
    with pytest.raises(CimError, match="E0605"):
        read_results(kept)


def _case(name: str, phase: Phase, **values: object) -> Result:
    blank = Result(f"{name}, {phase.value}", name, 512, 1, "dcim22", phase.value, policy="resident")
    return replace(blank, bound=100, **values)  # type: ignore[arg-type]


def test_means_by_phase_are_those_of_resident_cases() -> None:
    results = [
        _case("a", Phase.DECODE, measured=200, layers=90, layers_bound=30),
        _case("b", Phase.DECODE, measured=800, layers=120, layers_bound=10),
        _case("c", Phase.DECODE, measured=900, streams=True),
        _case("d", Phase.DECODE, measured=900, system="hybrid"),
        replace(_case("e", Phase.DECODE, measured=900), policy="streamed"),
        _case("f", Phase.PREFILL, refused="E0303"),
    ]
    assert phases(results) == {"decode": (2, pytest.approx(4.0), pytest.approx(6.0))}


def test_the_table_says_the_layers_part_and_why_a_case_is_far_off() -> None:
    near = _case("a", Phase.DECODE, measured=200, layers=90, layers_bound=30, chips=1)
    far = _case(
        "b", Phase.PREFILL, measured=400, layers=350, layers_bound=70, chips=1, far="spent on links 90 %"
    )
    shown = [" ".join(line.split()) for line in text([near, far]).splitlines()]
    assert "case cycles bound ratio layers predicted binds KV energy/token chips" in shown
    assert "a, decode 200 100 2.00 90 3.00 - resident 0 J 1" in shown
    assert f"{RESIDENT} cases measured / bound layers / bound" in shown
    assert "prefill 1 4.000 5.000" in shown
    assert [line for line in shown if "its bound:" in line] == [
        "b, prefill, 4.00 x its bound: spent on links 90 %."
    ]


def test_a_case_far_from_its_bound_has_a_reason() -> None:
    near, far = measure(Setup(PYTINY, 128, 1, System.DCIM22), path(FILE))
    assert [bool(r.far) == (r.ratio > FAR) for r in (near, far)] == [True, True]
    assert 0 < near.layers <= near.measured and 0 < near.layers_bound <= near.bound
    assert not far.far or far.far.startswith("spent on ")


def test_a_host_link_that_takes_no_time() -> None:
    target = base(System.DCIM22)
    free = without_link(target)
    assert free.cycles(free.host_link.latency) <= 1 < target.cycles(target.host_link.latency)
    assert free.bytes_per_cycle(free.host_link.bandwidth) > 1e6
    assert replace_link(free, target) == target


def replace_link(changed: Hardware, original: Hardware) -> Hardware:
    return changed.model_copy(update={"host_link": original.host_link})


def test_geometric_mean() -> None:
    assert geometric_mean([1.0, 4.0]) == pytest.approx(2.0)
    assert geometric_mean([]) == 0.0


def test_the_benchmark_in_one_process() -> None:
    said: list[str] = []
    options = Namespace(
        full=False, only="pytiny 512x1 ", jobs=1, baseline=None, no_predictions=False, resume=None
    )
    report = bench(options, said.append)
    assert report.good
    assert said == ["1 of 1: pytiny 512x1 on dcim22"]


def test_leaving_an_optimisation_out_is_measured(tmp_path: Path) -> None:
    with_all = [
        Result("a", "m", 1, 1, "s", "decode", 100, 50, energy_j=2.0),
        Result("b", "m", 1, 1, "s", "prefill", 10),
    ]
    without = [replace(with_all[0], measured=200, energy_j=1.0), replace(with_all[1], refused="E0303")]
    effect = effect_of(Optimisation.HUB, with_all, without)
    assert (effect.decode, effect.prefill, effect.energy) == (pytest.approx(2.0), 0.0, pytest.approx(0.5))
    assert (effect.most, effect.case) == (pytest.approx(2.0), "a")
    assert (effect.changed, effect.cases, effect.lost) == (1, 1, ("b",))
    text = document([effect], list(ablation())[:1])
    assert "| hub | 2.000 | - | 0.500 | 2.000 (a) | 1 of 1; 1 no longer fit |" in text
    assert "Generated" in text and "Without `hub` these do not fit: b." in text


def test_an_optimisation_without_effect_is_named() -> None:
    same = [Result("a", "m", 1, 1, "s", "decode", 100, 50, energy_j=2.0)]
    effect = effect_of(Optimisation.RING, same, same)
    assert effect.does_nothing
    assert idle([effect]) == "Without effect on any case: ring."


def test_cases_of_the_ablation_have_names_of_their_own() -> None:
    setups = list(ablation())
    assert len({setup.name for setup in setups}) == len(setups)
    assert {bool(s.window) for s in setups} == {bool(s.kv_tokens) for s in setups} == {False, True}


def test_a_window_is_put_into_the_graph() -> None:
    plain = Setup(PYTINY, 512, 1, System.DCIM22, (Phase.DECODE,))
    (all_rows,), (few,) = (measure(s, path(FILE)) for s in (plain, replace(plain, window=64)))
    assert few.layers_bound < all_rows.layers_bound
    assert few.case == "pytiny 512x1 on dcim22, window 64, decode"


def test_cases_are_chosen_by_patterns() -> None:
    some = {setup.name for setup in matching(full(), "512x*on d")}
    assert some
    assert all(" 512x" in name and name.endswith(("dcim22", "dense")) for name in some)
    assert matching(quick(), "") == list(quick())


def test_systems_with_enough_chips_keep_what_they_need_in_arrays() -> None:
    options = CompileOptions(max_context=64, kv="streamed", shapes_only=True, place="all")
    program = compile_model(path(FILE), options, load_target("dcim22")).require_program()
    assert wants_chips(Setup(PYTINY, 64, 1, System.DCIM22), program)
    assert not wants_chips(Setup(PYTINY, 64, 1, System.SMALL), program)
    assert not wants_chips(Setup(PYTINY, 64, 1, System.DCIM22, kv="streamed"), program)
