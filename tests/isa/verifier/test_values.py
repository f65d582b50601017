"""Symbolic values against numbers: what a register holds is what its polynomial says, within its bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isa import instructions as t
from isa.operands import Reg, Special
from isa.program import Limits, Program, Role, Segment, Tile
from isa.scalars import BRANCH, SCALAR, special, wrap
from isa.verifier.context import Context, Job, MemoryMap, open_context
from isa.verifier.poly import Poly, symbol_poly
from isa.verifier.report import Report
from isa.verifier.scalars import condition, execute_scalar
from isa.verifier.segments import EITHER, FACTS, Current, Over
from isa.verifier.state import State
from isa.verifier.symbols import Op

from .assembly import tiny

LIMITS = Limits(max_context=24, chunk=8, segments=4, sequences=3, max_source=20)
PARAMS = ((5, -3), (5, 7))
KINDS = sorted(SCALAR, key=lambda kind: kind.opcode)
READ = (*FACTS[Over.TOKENS],)  # what is in registers 1..6
_SPECIAL = {op: what for facts in FACTS.values() for what, op in facts.items()}
_OPERATIONS: dict[Op, Callable[[int, int], int]] = {
    Op.MIN: min,
    Op.MAX: max,
    Op.DIV: lambda a, b: a // b,
    Op.MOD: lambda a, b: a % b,
    Op.SHL: lambda a, b: a << b,
    Op.SHR: lambda a, b: a >> b,
    Op.AND: lambda a, b: a & b,
    Op.OR: lambda a, b: a | b,
    Op.XOR: lambda a, b: a ^ b,
}


def context(limits: Limits = LIMITS) -> Context:
    """An analysis of a role with two parameters, one equal in both of its tiles."""
    role = Role("r", (t.Halt(),), ("same", "other"))
    tiles = tuple(Tile(f"t{n}", "r", n, 0, params) for n, params in enumerate(PARAMS))
    program = Program(tiny(), limits, (role,), tiles)
    return open_context(Job(program, role, (0, 1), Report("p"), MemoryMap(program)))


class UnknownValueError(Exception):
    """The value mentions a symbol of which only an interval is known."""


@dataclass(frozen=True)
class World:
    """One of the situations that a value is to hold in."""

    ctx: Context
    tile: int
    segment: Segment

    def value(self, poly: Poly) -> int:
        """The number that a polynomial stands for."""
        total = poly.const
        for mono, coefficient in poly.terms:
            for number in mono:
                coefficient *= self.symbol(number)
            total += coefficient
        return total

    def symbol(self, number: int) -> int:
        """The number that a symbol stands for."""
        symbol = self.ctx.table.symbols[number]
        if symbol.op in _SPECIAL:
            return special(_SPECIAL[symbol.op], [self.segment], 0)
        if symbol.op is Op.PARAM:
            return self.ctx.param_values[number][self.tile]
        if symbol.op in _OPERATIONS:
            left, right = map(self.value, symbol.args)
            return _OPERATIONS[symbol.op](left, right)
        raise UnknownValueError


def _segments(limits: Limits = LIMITS) -> list[Segment]:
    """Every segment of tokens there can be."""
    return [
        Segment(tokens, position, outputs, sequence, source=source)
        for position, tokens in _pieces(limits.max_context, limits.chunk)
        for outputs in (0, tokens)
        for sequence in range(limits.sequences)
        for source in {0, limits.max_source}
    ]


def _sources(limits: Limits = LIMITS) -> list[Segment]:
    """Every segment of a source there can be."""
    return [
        Segment(tokens, position, 0, sequence, is_source=True)
        for position, tokens in _pieces(limits.max_source, limits.chunk)
        for sequence in range(limits.sequences)
    ]


def _pieces(rows: int, chunk: int) -> list[tuple[int, int]]:
    """Position and tokens of everything that does not cross a multiple of the chunk."""
    return [
        (position, tokens)
        for position in range(rows)
        for tokens in range(1, min(chunk - position % chunk, rows - position) + 1)
    ]


SEGMENTS, SOURCES = _segments(), _sources()
EIGHT = st.sampled_from([SEGMENTS, SOURCES]).flatmap(
    lambda some: st.lists(st.sampled_from(some), min_size=8, max_size=8)
)
operand = st.one_of(
    st.builds(Reg, st.integers(1, 13)), st.integers(-9, 9), st.sampled_from([15, 16, 63, 64, 255, 256])
)
instruction = st.builds(
    lambda kind, rd, a, b: kind(Reg(rd), Reg(a), b),
    st.sampled_from(KINDS),
    st.integers(8, 13),
    st.integers(1, 13),
    operand,
)


def _is_defined(inst: Any, b: int) -> bool:
    if isinstance(inst, t.Div | t.Mod):
        return b != 0
    return not isinstance(inst, t.Shl | t.Shr) or 0 <= b <= 31


def _concrete(code: list[Any], world: World) -> list[int]:
    """The registers after the code; what is undefined leaves them."""
    regs = [0] * 32
    for number, what in enumerate(READ, 1):
        regs[number] = special(what, [world.segment], 0)
    regs[7], regs[8] = PARAMS[world.tile]
    for inst in code:
        b = regs[inst.b.index] if isinstance(inst.b, Reg) else inst.b
        if _is_defined(inst, b):
            regs[inst.rd.index] = wrap(SCALAR[type(inst)](regs[inst.a.index], b))
    return regs


def _symbolic(ctx: Context, code: list[Any], segment: Segment) -> State | None:
    """The same for a segment like this one, symbolically; None if something may be undefined."""
    state = State(segment=Current(Over.SOURCE if segment.is_source else Over.TOKENS))
    for number, what in enumerate(READ, 1):
        execute_scalar(ctx, 0, t.Sys(Reg(number), what), state)
    execute_scalar(ctx, 0, t.Ldp(Reg(7), 0), state)
    execute_scalar(ctx, 0, t.Ldp(Reg(8), 1), state)
    for inst in code:
        execute_scalar(ctx, 0, inst, state)
    return None if ctx.job.report else state


@given(st.lists(instruction, min_size=1, max_size=8), EIGHT)
@settings(max_examples=300)
def test_polynomials_are_the_values(code: list[Any], segments: list[Segment]) -> None:
    ctx = context()
    state = _symbolic(ctx, code, segments[0])
    if state is None:
        return
    for number, segment in enumerate(segments):
        world = World(ctx, number % 2, segment)
        for value, poly in zip(_concrete(code, world), state.regs, strict=True):
            assert ctx.values.plain.lower(poly) <= value <= ctx.values.plain.upper(poly)
            try:
                assert world.value(poly) == value
            except UnknownValueError:
                continue


@given(st.lists(instruction, min_size=1, max_size=8), st.sampled_from([*SEGMENTS, *SOURCES]))
@settings(max_examples=100)
def test_parameters_can_be_put_in_later(code: list[Any], segment: Segment) -> None:
    ctx = context()
    state = _symbolic(ctx, code, segment)
    if state is None:
        return
    for tile in (0, 1):
        params = {number: column[tile] for number, column in ctx.param_values.items()}
        world = World(ctx, tile, segment)
        for value, poly in zip(_concrete(code, world), state.regs, strict=True):
            if ctx.table.shared(put := ctx.values.substitute(poly, params)):
                assert world.value(put) == value


@given(
    st.lists(instruction, min_size=1, max_size=5),
    st.sampled_from(sorted(BRANCH, key=lambda kind: kind.opcode)),
    st.integers(1, 13),
    operand,
    EIGHT,
)
@settings(max_examples=300)
def test_branches(code: list[Any], kind: Any, a: int, b: Reg | int, segments: list[Segment]) -> None:
    ctx = context()
    state = _symbolic(ctx, code, segments[0])
    if state is None:
        return
    inst = kind(Reg(a), b, 1)
    left, right = ctx.value(state, inst.a), ctx.value(state, inst.b)
    decided, if_taken, if_passed = condition(inst, left, right, ctx.values.plain)
    for number, segment in enumerate(segments):
        world = World(ctx, number % 2, segment)
        regs = _concrete(code, world)
        taken = BRANCH[kind](regs[a], regs[b.index] if isinstance(b, Reg) else b)
        assert decided in (None, taken)
        for poly in if_taken if taken else if_passed:
            try:
                assert world.value(poly) >= 0
            except UnknownValueError:
                continue


@pytest.mark.parametrize(
    "limits",
    [Limits(rows, chunk, max_source=rows) for rows, chunk in ((12, 4), (10, 4), (12, 5), (7, 1), (5, 8))],
)
@pytest.mark.parametrize("block", [1, 2, 3, 4, 5, 8, 10, 12])
@pytest.mark.parametrize("over", Over)
def test_blocks_of_positions(limits: Limits, block: int, over: Over) -> None:
    """Quotients of positions and lengths, which are put into a common form where segments lie within blocks."""
    ctx = context(limits)
    what = (Special.TOKENS, Special.POSITION)
    tokens, position = (ctx.values.steps.fact(FACTS[over][fact], Poly()) for fact in what)
    length = tokens + position
    segments = _segments(limits) if over is Over.TOKENS else _sources(limits)
    for dividend in (position, length.plus(-1), length.plus(block - 1), length):
        state = State()
        state.set(1, dividend)
        execute_scalar(ctx, 0, t.Div(Reg(2), Reg(1), block), state)
        execute_scalar(ctx, 0, t.Mod(Reg(3), Reg(1), block), state)
        sums = state.regs[3] + tokens
        for segment in segments:
            world = World(ctx, 0, segment)
            assert world.value(state.regs[2]) == world.value(dividend) // block
            assert world.value(state.regs[3]) == world.value(dividend) % block
            assert world.value(sums) <= ctx.values.plain.upper(sums)


# ------------------------------------------------------------------------------------------- bounds that are tight


class Values:
    """Values of a segment and operations on them, for readable tests."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.ctx = context(limits)
        facts = [self.ctx.values.steps.fact(op, Poly()) for op in FACTS[Over.TOKENS].values()]
        self.tokens, self.position, self.outputs, self.sequence, self.end, self.source = facts

    def do(self, kind: type[t._Alu], a: Poly, b: Poly | int) -> Poly:
        """The result of an instruction."""
        state = State()
        state.set(1, a)
        state.set(2, b if isinstance(b, Poly) else Poly(b))
        execute_scalar(self.ctx, 0, kind(Reg(3), Reg(1), Reg(2)), state)
        return state.regs[3]

    def range(self, poly: Poly) -> tuple[int, int]:
        """The proven bounds."""
        return self.ctx.values.plain.lower(poly), self.ctx.values.plain.upper(poly)


def test_a_segment_ends_within_the_context() -> None:
    v = Values()
    assert v.range(v.position + v.tokens) == (1, 24)
    assert v.range(v.sequence.times(24) + v.position + v.tokens) == (1, 72)
    assert v.range(v.tokens - v.outputs) == (0, 8)


def test_a_segment_ends_within_its_block() -> None:
    v = Values()
    for block in (8, 16):
        inside = v.do(t.Mod, v.position, block)
        assert v.range(inside + v.tokens) == (1, block)
    inside = v.do(t.And, v.position, 7)
    assert v.range(inside) == (0, 7)


def test_what_is_known_of_a_source() -> None:
    v = Values()
    tokens, position, sequence, end, source = (
        v.ctx.values.steps.fact(op, Poly()) for op in FACTS[Over.SOURCE].values()
    )
    assert v.range(position + tokens) == (1, 20)
    assert v.range(sequence.times(20) + position + tokens) == (1, 60)
    assert v.range(end - position - tokens) == (0, 19)
    assert end == source
    assert v.range(v.source) == (0, 20)
    assert v.range(v.ctx.values.steps.count(Over.SOURCE)) == (0, 4)
    assert Values(replace(LIMITS, max_source=0)).source == Poly()
    assert Values(replace(LIMITS, max_source=0)).ctx.values.steps.count(Over.SOURCE) == Poly()


def test_a_segment_of_either_kind_has_the_bounds_of_both() -> None:
    v = Values()
    state = State(segment=EITHER)
    ranges = {}
    for what in READ:
        execute_scalar(v.ctx, 0, t.Sys(Reg(1), what), state)
        ranges[what] = v.range(state.regs[1])
    assert ranges[Special.TOKENS] == ranges[Special.OUTPUTS] == (0, 8)
    assert ranges[Special.POSITION] == ranges[Special.END] == ranges[Special.SOURCE] == (0, 24)
    assert ranges[Special.SEQUENCE] == (0, 2)


def test_the_last_block_is_the_first_token_s() -> None:
    v = Values()
    length = v.position + v.tokens
    assert v.do(t.Div, length.plus(15), 16) == v.do(t.Div, v.position, 16).plus(1)
    assert v.do(t.Shr, length.plus(-1), 3) == v.do(t.Shr, v.position, 3)


def test_minimum_and_maximum() -> None:
    v = Values()
    rest = v.do(t.Max, v.do(t.Sub, v.tokens, 3), 0)
    assert v.range(rest) == (0, 5)
    part = v.do(t.Min, rest, 4)
    assert v.range(part) == (0, 4)
    assert v.range(v.do(t.Min, v.tokens, 3) + rest) == (1, 8)
    assert v.do(t.Min, v.tokens, 8) == v.tokens
    assert v.do(t.Min, v.tokens.times(4), 12).divisible_by(4)


def test_blocks_of_a_context_that_is_no_multiple() -> None:
    """row + rows <= context for row = 16 * block, rows = min(length - row, 16), in every block."""
    v = Values()
    length = v.position + v.tokens
    blocks = v.do(t.Div, length.plus(15), 16)
    counter = v.ctx.table.unknown(1, 0, 1)
    shape = v.ctx.table.symbols[counter.terms[0][0][0]]
    assert (shape.low, shape.high) == (0, 1)
    bounds = v.ctx.knowledge.bounds(State(assumed=(blocks - counter.plus(1),)))
    row = counter.times(16)
    state = State(assumed=bounds.assumed)
    state.set(1, length - row)
    state.set(2, Poly(16))
    execute_scalar(v.ctx, 0, t.Min(Reg(3), Reg(1), Reg(2)), state)
    assert bounds.upper(row + state.regs[3]) == 24
    assert bounds.lower(state.regs[3]) == 1


def test_equal_values_are_equal_polynomials() -> None:
    v = Values()
    group = v.do(t.Mul, v.tokens, 4)
    assert v.do(t.Shl, v.tokens, 2) == group
    assert v.do(t.Div, group, 4) == v.tokens
    assert group * v.outputs == v.outputs * group
    assert v.do(t.Min, v.position, v.tokens) == v.do(t.Min, v.tokens, v.position)


def test_a_result_beyond_64_bits_is_unknown() -> None:
    v = Values()
    huge = v.do(t.Mul, v.tokens, 1 << 62)
    assert v.range(huge) == (-(1 << 63), (1 << 63) - 1)
    assert v.do(t.Add, Poly((1 << 63) - 1), 1) == Poly(-(1 << 63))


@pytest.mark.parametrize(
    ("poly", "text"),
    [
        (Poly(7), "7"),
        (symbol_poly(1), "tokens(0)"),
        (symbol_poly(1).times(-2).plus(3), "- 2*tokens(0) + 3"),
        (symbol_poly(1) * symbol_poly(2) + symbol_poly(1).times(4), "position(0)*tokens(0) + 4*tokens(0)"),
    ],
)
def test_text(poly: Poly, text: str) -> None:
    v = Values()
    assert v.ctx.table.text(poly) == text
