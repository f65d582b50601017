"""Query heads that share a KV head go to tiles of their own, each with a copy of its rows: nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compiler.ir.mapping import Arithmetic
from isa.asm_print import program_text
from isa.assembler import assemble
from isa.program import Program, segments_of
from isa.verifier import findings, verify
from runtime.machine import Machine
from runtime.timing import Simulator

from .building import ONE_TILE, Choices, program_of, reference, run, tiny
from .graphs import Shape, decoder

IDS = np.random.default_rng(1).integers(0, 64, 60)
SHAPES = {
    "groups": Shape(),
    "biased": Shape(bias=True, kv_heads=1, layers=1),
    "head-norm": Shape(head_norm=True, layers=1),
    "window": Shape(window=30, softcap=5.0, layers=1),
    "encoder": Shape(causal=False, layers=1),
}


def _program(
    shape: Shape, copies: int, arithmetic: Arithmetic = Arithmetic.INT8, together: int = 0
) -> Program:
    choices = Choices(64, arithmetic, ways=1, copies=copies, sequences=2, together=together)
    return program_of(decoder(shape), tiny(14), choices)


def _copies(program: Program) -> set[int]:
    return {cache.copies for cache in program.caches}


@pytest.mark.parametrize("name", SHAPES)
def test_ideal_arithmetic_equals_the_reference(name: str) -> None:
    program = _program(SHAPES[name], 0, Arithmetic.FLOAT32)
    expected = reference(decoder(SHAPES[name]), IDS)
    np.testing.assert_allclose(run(Machine(program), IDS), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", SHAPES)
def test_int8_is_close_to_one_tile(name: str) -> None:
    shape = SHAPES[name]
    program = _program(shape, 0)
    verify(program)
    one = run(Machine(program_of(decoder(shape), tiny(14), Choices(64, without=ONE_TILE))), IDS)
    error = np.sqrt(np.mean((run(Machine(program), IDS) - one) ** 2)) / np.std(one)
    assert error < 0.03


@pytest.mark.parametrize("name", SHAPES)
def test_an_output_projection_of_several_copies_equals_the_reference(name: str) -> None:
    expected = reference(decoder(SHAPES[name]), IDS)
    program = _program(SHAPES[name], 0, Arithmetic.FLOAT32, together=4)
    assert "combine" in {role.name for role in program.roles}
    np.testing.assert_allclose(run(Machine(program), IDS), expected, atol=1e-5 * np.abs(expected).max())
    program = _program(SHAPES[name], 0, together=4)
    verify(program)
    alone = run(Machine(_program(SHAPES[name], 0)), IDS)
    error = np.sqrt(np.mean((run(Machine(program), IDS) - alone) ** 2)) / np.std(alone)
    assert error < 0.03


@pytest.mark.parametrize(("asked", "found"), [(0, 4), (1, 1), (2, 2), (3, 1), (8, 4)])
def test_copies_divide_the_heads_that_share_a_cache(asked: int, found: int) -> None:
    assert _copies(_program(Shape(kv_heads=1, layers=1), asked)) == {found}


@pytest.mark.parametrize("together", [0, 4])
def test_cutting_a_sequence_into_steps_changes_no_bit(together: int) -> None:
    program = _program(Shape(), 0, together=together)
    whole, machine = run(Machine(program), IDS), Machine(program)
    parts = [run(machine, IDS[:23]), run(machine, IDS[23:24], 23), run(machine, IDS[24:], 24)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_caches_are_written_to_every_copy() -> None:
    machine = Machine(_program(Shape(layers=1), 2))
    whole = run(machine, IDS, 0, 1)
    keys, values = machine.read_cache(0, 1, len(IDS))
    assert keys.shape[0] == 2
    other = Machine(machine.program)
    other.write_cache(0, 1, keys[:, :40], values[:, :40])
    found = run(other, IDS[40:], 40, 1)
    np.testing.assert_allclose(found, whole[40:], atol=0.02 * np.abs(whole).max())


def test_copies_make_a_token_faster() -> None:
    cycles = []
    for copies in (1, 2, 4):
        program = _program(Shape(kv_heads=1), copies)
        cycles.append(Simulator(program).step(segments_of(1, 60, program.limits.chunk)).cycles)
    assert cycles[0] > cycles[1] > cycles[2]


def test_a_target_with_few_tiles_has_fewer_copies() -> None:
    graph = decoder(Shape(kv_heads=1, layers=1))
    most = len(program_of(graph, tiny(14), Choices(64)).tiles)
    side = int((most - 1) ** 0.5)
    program = program_of(graph, tiny(side), Choices(64))
    assert len(program.tiles) <= side * side < most
    assert max(_copies(program)) < 4


def test_text_says_how_many_copies_there_are() -> None:
    program = _program(Shape(layers=1), 2)
    text = program_text(program)
    assert ".cache 0 copies 2" in text
    assert assemble(text, target=program.target).caches == program.caches


def test_a_cache_that_names_too_few_copies_is_refused() -> None:
    program = _program(Shape(layers=1), 2)
    (cache,) = program.caches
    wrong = replace(program, caches=(replace(cache, copies=3),))
    assert "E0410" in {finding.code for finding in findings(wrong)}
