"""Code of streamed weights: pieces come from DRAM into the buffer while arrays work, and go from there to the arrays.

    prefetch    stage <- DRAM           one `load`, which runs while other units work on
    install     arrays <- stage         `wrowc` for the rows, `wscale` for the column scales; biases are copied

A piece lies in DRAM as it lies in the buffer: the rows of its first array, that array's column scales, the same of the
next, then rows of float32 such as biases, rounded up to whole lines.
"""

from __future__ import annotations

from compiler.ir.operations import Advance, Clear, Install, Place, Prefetch
from compiler.ir.streamed import LINE_BYTES, array_bytes
from isa.instructions import Add, Copy, Div, Li, Load, Mul, Vfill, Wrowc, Wrowf, Wscale
from isa.operands import WORD_BYTES, Addr, Mem, Reg, Space
from isa.program import ArraySpec

from .emit import emit
from .emitter import Emitter


@emit.register
def _(op: Clear, e: Emitter) -> None:
    e.add(Vfill(e.at(op.out), e.rows(op.out), e.value(op.out).cols, 0.0))


@emit.register
def _(op: Place, e: Emitter) -> None:
    cols, whole, out = e.value(op.x).cols, e.value(op.out).cols, e.at(op.out)
    at = Addr(out.base, out.offset + WORD_BYTES * op.col)
    e.add(Copy(at, e.at(op.x), e.rows(op.x), cols, dpitch=whole))


@emit.register
def _(op: Advance, e: Emitter) -> None:
    at = e.table_register[op.table]
    e.add(Add(at, at, op.bytes))


@emit.register
def _(op: Prefetch, e: Emitter) -> None:
    lines, at = e.register(), e.table_register[op.table]
    e.add(Li(lines, op.lines))
    last, counters, around = e.register(), e.counters, e.around
    for change, loops in op.changes:
        e.add(Li(last, change))
        for depth in range(len(counters) - loops, len(counters)):
            _if_last(last, counters[depth], around[depth].count, e)
        e.add(Add(lines, lines, last))
    words = LINE_BYTES // WORD_BYTES
    e.add(Load(e.at(op.out), Mem(Space.DRAM, at), lines, words))
    e.add(Mul(lines, lines, LINE_BYTES), Add(at, at, lines))


def _if_last(register: Reg, counter: Reg, count: int, e: Emitter) -> None:
    """Set a register to 0 unless a loop is in its last iteration: (counter + 1) / count is 1 there, 0 before."""
    is_last = e.kept("is_last")
    e.add(Add(is_last, counter, 1), Div(is_last, is_last, count), Mul(register, register, is_last))


@emit.register
def _(op: Install, e: Emitter) -> None:
    start = e.at(op.x)
    at = start.offset
    rows, one = e.register(), e.register()
    e.add(Li(one, 1))
    for name in op.arrays:
        spec = e.spec(name)
        e.add(Li(rows, spec.rows))
        _install(name, spec, Addr(start.base, at), rows, e)
        at += array_bytes(spec)
    for name in op.rows:
        cols = e.value(name).cols
        e.add(Copy(e.at(name), Addr(start.base, at), one, cols))
        at += WORD_BYTES * cols


def _install(name: str, spec: ArraySpec, at: Addr, rows: Reg, e: Emitter) -> None:
    array, first = e.array(name), Reg(0)
    if spec.dtype.bytes > 1:
        e.add(Wrowf(array, at, rows, first))
        return
    scales = Addr(at.base, at.offset + array_bytes(spec) - WORD_BYTES * spec.cols)
    e.add(Wrowc(array, at, rows, first), Wscale(array, scales))
