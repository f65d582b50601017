"""Which rows of a KV array are the current segment's, and where blocks of a head lie that is dealt over several tiles.

Block b of sequence s, of N blocks each, has number s * N + b; it lies on tile number mod W, in rows (number div W) * B
on of its arrays, B being the rows of a block. A segment lies within one block.
"""

from __future__ import annotations

from compiler.ir.operations import Append, Attend
from isa.instructions import Add, Div, Min, Mod, Mul, Sub, Sys, Xor
from isa.operands import ZERO, Reg, Special

from .emitter import POSITION, TOKENS, Emitter


def appended_rows(op: Append, e: Emitter) -> tuple[Reg, Reg]:
    """Registers that hold how many rows the segment appends on this tile, and the first of them."""
    if op.ways == 1:
        return e.rows(op.x), e.kv_row(op.array)
    key = f"append*{op.ways}*{op.block}*{op.blocks}"
    is_new = f"{key}.count" not in e.phase.shared
    count, row = e.kept(f"{key}.count"), e.kept(f"{key}.row")
    if is_new:
        number, within, position = e.kept("block_number"), e.kept("block_within"), e.fact(POSITION)
        e.fact(TOKENS)
        e.add(Div(within, position, op.block))
        if e.limits.sequences > 1:
            e.add(Mul(number, _sequence(e), op.blocks), Add(number, number, within))
        else:
            e.add(Add(number, within, 0))
        e.add(Mod(count, number, op.ways), Xor(count, count, e.table_register[op.way]), Min(count, count, 1))
        e.add(Mul(count, count, TOKENS), Sub(count, TOKENS, count))
        e.add(Div(row, number, op.ways), Sub(row, row, within), Mul(row, row, op.block))
        e.add(Add(row, row, position))
    return count, row


def first_block(op: Attend, e: Emitter) -> tuple[Reg, Reg]:
    """Registers that hold the row of this tile's first block of the sequence, in its arrays and in the sequence."""
    if op.ways == 1:
        return e.kv_base(op.keys), ZERO
    start, way = e.kept("first_start"), e.table_register[op.way]
    if e.limits.sequences == 1:
        e.add(Mul(start, way, op.block))
        return ZERO, start
    row, before = e.kept("first_row"), e.kept("blocks_before")
    e.add(Mul(before, _sequence(e), op.blocks), Sub(before, before, way))
    e.add(Add(row, before, op.ways - 1), Div(row, row, op.ways))
    e.add(Mul(start, row, op.ways), Sub(start, start, before), Mul(start, start, op.block))
    e.add(Mul(row, row, op.block))
    return row, start


def _sequence(e: Emitter) -> Reg:
    return e.shared("sequence", lambda rd: Sys(rd, Special.SEQUENCE))
