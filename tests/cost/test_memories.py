"""Memories as the prediction has them, against those of the simulation."""

from __future__ import annotations

from itertools import permutations

import pytest

from compiler.cost import Predictor
from isa import instructions as t
from isa.operands import Mem, Space
from runtime.timing import Simulator
from tests.timing.programs import ONE_TOKEN, R, at, single


@pytest.mark.parametrize("spaces", [*permutations((Space.DRAM, Space.GBUF))])
def test_equal_blocks_of_two_memories_are_told_apart(spaces: tuple[Space, ...]) -> None:
    """The same address and size, in memories of different numbers of channels."""
    loads = (t.Load(at(4096 * n), Mem(space, R(0), 64), R(1), 256) for n, space in enumerate(spaces))
    program = single(t.Li(R(1), 1), *loads)
    assert Predictor(program).step(ONE_TOKEN).cycles == Simulator(program).step(ONE_TOKEN).cycles
