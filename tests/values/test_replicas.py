"""Programs of which copies lie on the mesh: each sequence gets what the program alone gives it, from its own copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from isa.assembler import assemble
from isa.binary import read_program, write_program
from isa.diagnostics import CimError
from isa.disassembler import listing
from isa.operands import Space
from isa.program import BarrierGroup, MemoryRegion, Program, Replica, Segment, segments_of
from isa.segments import dealt
from isa.turns import turns_of
from isa.verifier import findings
from runtime.batching import Batcher, Request
from runtime.energy import powered
from runtime.fast.simulator import FastSimulator
from runtime.machine import Machine
from runtime.session import Session
from runtime.timing.simulator import Simulator
from tests.compiler.building import Choices, program_of, run, tiny
from tests.compiler.graphs import Shape, decoder

SIDE = 6
CORNERS = (Replica(SIDE, 0), Replica(0, SIDE))


@pytest.fixture(scope="module")
def one() -> Program:
    """Two sequences on one copy of the program, on a mesh with room for more."""
    made = program_of(decoder(Shape(layers=1)), tiny(SIDE), Choices(64, sequences=2))
    return replace(made, target=tiny(2 * SIDE))


@pytest.fixture(scope="module")
def several(one: Program) -> Program:
    """Six sequences on three copies."""
    return replace(one, replicas=CORNERS)


def _step(lengths: dict[int, tuple[int, int]], chunk: int) -> list[Segment]:
    """So many tokens of some sequences, each at a position."""
    return [
        s for q, (n, at) in lengths.items() for s in segments_of(n, at, chunk, last_only=False, sequence=q)
    ]


def _ids(segments: list[Segment]) -> NDArray[np.int32]:
    tokens = sum(segment.tokens for segment in segments)
    return np.random.default_rng(tokens).integers(0, 64, (tokens, 1)).astype(np.int32)


def test_sequences_are_dealt_and_numbered_anew() -> None:
    step = [Segment(1, 0, 1, sequence) for sequence in (0, 1, 2, 5, 4)]
    assert [[s.sequence for s in own] for own in dealt(step, 3)] == [[0], [0, 1], [0, 1]]
    assert dealt(step, 1) == (tuple(step),)


def test_every_sequence_gets_what_the_program_alone_gives_it(one: Program, several: Program) -> None:
    machine, alone = Machine(several), [Machine(one) for _ in range(3)]
    for lengths in ({0: (9, 0), 4: (3, 0), 1: (17, 0), 5: (8, 0)}, {4: (5, 3), 3: (2, 0)}):
        segments = _step(lengths, several.limits.chunk)
        found, rows = machine.step(segments, {"input_ids": _ids(segments)})["logits"], _ids(segments)
        at = 0
        for sequence, (tokens, position) in lengths.items():
            copy, number = sequence % 3, sequence // 3
            expected = run(alone[copy], rows[at : at + tokens, 0], position, number)
            assert np.array_equal(found[at : at + tokens], expected)
            at += tokens
    for sequence, tokens in ((4, 8), (1, 17), (3, 2)):
        mine = machine.read_cache(0, sequence, tokens)
        theirs = alone[sequence % 3].read_cache(0, sequence // 3, tokens)
        assert all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_caches_are_put_where_the_sequence_is(several: Program) -> None:
    machine = Machine(several)
    heads, _, dim = machine.read_cache(0, 5, 0)[0].shape
    rows = np.random.default_rng(3).standard_normal((heads, 4, dim)).astype(np.float32)
    machine.write_cache(0, 5, rows, rows)
    assert np.allclose(machine.read_cache(0, 5, 4)[0], rows, atol=0.05)
    assert not any(machine.read_cache(0, sequence, 4)[0].any() for sequence in range(5))
    with pytest.raises(CimError, match="there is no sequence 6; the program has 6"):
        machine.read_cache(0, 6, 1)


@pytest.mark.parametrize("lengths", [{0: (9, 0), 4: (3, 0), 1: (17, 0)}, {5: (6, 2)}, {2: (1, 9), 3: (1, 9)}])
def test_both_engines_of_time_agree(several: Program, lengths: dict[int, tuple[int, int]]) -> None:
    segments = _step(lengths, several.limits.chunk)
    fast = FastSimulator(several)
    told = Simulator(several).step(segments)
    assert fast.alone(segments) == told
    assert fast.alone(segments) == told  # copies that rested are none the worse for it


def test_two_sequences_on_two_copies_do_not_wait_for_each_other(one: Program, several: Program) -> None:
    step = _step({0: (16, 0), 1: (16, 0)}, one.limits.chunk)
    in_turn, beside = Simulator(one).step(step), Simulator(several).step(step)
    assert beside.cycles < in_turn.cycles
    assert beside.macs == in_turn.macs


def test_all_tiles_are_powered_and_counted(one: Program, several: Program) -> None:
    assert several.tile_count == 3 * one.tile_count
    assert set(powered(several)) == set(powered(one))
    assert turns_of(several) == 3 * turns_of(one)
    assert several.step_limits.sequences == 6


def test_a_session_and_a_batch_use_all_copies(one: Program, several: Program) -> None:
    prompts = [tuple(range(1 + n, 9 + 2 * n)) for n in range(5)]
    batch = Batcher(Session(several)).run([Request(prompt, 3) for prompt in prompts])
    session = Session(one)
    for prompt, made in zip(prompts, batch.generations, strict=True):
        assert made.tokens == session.generate(prompt, 3).tokens


def test_text_and_files_keep_them(several: Program, tmp_path: Path) -> None:
    text = listing(several, complete=True)
    assert ".replica at 6,0\n.replica at 0,6\n" in text
    assert "3 times" in text
    assert assemble(text, target=several.target) == replace(several, data=None)
    write_program(several, tmp_path / "p.cim")
    assert read_program(tmp_path / "p.cim") == several


def test_the_verifier_accepts_copies_that_stand_apart(several: Program) -> None:
    assert findings(several) == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: replace(p, replicas=(Replica(SIDE + 1, 0), Replica(0, 2 * SIDE))), "is not on the mesh"),
        (lambda p: replace(p, replicas=(Replica(1, 0),)), "takes a place of the program itself"),
        (lambda p: replace(p, replicas=(Replica(SIDE, 0), Replica(SIDE, 1))), "takes a place of replica 1"),
        (lambda p: replace(p, limits=replace(p.limits, pages=9, page_rows=64)), "have no pages"),
        (lambda p: replace(p, limits=replace(p.limits, max_source=4)), "look at no source rows"),
        (
            lambda p: replace(p, memory=(*p.memory, MemoryRegion("z", Space.DRAM, 0, 1 << 20, 64))),
            "a region of memory is reserved",
        ),
    ],
)
def test_the_verifier_refuses_those_that_do_not(
    several: Program, change: Callable[[Program], Program], words: str
) -> None:
    found = findings(change(several))
    assert any(words in d.message for d in found), found


def test_barriers_are_of_one_copy(one: Program) -> None:
    from isa.replicas import written_out

    ends = one.channels[0].dests[:1]
    written = written_out(replace(one, barriers=(BarrierGroup("b", ends),), replicas=CORNERS))
    assert [b.members[0].tile - ends[0].tile for b in written.barriers] == [
        0,
        len(one.tiles),
        2 * len(one.tiles),
    ]
    names = [tile.name for tile in written.tiles]
    assert len(set(names)) == len(names)
