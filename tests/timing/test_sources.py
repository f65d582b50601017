"""Time and energy of steps with source segments, by the cross-attention of tests/values/crossing.py."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isa import instructions as t
from isa.diagnostics import CimError
from isa.events import Bound, Event
from isa.instruction import Inst
from isa.program import Segment, segments_of
from isa.timing.rates import ceil_div
from runtime.energy import energy
from runtime.report import render_report
from runtime.segments import source_segments_of
from runtime.sinks.statistics import statistics
from runtime.sinks.trace import open_trace
from runtime.timing import Simulator, simulate
from tests.values.crossing import (
    CHUNK,
    CONTEXT,
    SOURCE,
    WIDTH,
    crossing,
    crossing_of_two,
    crossing_that_tells,
)

from .programs import Listener, R, at, single, tiny
from .test_energy import check_sums
from .test_engines import executed_by_time, executed_by_values

Step = tuple[Segment, ...]


def step(sources: int, tokens: int, position: int = 0, source: int | None = None, sequence: int = 0) -> Step:
    """`sources` rows of the source, then `tokens` tokens that look at `source` rows (if not given, at those)."""
    cut = segments_of(tokens, position, CHUNK, sequence=sequence)
    rows = sources if source is None else source
    return (
        *source_segments_of(sources, CHUNK, sequence=sequence),
        *(replace(segment, source=rows) for segment in cut),
    )


STEPS = (step(20, 10), step(0, 1, position=10, source=20))


@pytest.mark.parametrize(("heads", "ideal"), [(1, False), (1, True), (2, False)])
def test_both_interpreters_execute_the_same(heads: int, ideal: bool) -> None:
    program = crossing_of_two() if heads == 2 else crossing(ideal)
    for segments in (*STEPS, step(SOURCE, 3), (*step(9, 2)[:2], *step(3, 1, sequence=1), *step(9, 2)[2:])):
        ordered = tuple(sorted(segments, key=lambda segment: not segment.is_source))
        sources = sum(s.tokens for s in ordered if s.is_source)
        tokens = sum(s.tokens for s in ordered) - sources
        inputs = {
            "kv": np.zeros((sources, 2 * heads * WIDTH), np.float32),
            "q": np.zeros((tokens, heads * WIDTH), np.float32),
        }
        assert executed_by_time(program, ordered) == executed_by_values(program, ordered, inputs)


def test_the_host_sends_the_source_in_its_own_pass() -> None:
    listener = Listener()
    cost = simulate(crossing(), STEPS[0], sink=listener)
    sizes = [(channel, size) for channel, _, _, size in listener.messages]
    assert [size for channel, size in sizes if channel == 0] == [8 * 128, 8 * 128, 4 * 128]
    assert [size for channel, size in sizes if channel == 1] == [8 * 64, 64, 64]
    assert [size for channel, size in sizes if channel == 2] == [0, 0, 64]
    channels = [channel for channel, _ in sizes]
    assert channels.index(2) > max(at for at, channel in enumerate(channels) if channel == 0)
    assert cost.count(Event.HOST_LINK_BYTE) == sum(size for _, size in sizes)
    assert (cost.tokens, cost.source_rows) == (10, 20)


def test_the_host_gets_all_rows_of_a_source_segment() -> None:
    program, listener = crossing_that_tells(), Listener()
    first, later = (simulate(program, segments, sink=listener) for segments in STEPS)
    sizes = [(channel, size) for channel, _, _, size in listener.messages]
    assert [size for channel, size in sizes if channel == 3] == [8 * 128, 8 * 128, 4 * 128]
    assert first.count(Event.HOST_LINK_BYTE) + later.count(Event.HOST_LINK_BYTE) == sum(s for _, s in sizes)
    assert first.count(Event.HOST_LINK_BYTE) - 20 * 128 == simulate(crossing(True), STEPS[0]).count(
        Event.HOST_LINK_BYTE
    )
    inputs = {"kv": np.zeros((20, 2 * WIDTH), np.float32), "q": np.zeros((10, WIDTH), np.float32)}
    assert executed_by_time(program, STEPS[0]) == executed_by_values(program, STEPS[0], inputs)


def test_keys_and_values_are_written_once() -> None:
    simulator = Simulator(crossing())
    first, later = (simulator.step(segments) for segments in STEPS)
    assert first.count(Event.ARRAY_WRITE_BYTE) == 20 * 2 * (WIDTH + 4)
    assert later.count(Event.ARRAY_WRITE_BYTE) == 0
    assert (later.tokens, later.source_rows) == (1, 0)
    assert later.macs == 2 * 20 * WIDTH
    assert later.cycles < first.cycles


@settings(max_examples=20)
@given(st.integers(1, SOURCE), st.integers(1, CONTEXT))
def test_cycles_and_joules_add_up(sources: int, tokens: int) -> None:
    program = crossing()
    costs = [simulate(program, step(sources, tokens)), simulate(program, step(0, tokens, source=sources))]
    for cost in costs:
        assert sum(cost.critical.values()) == sum(cost.critical_nodes.values()) == cost.cycles
    check_sums(energy(program.target, program, costs))
    assert costs[0].cycles > costs[1].cycles


@given(st.integers(1, SOURCE - 1))
def test_a_longer_source_takes_longer(rows: int) -> None:
    assert simulate(crossing(), step(rows + 1, 1)).cycles >= simulate(crossing(), step(rows, 1)).cycles


def test_heads_append_and_attend_side_by_side() -> None:
    one, two = (simulate(program, STEPS[0]) for program in (crossing(), crossing_of_two()))
    assert two.macs == 2 * one.macs
    assert two.count(Event.ARRAY_WRITE_BYTE) == 2 * one.count(Event.ARRAY_WRITE_BYTE)
    assert two.cycles < 1.6 * one.cycles
    check_sums(energy(tiny(), crossing_of_two(), [two]))


def test_statistics_and_traces_tell_sources_from_tokens(tmp_path: Path) -> None:
    program, path = crossing(), tmp_path / "t.jsonl"
    simulator = Simulator(program)
    with open_trace(path, program) as sink:
        costs = [simulator.step(segments, sink) for segments in STEPS]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(e["tokens"], e["source_rows"]) for e in lines if e["kind"] == "step"] == [(10, 20), (1, 0)]
    assert {e["channel"] for e in lines if e["kind"] == "message" and e["source"]} == {"kv"}
    stats = statistics(program, costs, engine="timing", wall_s=0.0, per_step=True)
    assert (stats.tokens, stats.source_rows) == (11, 20)
    assert [record.source_rows for record in stats.per_step or ()] == [20, 0]
    assert "2 steps, 11 tokens, 20 source rows" in render_report(stats)


def test_the_chrome_trace_names_source_messages(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    with open_trace(path, crossing()) as sink:
        simulate(crossing(), STEPS[0], sink=sink)
    events = json.loads(path.read_text())["traceEvents"]
    assert {e["name"] for e in events if e.get("cat") == "host"} == {"kv (source)", "q", "o"}


def test_a_source_that_nobody_takes_is_a_diagnostic() -> None:
    silent = tuple(replace(role, code=(t.Halt(),), lines=()) for role in crossing().roles)
    with pytest.raises(CimError) as caught:
        simulate(replace(crossing(), roles=silent), STEPS[0])
    found = [(d.code, str(d.place), d.message) for d in caught.value.diagnostics]
    left = "3 of the host's 3 messages were not exchanged"
    assert found == [("E0405", f"program: channel {name}", left) for name in ("kv", "q", "o")]


@pytest.mark.parametrize(
    ("inst", "reads", "alu"),
    [
        (t.Vrel(at(0), at(0), at(4096), R(1), 20, R(2), 2, 2 * 9), 18, 1),
        (t.Vslope(at(0), at(0), at(4096), R(1), 20, R(2), 2), 2, 2),
    ],
)
@pytest.mark.parametrize("first", [-70, 0, 5])
def test_biases_take_their_operations_or_the_port(inst: Inst, reads: int, alu: int, first: int) -> None:
    listener = Listener()
    cost = simulate(single(t.Li(R(1), 6), t.Li(R(2), first), inst), (Segment(1, 0, 0),), sink=listener)
    elements, numbers = 6 * 20, 2 * 6 * 20 + reads
    took = 4 + max(ceil_div(elements * alu, 8), ceil_div(4 * numbers, 32))
    (start, end) = next((s, e) for _, unit, s, e, index in listener.ops if index == 2)
    assert (end - start, cost.critical[Bound.VECTOR]) == (took, took)
    assert cost.count(Event.VECTOR_ALU) == elements * alu
    assert cost.count(Event.BUFFER_READ_BYTE) == 4 * (elements + reads)
