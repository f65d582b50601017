"""Code of streamed weights: pieces come from DRAM into the buffer while arrays work, and go from there to the arrays.

    prefetch    stage <- DRAM           one `load`, which runs while other units work on
    install     arrays <- stage         `wrowc` for the rows, `wscale` for the column scales; biases are copied

`multiplypieces` does both for the columns of one value, piece after piece, in a loop of its own. While a tile writes a
piece into its array, the memory loads those of other tiles.

A piece lies in DRAM as it lies in the buffer: the rows of its first array, that array's column scales, the same of the
next, then rows of float32 such as biases, rounded up to whole lines.
"""

from __future__ import annotations

from compiler.ir.operations import Advance, Clear, Install, MultiplyPieces, Place, Prefetch
from compiler.ir.streamed import LINE_BYTES, array_bytes, piece_bytes
from isa.instructions import (
    Add,
    Copy,
    Deqc,
    Div,
    Li,
    Load,
    Max,
    Min,
    Mul,
    Mvm,
    Mvmf,
    Sub,
    Vfill,
    Wrowc,
    Wrowf,
    Wscale,
)
from isa.operands import WORD_BYTES, ZERO, Addr, Mem, Reg, Space
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


@emit.register
def _(op: MultiplyPieces, e: Emitter) -> None:
    _Passing(op, e).emit()


class _Passing:
    """The code of pieces that pass through an array.

    `some` is 1 if rows are wanted, else 0; `number` counts the pieces that are loaded, `column` is where the columns of
    one begin.
    """

    def __init__(self, op: MultiplyPieces, e: Emitter) -> None:
        self.op, self.e, self.spec = op, e, e.spec(op.array)
        self.rows, self.n = e.register(), e.rows(op.out)
        self.some, self.column = e.register(), e.register()
        self.bytes = piece_bytes((self.spec,), ())

    def emit(self) -> None:
        """All pieces; those in the buffer in turns with those that are loaded."""
        op, e = self.op, self.e
        # so that all is written, whatever the loops do
        e.add(Vfill(e.at(op.out), self.n, e.value(op.out).cols, 0.0))
        e.add(Li(self.rows, self.spec.rows), Min(self.some, self.n, 1))
        if not op.loaded:
            self._kept(ZERO, op.kept)
            return
        number, count, lines, at = (e.register() for _ in range(4))
        between = -(-op.kept // op.loaded)
        e.add(Li(lines, self.bytes // LINE_BYTES), Mul(count, self.some, op.loaded))

        def body(counter: Reg) -> None:
            e.add(Mul(at, counter, self.bytes), Add(at, at, e.table_register[op.table]))
            e.add(Load(e.at(op.stage), Mem(Space.DRAM, at), lines, LINE_BYTES // WORD_BYTES))
            _install(op.array, self.spec, e.at(op.stage), self.rows, e)
            self._multiply(counter, 0)
            if between:
                self._kept(counter, between)

        e.loop(count, body, number)

    def _kept(self, turn: Reg, between: int) -> None:
        """Pieces that lie in the buffer: `between` of them from number `turn` x `between` on, as far as there are."""
        op, e = self.op, self.e
        count, first, at = e.register(), e.register(), e.register()
        e.add(Mul(first, turn, between), Li(count, op.kept), Sub(count, count, first))
        e.add(Min(count, count, between), Max(count, count, 0), Mul(count, count, self.some))
        start = e.at(op.pieces)

        def body(counter: Reg) -> None:
            number = e.kept("kept_piece")
            e.add(Add(number, counter, first), Min(number, number, op.kept - 1))
            e.add(Mul(at, number, self.bytes))
            _install(op.array, self.spec, Addr(at, start.offset), self.rows, e)
            self._multiply(number, op.loaded)

        e.loop(count, body)

    def _multiply(self, number: Reg, before: int) -> None:
        """The columns of piece `number`, `before` which there are others, to their place in `out`."""
        op, e, spec, n = self.op, self.e, self.spec, self.n
        x, product, array, out = e.at(op.x), e.at(op.product), e.array(op.array), e.at(op.out)
        if e.int8:
            e.add(Mvm(array, product, x, n, ZERO, spec.rows))
            e.add(Deqc(array, product, product, e.at(f"{op.x}.scale"), n))
        else:
            e.add(Mvmf(array, product, x, n, ZERO, spec.rows))
        size = WORD_BYTES * spec.cols
        e.add(Mul(self.column, number, size), Add(self.column, self.column, out.base))
        at = Addr(self.column, out.offset + before * size)
        e.add(Copy(at, product, n, spec.cols, dpitch=e.value(op.out).cols))
