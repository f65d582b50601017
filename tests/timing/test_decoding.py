"""Runs of decode steps: which are simulated, what lies between, and sums of both."""

from __future__ import annotations

from itertools import islice

import pytest

from isa.program import Segment
from runtime.comparison import changed_options, deltas, layer_deltas, other_model, run_text
from runtime.decoding import Decoding, filled, sampled
from runtime.report import report_data
from runtime.sinks.schema import DecodeRecord, Statistics
from runtime.sinks.statistics import decode_statistics, statistics
from runtime.timing import Simulator, simulate

from .test_properties import attention

COUNT, CONTEXT = 9, 5


def decoding(every: int = 1) -> Decoding:
    p = attention()
    steps = {n: (Segment(1, CONTEXT + n, 1),) for n in sampled(COUNT, every)}
    return Decoding(p, Simulator(p), steps, every)


def found(run: Decoding, steps: int | None = None) -> tuple[Statistics, DecodeRecord]:
    """The statistics after so many simulated steps (all)."""
    for _ in islice(run.simulate(), steps):
        pass
    stats = decode_statistics(run, interrupted=steps is not None, wall_s=0.5)
    assert stats.decode is not None
    return stats, stats.decode


def test_the_first_and_the_last_are_always_simulated() -> None:
    assert sampled(10, 4) == (0, 4, 8, 9)
    assert sampled(9, 4) == (0, 4, 8)
    assert sampled(3, 1) == (0, 1, 2)
    assert sampled(5, 100) == (0, 4)
    assert sampled(1, 7) == (0,)


def test_what_lies_between_is_on_straight_lines() -> None:
    assert filled({0: 10.0, 4: 18.0, 5: 17.0}) == [10, 12, 14, 16, 18, 17]
    assert filled({0: 3.0}) == [3]
    assert filled({}) == []


def test_steps_add_up_to_the_statistics_of_all() -> None:
    run = decoding()
    stats, decode = found(run)
    costs = [simulate(run.program, segments) for segments in run.steps.values()]
    plain = statistics(run.program, costs, engine="timing", wall_s=0.5)
    assert stats == plain.model_copy(update={"decode": decode, "bounds": stats.bounds, "work": stats.work})
    assert [step.cycles for step in decode.steps] == [cost.cycles for cost in costs]
    assert all(step.simulated for step in decode.steps)
    assert (decode.cycles, decode.tokens, decode.latency_s) == (stats.cycles, COUNT, stats.latency_s)
    assert decode.energy_j == pytest.approx(stats.energy_j.total, rel=1e-12)


def test_a_sample_says_what_it_has_simulated() -> None:
    (_, all_steps), (stats, decode) = found(decoding()), found(decoding(every=3))
    assert [step.simulated for step in decode.steps] == [n in (0, 3, 6, 8) for n in range(COUNT)]
    assert (decode.simulated, decode.interpolated, stats.steps, decode.tokens) == (4, 5, 4, COUNT)
    assert stats.cycles == sum(step.cycles for step in decode.steps if step.simulated) < decode.cycles
    assert all(a == b for a, b in zip(all_steps.steps, decode.steps, strict=True) if b.simulated)
    assert decode.energy_j == pytest.approx(all_steps.energy_j, rel=0.05)
    between = decode.steps[1]
    assert between.cycles == round((2 * decode.steps[0].cycles + decode.steps[3].cycles) / 3)


def test_what_was_done_of_a_run_is_a_run() -> None:
    stats, decode = found(decoding(every=3), steps=2)
    assert (decode.asked, decode.interrupted, decode.positions) == (COUNT, True, [CONTEXT])
    assert [step.simulated for step in decode.steps] == [True, False, False, True]
    assert (stats.steps, decode.simulated, decode.interpolated) == (2, 2, 2)


def test_a_comparison_is_of_all_steps_however_many_were_simulated() -> None:
    (plain, _), (sample, decode) = found(decoding()), found(decoding(every=3))
    by_name = {d.name: d for d in deltas(sample, plain)}
    assert (by_name["cycles"].new, by_name["cycles"].old) == (decode.cycles, plain.cycles)
    assert by_name["energy"].new == decode.energy_j
    assert by_name["MACs a token"].new == sample.macs / sample.tokens
    assert not {"MACs", "dynamic", "instructions"} & set(by_name)
    assert all(
        d.ratio == pytest.approx(1, rel=0.05) for d in (*by_name.values(), *layer_deltas(sample, plain))
    )
    data = report_data(sample, plain)
    assert "differences_by_layer_j" not in data
    assert "differences_by_layer_j_per_token" in data
    assert "MACs" in {d.name for d in deltas(plain, plain)}
    assert run_text(sample) == f"{COUNT} steps, {COUNT} tokens (4 steps simulated)"


def test_a_comparison_names_other_models_and_options() -> None:
    stats, _ = found(decoding())
    new, old = (
        stats.model_copy(update={"program_hash": h, "options": o})
        for h, o in (("a", {"x": "1"}), ("b", {"y": "2"}))
    )
    assert other_model(stats, stats) == other_model(new, stats) == ""
    assert other_model(new, old) == "The model files differ: a and b."
    assert changed_options(new, old) == [("x", "1", "-"), ("y", "-", "2")]
    assert changed_options(new, new) == []
