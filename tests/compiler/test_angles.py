"""Rotary angles: in tile buffers, looked up by each tile, or by one for several; the same values, sooner."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.mapping.angles import SHARED
from compiler.optimisations import Optimisation
from isa.instructions import Load
from isa.program import Program, segments_of
from isa.verifier import verify
from runtime.machine import Machine
from runtime.timing import Simulator

from .building import Choices, program_of, run, tiny, with_quantity
from .graphs import Shape, decoder

IDS = np.random.default_rng(1).integers(0, 64, 20)
KEEP, SHARE = Optimisation.KEEP_ANGLES, Optimisation.SHARE_ANGLES


def program(*without: Optimisation, ways: int = 0) -> Program:
    """A decoder on a chip whose global buffer is slow."""
    hardware = with_quantity(tiny(14), "gbuf", "bandwidth", 0.4)
    return program_of(decoder(), hardware, Choices(32, without=frozenset(without), ways=ways, kv_block=8))


def loading(made: Program) -> int:
    """Tiles that look up angles: all that load anything but the embeddings."""
    roles = {r.name for r in made.roles if any(isinstance(i, Load) for i in r.code)}
    return sum(tile.role in roles for tile in made.tiles)


@pytest.mark.parametrize("ways", [0, 2])
def test_values_are_equal_to_the_bit(ways: int) -> None:
    programs = [program(*without, ways=ways) for without in ((), (KEEP,), (KEEP, SHARE))]
    for made in programs:
        verify(made)
    rows = [run(Machine(made), IDS) for made in programs]
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_array_equal(rows[0], rows[2])


def test_who_looks_angles_up() -> None:
    each = loading(program(KEEP, SHARE))
    assert loading(program()) == 0
    assert 0 < loading(program(KEEP)) < each <= SHARED * loading(program(KEEP))


def test_a_prompt_is_faster() -> None:
    cycles = [
        Simulator(made).step(segments_of(20, 0, made.limits.chunk)).cycles
        for made in (program(), program(KEEP), program(KEEP, SHARE))
    ]
    assert cycles == sorted(cycles)
    assert cycles[0] < cycles[-1]


def test_tables_that_are_too_long_are_looked_up() -> None:
    long = program_of(decoder(Shape(layers=1)), tiny(14), Choices(4096, hub_width=64))
    assert loading(long) > 0


def test_streamed_layers_look_angles_up_on_each_tile() -> None:
    folded = program_of(decoder(Shape(layers=3)), tiny(4), Choices(2048, stream=True))
    verify(folded)
    assert loading(folded) > 1
