"""Scalar instructions on symbolic values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from isa import instructions as t
from isa.instruction import Inst
from isa.operands import Special

from .arithmetic import (
    MAX_SHIFT,
    Function,
    add,
    bit_and,
    bit_or,
    bit_xor,
    divide,
    maximum,
    minimum,
    modulo,
    mul,
    shift_left,
    shift_right,
    sub,
)
from .bounds import Bounds
from .buffer import Span
from .context import Context
from .poly import NOTHING, Poly, symbol_poly
from .segments import Current, Over
from .state import State
from .symbols import INT_HIGH, INT_LOW

FUNCTIONS: dict[type[Inst], Function] = {
    t.Add: add,
    t.Sub: sub,
    t.Mul: mul,
    t.Div: divide,
    t.Mod: modulo,
    t.Min: minimum,
    t.Max: maximum,
    t.Shl: shift_left,
    t.Shr: shift_right,
    t.And: bit_and,
    t.Or: bit_or,
    t.Xor: bit_xor,
}
_COUNTS = {Special.SEGMENTS: Over.TOKENS, Special.SOURCES: Over.SOURCE}


def _not_zero(bounds: Bounds, b: Poly) -> str | None:
    if bounds.at_least(b, 1) or bounds.at_most(b, -1):
        return None
    return "the divisor can be zero"


def _is_shift(bounds: Bounds, b: Poly) -> str | None:
    return None if bounds.fits(b, 0, MAX_SHIFT) else f"the shift can be outside 0..{MAX_SHIFT}"


_CHECKS: dict[type[Inst], Callable[[Bounds, Poly], str | None]] = {
    t.Div: _not_zero,
    t.Mod: _not_zero,
    t.Shl: _is_shift,
    t.Shr: _is_shift,
}


def _alu(ctx: Context, index: int, inst: Any, state: State) -> None:
    a, b, bounds = ctx.value(state, inst.a), ctx.value(state, inst.b), ctx.bounds(state)
    check = _CHECKS.get(type(inst))
    wrong = check(bounds, b) if check else None
    if wrong is None:
        state.set(inst.rd.index, ctx.values.apply(FUNCTIONS[type(inst)], bounds, a, b))
        return
    ctx.find(index, "E0411", f"{wrong}: it is {ctx.text(b)}", b)
    state.set(inst.rd.index, ctx.doubtful(INT_LOW, INT_HIGH))


def _li(ctx: Context, index: int, inst: t.Li, state: State) -> None:
    state.set(inst.rd.index, Poly(inst.value))


def _ldp(ctx: Context, index: int, inst: t.Ldp, state: State) -> None:
    if inst.index < len(ctx.params):
        state.set(inst.rd.index, ctx.params[inst.index])
        return
    message = f"parameter {inst.index} does not exist; the role has {len(ctx.params)}"
    ctx.find(index, "E0401", message)
    state.set(inst.rd.index, ctx.doubtful(INT_LOW, INT_HIGH))


def _sys(ctx: Context, index: int, inst: t.Sys, state: State) -> None:
    over, steps = _COUNTS.get(inst.what), ctx.values.steps
    if over is not None:
        state.set(inst.rd.index, steps.count(over))
    else:
        state.set(inst.rd.index, steps.read(inst.what, state.segment, ctx.level))


def _seg(ctx: Context, index: int, inst: t.Seg | t.Sseg, state: State) -> None:
    bounds, number = ctx.bounds(state), ctx.value(state, inst.index)
    over = Over.SOURCE if isinstance(inst, t.Sseg) else Over.TOKENS
    if bounds.at_least(number, 0) and bounds.at_most(number - ctx.values.steps.count(over), -1):
        state.segment = Current(over, number)
        _recall(ctx, over, state)
        return
    hint = f"a step has `sys r, {'segments' if over is Over.TOKENS else 'sources'}` {over.text}s, numbered from 0"
    ctx.find(index, "E0411", f"{over.text} {ctx.text(number)} may not be in the step", number, hint=hint)
    state.segment = Current(over, ctx.doubtful(0, ctx.job.program.limits.segments - 1))


def _page(ctx: Context, index: int, inst: t.Page, state: State) -> None:
    limits, current = ctx.job.program.limits, state.segment
    if limits.pages and current.over is Over.TOKENS:
        state.set(inst.rd.index, ctx.values.steps.page(current.index, ctx.value(state, inst.index)))
        return
    if limits.pages:
        ctx.find(index, "E0411", "pages are of tokens, and a segment of the source may be current")
    else:
        ctx.find(index, "E0411", "the program has no pages", hint="`.limits pages=N page=N` gives it some")
    state.set(inst.rd.index, ctx.doubtful(0, max(limits.pages - 1, 0)))


def _recall(ctx: Context, over: Over, state: State) -> None:
    """What was written for every segment is written for this one."""
    facts = [fact for fact in state.everywhere if fact.over is over] if ctx.recording else []
    for fact in facts:
        if fact.span in state.facts.spans and state.segment.index == symbol_poly(fact.counter):
            continue
        start, width, rows = (
            ctx.values.at_segment(p, fact.counter, state.segment.index) for p in fact.span.polys()
        )
        if start is not None and width is not None and rows is not None:
            state.facts.add(ctx.bounds(state), Span(start, width, rows, fact.span.pitch))


_OTHERS: dict[type[Inst], Callable[[Context, int, Any, State], None]] = {
    t.Li: _li,
    t.Ldp: _ldp,
    t.Sys: _sys,
    t.Page: _page,
    t.Seg: _seg,
    t.Sseg: _seg,
    **dict.fromkeys(FUNCTIONS, _alu),
}


def execute_scalar(ctx: Context, index: int, inst: Inst, state: State) -> bool:
    """Do what a scalar instruction does to the state; False if it is none (or a branch, loop or halt)."""
    effect = _OTHERS.get(type(inst))
    if effect is None:
        return False
    effect(ctx, index, inst, state)
    return True


def condition(inst: Any, a: Poly, b: Poly, bounds: Bounds) -> tuple[bool | None, list[Poly], list[Poly]]:
    """Whether a branch is taken (None: either), and what is >= 0 if it is and if it is not."""
    difference = a - b
    below, above = difference.times(-1).plus(-1), difference  # a < b, a >= b
    if isinstance(inst, t.Blt | t.Bge):
        decided = (
            True if bounds.at_most(difference, -1) else False if bounds.at_least(difference, 0) else None
        )
        taken, passed = [below], [above]
    else:
        decided = _equal(difference, bounds)
        taken, passed = [difference, difference.times(-1)], _unequal(difference, bounds)
    if isinstance(inst, t.Bge | t.Bne):
        return (None if decided is None else not decided), passed, taken
    return decided, taken, passed


def _equal(difference: Poly, bounds: Bounds) -> bool | None:
    if difference == NOTHING:
        return True
    return False if bounds.at_least(difference, 1) or bounds.at_most(difference, -1) else None


def _unequal(difference: Poly, bounds: Bounds) -> list[Poly]:
    """What is >= 0 when the difference is not zero."""
    if bounds.at_least(difference, 0):
        return [difference.plus(-1)]
    return [difference.times(-1).plus(-1)] if bounds.at_most(difference, 0) else []
