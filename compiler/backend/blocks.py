"""Which rows of a KV array are the current segment's, and where blocks of a head lie that is dealt over several tiles.

Block b of sequence s, of N blocks each, has number s * N + b; it lies on tile number mod W, in rows (number div W) * B
on of its arrays, B being the rows of a block; where sequences share arrays in pages, it lies on tile (s xor b) mod W,
in rows page(b) * B on. A segment lies within one block.

A ring has fewer rows than a sequence can have: block b lies where block b mod (blocks of the ring) does. Rows of the
first block in reach that later ones have taken the place of lie before the window.
"""

from __future__ import annotations

from compiler.ir.operations import Append, Attend
from isa.instructions import Add, Div, Max, Min, Mod, Mul, Page, Sub, Sys, Xor
from isa.operands import ZERO, Reg, Special

from .emitter import POSITION, TOKENS, Emitter


def appended_rows(op: Append, e: Emitter) -> tuple[Reg, Reg]:
    """Registers that hold how many rows the segment appends on this tile, and the first of them."""
    if op.ways == 1:
        return e.rows(op.x), e.kv_row(op.array, op.ring)
    key = f"append*{op.ways}*{op.block}*{op.blocks}"
    is_new = f"{key}.count" not in e.phase.shared
    count, row = e.kept(f"{key}.count"), e.kept(f"{key}.row")
    if is_new:
        number, within, position = e.kept("block_number"), e.kept("block_within"), e.fact(POSITION)
        e.fact(TOKENS)
        e.add(Div(within, position, op.block))
        if e.is_paged:
            e.add(Xor(number, _sequence(e), within))
        elif e.limits.sequences > 1:
            e.add(Mul(number, _sequence(e), op.blocks), Add(number, number, within))
        else:
            e.add(Add(number, within, 0))
        e.add(Mod(count, number, op.ways), Xor(count, count, e.table_register[op.way]), Min(count, count, 1))
        e.add(Mul(count, count, TOKENS), Sub(count, TOKENS, count))
        e.add(Page(row, within) if e.is_paged else Div(row, number, op.ways))
        e.add(Sub(row, row, within), Mul(row, row, op.block))
        e.add(Add(row, row, position))
    return count, row


def first_block(op: Attend, e: Emitter) -> tuple[Reg, Reg]:
    """Registers that hold the row of this tile's first block of the sequence, in its arrays and in the sequence."""
    if op.ways == 1:
        return _first_seen(op, e) if op.skip else (e.kv_base(op.keys, own=_is_own(op)), ZERO)
    start, way = e.kept("first_start"), e.table_register[op.way]
    if e.limits.sequences == 1:
        e.add(Mul(start, way, op.block))
        return ZERO, start
    row, before = e.kept("first_row"), e.kept("blocks_before")
    if _is_paged(op, e):
        e.add(Mod(row, _sequence(e), op.ways), Xor(row, row, way), Mul(start, row, op.block))
        e.add(Page(row, row), Mul(row, row, op.block))
        return row, start
    e.add(Mul(before, _sequence(e), op.blocks), Sub(before, before, way))
    e.add(Add(row, before, op.ways - 1), Div(row, row, op.ways))
    e.add(Mul(start, row, op.ways), Sub(start, start, before), Mul(start, start, op.block))
    e.add(Mul(row, row, op.block))
    return row, start


def next_block(op: Attend, e: Emitter, row: Reg, first: tuple[Reg, Reg], counter: Reg) -> None:
    """row = where the tile's block number `counter` after the first lies in its arrays.

    `first`: where the first one lies, and how far behind it the block begins in the sequence.
    """
    if op.ring:
        e.add(Add(row, counter, e.kept("first_number")), Add(row, row, 1))
        _in_ring(op, e, row, row)
    elif _is_paged(op, e):
        moved = op.ways > 1 or op.skip
        start = row if moved else first[1]
        e.add(*([Add(row, first[1], e.kept("first_start"))] if moved else []), Div(row, start, op.block))
        e.add(Page(row, row), Mul(row, row, op.block))
    elif op.ways == 1:
        e.add(Add(row, *first))
    else:
        e.add(Mul(row, counter, op.block), Add(row, row, op.block), Add(row, row, first[0]))


def _first_seen(op: Attend, e: Emitter) -> tuple[Reg, Reg]:
    """`first_block` of attention with a window: the block of the first row that the segment's first token sees."""
    number, start, row = e.kept("first_number"), e.kept("first_start"), e.kept("first_row")
    e.add(Add(number, e.fact(POSITION), 1 - op.window), Max(number, number, 0), Div(number, number, op.block))
    e.add(Mul(start, number, op.block))
    if op.ring:
        _in_ring(op, e, row, number)
    elif _is_paged(op, e):
        e.add(Page(row, number), Mul(row, row, op.block))
    else:
        e.add(Add(row, e.kv_base(op.keys), start))
    return row, start


def _in_ring(op: Attend, e: Emitter, row: Reg, number: Reg) -> None:
    """row = where block `number` of the sequence lies in the arrays."""
    base = e.kv_base(op.keys, own=True)
    e.add(Mod(row, number, op.ring // op.block), Mul(row, row, op.block), Add(row, row, base))


def _is_own(op: Attend) -> bool:
    """Whether each sequence has rows of its own in any case."""
    return op.cross or op.ring > 0


def _is_paged(op: Attend, e: Emitter) -> bool:
    """Whether the arrays are shared in pages."""
    return e.is_paged and not _is_own(op)


def _sequence(e: Emitter) -> Reg:
    return e.shared("sequence", lambda rd: Sys(rd, Special.SEQUENCE))
