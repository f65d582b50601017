"""Statistics, their schema, and traces."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from isa.diagnostics import CimError
from isa.events import Event, Resource
from isa.program import Program, Segment
from runtime.sinks import statistics as module
from runtime.sinks.chrome import chrome_trace
from runtime.sinks.konata import konata_log
from runtime.sinks.schema import VERSION, Statistics, schema_text
from runtime.sinks.statistics import read_statistics, statistics, write_statistics
from runtime.sinks.trace import open_trace
from runtime.timing import Simulator, simulate

from .test_messages import crossing
from .test_properties import attention

STEPS = ((Segment(4, 0, 4),), (Segment(1, 4, 1),))
SCHEMA_FILE = Path(module.__file__).with_name("stats.schema.json")


def stats(per_step: bool = False) -> Statistics:
    p = attention()
    return statistics(p, [simulate(p, s) for s in STEPS], engine="timing", wall_s=0.5, per_step=per_step)


def test_statistics_have_the_promised_fields() -> None:
    data = json.loads(stats().to_json())
    promised = "cycles latency_s tokens instructions macs utilization bound_by target program engine wall_s"
    assert set(promised.split()) <= set(data)
    assert data["schema"] == "cim-statistics"
    assert data["version"] == 2
    assert data["tokens"] == 5
    assert data["latency_s"] == data["cycles"] / 1e9
    assert data["instructions"] == sum(data["instructions_by_unit"].values()) == data["events"]["issue"]
    assert data["macs"] == data["events"]["array_mac"] + data["events"]["array_mac_transposed"] > 0
    assert data["critical_path"]["by_resource"][data["bound_by"]] > 0
    assert sum(data["critical_path"]["by_resource"].values()) == data["cycles"]
    assert sum(data["critical_path"]["by_node"].values()) == data["cycles"]
    assert set(data["utilization"]) == {r.value for r in Resource}
    assert all(0 <= share <= 1 for share in data["utilization"].values())
    assert data["per_step"] is None


def test_energies_add_up_in_the_file() -> None:
    e = json.loads(stats().to_json())["energy_j"]
    assert e["total"] == e["dynamic"] + e["write"] + e["static"]
    for name in ("by_component", "by_node", "by_event"):
        assert sum(e[name].values()) == math.fsum(e[name].values()) == e["total"]


def test_steps_can_be_listed() -> None:
    listed = stats(per_step=True)
    assert listed.per_step is not None
    assert sum(step.cycles for step in listed.per_step) == listed.cycles
    assert [step.tokens for step in listed.per_step] == [4, 1]


def test_the_schema_file_is_current() -> None:
    assert SCHEMA_FILE.read_text() == schema_text()
    assert set(Event.__members__) >= {"ARRAY_MAC"}
    required = json.loads(schema_text())["required"]
    assert {"cycles", "energy_j", "bound_by"} <= set(required)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    write_statistics(path, stats(per_step=True))
    assert read_statistics(path) == stats(per_step=True)
    assert [p.name for p in tmp_path.iterdir()] == ["s.json"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": "cim-statistics"}', '{"schema": "other", "version": 9}']
)
def test_other_files_are_a_diagnostic(tmp_path: Path, text: str) -> None:
    path = tmp_path / "s.json"
    path.write_text(text)
    with pytest.raises(CimError) as caught:
        read_statistics(path)
    assert {d.code for d in caught.value.diagnostics} == {"E0605"}


def test_files_of_another_version_are_named(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text(stats().to_json().replace('"version": 2', '"version": 1'))
    with pytest.raises(CimError) as caught:
        read_statistics(path)
    (only,) = caught.value.diagnostics
    assert only.code == "E0605"
    assert "of version 1" in only.message
    assert stats().version == VERSION


def test_missing_files_and_folders_are_diagnostics(tmp_path: Path) -> None:
    with pytest.raises(CimError) as missing:
        read_statistics(tmp_path / "none.json")
    assert missing.value.diagnostics[0].code == "E0001"
    with pytest.raises(CimError) as nowhere:
        write_statistics(tmp_path / "none" / "s.json", stats())
    assert nowhere.value.diagnostics[0].code == "E0003"


def traced(path: Path, p: Program, steps: Any = STEPS) -> None:
    simulator = Simulator(p)
    with open_trace(path, p) as sink:
        for step in steps:
            simulator.step(step, sink)


def test_the_chrome_trace_is_well_formed(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    traced(path, attention())
    events = json.loads(path.read_text())["traceEvents"]
    threads: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            threads[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for slices in threads.values():  # slices of a thread do not overlap: the viewer would nest them wrongly
        slices.sort()
        assert all(b[0] >= a[1] - 1e-9 for a, b in pairwise(slices))
    names = {event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert names == {"host", "t0 (attend)", "t1 (attend)"}
    texts = {event["args"]["text"] for event in events if event["ph"] == "X" and "text" in event["args"]}
    assert any(text.startswith("mvmt a0, [4096]") for text in texts)
    total = sum(simulate(attention(), step).cycles for step in STEPS)
    assert max(e["ts"] + e["dur"] for e in events if e["ph"] == "X") == pytest.approx(total / 1000)


def test_arrows_begin_and_end_in_slices(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    traced(path, attention())
    events = json.loads(path.read_text())["traceEvents"]
    slices = [(e["pid"], e["tid"], e["ts"], e["ts"] + e["dur"]) for e in events if e["ph"] == "X"]
    arrows = [e for e in events if e["ph"] in "sf"]
    assert len(arrows) == 2 * 2 * 3  # both ends, two steps, three channels
    for arrow in arrows:
        assert any(
            arrow["pid"] == pid and arrow["tid"] == tid and start <= arrow["ts"] <= end + 1e-9
            for pid, tid, start, end in slices
        )


def test_a_long_trace_is_cut_and_says_so(tmp_path: Path) -> None:
    path, p = tmp_path / "t.json", attention()
    with chrome_trace(path, p, max_events=10) as sink:
        simulate(p, STEPS[0], sink=sink)
    events = json.loads(path.read_text())["traceEvents"]
    assert sum(e["ph"] == "X" for e in events) <= 10
    assert events[-1]["args"]["dropped_events"] > 0


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    traced(path, crossing(5), steps=[(Segment(1, 0, 0),)])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {line["kind"] for line in lines} == {"op", "message", "step"}
    assert sum(line["kind"] == "message" and line["bytes"] == 256 for line in lines) == 2
    assert lines[-1]["end"] == max(line["end"] for line in lines)


def test_konata(tmp_path: Path) -> None:
    path = tmp_path / "t.kanata"
    traced(path, attention())
    head, start, *lines = path.read_text().splitlines()
    assert (head, start) == ("Kanata\t0004", "C=\t0")
    fields = [line.split("\t") for line in lines]
    total = sum(simulate(attention(), step).cycles for step in STEPS)
    assert sum(int(f[1]) for f in fields if f[0] == "C") == total
    issued = sum(simulate(attention(), step).issued for step in STEPS)
    assert sum(f[0] == "R" for f in fields) == sum(f[0] == "I" for f in fields) == issued
    short = tmp_path / "short.kanata"
    with konata_log(short, attention(), max_rows=5) as sink:
        simulate(attention(), STEPS[0], sink=sink)
    assert short.read_text().count("\nI\t") == 5


def test_a_trace_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), chrome_trace(tmp_path / "t.json", attention()):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
