"""Code of attention: a loop over blocks of cached tokens, merged by online softmax.

    for each block of `block` rows (fixed borders, so that cutting a sequence into steps changes nothing):
        s = scale * q k^T              mvmt on the key array, dequantised by the keys' row scales
        p, m, l = softmax step of s    masked: a token sees itself and those before it
        o = p v                        the values' row scales folded into p before it is quantised
        merge (m, l, o) into the running (m, l, o)
    out = o / l

The first block starts the running values; the others are merged in a loop whose count is a register.
"""

from __future__ import annotations

from dataclasses import dataclass

from compiler.ir.mapping import Attend
from isa.instructions import (
    Add,
    Deq,
    Deqr,
    Div,
    Max,
    Min,
    Mul,
    Mvm,
    Mvmf,
    Mvmt,
    Mvmtf,
    Quant,
    Quantw,
    Smx,
    Smxd,
    Smxm,
    Sub,
    Vmuli,
    Vtanh,
)
from isa.operands import ZERO, Addr, Reg

from .emitter import END, KV_BASE, LENGTH, POSITION, TOKENS, Emitter


@dataclass(frozen=True, slots=True)
class _Block:
    """Registers that describe a block: its first row, its rows, and the columns its first token sees."""

    row: Reg
    rows: Reg
    hi: Reg
    lo: Reg


def emit_attend(op: Attend, e: Emitter) -> None:
    """Append the code of an attention operation (int8 or ideal arithmetic)."""
    n = e.rows(op.q, op.group)
    q = e.tmp("q")
    e.add(Vmuli(q, e.at(op.q), TOKENS, op.group * op.dim, op.scale))
    if e.int8:
        e.add(Quant(e.tmp("q8"), e.tmp("q_scale"), q, n, op.dim))
    first = _first_block(op, e)
    _scores(op, e, n, first, e.tmp("ml"))
    _weigh(op, e, n, first, e.at(op.out))
    if e.context_rows > op.block:
        _other_blocks(op, e, n, first)
    e.add(Smxd(e.at(op.out), e.at(op.out), e.tmp("ml"), n, op.v_dim))


def _first_block(op: Attend, e: Emitter) -> _Block:
    rows = e.register()
    e.add(Min(rows, _length(op, e), op.block))
    if not op.causal:
        return _Block(e.fact(KV_BASE), rows, rows, ZERO)
    hi, lo = e.register(), e.register() if op.window else ZERO
    e.add(Add(hi, e.fact(POSITION), 1))
    if op.window:
        e.add(Sub(lo, hi, op.window))
    return _Block(e.fact(KV_BASE), rows, hi, lo)


def _length(op: Attend, e: Emitter) -> Reg:
    """How many tokens there are to attend to: those up to the segment's last, or the whole sequence."""
    return e.fact(LENGTH if op.causal else END)


def _other_blocks(op: Attend, e: Emitter, n: Reg, first: _Block) -> None:
    count, length, base = e.register(), _length(op, e), e.fact(KV_BASE)
    e.add(Add(count, length, op.block - 1), Div(count, count, op.block), Sub(count, count, 1))
    start, row, rows = (e.register() for _ in range(3))
    hi = e.register() if op.causal else rows
    lo = e.register() if op.window else ZERO

    def body(counter: Reg) -> None:
        e.add(Mul(start, counter, op.block), Add(start, start, op.block), Add(row, base, start))
        e.add(Sub(rows, length, start), Min(rows, rows, op.block), Max(rows, rows, 0))
        if op.causal:
            e.add(Sub(hi, first.hi, start))
        if op.window:
            e.add(Sub(lo, hi, op.window))
        block = _Block(row, rows, hi, lo)
        _scores(op, e, n, block, e.tmp("ml_block"))
        _weigh(op, e, n, block, e.tmp("o_block"))
        e.add(Smxm(e.tmp("ml"), e.at(op.out), e.tmp("ml_block"), e.tmp("o_block"), n, op.v_dim))

    e.loop(count, body)


def _scores(op: Attend, e: Emitter, n: Reg, block: _Block, ml: Addr) -> None:
    """Scores of a block, then its softmax step in place: probabilities, maxima and sums."""
    s, keys = e.tmp("s"), e.array(op.keys)
    if e.int8:
        e.add(Mvmt(keys, s, e.tmp("q8"), n, block.row, block.rows))
        e.add(Deqr(keys, s, s, e.tmp("q_scale"), n, block.row, block.rows))
    else:
        e.add(Mvmtf(keys, s, e.tmp("q"), n, block.row, block.rows))
    if op.softcap:  # c * tanh(s / c)
        e.add(Vmuli(s, s, n, block.rows, 1 / op.softcap), Vtanh(s, s, n, block.rows))
        e.add(Vmuli(s, s, n, block.rows, op.softcap))
    window = op.window > 0
    e.add(Smx(s, s, ml, n, block.rows, block.hi, block.lo, op.group, op.causal, window))


def _weigh(op: Attend, e: Emitter, n: Reg, block: _Block, out: Addr) -> None:
    """out = p v of a block."""
    s, values = e.tmp("s"), e.array(op.values)
    if not e.int8:
        e.add(Mvmf(values, out, s, n, block.row, block.rows))
        return
    p8, p_scale = e.tmp("p8"), e.tmp("p_scale")
    e.add(Quantw(values, p8, p_scale, s, n, block.row, block.rows))
    e.add(Mvm(values, out, p8, n, block.row, block.rows), Deq(out, out, p_scale, n, op.v_dim))
