"""What the search chooses gives the values of the rules' mapping."""

from __future__ import annotations

import pytest

import models
from compiler.driver import compile_model
from compiler.ir.mapping import Arithmetic
from compiler.optimisations import Optimisation
from compiler.pipeline import CompileOptions
from isa.hardware import Hardware, load_target
from isa.program import Program, segments_of
from runtime.timing import Simulator

from .choices import TOLERANCE, TOLERANCE_INT8, Agreement
from .test_choices import SHORT, distance, run, texts


@pytest.mark.slow
def test_batches_take_tiles_that_would_be_idle() -> None:
    hardware = load_target("dcim3")
    searched, ruled = (
        compile_model(
            models.path(models.PYTINY),
            CompileOptions(max_context=128, batch=2, without=frozenset(w)),
            hardware,
        ).require_program()
        for w in ((), (Optimisation.SEARCH,))
    )
    assert len(searched.tiles) > len(ruled.tiles)
    prompt = tuple(s for q in range(2) for s in segments_of(32, 96, searched.limits.chunk, sequence=q))
    slow = tuple(s for q in range(2) for s in segments_of(32, 96, ruled.limits.chunk, sequence=q))
    assert Simulator(searched).step(prompt).cycles < Simulator(ruled).step(slow).cycles


def _compiled(hardware: Hardware, weights: str, without: frozenset[Optimisation]) -> Program:
    options = CompileOptions(max_context=64, weights=weights, without=without)
    return compile_model(models.path(models.PYTINY), options, hardware).require_program()


@pytest.mark.parametrize("arithmetic", Arithmetic)
def test_a_searched_program_agrees_with_that_of_the_rules(arithmetic: Arithmetic) -> None:
    hardware = load_target("dcim22").with_chips(2, 2)
    searched, ruled = (
        _compiled(hardware, arithmetic.value, frozenset(without)) for without in ((), (Optimisation.SEARCH,))
    )
    found, base = (run(program, texts(1, SHORT), SHORT) for program in (searched, ruled))
    limits = TOLERANCE_INT8 if arithmetic is Arithmetic.INT8 else TOLERANCE
    assert distance(found, base) <= max(limits[agreement] for agreement in Agreement)
