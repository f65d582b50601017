"""Lines of the matrix: pass or fail, reasons, table, JSON and drawing, from made-up charges."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from benchmarks.headline.baselines import IDEAL, machine
from benchmarks.headline.cases import Cell, Scope, Way
from benchmarks.headline.compare import Line
from benchmarks.headline.demand import BYTE, demand
from benchmarks.headline.measured import Measured
from benchmarks.headline.plot import plot_of
from benchmarks.headline.simulate import Built, Charge
from benchmarks.headline.table import data, text
from isa.hardware import load_target

CELL = Cell("llama-2-7b", 2048, 1)
IDEAL_S, IDEAL_J = 4.36836e-3, 1.65777
HYBRID = load_target("dcim3-hybrid")
TARGETS = {Way.HYBRID: HYBRID, Way.FFN: HYBRID, Way.CIM: load_target("dcim3-system")}


def line(
    latency: float, dynamic: float, static: float, scope: Scope = Scope.ATTENTION, way: Way = Way.CIM
) -> Line:
    """A line with these ratios to the ideal CPU's attention."""
    charge = Charge(
        way, scope, latency * IDEAL_S, 5e-3, dynamic * IDEAL_J, 0.0, static * IDEAL_J,
        {"arrays": dynamic * IDEAL_J, "chip_links": static * IDEAL_J},
        {"static_chip_link": static * IDEAL_J},
        {"vector": 0.75, "cim": 0.25},
    )  # fmt: skip
    return Line(CELL, scope, way, "", charge, Built("dcim3-system", 2, 1024, 2**30, 2**29), (4e-3, 2.8))


@pytest.mark.parametrize(
    ("latency", "dynamic", "static", "verdict"),
    [
        (0.0099, 0.5e-4, 0.6e-4, "aim"),
        (0.0099, 0.5e-4, 0.8e-4, "pass"),
        (0.0259, 1e-4, 1e-3, "pass"),
        (0.0261, 1e-4, 1e-4, "fail"),
        (0.001, 1e-4, 1.2e-3, "fail"),
    ],
)
def test_verdicts(latency: float, dynamic: float, static: float, verdict: str) -> None:
    found = line(latency, dynamic, static)
    assert found.ideal.latency == pytest.approx(latency, rel=1e-5)
    assert found.ideal.energy == pytest.approx(dynamic + static, rel=1e-5)
    assert found.verdict == verdict
    assert bool(found.reason) is (verdict == "fail")


def test_reasons_say_what_binds() -> None:
    assert line(0.05, 1e-4, 1e-4).reason == "latency 0.05 > 0.026: the step's path is vector 75 %, cim 25 %"
    assert (
        line(0.01, 1e-4, 1.9e-3).reason
        == "energy 0.002 > 0.001199: static 95 % (chip_link 95 %), over a token of 5 ms"
    )
    assert line(0.01, 3e-3, 1e-3).reason == "energy 0.004 > 0.001199: arrays 75 %, chip_links 25 %"
    missing = Line(CELL, Scope.ATTENTION, Way.CIM, "needs 9.0 GiB of cells, the stated system has 4.0")
    assert missing.verdict == "fail"
    assert missing.reason == "does not fit: needs 9.0 GiB of cells, the stated system has 4.0"


def test_int8_on_both_sides_is_half_as_good() -> None:
    found = line(0.01, 1e-4, 1e-4)
    assert found.against(machine(IDEAL), BYTE).latency == pytest.approx(0.02, rel=1e-5)
    assert found.verdict_with(BYTE) == "pass"
    near = line(0.014, 1e-4, 1e-4)
    assert (near.verdict, near.verdict_with(BYTE)) == ("pass", "fail")


def test_what_is_to_spare_before_a_line_fails() -> None:
    found = line(0.016, 0.0, 0.999e-3)
    assert found.spare_s == pytest.approx(0.01 * IDEAL_S / 32, rel=1e-4)  # 32 layers
    assert found.spare_w == pytest.approx(2e-4 * IDEAL_J / 5e-3 / 2, rel=1e-3)  # a token of 5 ms, two chips
    slow = line(0.03, 0.0, 2e-3)
    assert slow.spare_s is not None
    assert slow.spare_w is not None
    assert slow.spare_s < 0 > slow.spare_w
    missing = Line(CELL, Scope.ATTENTION, Way.CIM, "too large")
    assert (missing.spare_s, missing.spare_w) == (None, None)


def test_a_hybrids_whole_token_is_compared_with_the_same_gpu_and_a_cpu() -> None:
    whole = line(1.0, 1e-4, 1e-4, Scope.WHOLE, Way.HYBRID)
    assert whole.ideal.seconds == pytest.approx(IDEAL_S + 4e-3, rel=1e-5)
    assert whole.ideal.joules == pytest.approx(IDEAL_J + 2.8, rel=1e-5)
    own = line(1.0, 1e-4, 1e-4, Scope.WHOLE, Way.CIM)
    assert own.ideal.seconds == machine(IDEAL).seconds(demand(CELL, Scope.WHOLE))


def test_table_json_and_drawing_hold_every_line() -> None:
    lines = [
        line(0.005, 1e-4, 1e-3, way=Way.HYBRID),
        line(0.004, 7e-5, 1e-5),
        Line(CELL, Scope.FFN, Way.CIM, "needs 9.0 GiB of cells, the stated system has 4.0"),
    ]
    here = {(CELL, Scope.ATTENTION): Measured(0.08, 28.0, "NumPy, TDP 350 W")}
    shown = text(lines, TARGETS, here)
    assert "0.026" in shown
    assert "0.001199" in shown
    assert "0.000123" in shown
    assert "fail: llama-2-7b 2048x1, attention+ffn, all-cim: does not fit" in shown
    assert "NumPy, TDP 350 W" in shown
    values = json.loads(json.dumps(data(lines, TARGETS, here)))
    assert [entry["verdict"] for entry in values["lines"]] == ["pass", "aim", "fail"]
    first = values["lines"][0]
    assert first["energy_j"] == first["dynamic_j"] + first["write_j"] + first["static_j"]
    assert len(first["against"]) == 8
    assert values["systems"]["all-cim"]["chip_mm2"] < 858
    drawing = plot_of(lines)
    root = ElementTree.fromstring(drawing)
    hints = [t.text or "" for t in root.iter("{http://www.w3.org/2000/svg}title")]
    assert sum(hint.startswith("llama-2-7b 2048x1") for hint in hints) == 2
