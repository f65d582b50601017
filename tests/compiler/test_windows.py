"""Attention with a sliding window: blocks before the window are passed over, and rows lie in a ring."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.ir.mapping import Arithmetic
from compiler.optimisations import Optimisation
from isa.diagnostics import CimError
from isa.program import ArrayKind, Program, segments_of
from isa.verifier import verify
from runtime.machine import Machine
from runtime.timing import Simulator

from .building import ONE_TILE, Choices, program_of, reference, run, tiny
from .graphs import Shape, decoder

LENGTH = 210
IDS = np.random.default_rng(7).integers(0, 64, LENGTH)
PLAIN = frozenset({Optimisation.SKIP_WINDOW, Optimisation.RING})


def _program(window: int, without: frozenset[Optimisation] = frozenset(), **choices: object) -> Program:
    shape = Shape(window=window, layers=1)
    return program_of(decoder(shape), tiny(14), Choices(without=without | ONE_TILE, **choices))  # type: ignore[arg-type]


def _kv_rows(program: Program) -> int:
    return next(a.rows for role in program.roles for a in role.arrays if a.kind is ArrayKind.KV)


@pytest.mark.parametrize("window", [1, 40, 64, 70, 100])
@pytest.mark.parametrize("arithmetic", Arithmetic)
def test_a_ring_changes_no_bit(window: int, arithmetic: Arithmetic) -> None:
    plain = run(Machine(_program(window, PLAIN, arithmetic=arithmetic)), IDS)
    for without in (frozenset({Optimisation.RING}), frozenset[Optimisation]()):
        program = _program(window, without, arithmetic=arithmetic)
        verify(program)
        np.testing.assert_array_equal(run(Machine(program), IDS), plain)


def test_a_ring_computes_what_the_graph_means() -> None:
    program = _program(40, arithmetic=Arithmetic.FLOAT32)
    expected = reference(decoder(Shape(window=40, layers=1)), IDS)
    np.testing.assert_allclose(run(Machine(program), IDS), expected, atol=2e-5 * np.abs(expected).max())


@settings(max_examples=15)
@given(st.lists(st.integers(1, LENGTH - 1), max_size=12, unique=True))
def test_cutting_a_sequence_into_steps_changes_no_bit(cuts: list[int]) -> None:
    program = _RING
    machine = Machine(program)
    parts = [run(machine, IDS[a:b], a) for a, b in itertools.pairwise([0, *sorted(cuts), LENGTH])]
    np.testing.assert_array_equal(np.concatenate(parts), _WHOLE)


_RING = _program(50)
_WHOLE = run(Machine(_RING), IDS)


def test_each_sequence_has_a_ring() -> None:
    program = _program(50, sequences=2)
    verify(program)
    assert _kv_rows(program) == 2 * _kv_rows(_RING)
    machine = Machine(program)
    together: list[list[np.ndarray]] = [[], []]
    for start in range(0, LENGTH, 30):
        for sequence, ids in enumerate((IDS, IDS[::-1].copy())):
            together[sequence].append(run(machine, ids[start : start + 30], start, sequence))
    np.testing.assert_array_equal(np.concatenate(together[0]), _WHOLE)


def test_a_ring_has_room_for_the_window_and_a_segment() -> None:
    assert [_kv_rows(_program(window)) for window in (1, 49, 50, 113, 114)] == [64, 64, 128, 128, 192]
    assert _kv_rows(_program(49, frozenset({Optimisation.RING}))) == 256
    assert _kv_rows(_program(49, frozenset({Optimisation.SKIP_WINDOW}))) == 256  # a ring needs both
    assert _kv_rows(_program(200)) == 256  # no fewer than the context has


def test_blocks_before_the_window_cost_nothing() -> None:
    def cycles(program: Program, position: int) -> int:
        return Simulator(program).step(segments_of(1, position, program.limits.chunk)).cycles

    skipping, plain = _program(40), _program(40, PLAIN)
    assert cycles(skipping, 250) < cycles(plain, 250)
    assert cycles(skipping, 250) == cycles(skipping, 122)  # the same blocks in reach


def test_what_a_ring_has_can_be_taken_out_and_put_in() -> None:
    first, second = Machine(_RING), Machine(_RING)
    run(first, IDS[:100])
    second.write_cache(0, 0, *first.read_cache(0, 0, 100))
    np.testing.assert_allclose(run(second, IDS[100:], 100), _WHOLE[100:], rtol=1e-5, atol=1e-5)
    long = np.zeros((len(_RING.caches[0].heads), 200, 16), np.float32)
    second.write_cache(0, 0, long, long)  # the last rows fit
    with pytest.raises(CimError, match=r"E0602.*keeps the last 128 rows"):
        first.read_cache(0, 0, 200)
