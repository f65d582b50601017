"""Scalar and control instructions on the reference engine."""

from __future__ import annotations

import pytest

from isa import instructions as t
from isa.diagnostics import CimError
from isa.instruction import TABLE, Inst
from isa.operands import Reg, Special
from isa.program import Segment
from isa.scalars import ScalarTrap, source_count, source_segment, special, token_segment
from runtime.semantics import MEANINGS
from tests.values.bench import Bench

R = Reg(20)
BIG = (1 << 47) - 1


def test_every_instruction_has_a_meaning() -> None:
    """The guard: an instruction that is declared but not defined fails here."""
    assert {cls.__name__ for cls in TABLE.values()} == {cls.__name__ for cls in MEANINGS}


@pytest.mark.parametrize(
    ("kind", "a", "b", "result"),
    [
        (t.Add, 5, -8, -3),
        (t.Sub, 5, -8, 13),
        (t.Mul, -7, 6, -42),
        (t.Div, -7, 2, -4),
        (t.Div, 7, -2, -4),
        (t.Mod, -7, 3, 2),
        (t.Mod, 7, -3, -2),
        (t.Min, -7, 3, -7),
        (t.Max, -7, 3, 3),
        (t.Shl, 3, 31, 3 << 31),
        (t.Shr, -5, 1, -3),
        (t.And, 12, 10, 8),
        (t.Or, 12, 10, 14),
        (t.Xor, -1, 10, ~10),
    ],
)
def test_arithmetic(kind: type[Inst], a: int, b: int, result: int) -> None:
    bench = Bench()
    ra, rb = bench.reg(a), bench.reg(b)
    state = bench.run(kind(R, ra, b), kind(Reg(21), ra, rb))
    assert (state.registers[20], state.registers[21]) == (result, result)


def test_registers_wrap_at_64_bits() -> None:
    bench = Bench()
    big = bench.reg(BIG)
    state = bench.run(t.Mul(R, big, big), t.Mul(R, R, big))
    assert state.registers[20] == ((BIG**3 + 2**63) % 2**64) - 2**63


def test_r0_stays_zero() -> None:
    assert Bench().run(t.Li(Reg(0), 5)).registers[0] == 0


def test_parameters_and_facts_of_the_segment() -> None:
    bench = Bench()
    bench.params = (11, -22)
    one = bench.reg(1)
    facts = [t.Sys(Reg(10 + what), what) for what in Special]
    segments = (Segment(2, 0, 0), Segment(1, 2, 1))
    state = bench.run(t.Ldp(R, 1), t.Seg(one), *facts, segments=segments)
    assert state.registers[20] == -22
    assert state.registers[10:15] == [2, 1, 2, 1, 0]


@pytest.mark.parametrize(
    ("kind", "taken"),
    [(t.Beq, [0, 1, 0]), (t.Bne, [1, 0, 1]), (t.Blt, [1, 0, 0]), (t.Bge, [0, 1, 1])],
)
def test_branches(kind: type[Inst], taken: list[int]) -> None:
    for a, expected in zip((-1, 3, 5), taken, strict=True):
        bench = Bench()
        ra = bench.reg(a)
        state = bench.run(t.Li(R, 1), kind(ra, 3, bench.jump_over(3)), t.Li(R, 0))
        assert state.registers[20] == expected


def test_jump() -> None:
    bench = Bench()
    assert bench.run(t.Jump(bench.jump_over(2)), t.Li(R, 7)).registers[20] == 0


@pytest.mark.parametrize(("count", "total", "counter"), [(-3, 0, 99), (0, 0, 99), (1, 0, 0), (5, 10, 4)])
def test_loop(count: int, total: int, counter: int) -> None:
    bench = Bench()
    n, i, total_register = bench.reg(count), Reg(21), R
    loop = t.Loop(i, n, bench.jump_over(3))
    state = bench.run(t.Li(i, 99), loop, t.Add(total_register, total_register, i))
    assert (state.registers[20], state.registers[21]) == (total, counter)


def test_nested_loops_that_end_together_and_a_branch_to_the_end() -> None:
    bench = Bench()
    i, j = Reg(21), Reg(22)
    end = bench.jump_over(4)
    state = bench.run(
        t.Loop(i, 3, end),
        t.Loop(j, 4, end),
        t.Beq(j, 2, end),  # leaves one round out
        t.Add(R, R, 1),
    )
    assert state.registers[20] == 3 * 3


def test_the_body_may_change_the_counter() -> None:
    bench = Bench()
    i = Reg(21)
    state = bench.run(t.Loop(i, 3, bench.jump_over(3)), t.Add(R, R, i), t.Li(i, 50))
    assert state.registers[20] == 0 + 1 + 2


def _trap(bench: Bench, *code: Inst) -> str:
    with pytest.raises(CimError) as caught:
        bench.run(*code)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "E0604"
    assert diagnostic.place is not None
    assert "role bench, instruction" in str(diagnostic.place)
    assert diagnostic.notes == ("on tile tile, in segment 0",)
    return diagnostic.message


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ([t.Div(R, R, 0)], "division by zero"),
        ([t.Mod(R, R, Reg(5))], "by zero"),
        ([t.Shl(R, R, 32)], "shift by 32"),
        ([t.Jump(0)], "jumps back to instruction 0"),
        ([t.Loop(R, 2, 2), t.Jump(3), t.Halt()], "jumps out of a loop"),
        ([t.Loop(R, 2, 0)], "the loop's end"),
        ([t.Loop(R, 2, 3), t.Loop(R, 2, 4), t.Halt(), t.Halt()], "the loop's end"),
        ([t.Loop(R, 2, 20)] * 9 + [t.Li(R, 0)] * 15, "more than 8 loops"),
        ([t.Jump(9)], "ends without halt"),
        ([t.Ldp(R, 3)], "there is no parameter 3"),
        ([t.Li(R, 4), t.Seg(R)], "there is no segment 4"),
        ([t.Sseg(Reg(0))], "there is no source segment 0; the step has 0"),
    ],
)
def test_traps(code: list[Inst], message: str) -> None:
    assert message in _trap(Bench(), *code)


# ------------------------------------------------------------------------------------- facts of steps with sources

STEP = (
    Segment(8, 0, 0, 0, is_source=True),
    Segment(8, 0, 0, 1, is_source=True),
    Segment(3, 8, 0, 0, is_source=True),
    Segment(4, 12, 0, 0, source=11),
    Segment(2, 30, 2, 1, source=8),
    Segment(5, 16, 5, 0, source=11),
)


@pytest.mark.parametrize(
    ("current", "facts"),
    [
        (0, [8, 0, 0, 0, 11, 11]),
        (1, [8, 0, 0, 1, 8, 8]),
        (2, [3, 8, 0, 0, 11, 11]),
        (3, [4, 12, 0, 0, 21, 11]),
        (4, [2, 30, 2, 1, 32, 8]),
        (5, [5, 16, 5, 0, 21, 11]),
    ],
)
def test_facts_of_sources_and_of_tokens(current: int, facts: list[int]) -> None:
    of_segment = (
        Special.TOKENS,
        Special.POSITION,
        Special.OUTPUTS,
        Special.SEQUENCE,
        Special.END,
        Special.SOURCE,
    )
    assert [special(what, STEP, current) for what in of_segment] == facts
    assert [special(what, STEP, current) for what in (Special.SEGMENTS, Special.SOURCES)] == [3, 3]


def test_segments_of_tokens_and_of_sources_are_numbered_apart() -> None:
    assert [token_segment(STEP, number) for number in range(3)] == [3, 4, 5]
    assert [source_segment(STEP, number) for number in range(3)] == [0, 1, 2]
    assert [source_count(step) for step in (STEP, STEP[3:], STEP[:2], ())] == [3, 0, 2, 0]


@pytest.mark.parametrize("number", [-1, 3])
def test_segments_that_are_not_there(number: int) -> None:
    with pytest.raises(ScalarTrap, match=f"no segment {number}; the step has 3"):
        token_segment(STEP, number)
    with pytest.raises(ScalarTrap, match=f"no source segment {number}; the step has 3"):
        source_segment(STEP, number)
    with pytest.raises(ScalarTrap, match="no segment is current"):
        special(Special.TOKENS, STEP[:2], 2)
