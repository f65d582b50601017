"""A section's bias goes to what its result is added to, before the result comes."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.ir.mapping import Arithmetic
from compiler.optimisations import Optimisation
from isa.program import Program, segments_of
from isa.verifier import verify
from runtime.machine import Machine
from runtime.timing import Simulator

from .building import Choices, program_of, reference, run, tiny
from .graphs import Shape, decoder

IDS = np.random.default_rng(1).integers(0, 64, 20)
GRAPH = decoder(Shape(bias=True))


def _program(*without: Optimisation, arithmetic: Arithmetic = Arithmetic.INT8) -> Program:
    return program_of(GRAPH, tiny(14), Choices(32, arithmetic, without=frozenset(without)))


def test_ideal_arithmetic_equals_the_reference() -> None:
    expected = reference(GRAPH, IDS)
    got = run(Machine(_program(arithmetic=Arithmetic.FLOAT32)), IDS)
    np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max())


def test_int8_differs_by_roundings() -> None:
    early, late = _program(), _program(Optimisation.EARLY_BIAS)
    verify(early)
    base = run(Machine(late), IDS)
    assert np.abs(run(Machine(early), IDS) - base).max() <= 0.03 * np.abs(base).max()


@pytest.mark.parametrize("position", [0, 20])
def test_a_token_is_faster(position: int) -> None:
    def cycles(program: Program) -> int:
        return Simulator(program).step(segments_of(1, position, program.limits.chunk)).cycles

    assert cycles(_program()) < cycles(_program(Optimisation.EARLY_BIAS))
