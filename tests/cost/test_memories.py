"""Memories as the prediction has them, against those of the simulation."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from compiler.cost import Predictor
from isa import instructions as t
from isa.operands import ZERO, Mem, Space
from isa.program import Program
from runtime.timing import Simulator
from tests.timing.programs import A0, ONE_TOKEN, R, array, at, single, tiny


@pytest.mark.parametrize("spaces", [*permutations((Space.DRAM, Space.GBUF))])
def test_equal_blocks_of_two_memories_are_told_apart(spaces: tuple[Space, ...]) -> None:
    """The same address and size, in memories of different numbers of channels."""
    loads = (t.Load(at(4096 * n), Mem(space, R(0), 64), R(1), 256) for n, space in enumerate(spaces))
    program = single(t.Li(R(1), 1), *loads)
    assert Predictor(program).step(ONE_TOKEN).cycles == Simulator(program).step(ONE_TOKEN).cycles


def loaders(tiles: int, rows: int, times: int) -> Program:
    """Tiles of one role that load `rows` rows and write them into an array, one after the other."""
    code = (
        t.Li(R(1), rows),
        t.Li(R(2), times),
        t.Loop(R(3), R(2), 5),
        t.Load(at(0), Mem(Space.DRAM, ZERO), R(1), 16),
        t.Wrowc(A0, at(0), R(1), ZERO),
        t.Halt(),
    )
    made = single(*code, arrays=[array("w", 64, 64)])
    across = int(tiny().chip.tiles_x.value)
    tile = made.tiles[0]
    places = [replace(tile, x=n % across, y=n // across) for n in range(tiles)]
    return replace(made, tiles=tuple(places))


@pytest.mark.parametrize("rows", [4, 16, 64])
@pytest.mark.parametrize("tiles", [1, 2, 5])
def test_channels_work_for_others_while_a_tile_writes_what_it_has_loaded(tiles: int, rows: int) -> None:
    program = loaders(tiles, rows, 12)
    measured = Simulator(program).step(ONE_TOKEN).cycles
    assert Predictor(program).step(ONE_TOKEN).cycles == pytest.approx(measured, rel=0.03)
    once = [Predictor(loaders(n, rows, 1)).step(ONE_TOKEN).cycles for n in (1, tiles)]
    if tiles > 1:  # the time of all loads and of one tile's writes would be more
        assert measured < 12 * once[1]
