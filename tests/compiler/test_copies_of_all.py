"""Copies of the whole program are made where the weights fit several times beside a batch's caches and they are faster:
equal values, no longer a step, and nothing where they could not be right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compiler.backend.build import build_program
from compiler.explain import Heading
from compiler.ir.mapping import Arithmetic
from compiler.ir.mapping_text import parse_mapping, print_mapping
from compiler.mapping.mapper import MapOptions
from compiler.mapping.problem import Problem
from compiler.mapping.settle import settle
from compiler.optimisations import Optimisation
from compiler.search import Choice, Found, by_rule, with_copies_of_all
from isa.interface import KvPolicy
from isa.program import Limits, Origin, Program, segments_of
from isa.turns import in_turns, turns_of
from isa.verifier import findings
from runtime.machine import Machine
from runtime.timing import Simulator

from .building import tiny, with_quantity
from .graphs import Shape, decoder

CONTEXT, SEQUENCES, SIDE = 64, 4, 24
SMALL = Shape(layers=1)
ASKED = Choice(MapOptions(), 4)


def _problem(shape: Shape = SMALL, side: int = SIDE, sequences: int = SEQUENCES) -> Problem:
    return Problem(decoder(shape), tiny(side), Limits(CONTEXT, 1, sequences=sequences), Arithmetic.INT8)


def _program(found: Found, problem: Problem) -> Program:
    return build_program(found.mapping, problem.hardware, Origin(), shapes_only=False)


@pytest.fixture(scope="module")
def problem() -> Problem:
    return _problem()


@pytest.fixture(scope="module")
def found(problem: Problem) -> Found:
    return with_copies_of_all(problem, ASKED)


@pytest.fixture(scope="module")
def several(found: Found, problem: Problem) -> Program:
    return _program(found, problem)


@pytest.fixture(scope="module")
def single(problem: Problem) -> Program:
    return _program(by_rule(problem, ASKED), problem)


def _logits(program: Program, ids: NDArray[np.int32], sequences: int) -> NDArray[np.float32]:
    """The logits of every token of so many sequences, [sequences, tokens, vocabulary], in two steps."""
    machine, (_, tokens) = Machine(program), ids.shape
    found = []
    for first, end in ((0, tokens // 2), (tokens // 2, tokens)):
        chunk = program.limits.chunk
        segments = [
            s
            for q in range(sequences)
            for s in segments_of(end - first, first, chunk, last_only=False, sequence=q)
        ]
        rows = machine.step(segments, {"input_ids": ids[:sequences, first:end].reshape(-1, 1)})["logits"]
        found.append(rows.reshape(sequences, end - first, -1))
    return np.concatenate(found, axis=1)


def _ids(sequences: int, tokens: int, seed: int = 0) -> NDArray[np.int32]:
    return np.random.default_rng(seed).integers(0, 64, (sequences, tokens)).astype(np.int32)


def test_a_batch_of_which_the_weights_fit_several_times_has_copies(several: Program, single: Program) -> None:
    assert several.replicas and not single.replicas
    assert several.step_limits.sequences == single.limits.sequences == SEQUENCES
    assert 2 * single.tile_count <= single.target.tiles
    assert findings(several) == ()


@pytest.mark.parametrize(("side", "count"), [(4, 2), (6, 4)])
def test_a_batch_that_fills_the_target_has_them_too(side: int, count: int) -> None:
    crowded = _problem(side=side)
    assert len(by_rule(crowded, ASKED).mapping.tiles) > 0.9 * side * side
    program = _program(with_copies_of_all(crowded, ASKED), crowded)
    assert len(program.corners) == count
    assert findings(program) == ()


def test_copies_keep_all_in_arrays(found: Found) -> None:
    assert {cache.policy for cache in found.mapping.caches} == {KvPolicy.RESIDENT}
    assert found.settled.options.stream is False


def test_a_head_gets_as_few_tiles_as_its_rows_need_where_fewer_than_asked_deal_them_unevenly() -> None:
    """Over six tiles its blocks would take sixteen, such that all sequences' sums have the same order."""
    problem = replace(_problem(side=5), limits=Limits(1024, 1, sequences=8))
    caches = settle(problem, MapOptions()).mapping.caches
    assert {cache.policy for cache in caches} == {KvPolicy.RESIDENT}
    assert [cache.ways for cache in caches] == [8]


def test_steps_are_not_longer_with_them(several: Program, single: Program) -> None:
    for tokens, position in ((1, CONTEXT - 1), (32, CONTEXT - 32)):
        cycles = []
        for program in (several, single):
            chunk = program.limits.chunk
            each = [segments_of(tokens, position, chunk, sequence=q) for q in range(SEQUENCES)]
            cycles.append(Simulator(program).step(in_turns(each, turns_of(program))).cycles)
        assert cycles[0] <= cycles[1]


def test_values_are_those_of_a_single_copy(several: Program, problem: Problem) -> None:
    count = len(several.corners)
    share = replace(problem, limits=replace(problem.limits, sequences=SEQUENCES // count))
    alone = replace(several, replicas=())
    ids, own = _ids(SEQUENCES, 20), share.limits.sequences
    found = _logits(several, ids, SEQUENCES)
    for copy in range(count):
        assert np.array_equal(found[copy::count], _logits(alone, ids[copy::count], own))


def test_values_without_them_differ_by_no_more_than_sums_in_another_order(
    several: Program, single: Program
) -> None:
    ids = _ids(SEQUENCES, 20)
    assert np.allclose(
        _logits(several, ids, SEQUENCES), _logits(single, ids, SEQUENCES), rtol=1e-3, atol=0.05
    )


def test_what_was_weighed_is_told(found: Found, several: Program) -> None:
    told = next(n.text for n in found.notes if n.text.startswith("Copies of the whole program"))
    assert found.notes[0].heading is Heading.CHOICES
    assert f": {len(several.corners)}, each for" in told
    assert "By rule, copies take: 1:" in told


def test_the_mapping_s_text_has_them(found: Found) -> None:
    assert parse_mapping(print_mapping(found.mapping)) == found.mapping


@pytest.mark.parametrize(
    ("problem", "asked"),
    [
        (_problem(sequences=1), ASKED),
        (_problem(sequences=3), ASKED),
        (_problem(side=3), ASKED),
        (_problem(), replace(ASKED, options=MapOptions(without=frozenset({Optimisation.REPLICAS})))),
        (_problem(), replace(ASKED, options=MapOptions(kv_tokens=CONTEXT))),
    ],
    ids=["one sequence", "cannot be dealt", "no room", "left out", "pages"],
)
def test_there_are_none_elsewhere(problem: Problem, asked: Choice) -> None:
    assert not with_copies_of_all(problem, asked).mapping.replicas


def test_on_several_chips_copies_lie_on_whole_chips(problem: Problem) -> None:
    chips = with_quantity(with_quantity(tiny(SIDE // 2), "system", "chips_x", 2), "system", "chips_y", 2)
    made = with_copies_of_all(replace(problem, hardware=chips), ASKED)
    program = build_program(made.mapping, chips, Origin(), shapes_only=False)
    assert program.replicas
    assert all(corner.x % (SIDE // 2) == corner.y % (SIDE // 2) == 0 for corner in program.replicas)
    assert findings(program) == ()


@settings(max_examples=3)
@given(
    st.sampled_from((32, 64, 96)),
    st.sampled_from((2, 4)),
    st.integers(0, 99),
    st.booleans(),
)
def test_any_small_decoder(width: int, sequences: int, seed: int, is_ideal: bool) -> None:
    problem = _problem(Shape(width, 1), 30, sequences)
    problem = replace(problem, arithmetic=Arithmetic.FLOAT32 if is_ideal else Arithmetic.INT8)
    program = _program(with_copies_of_all(problem, ASKED), problem)
    assert findings(program) == ()
    count, ids = len(program.corners), _ids(sequences, 7, seed)
    found, alone = _logits(program, ids, sequences), replace(program, replicas=())
    for copy in range(count):
        assert np.array_equal(found[copy::count], _logits(alone, ids[copy::count], sequences // count))
