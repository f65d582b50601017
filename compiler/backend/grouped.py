"""Code of a product with weights whose scales change along the rows (int4 in blocks, and the like).

    for each group g of `block` rows:
        s = x[rows of g] times the rows of g      mvmw: a window of the array, and that part of x
        y += s * scale of x * scales of g         deqg

The first group overwrites y; the others are a loop over pairs, so that the text stays short. Even and odd groups have
sums of their own: while one is dequantised, the next is multiplied.
"""

from __future__ import annotations

from compiler.ir.operations import Multiply
from isa.instructions import Add, Deqg, Li, Mul, Mvmw
from isa.operands import WORD_BYTES, ZERO, Addr, Reg
from isa.program import ArraySpec

from .emitter import Emitter
from .layout import GROUP_SUMS


def emit_grouped(op: Multiply, spec: ArraySpec, e: Emitter) -> None:
    """Append the code of a product with an array that has groups of scales."""
    _group(op, spec, e, 0, ZERO, ZERO, spec.block)
    whole, rest = divmod(spec.rows, spec.block)
    group, row = e.kept("group"), e.kept("group_row")

    def body(counter: Reg) -> None:
        e.add(Mul(group, counter, 2), Add(group, group, 1), Mul(row, group, spec.block))
        _group(op, spec, e, 1, group, row, spec.block)
        e.add(Add(group, group, 1), Add(row, row, spec.block))
        _group(op, spec, e, 0, group, row, spec.block)

    pairs = (whole - 1) // 2
    if pairs:
        e.loop(pairs, body, e.kept("group_counter"))
    left = [(g, spec.block) for g in range(1 + 2 * pairs, whole)] + ([(whole, rest)] if rest else [])
    for number, rows in left:
        e.add(Li(group, number), Li(row, number * spec.block))
        _group(op, spec, e, number % 2, group, row, rows)


def _group(op: Multiply, spec: ArraySpec, e: Emitter, odd: int, group: Reg, row: Reg, rows: int) -> None:
    """Multiply and dequantise one group; all but group 0 add to the result."""
    array, n, out, sums = e.array(op.array), e.rows(op.out), e.at(op.out), e.tmp(GROUP_SUMS[odd])
    pitch = e.value(op.x).cols // WORD_BYTES
    e.add(Mvmw(array, sums, _part(op.x, row, e), n, row, rows, pitch))
    e.add(Deqg(array, out, sums, e.at(f"{op.x}.scale"), n, group, acc=group is not ZERO))


def _part(x: str, row: Reg, e: Emitter) -> Addr:
    """The address of the elements of x that meet array row `row`: they are bytes, so the row is the offset."""
    start = e.at(x)
    if row is ZERO:
        return start
    if start.base == ZERO:
        return Addr(row, start.offset)
    at = e.kept("group_at")
    e.add(Add(at, start.base, row))
    return Addr(at, start.offset)
