"""What the verifier accepts never traps: random programs on both interpreters, and the deadlocks it names are real."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from isa.diagnostics import CimError
from isa.program import Program
from isa.verifier import findings
from runtime.machine import Machine
from runtime.timing import simulate

from .choices import WORDS_OF_ROW, Random
from .generator import random_program, random_step
from .talks import NO_INPUTS, STEP, random_talk

seeds = st.integers(0, 1 << 32)


def _run(program: Program, rnd: Random) -> None:
    """Run steps on the machine of values and one on that of time; raises `CimError` if one traps."""
    machine = Machine(program)
    for _ in range(5):
        step = random_step(rnd, program.limits)
        tokens = sum(segment.tokens for segment in step)
        machine.step(step, {"x": np.ones((tokens, WORDS_OF_ROW), np.float32)})
    simulate(program, step)


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


def test_accepted_conversations_come_to_an_end() -> None:
    accepted: list[bool] = []

    @given(seeds)
    @settings(max_examples=200)
    def check(seed: int) -> None:
        program = random_talk(Random(seed))
        found = findings(program)
        accepted.append(not found)
        if not found:
            Machine(program).step(STEP, NO_INPUTS)
            simulate(program, STEP)
        elif found[0].code == "E0406" and " waits " in found[0].message:
            assert _is_stuck(program)

    check()
    assert 0.2 <= sum(accepted) / len(accepted) <= 0.95


def _is_stuck(program: Program) -> bool:
    """Whether the machine of time stops because tiles wait for each other."""
    try:
        simulate(program, STEP)
    except CimError as error:
        return all(d.code == "E0406" for d in error.diagnostics)
    return False
