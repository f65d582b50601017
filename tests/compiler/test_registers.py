"""Phases that ask for more scalar registers than there are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compiler.backend.emitter import Emitter, _Phase
from compiler.backend.registers import Unplaced, share_registers
from compiler.optimisations import Optimisation
from isa.diagnostics import CimError
from isa.instruction import Inst
from isa.instructions import Add, Loop, Mul
from isa.operands import ZERO, Reg
from isa.program import Program
from isa.verifier import findings
from runtime.machine import Machine

from .building import Choices, program_of, run, tiny
from .graphs import Shape, decoder

A, B, C = (Unplaced(31, number) for number in range(3))
WINDOWED = Shape(width=16, layers=2, heads=2, kv_heads=2, inner=32, window=40)
IDS = np.arange(3, 93) % 96


def shared(*code: Inst, pool: int = 2) -> list[Inst]:
    return share_registers(code, 10, [Reg(20 + i) for i in range(pool)], "role")


def test_registers_whose_times_do_not_meet_are_one() -> None:
    code = shared(Add(A, ZERO, 1), Add(Reg(4), A, 2), Add(B, ZERO, 3), Add(Reg(5), B, 4), pool=1)
    assert code == [
        Add(Reg(20), ZERO, 1),
        Add(Reg(4), Reg(20), 2),
        Add(Reg(20), ZERO, 3),
        Add(Reg(5), Reg(20), 4),
    ]


def test_registers_that_the_code_names_itself_are_taken_while_it_does() -> None:
    code = shared(Add(Reg(20), ZERO, 1), Add(A, Reg(20), 2), Add(B, A, 0), Add(Reg(4), B, 0))
    assert code[1:3] == [Add(Reg(21), Reg(20), 2), Add(Reg(20), Reg(21), 0)]


def test_what_a_loop_reads_lasts_until_its_end() -> None:
    loop = Loop(Reg(4), 3, 14)
    code = shared(Add(A, ZERO, 1), loop, Add(Reg(5), A, 0), Add(B, ZERO, 2))
    first, inner = code[0], code[3]
    assert isinstance(first, Add) and isinstance(inner, Add) and first.rd != inner.rd


def test_what_a_loop_hands_on_to_its_next_turn_lasts_all_through_it() -> None:
    loop = Loop(C, 3, 13)
    code = shared(loop, Add(A, A, 1), Mul(B, A, C), pool=3)
    counter, total, product = code
    assert isinstance(counter, Loop) and isinstance(total, Add) and isinstance(product, Mul)
    assert len({counter.rd, total.rd, product.rd}) == 3


def test_too_many_at_once_is_refused_with_the_numbers() -> None:
    with pytest.raises(CimError, match="holds 3 numbers at once, and 2 scalar registers") as caught:
        shared(Add(A, ZERO, 1), Add(B, ZERO, 1), Add(C, A, B), Add(Reg(4), A, B))
    assert caught.value.diagnostics[0].code == "E0312"


def logits(program: Program, sequence: int = 0) -> np.ndarray:
    assert not list(findings(program))
    machine, at_once = Machine(program), program.limits.chunk * program.limits.segments
    parts = [
        run(machine, IDS[at : at + at_once], position=at, sequence=sequence)
        for at in range(0, len(IDS), at_once)
    ]
    return np.concatenate(parts)


@pytest.mark.parametrize("sequences", [1, 2])
def test_a_window_over_folded_layers(sequences: int) -> None:
    without = frozenset({Optimisation.FOLD_GAINS})  # weights that are streamed are quantised without gains
    choices = Choices(context=1024, stream=True, sequences=sequences, without=without)
    folded = program_of(decoder(WINDOWED), tiny(3), choices)
    resident = program_of(decoder(WINDOWED), tiny(8), replace(choices, stream=False))
    expected = logits(resident, sequences - 1)
    assert np.abs(logits(folded, sequences - 1) - expected).max() <= 0.03 * np.abs(expected).max()


@pytest.mark.parametrize("shape", [Shape(), Shape(window=24), Shape(kv_heads=1, bias=True)], ids=str)
@pytest.mark.parametrize("stream", [False, True])
def test_results_do_not_depend_on_which_registers(
    shape: Shape, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices = Choices(context=128, stream=stream, sequences=2)
    roomy = program_of(decoder(shape), tiny(8), choices)
    new_phase = Emitter._new_phase

    def with_few(self: Emitter, number: int) -> _Phase:
        phase = new_phase(self, number)
        phase.free = 32
        return phase

    monkeypatch.setattr(Emitter, "_new_phase", with_few)
    tight = program_of(decoder(shape), tiny(8), choices)
    assert tight.roles != roomy.roles
    np.testing.assert_array_equal(logits(tight), logits(roomy))
