"""The report that people read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from isa import instructions as t
from isa.program import Program
from runtime.amounts import si
from runtime.nodes import NodeName, short_name
from runtime.report import render_report, report_data
from runtime.sinks.schema import Statistics
from runtime.sinks.statistics import statistics
from runtime.timing import simulate

from .programs import A0, ONE_TOKEN, R, array, at, changed, program, role, tiny


def layered(**constants: float) -> Program:
    """Two tiles of one role that do the work of two layers."""
    code = (t.Li(R(1), 2), t.Mvm(A0, at(1024), at(0), R(1), R(0), 64), t.Vrelu(at(2048), at(1024), R(1), 16))
    work = role("ffn", code, [array("w", 64, 16)], sites=("up", "act", "none"), lines=(2, 0, 1))
    nodes = [(f"/model/layers.{i}/mlp/up/MatMul", f"/model/layers.{i}/act/Relu /x", "") for i in range(2)]
    return program([work, work], [(0, 0), (1, 0)], target=changed(tiny(), **constants), nodes=nodes)


def stats(**constants: float) -> Statistics:
    p = layered(**constants)
    return statistics(p, [simulate(p, ONE_TOKEN)], engine="timing", wall_s=0.25)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("/model/layers.3/self_attn/q_proj/MatMul", NodeName(3, "self_attn/q_proj")),
        ("/transformer/h.11/attn/Reshape /transformer/h.11/attn/MatMul_1", NodeName(11, "attn")),
        ("/encoder/layer/7/output/Add", NodeName(7, "output")),
        ("/model/layers.3/Add_1", NodeName(3, "(whole layer)")),
        ("/model/norm/Pow /model/norm/Mul_1", NodeName(None, "model/norm")),
        ("/lm_head/MatMul", NodeName(None, "lm_head")),
        ("MatMul_7", NodeName(None, "MatMul_7")),
        ("/transformer/Add_1", NodeName(None, "transformer")),
        ("(static)", NodeName(None, "(static)")),
        ("(ffn none)", NodeName(None, "(ffn none)")),
    ],
)
def test_short_names(nodes: str, expected: NodeName) -> None:
    assert short_name(nodes) == expected


def test_quantities_have_prefixes() -> None:
    assert [si(x, "J") for x in (0, 1.5, 2.1234e-6, 5e-13, 12345)] == [
        "0 J",
        "1.5 J",
        "2.123 uJ",
        "0.5 pJ",
        "12.35 kJ",
    ]


def test_report(golden: Callable[[str, str], None]) -> None:
    golden("timing/report.txt", render_report(stats()))


def test_comparison_with_a_baseline(golden: Callable[[str, str], None]) -> None:
    text = render_report(stats(), stats(macro__mvm_latency=20))
    golden("timing/report-baseline.txt", text)
    ratio = re.search(r"^cycles .* ([0-9.]+)x$", text, re.MULTILINE)
    assert ratio is not None
    assert float(ratio[1]) == pytest.approx(stats().cycles / stats(macro__mvm_latency=20).cycles, rel=1e-3)


def test_groups_add_up() -> None:
    data = report_data(stats(), stats())
    for name in ("by_layer", "by_part"):
        groups = data[name]
        assert isinstance(groups, dict)
        assert sum(g["energy_j"] for g in groups.values()) == stats().energy_j.total
        assert sum(g["critical_cycles"] for g in groups.values()) == stats().cycles
    layers = data["by_layer"]
    assert isinstance(layers, dict)
    assert {"layer 0", "layer 1", "(static)"} <= set(layers)
    assert json.loads(json.dumps(data)) == data
    ratios = data["ratios"]
    assert isinstance(ratios, dict)
    assert set(ratios.values()) == {1.0}
