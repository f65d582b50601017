"""What the verifier accepts never traps: random programs on both interpreters, and the deadlocks it names are real."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from isa import instructions as t
from isa.diagnostics import CimError
from isa.instruction import Inst
from isa.program import Direction, Program, Segment
from isa.verifier import findings
from runtime.engine.state import TileState
from runtime.machine import Machine
from runtime.timing import simulate

from .choices import WORDS_OF_ROW, Random
from .generator import random_program, random_step, random_story
from .talks import INPUTS, STEP, random_talk

seeds = st.integers(0, 1 << 32)


def _run(program: Program, rnd: Random) -> None:
    """Run steps on the machine of values and one on that of time; raises `CimError` if one traps."""
    machine = Machine(program)
    for _ in range(5):
        step = random_step(rnd, program.limits)
        machine.step(step, _inputs(program, step))
    simulate(program, step)


def _inputs(program: Program, step: tuple[Segment, ...]) -> dict[str, NDArray[Any]]:
    """Ones for the input streams."""
    rows = {
        of_source: sum(segment.tokens for segment in step if segment.is_source == of_source)
        for of_source in (False, True)
    }
    return {
        stream.name: np.ones((rows[stream.source], WORDS_OF_ROW), np.float32)
        for stream in program.streams
        if stream.direction is Direction.IN
    }


def test_accepted_programs_never_trap() -> None:
    accepted: list[bool] = []

    @given(seeds)
    @settings(max_examples=200)
    def check(seed: int) -> None:
        rnd = Random(seed)
        program = random_program(rnd)
        accepted.append(not findings(program))
        if accepted[-1]:
            _run(program, rnd)

    check()
    assert 0.2 <= sum(accepted) / len(accepted) <= 0.95


@dataclass
class Witness:
    """Watches which rows of KV arrays each sequence has written, and which it uses without: tile, array, row."""

    written: dict[tuple[int, int, int], int] = field(default_factory=dict)
    missing: set[tuple[int, int, int]] = field(default_factory=set)

    def __call__(self, tile: int, index: int, inst: Inst, state: TileState) -> None:
        if isinstance(inst, t.Wrow | t.Mvmt):
            first, count = (
                state.value(inst.row),
                state.value(inst.n if isinstance(inst, t.Wrow) else inst.rows),
            )
            rows = {(tile, inst.a.index, row) for row in range(first, first + count)}
            sequence = state.segments[state.segment].sequence
            if isinstance(inst, t.Wrow):
                self.written |= dict.fromkeys(rows, sequence)
            else:
                self.missing |= {row for row in rows if self.written.get(row) != sequence}


@pytest.mark.parametrize("paged", [False, True])
def test_rows_of_caches_that_are_used_were_appended(paged: bool) -> None:
    accepted: list[bool] = []

    @given(seeds)
    @settings(max_examples=100)
    def check(seed: int) -> None:
        rnd = Random(seed)
        program = random_program(rnd, cached=True, paged=paged)
        accepted.append(not findings(program))
        if accepted[-1]:
            witness = Witness()
            machine = Machine(program, observer=witness)
            for step in random_story(rnd, program.limits):
                machine.step(step, _inputs(program, step))
            assert not witness.missing

    check()
    assert 0.1 <= sum(accepted) / len(accepted) <= 0.9


def test_accepted_conversations_come_to_an_end() -> None:
    """And many of those refused for their waits do not: queues let some go on that the verifier must not count on."""
    accepted: list[bool] = []
    stuck: list[bool] = []

    @given(seeds)
    @settings(max_examples=200)
    def check(seed: int) -> None:
        program = random_talk(Random(seed))
        found = findings(program)
        accepted.append(not found)
        if not found:
            for step, inputs in ((STEP, INPUTS), (tuple(s for s in STEP if not s.is_source), {})):
                Machine(program).step(step, inputs)
                simulate(program, step)
        elif found[0].code == "E0406" and " waits " in found[0].message:
            stuck.append(_is_stuck(program))

    check()
    assert 0.2 <= sum(accepted) / len(accepted) <= 0.95
    assert sum(stuck) > len(stuck) / 4


def _is_stuck(program: Program) -> bool:
    """Whether the machine of time stops because tiles wait for each other."""
    try:
        simulate(program, STEP)
    except CimError as error:
        return all(d.code == "E0406" for d in error.diagnostics)
    return False
