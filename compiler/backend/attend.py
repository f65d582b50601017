"""Code of attention: a loop over blocks of cached rows, merged by online softmax.

    for each block of `block` rows (fixed borders, so that cutting a sequence into steps changes nothing):
        s = scale * q k^T              mvmt on the key array, dequantised by the keys' row scales
        s = s + bias of the distance   for models that have one
        p, m, l = softmax step of s    masked: a token sees itself and those before it
        o = p v                        the values' row scales folded into p before it is quantised
        merge (m, l, o) into the running (m, l, o)
    out = o / l

The first block starts the running values; the others are merged in a loop whose count is a register. Cached rows are
those of the segment's sequence, or those of its source, which may be none: then l is 0 and so is the output.
"""

from __future__ import annotations

from dataclasses import dataclass

from compiler.ir.operations import Attend
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
    Vrel,
    Vslope,
    Vtanh,
)
from isa.operands import ZERO, Addr, Reg

from .emitter import END, LENGTH, POSITION, TOKENS, Emitter


@dataclass(frozen=True, slots=True)
class _Block:
    """Registers that describe a block: its first row, its rows, the columns that the segment's first token sees,
    and the distance of the block's first row from that token (if there is a bias)."""

    row: Reg
    rows: Reg
    hi: Reg
    lo: Reg
    distance: Reg


def emit_attend(op: Attend, e: Emitter) -> None:
    """Append the code of an attention operation (int8 or ideal arithmetic)."""
    n = e.rows(op.q, op.group)
    if op.scale != 1:
        e.add(Vmuli(e.tmp("q"), e.at(op.q), TOKENS, op.group * op.dim, op.scale))
    if e.int8:
        e.add(Quant(e.tmp("q8"), e.tmp("q_scale"), _queries(op, e), n, op.dim))
    first = _first_block(op, e)
    _scores(op, e, n, first, e.tmp("ml"))
    _weigh(op, e, n, first, e.at(op.out))
    if e.kv_rows(op.keys) > op.block:
        _other_blocks(op, e, n, first)
    e.add(Smxd(e.at(op.out), e.at(op.out), e.tmp("ml"), n, op.v_dim))


def _queries(op: Attend, e: Emitter) -> Addr:
    """Where the scaled queries lie."""
    return e.at(op.q) if op.scale == 1 else e.tmp("q")


def _first_block(op: Attend, e: Emitter) -> _Block:
    rows = e.kept("attend_rows")
    e.add(Min(rows, _length(op, e), op.block))
    hi, lo, distance = rows, ZERO, ZERO
    if op.causal:
        hi = e.kept("attend_hi")
        e.add(Add(hi, e.fact(POSITION), 1))
    if op.window:
        lo = e.kept("attend_lo")
        e.add(Sub(lo, hi, op.window) if op.causal else Add(lo, e.fact(POSITION), 1 - op.window))
    if op.bias:
        distance = e.kept("attend_distance")
        e.add(Sub(distance, ZERO, e.fact(POSITION)))
    return _Block(e.kv_base(op.keys), rows, hi, lo, distance)


def _length(op: Attend, e: Emitter) -> Reg:
    """How many rows there are to attend to: tokens up to the segment's last, the whole sequence, or the source."""
    if op.cross:
        return e.source()
    return e.fact(LENGTH if op.causal else END)


def _other_blocks(op: Attend, e: Emitter, n: Reg, first: _Block) -> None:
    count, length, base = e.kept("blocks"), _length(op, e), e.kv_base(op.keys)
    e.add(Add(count, length, op.block - 1), Div(count, count, op.block), Sub(count, count, 1))
    if op.cross:
        e.add(Max(count, count, 0))
    start, row, rows = (e.kept(f"block_{name}") for name in ("start", "row", "rows"))
    hi = e.kept("block_hi") if op.causal else rows
    lo = e.kept("block_lo") if op.window else ZERO
    distance = e.kept("block_distance") if op.bias else ZERO

    def body(counter: Reg) -> None:
        e.add(Mul(start, counter, op.block), Add(start, start, op.block), Add(row, base, start))
        e.add(Sub(rows, length, start), Min(rows, rows, op.block), Max(rows, rows, 0))
        if op.causal:
            e.add(Sub(hi, first.hi, start))
        if op.window:
            e.add(Sub(lo, hi, op.window) if op.causal else Sub(lo, first.lo, start))
        if op.bias:
            e.add(Add(distance, first.distance, start))
        block = _Block(row, rows, hi, lo, distance)
        _scores(op, e, n, block, e.tmp("ml_block"))
        _weigh(op, e, n, block, e.tmp("o_block"))
        e.add(Smxm(e.tmp("ml"), e.at(op.out), e.tmp("ml_block"), e.tmp("o_block"), n, op.v_dim))

    e.loop(count, body, e.kept("block_counter"))


def _scores(op: Attend, e: Emitter, n: Reg, block: _Block, ml: Addr) -> None:
    """Scores of a block, then its softmax step in place: probabilities, maxima and sums."""
    s, keys = e.tmp("s"), e.array(op.keys)
    if e.int8:
        e.add(Mvmt(keys, s, e.tmp("q8"), n, block.row, block.rows))
        e.add(Deqr(keys, s, s, e.tmp("q_scale"), n, block.row, block.rows))
    else:
        e.add(Mvmtf(keys, s, _queries(op, e), n, block.row, block.rows))
    if op.softcap:  # c * tanh(s / c)
        e.add(Vmuli(s, s, n, block.rows, 1 / op.softcap), Vtanh(s, s, n, block.rows))
        e.add(Vmuli(s, s, n, block.rows, op.softcap))
    if op.bias:
        _bias(op, e, n, block)
    window = op.window > 0
    e.add(Smx(s, s, ml, n, block.rows, block.hi, block.lo, op.group, op.causal, window))


def _bias(op: Attend, e: Emitter, n: Reg, block: _Block) -> None:
    """Add what depends on how far a key is from the query."""
    s, bias = e.tmp("s"), e.at(op.bias)
    if not op.reach:
        e.add(Vslope(s, s, bias, n, block.rows, block.distance, op.group))
        return
    entries = op.group * (2 * op.reach + 1)
    e.add(Vrel(s, s, bias, n, block.rows, block.distance, op.group, entries))


def _weigh(op: Attend, e: Emitter, n: Reg, block: _Block, out: Addr) -> None:
    """out = p v of a block."""
    s, values = e.tmp("s"), e.array(op.values)
    if not e.int8:
        e.add(Mvmf(values, out, s, n, block.row, block.rows))
        return
    p8, p_scale = e.tmp("p8"), e.tmp("p_scale")
    e.add(Quantw(values, p8, p_scale, s, n, block.row, block.rows))
    e.add(Mvm(values, out, p8, n, block.row, block.rows), Deq(out, out, p_scale, n, op.v_dim))
