"""Constants at both ends: which there are, what is simulated again, and the tornado."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.headline.baselines import IDEAL, machine
from benchmarks.headline.cases import Cell, Scope, Way
from benchmarks.headline.constants import CPU, Constant, constants, with_constant, with_cpu_constant
from benchmarks.headline.programs import program_of
from benchmarks.headline.sensitivity import Case, moved, ratios, text, tornado
from benchmarks.headline.simulate import Run, run_of
from isa.hardware import load_target

TARGET = load_target("dcim3-system")
CASE = Case(Cell("llama-tiny", 64, 1), Scope.ATTENTION, Way.CIM, TARGET)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder: Path = tmp_path_factory.mktemp("programs")
    return run_of(program_of(CASE.cell, CASE.place, TARGET, folder), 64, Way.CIM)


def _constant(path: str) -> Constant:
    return next(constant for constant in constants(TARGET) if constant.path == path)


def test_ranges_follow_sources_and_confidence() -> None:
    found = {constant.path: constant for constant in constants(TARGET)}
    assert (found["vector.leakage"].low, found["vector.leakage"].high) == (0.5, 2.0)  # assumed
    for cells in (found["macro.leakage"], found["buffer.leakage"]):  # from low-leakage to high-performance
        assert (cells.low, cells.high) == pytest.approx((0.5, 49000 / 38.7))
    assert (found["macro.mac_energy"].low, found["macro.mac_energy"].high) == (0.8, 1.25)  # derived
    sfu = found["vector.sfu_energy"]
    assert (sfu.low, sfu.high) == pytest.approx((0.3, 5.0))  # pJ, on 1 pJ
    assert found["cpu DRAM energy"].high == pytest.approx(20 / 15)
    assert found["macro.mvm_latency"].is_time
    assert found["clock"].is_time
    assert not found["buffer.read_energy"].is_time
    sizes = {"tile.macros", "tile.buffer", "macro.rows", "macro.area", "system.chips_x", "vector.lanes"}
    assert not sizes & set(found)
    assert set(CPU) <= set(found)


def test_a_changed_constant_is_all_that_changes() -> None:
    changed = with_constant(TARGET, "macro.leakage", 2.0)
    assert changed.macro.leakage.si == 2 * TARGET.macro.leakage.si
    assert with_constant(changed, "macro.leakage", 0.5) == TARGET
    assert with_constant(TARGET, "clock", 0.5).clock.si == 0.5e9
    assert with_constant(TARGET, "cim.adder_latency", 1.25).cim.adder_latency.value == 1  # whole cycles


def test_energies_are_made_again_and_times_simulated_again(run: Run) -> None:
    latency, energy = ratios(CASE, run, machine(IDEAL))
    leak = moved(CASE, run, _constant("macro.leakage"))
    assert leak.low[0] == leak.high[0] == latency
    assert leak.low[1] < energy < leak.high[1]
    slow = moved(CASE, run, _constant("macro.mvm_latency"))
    assert slow.low[0] < latency < slow.high[0]
    power = moved(CASE, run, _constant("cpu power"))
    assert power.low[1] > energy > power.high[1]
    assert power.swing(0) == 0
    assert leak.swing(1) > power.swing(1)  # cells that leak 1,266 times as much


def test_the_cpu_is_changed_as_said() -> None:
    cpu = machine(IDEAL)
    fast = with_cpu_constant(cpu, "cpu bandwidth", 2.0)
    assert (fast.cache_bandwidth, fast.weight_bandwidth) == (2 * 245.8e9, 2 * 245.8e9)
    assert with_cpu_constant(cpu, "cpu DRAM energy", 2.0).memory_energy == pytest.approx(240e-12)
    assert with_cpu_constant(cpu, "cpu power", 0.5).power == 175


def test_the_largest_swings_come_first(run: Run) -> None:
    base = ratios(CASE, run, machine(IDEAL))
    paths = ("cpu power", "macro.leakage", "vector.leakage", "buffer.read_energy", "macro.mvm_latency")
    found = [moved(CASE, run, _constant(path)) for path in paths]
    shown = text(CASE, base, found, 3)
    assert shown.index("moves energy") < shown.index("cpu power") < shown.index("moves latency")
    drawing = tornado(CASE, base, found, "energy", 3).svg()
    labels = [t.text for t in ElementTree.fromstring(drawing).iter("{http://www.w3.org/2000/svg}text")]
    assert "cpu power" in labels
    assert len([label for label in labels if label in paths]) == 3
