"""Sequences of a batch take turns where the rows of each lie on few of a head's tiles: other times, equal values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from isa.program import Program, Segment, segments_of
from isa.turns import in_turns, turns_of
from runtime.batching import Batcher, Request
from runtime.machine import Machine
from runtime.session import Session
from runtime.timing import Simulator

from .building import Choices, program_of, tiny, with_quantity
from .graphs import Shape, decoder

CONTEXT, SEQUENCES = 128, 4
TEXT = tuple(np.random.default_rng(6).integers(0, 64, CONTEXT).tolist())


@pytest.fixture(scope="module")
def program() -> Program:
    """Four sequences, each on one of the four tiles of a head."""
    choices = Choices(CONTEXT, sequences=SEQUENCES, ways=SEQUENCES, kv_block=CONTEXT, block=CONTEXT)
    found = program_of(decoder(Shape(layers=2)), tiny(14), choices)
    assert {(cache.ways, cache.blocks) for cache in found.caches} == {(SEQUENCES, 1)}
    return found


def _segments(program: Program, turns: int) -> list[Segment]:
    each = [segments_of(32, 0, program.limits.chunk, sequence=s) for s in range(SEQUENCES)]
    return in_turns(each, turns)


def test_so_many_sequences_take_turns_as_all_tiles_of_a_head_have_blocks_of(program: Program) -> None:
    fast = with_quantity(program.target, "host_link", "bandwidth", 1e6)
    assert turns_of(replace(program, target=fast)) == SEQUENCES
    alone = replace(program, limits=replace(program.limits, sequences=1))
    assert turns_of(replace(alone, target=fast)) == 1


def test_they_do_not_where_their_outputs_would_wait_for_each_other(program: Program) -> None:
    slow = with_quantity(program.target, "host_link", "bandwidth", 1e-3)
    assert turns_of(replace(program, target=slow)) == 1


def test_in_turns_keeps_the_order_of_each_and_takes_so_many_at_a_time() -> None:
    assert in_turns(["abc", "d", "ef"], 2) == list("adbc" + "ef")
    assert in_turns(["abc", "d", "ef"], 1) == list("abcdef")
    assert in_turns(["ab", "cd"], 3) == list("acbd")


def test_turns_are_faster_where_a_sequence_is_on_one_tile_of_several(program: Program) -> None:
    simulator = Simulator(program)
    cycles = [simulator.step(_segments(program, turns)).cycles for turns in (1, SEQUENCES)]
    assert cycles[1] < cycles[0]


def test_turns_change_no_value(program: Program) -> None:
    found = []
    for turns in (1, SEQUENCES):
        segments = _segments(program, turns)
        machine = Machine(program)
        ids = [TEXT[s.sequence + p] for s in segments for p in range(s.position, s.position + s.tokens)]
        logits = machine.step(segments, {"input_ids": np.array(ids, np.int32)[:, None]})["logits"]
        order = [s.sequence for s in segments if s.outputs]
        found.append({sequence: row for sequence, row in zip(order, logits, strict=True)})
    for sequence in range(SEQUENCES):
        np.testing.assert_array_equal(found[0][sequence], found[1][sequence])


def test_requests_give_what_they_give_alone(program: Program) -> None:
    fast = replace(program, target=with_quantity(program.target, "host_link", "bandwidth", 1e6))
    requests = [Request(TEXT[n : n + length], 4) for n, length in enumerate((40, 9, 21))]
    together = Batcher(Session(fast), prefill_tokens=60).run(requests)
    assert max(len({s.sequence for s in step[:2]}) for step in together.steps) == 2
    for request, generation in zip(requests, together.generations, strict=True):
        (alone,) = Batcher(Session(fast)).run([request]).generations
        assert generation.tokens == alone.tokens
