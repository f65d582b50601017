"""Code of attention: a loop over blocks of cached rows, merged by online softmax.

    for each block of `block` rows (fixed borders, so that cutting a sequence into steps changes nothing):
        s = scale * q k^T              mvmt on the key array, dequantised by the keys' row scales (and scale * q's)
        s = s + bias of the distance   for models that have one; without, dequantising is part of the softmax step
        p, m, l = softmax step of s    masked: a token sees itself and those before it
        o = p v                        the values' row scales folded into p before it is quantised
        merge (m, l, o) into the running (m, l, o)
    out = o / l

The first block starts the running values; the others are merged in a loop whose count is a register. Cached rows are
those of the segment's sequence, or those of its source, which may be none: then l is 0 and so is the output.

If the head is dealt over several tiles, the tile goes through its own blocks, of which there may be none. Then

    M = largest m of all tiles             through the network
    o, l = o * exp(m - M), l * exp(m - M)  smxs; zeros where the tile has nothing to be seen; where the tile has one
                                           block, the scales of p take the factor instead of o

and the network adds up the o and l of all tiles before o / l is taken elsewhere.

With a window the first block is the first one of which the segment's first token sees a row: a block without such rows
would have added nothing, to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass

from compiler.ir.mapping import Format
from compiler.ir.operations import Attend
from isa.instruction import Inst
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
    Recv,
    Send,
    Smx,
    Smxd,
    Smxi,
    Smxm,
    Smxs,
    Sub,
    Vmuli,
    Vrel,
    Vslope,
    Vtanh,
)
from isa.operands import ZERO, Addr, Reg

from .blocks import first_block, next_block
from .emitter import END, LENGTH, POSITION, Emitter


@dataclass(frozen=True, slots=True)
class KvBlock:
    """Registers that describe a block: its first row in the arrays, its rows, the columns the segment's first token
    that it sees, and the distance of the block's first row from that token (if there is a bias)."""

    row: Reg
    rows: Reg
    hi: Reg
    lo: Reg
    distance: Reg


def emit_attend(op: Attend, e: Emitter) -> None:
    """Append the code of an attention operation (int8 or ideal arithmetic)."""
    n = queries(op, e)
    row, start = first_block(op, e)
    length = _length(op, e)
    if start != ZERO:  # what there is from the first block on
        length, whole = e.kept("rows_left"), length
        e.add(Sub(length, whole, start))
    first = _first_block(op, e, row, start, length)
    block_scores(op, e, n, first, running(op, e))
    if _is_scaled_once(op, e):
        block_weigh(op, e, n, first, e.at(op.out), rescaled=True)
        return
    block_weigh(op, e, n, first, e.at(op.out))
    if op.skip or _has_other_blocks(op, e):
        _other_blocks(op, e, n, first, length)
    if op.sums:
        _rescale(op, e, n, e.at(op.out), op.v_dim)
    else:
        e.add(Smxd(e.at(op.out), e.at(op.out), running(op, e), n, op.v_dim))


def queries(op: Attend, e: Emitter) -> Reg:
    """Scale the queries, and quantise them if they do not come so. The result holds how many rows they have.

    Of quantised queries the scales are multiplied, which nothing waits for until the scores are there.
    """
    n = e.rows(op.q, op.group)
    if e.int8:
        scale = e.at(f"{op.q}.scale") if _is_ready(op, e) else e.tmp("q_scale")
        if not _is_ready(op, e):
            e.add(Quant(e.tmp("q8"), scale, e.at(op.q), n, op.dim))
        if op.scale != 1:
            e.add(Vmuli(scale, scale, n, 1, op.scale))
    elif op.scale != 1:
        e.add(Vmuli(e.tmp("q"), e.at(op.q), e.rows(op.q), op.group * op.dim, op.scale))
    return n


def _has_other_blocks(op: Attend, e: Emitter) -> bool:
    """Whether a tile can have more than one block of a sequence."""
    if op.ways == 1:
        return e.longest(of_source=op.cross) > op.block
    return e.spec(op.keys).rows > op.block


def _is_scaled_once(op: Attend, e: Emitter) -> bool:
    """Whether a part is one block, so that the scales of its probabilities can be referred to the largest m before the
    sums are there. Not where a tile has blocks of several sequences, or deals of them would differ in roundings."""
    return e.int8 and bool(op.sums) and e.limits.sequences == 1 and not _has_other_blocks(op, e)


def _is_ready(op: Attend, e: Emitter) -> bool:
    """Whether the queries come quantised."""
    return e.value(op.q).format is Format.Q8


def running(op: Attend, e: Emitter) -> Addr:
    """Where the running pairs (m, l) are."""
    return e.at(op.sums) if op.sums else e.tmp("ml")


def _rescale(op: Attend, e: Emitter, n: Reg, out: Addr, cols: int) -> None:
    """Refer what this tile has to the largest m of all tiles: its sums and `cols` columns at `out`."""
    ml, top = running(op, e), e.tmp("top")
    e.add(Send(e.port(op.to), ml, n, 1, 2), Recv(e.port(op.back), top, n, 1))
    e.add(Smxs(ml, out, top, n, cols))


def _queries(op: Attend, e: Emitter) -> Addr:
    """Where the scaled queries of ideal arithmetic lie."""
    return e.at(op.q) if op.scale == 1 else e.tmp("q")


def _first_block(op: Attend, e: Emitter, row: Reg, start: Reg, length: Reg) -> KvBlock:
    rows = e.kept("attend_rows")
    e.add(Min(rows, length, op.block))
    if op.ways > 1:
        e.add(Max(rows, rows, 0))
    hi, lo, distance = rows, ZERO, ZERO
    if op.causal:
        hi = e.kept("attend_hi")
        e.add(Add(hi, e.fact(POSITION), 1), *_minus(hi, start))
    if op.window and op.causal:
        lo = e.kept("attend_lo")
        e.add(Sub(lo, hi, op.window))
    elif op.window:
        lo = e.kept("attend_lo")
        e.add(Add(lo, e.fact(POSITION), 1 - op.window), *_minus(lo, start))
    if op.bias:
        distance = e.kept("attend_distance")
        e.add(Sub(distance, start, e.fact(POSITION)))
    return KvBlock(row, rows, hi, lo, distance)


def _minus(register: Reg, start: Reg) -> tuple[Inst, ...]:
    """Code that counts from a block's first row instead of the sequence's."""
    return () if start == ZERO else (Sub(register, register, start),)


def _length(op: Attend, e: Emitter) -> Reg:
    """How many rows there are to attend to: tokens up to the segment's last, the whole sequence, or the source."""
    if op.cross:
        return e.source()
    return e.fact(LENGTH if op.causal else END)


def _other_blocks(op: Attend, e: Emitter, n: Reg, first: KvBlock, length: Reg) -> None:
    count, stride = e.kept("blocks"), op.block * op.ways
    e.add(Add(count, length, stride - 1), Div(count, count, stride), Sub(count, count, 1))
    if op.cross or op.ways > 1:
        e.add(Max(count, count, 0))
    start, row, rows = (e.kept(f"block_{name}") for name in ("start", "row", "rows"))
    hi = e.kept("block_hi") if op.causal else rows
    lo = e.kept("block_lo") if op.window else ZERO
    distance = e.kept("block_distance") if op.bias else ZERO

    def body(counter: Reg) -> None:
        e.add(Mul(start, counter, stride), Add(start, start, stride))
        next_block(op, e, row, (first.row, start), counter)
        e.add(Sub(rows, length, start), Min(rows, rows, op.block), Max(rows, rows, 0))
        if op.causal:
            e.add(Sub(hi, first.hi, start))
        if op.window:
            e.add(Sub(lo, hi, op.window) if op.causal else Sub(lo, first.lo, start))
        if op.bias:
            e.add(Add(distance, first.distance, start))
        block = KvBlock(row, rows, hi, lo, distance)
        block_scores(op, e, n, block, e.tmp("ml_block"))
        block_weigh(op, e, n, block, e.tmp("o_block"))
        e.add(Smxm(running(op, e), e.at(op.out), e.tmp("ml_block"), e.tmp("o_block"), n, op.v_dim))

    e.loop(count, body, e.kept("block_counter"))


def block_scores(op: Attend, e: Emitter, n: Reg, block: KvBlock, ml: Addr) -> None:
    """Scores of a block, then its softmax step in place: probabilities, maxima and sums."""
    s, keys, window = e.tmp("s"), e.array(op.keys), op.window > 0
    if e.int8:
        ready = _is_ready(op, e)
        q8, scale = (e.at(op.q), e.at(f"{op.q}.scale")) if ready else (e.tmp("q8"), e.tmp("q_scale"))
        e.add(Mvmt(keys, s, q8, n, block.row, block.rows))
        if not (op.softcap or op.bias):  # nothing stands between sums and softmax
            visible = block.rows, block.hi, block.lo, op.group, op.causal, window
            e.add(Smxi(keys, s, ml, scale, n, block.row, *visible))
            return
        e.add(Deqr(keys, s, s, scale, n, block.row, block.rows))
    else:
        e.add(Mvmtf(keys, s, _queries(op, e), n, block.row, block.rows))
    if op.softcap:  # c * tanh(s / c)
        e.add(Vmuli(s, s, n, block.rows, 1 / op.softcap), Vtanh(s, s, n, block.rows))
        e.add(Vmuli(s, s, n, block.rows, op.softcap))
    if op.bias:
        _bias(op, e, n, block)
    e.add(Smx(s, s, ml, n, block.rows, block.hi, block.lo, op.group, op.causal, window))


def _bias(op: Attend, e: Emitter, n: Reg, block: KvBlock) -> None:
    """Add what depends on how far a key is from the query."""
    s, bias = e.tmp("s"), e.at(op.bias)
    if not op.reach:
        e.add(Vslope(s, s, bias, n, block.rows, block.distance, op.group))
        return
    entries = op.group * (2 * op.reach + 1)
    e.add(Vrel(s, s, bias, n, block.rows, block.distance, op.group, entries))


def block_weigh(op: Attend, e: Emitter, n: Reg, block: KvBlock, out: Addr, *, rescaled: bool = False) -> None:
    """out = p v of a block; `rescaled`: referred to the largest m of all tiles, by the scales of p."""
    s, values = e.tmp("s"), e.array(op.values)
    if not e.int8:
        e.add(Mvmf(values, out, s, n, block.row, block.rows))
        return
    p8, p_scale = e.tmp("p8"), e.tmp("p_scale")
    e.add(Quantw(values, p8, p_scale, s, n, block.row, block.rows))
    e.add(Mvm(values, out, p8, n, block.row, block.rows))
    if rescaled:
        _rescale(op, e, n, p_scale, 1)
    e.add(Deq(out, out, p_scale, n, op.v_dim))
