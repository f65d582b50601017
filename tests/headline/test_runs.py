"""Small models compiled and simulated as the matrix does it: what is charged to whom, what fits, the CPU here."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks.headline import programs
from benchmarks.headline.bench import Job, done, jobs_of
from benchmarks.headline.cases import Cell, Scope, Way, every, some
from benchmarks.headline.graphs import attention_session, ffn_session
from benchmarks.headline.measured import (
    Rapl,
    attention,
    attention_data,
    copies,
    feed_forward,
    in_turn,
    measured,
)
from benchmarks.headline.parts import Part, Parts, part_of
from benchmarks.headline.programs import program_of
from benchmarks.headline.simulate import charge_of, cim_charge, hybrid_charge, run_of
from benchmarks.headline.systems import Place, chip_bytes, grid, needed_bytes, sized, with_instant_host
from isa.diagnostics import CimError, NamedPlace, fail
from isa.events import Component
from isa.hardware import load_target
from isa.program import Program
from models.configs import CONFIGS, OptConfig
from runtime.energy import energy

LLAMA = Cell("llama-tiny", 64, 1)
OPT = OptConfig(vocab=96, hidden=64, layers=2, heads=4, ffn=128, max_positions=64)


def test_parts_of_models_by_names_of_nodes() -> None:
    names = {
        "/model/layers.3/self_attn/MatMul /model/layers.3/self_attn/Softmax": Part.ATTENTION,
        "/model/layers.3/self_attn/q_proj/MatMul": Part.OTHER,
        "/model/decoder/layers.0/self_attn/out_proj/Add": Part.OTHER,
        "/model/layers.3/mlp/down_proj/MatMul": Part.FFN,
        "/model/decoder/layers.1/fc1/Gemm /model/decoder/layers.1/activation_fn/Relu": Part.FFN,
        "/lm_head/MatMul": Part.OTHER,
        "(attend)": Part.ROLE,
    }
    assert {name: part_of(name) for name in names} == names


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("programs")


@pytest.mark.parametrize("name", ["llama-tiny", "opt-here"])
def test_scopes_of_a_whole_model_on_chips_are_parts_of_it(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CONFIGS, "opt-here", OPT)
    cell = Cell(name, 64, 1)
    program = program_of(cell, Place.ALL, load_target("dcim3-system"), folder)
    run = run_of(program, 64, Way.CIM)
    narrow, wide, whole = (cim_charge(run, scope) for scope in Scope)
    assert 0 < narrow.latency_s < wide.latency_s < whole.latency_s == whole.token_s == narrow.token_s
    for kind in ("dynamic_j", "write_j", "static_j"):
        values = [getattr(charge, kind) for charge in (narrow, wide, whole)]
        assert 0 < values[0] <= 1.0000001 * values[1] <= 1.0000002 * values[2]
    assert narrow.write_j == pytest.approx(whole.write_j)  # keys and values are all that is written
    assert whole.energy_j == pytest.approx(energy(program.target, program, [run.whole]).total)
    shares = [Parts(program).share(scope) for scope in Scope]
    assert 0 < shares[0] < shares[1] < shares[2] <= 1
    assert narrow.static_j == pytest.approx(whole.static_j * shares[0])
    assert narrow.bound_by == whole.bound_by
    assert sum(narrow.bound_by.values()) == pytest.approx(1)


def test_a_hybrids_chips_leak_while_its_host_works(folder: Path) -> None:
    program = program_of(LLAMA, Place.ATTENTION, load_target("dcim3-hybrid"), folder)
    run = run_of(program, 64, Way.HYBRID)
    attention_s, whole = hybrid_charge(run, Scope.ATTENTION), hybrid_charge(run, Scope.WHOLE)
    assert attention_s.latency_s < attention_s.token_s == whole.latency_s
    assert Component.HOST.value not in attention_s.components
    assert whole.components[Component.HOST.value] > whole.energy_j / 2
    assert attention_s.static_j == pytest.approx(whole.static_j)


def test_attention_is_a_part_of_what_a_hybrid_with_feed_forward_layers_has_on_its_chips(folder: Path) -> None:
    program = program_of(LLAMA, Place.FFN, load_target("dcim3-hybrid"), folder)
    run = run_of(program, 64, Way.FFN)
    part, both = (charge_of(run, scope, Way.FFN) for scope in (Scope.ATTENTION, Scope.FFN))
    assert 0 < part.latency_s < both.latency_s < both.token_s == part.token_s
    assert 0 < part.dynamic_j < both.dynamic_j
    assert part.static_j == pytest.approx(both.static_j * Parts(program).share(Scope.ATTENTION))
    assert part.write_j == pytest.approx(both.write_j)


def test_rows_on_their_way_to_feed_forward_layers_are_theirs(folder: Path) -> None:
    program = program_of(LLAMA, Place.FFN, load_target("dcim3-hybrid"), folder)
    run, parts = run_of(program, 64, Way.FFN), Parts(program)
    found = {nodes: parts.of(nodes) for nodes in run.chips.critical_nodes if nodes.startswith("(")}
    assert found["(attention input)"] is Part.ATTENTION
    assert found["(residual input)"] is Part.FFN
    assert not parts.is_in(Scope.ATTENTION, "(residual input)")
    assert parts.is_in(Scope.FFN, "(residual input)")
    assert parts.of("(something else)") is Part.ROLE


def test_with_batches_the_whole_token_is_charged(folder: Path) -> None:
    program = program_of(replace(LLAMA, batch=4), Place.ALL, load_target("dcim3-system"), folder)
    run = run_of(program, 64, Way.CIM)
    assert run.whole.tokens == 4
    assert cim_charge(run, Scope.ATTENTION).latency_s == cim_charge(run, Scope.WHOLE).latency_s


def test_what_does_not_fit_is_a_line_with_numbers(folder: Path) -> None:
    small = load_target("dcim3-system").with_chips(1, 1)
    (found,) = done(Job(Cell("llama-2-7b", 2048, 8), Place.ALL, Way.CIM, (Scope.WHOLE,)), small, folder)
    assert found.verdict == "fail"
    assert found.reason == "does not fit: needs 10.2 GiB of cells, the stated system has 0.3"
    assert not list(folder.glob("llama-2-7b*.cim"))


def test_a_system_may_have_room_for_more_than_is_in_use(folder: Path) -> None:
    full, partly = Cell("llama-tiny", 64, 1), Cell("llama-tiny", 64, 1, 256)
    assert partly.name == "llama-tiny 64x1 of 256"
    assert Cell("llama-tiny", 64, 1, 32).name == "llama-tiny 64x1"  # no less than what is in use
    assert needed_bytes(partly, Place.ATTENTION) == 4 * needed_bytes(full, Place.ATTENTION)
    target = load_target("dcim3-system")
    programs_of = [program_of(cell, Place.ALL, target, folder) for cell in (full, partly)]
    assert [program.step_limits.max_context for program in programs_of] == [64, 256]
    one, other = (cim_charge(run_of(program, 64, Way.CIM), Scope.ATTENTION) for program in programs_of)
    assert other.static_j / other.token_s >= one.static_j / one.token_s  # no fewer cells leak


def test_programs_are_taken_from_the_folder(folder: Path) -> None:
    target = load_target("dcim3-hybrid")
    first = program_of(LLAMA, Place.ATTENTION, target, folder)
    kept = sorted(folder.glob("llama-tiny-64x1-attention-*.cim"))
    stamp = kept[0].stat().st_mtime_ns
    assert program_of(LLAMA, Place.ATTENTION, target, folder) == first
    assert kept[0].stat().st_mtime_ns == stamp
    kept[0].write_bytes(b"of another version")
    assert program_of(LLAMA, Place.ATTENTION, target, folder) == first


def test_what_another_compiler_made_is_made_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = load_target("dcim3-hybrid")
    program_of(LLAMA, Place.ATTENTION, target, folder)
    known = set(folder.glob("llama-tiny-64x1-attention-*.cim"))
    monkeypatch.setattr(programs, "compiler_hash", lambda: "another")
    program_of(LLAMA, Place.ATTENTION, target, folder)
    assert len(set(folder.glob("llama-tiny-64x1-attention-*.cim")) - known) == 1


def test_that_a_cell_does_not_compile_is_not_that_it_does_not_fit(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Program:
        raise fail("E0203", "an operator is missing", NamedPlace("node"))

    monkeypatch.setattr(programs, "_compiled", refuse)
    with pytest.raises(CimError, match="an operator is missing"):
        program_of(Cell("llama-tiny", 32, 1), Place.ALL, load_target("dcim3-system"), folder)


def test_systems_are_just_large_enough() -> None:
    stated = load_target("dcim3-system")
    cell = Cell("llama-2-7b", 2048, 1)
    assert chip_bytes(stated) == 576 * 64 * 8192
    systems = list(sized(cell, Place.ATTENTION, stated))
    chips = [int(s.system.chips_x.value * s.system.chips_y.value) for s in systems]
    assert chips[0] == 2  # 512 MiB on chips of 288 MiB
    assert chips == sorted(set(chips))
    assert chips[-1] == 144
    assert needed_bytes(cell, Place.ATTENTION) == 2 * 32 * 4096 * 2048
    assert grid(5, 12, 12) == (5, 1)
    assert grid(25, 12, 12) == (5, 5)
    assert grid(26, 12, 12) == (9, 3)
    assert grid(140, 12, 12) == (12, 12)
    instant = with_instant_host(stated)
    assert instant.host.dispatch.si == instant.host.power.si == 0


def test_which_cells_and_programs() -> None:
    assert len(list(every())) == 5 * 4 * 3
    assert set(some()) < set(every())
    jobs = jobs_of([LLAMA], list(Scope), list(Way))
    assert {(job.place, job.scopes) for job in jobs} == {
        ("attention", (Scope.ATTENTION, Scope.WHOLE)),
        ("attention+ffn", (Scope.ATTENTION, Scope.FFN)),
        ("all", tuple(Scope)),
    }
    assert [job.place for job in jobs_of([LLAMA], [Scope.FFN], list(Way))] == ["all", "attention+ffn"]


def test_numpy_and_onnxruntime_compute_the_same_here() -> None:
    q, k, v = attention_data(2, 4, 2, 32, 16)
    scores = q @ k / 4
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    expected = weights / weights.sum(-1, keepdims=True) @ v
    np.testing.assert_allclose(attention(q, k, v), expected, rtol=1e-4)
    np.testing.assert_allclose(attention_session(q, k, v)(), expected, rtol=1e-4)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 8), np.float32)
    for count in (2, 3):
        matrices = [rng.standard_normal((8, 12), np.float32) for _ in range(count - 1)]
        matrices.append(rng.standard_normal((12, 8), np.float32))
        np.testing.assert_allclose(feed_forward(x, matrices), ffn_session(x, matrices)(), atol=1e-4)


def test_the_cpu_here_is_measured_layer_by_layer() -> None:
    found = measured([LLAMA], [Scope.ATTENTION, Scope.FFN, Scope.WHOLE], 100.0, lambda _: None)
    assert set(found) == {(LLAMA, Scope.ATTENTION), (LLAMA, Scope.FFN)}
    narrow, wide = found[LLAMA, Scope.ATTENTION], found[LLAMA, Scope.FFN]
    assert 0 < narrow.seconds < wide.seconds
    if "TDP" in narrow.how:
        assert narrow.joules == pytest.approx(100 * narrow.seconds)


def test_small_layers_are_measured_in_turn() -> None:
    calls: list[int] = []
    work = in_turn([partial(calls.append, number) for number in range(3)])
    for _ in range(4):
        work()
    assert calls == [0, 1, 2, 0]
    config = CONFIGS["llama-2-7b"]
    assert copies(config, 1 << 27) == 2
    assert copies(config, 1) == config.layers
    assert copies(config, 1 << 30) == 1


def test_energy_counters_may_start_again(tmp_path: Path) -> None:
    for number, name in enumerate(("package-0", "core", "dram")):
        zone = tmp_path / f"intel-rapl:{number}"
        zone.mkdir()
        (zone / "name").write_text(name + "\n")
        (zone / "energy_uj").write_text("9000000\n")
        (zone / "max_energy_range_uj").write_text("10000000\n")
    rapl = Rapl(tmp_path)
    before = rapl.read()
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("1000000\n")
    (tmp_path / "intel-rapl:2" / "energy_uj").write_text("9500000\n")
    assert rapl.between(before, rapl.read()) == pytest.approx(2.5)
    assert Rapl(tmp_path / "nothing").read() is None
    assert rapl.between(None, before) is None
