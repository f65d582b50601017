"""Copies of arrays on a tile's free macros: fewer cycles, the same bits."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.mapping.replicas import with_copies
from compiler.optimisations import Optimisation
from isa.asm_print import program_text
from isa.assembler import assemble
from isa.hardware import Hardware
from isa.program import ArrayKind, Program, segments_of
from isa.verifier import verify
from runtime.machine import Machine
from runtime.timing import Simulator

from .building import Choices, mapping_of, program_of, run, tiny, with_quantity
from .graphs import Shape, decoder

IDS = np.random.default_rng(1).integers(0, 64, 20)
ALONE = frozenset({Optimisation.COPY_ARRAYS})
SHAPES = {
    "groups": Shape(kv_heads=1),
    "window": Shape(window=30, softcap=5.0, layers=1),
    "encoder": Shape(causal=False, layers=1),
    "biased": Shape(bias=True, layers=1),
}


def _target(macros: int = 64) -> Hardware:
    return with_quantity(tiny(14), "tile", "macros", macros)


def _program(shape: Shape, macros: int = 64, *, copies: bool = True, ways: int = 0) -> Program:
    without = frozenset() if copies else ALONE
    return program_of(decoder(shape), _target(macros), Choices(64, without=without, ways=ways, chunk=4))


def _cycles(program: Program, tokens: int, position: int) -> int:
    return Simulator(program).step(segments_of(tokens, position, program.limits.chunk)).cycles


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("ways", [1, 2])
def test_no_bit_changes(name: str, ways: int) -> None:
    many, one = _program(SHAPES[name], ways=ways), _program(SHAPES[name], copies=False, ways=ways)
    verify(many)
    assert any(array.copies > 1 for role in many.roles for array in role.arrays)
    assert all(array.copies == 1 for role in one.roles for array in role.arrays)
    np.testing.assert_array_equal(run(Machine(many), IDS), run(Machine(one), IDS))


@pytest.mark.parametrize(("tokens", "position"), [(1, 40), (16, 0)])
def test_they_save_time(tokens: int, position: int) -> None:
    shape = SHAPES["groups"]
    many, one = _program(shape, ways=2), _program(shape, copies=False, ways=2)
    assert _cycles(many, tokens, position) < _cycles(one, tokens, position)


@pytest.mark.parametrize("macros", [20, 24, 33, 64])
def test_they_fit_the_tile_and_none_is_more_than_there_are_vectors(macros: int) -> None:
    target, shape = _target(macros), SHAPES["groups"]
    plain = mapping_of(decoder(shape), target, Choices(64, without=ALONE, chunk=4))
    sizes = target.macro_rows, target.macro_cols
    for before, after in zip(plain.templates, with_copies(plain, target).templates, strict=True):
        assert sum(array.macros(*sizes) for array in after.arrays) <= macros
        assert [a.name for a in before.arrays] == [a.name for a in after.arrays]
        for array in after.arrays:
            most = 4 * (4 if array.kind is ArrayKind.KV else 1)  # query heads of the KV head
            assert 1 <= array.copies <= most


def test_what_passes_through_arrays_has_no_copies() -> None:
    program = program_of(decoder(Shape()), _target(), Choices(64, stream=True))
    assert all(array.copies == 1 for role in program.roles for array in role.arrays)


def test_a_listing_says_how_many_there_are() -> None:
    program = _program(SHAPES["groups"])
    text = program_text(program)
    assert " copies 4" in text
    assert assemble(text, "copies.cimasm", program.target).roles == program.roles
