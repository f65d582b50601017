"""Chips at their peak: the program, what it keeps busy, and what came of the rows."""

from __future__ import annotations

import pytest

from benchmarks.validation.judged import Verdict, judged
from benchmarks.validation.peak import PASSES, grid, peak_program, simulate, target_of
from benchmarks.validation.rows import Figure, Level, PeakSubject, published
from benchmarks.validation.stacks import note, stack
from isa.events import Event
from isa.hardware import load_target
from isa.program import Segment
from isa.verifier import findings
from runtime.fast.simulator import FastSimulator
from runtime.timing import simulate as simulate_step
from tests.timing.programs import changed

VERDICTS = {
    "hermes-1phase-tops": (Verdict.WITHIN, +0.023),
    "hermes-1phase-tops-w": (Verdict.WITHIN, +0.041),
    "hermes-4phase-tops": (Verdict.WITHIN, +0.002),
    "hermes-4phase-tops-w": (Verdict.WITHIN, +0.048),
    "rcw-tops": (Verdict.WITHIN, -0.002),
    "rcw-tops-w": (Verdict.WITHIN, 0.0),
    "isaac-tops": (Verdict.WITHIN, 0.0),
    "isaac-tops-w": (Verdict.WITHIN, +0.228),
    "isaac-tops-mm2": (Verdict.EXPLAINED, -0.420),
    "puma-tops": (Verdict.WITHIN, -0.135),
    "puma-tops-w": (Verdict.WITHIN, -0.206),
    "puma-tops-mm2": (Verdict.EXPLAINED, -0.407),
}


def test_efficiency_of_a_chip_that_nobody_tuned_to() -> None:
    (one,) = judged(r for r in published() if r.id == "hermes-1phase-tops-w")
    verdict, error = VERDICTS["hermes-1phase-tops-w"]
    assert one.verdict is verdict
    assert one.error == pytest.approx(error, abs=0.005)


@pytest.mark.slow
def test_rows_of_chips() -> None:
    found = {j.row.id: j for j in judged(r for r in published() if r.level is Level.CHIP) if j.prediction}
    assert {name: j.verdict for name, j in found.items()} == {name: v for name, (v, _) in VERDICTS.items()}
    for name, (verdict, error) in VERDICTS.items():
        assert found[name].error == pytest.approx(error, abs=0.005), name
        assert bool(found[name].row.explanation) is (verdict is Verdict.EXPLAINED), name


def test_the_program_is_proven_safe_and_the_same_on_both_engines() -> None:
    program = peak_program(load_target("hermes14"))
    assert findings(program) == ()
    step = (Segment(1, 0, 0),)
    assert FastSimulator(program).step(step) == simulate_step(program, step)


def test_all_arrays_of_all_tiles_work() -> None:
    target = load_target("hermes14")
    program = peak_program(target)
    cost = simulate_step(program, (Segment(1, 0, 0),))
    cells = target.tiles_per_chip * target.macros_per_tile * target.macro.bytes
    assert cost.count(Event.ARRAY_MAC) % cells == 0
    vectors = cost.count(Event.ARRAY_MAC) // cells
    assert vectors % PASSES == 0
    assert vectors * target.mvm_cycles <= cost.cycles < 1.001 * vectors * target.mvm_cycles


def test_a_narrow_port_keeps_arrays_waiting() -> None:
    wide, narrow = (simulate(changed(load_target("hermes14"), cim__port_width=w)) for w in (256, 4))
    assert narrow.arrays_busy < 0.6 < 0.999 < wide.arrays_busy
    assert narrow.figure(Figure.TOPS) < 0.6 * wide.figure(Figure.TOPS)


def test_the_grid_has_least_to_pass_the_port() -> None:
    target = load_target("dcim22")
    high, wide = grid(target)
    assert high * wide == target.macros_per_tile
    assert max(high * target.macro_rows, 4 * wide * target.macro_cols) == 2048


def test_a_decoder_that_does_not_fit_is_not_compared() -> None:
    assert "does not fit" in note("rcw22", 3.28)


@pytest.mark.slow
def test_a_decoder_that_fits_stands_beside_the_peak() -> None:
    found = stack("isaac32")
    assert found is not None
    assert 0.5 < found.tops < 8.0
    assert f"{found.tops / 160:.1%} of the peak" in note("isaac32", 160.0)


def test_narrow_weights_go_through_the_macro_model() -> None:
    plain, narrow = (target_of(PeakSubject("rcw22", weight_bits=bits)) for bits in (8, 4))
    assert narrow.macro == plain.macro.at_bits(4, 8)
    assert narrow.macro_cols == 2 * plain.macro_cols
