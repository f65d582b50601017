"""Code of attention whose keys and values lie in the chip's DRAM, all of them or all but the last.

    for each whole block of rows in memory:
        load keys, scales, values into the buffer; write them into the staging arrays   load, wrow
        scores, softmax step, p v, merge                                                as in `attend`
    append the segment's rows
    the last rows: the block that is not whole yet (streamed), or the blocks of the ring (tiered)
    store the segment's rows (streamed), or those that leave the ring soon (tiered)

Blocks have the same borders and are merged in the same order as where all rows are resident, and an empty start is
merged with the first block to that block, to the bit: so results are those of resident attention. Loads depend on
nothing that the segment brings, and go ahead of it as far as the queues and the buffer allow; rows that are
appended are not loaded again in the same segment, so no load waits for a store.

Streamed, the rows of the sequence before the segment are in memory. Tiered, those before position - `hot`: a ring of
hot + block rows has room for the block that the segment is in and all that are not wholly in memory yet.
"""

from __future__ import annotations

from dataclasses import dataclass

from compiler.ir.mapping import Format
from compiler.ir.operations import AttendStreamed
from isa.instructions import (
    Add,
    Div,
    Li,
    Load,
    Max,
    Min,
    Mod,
    Mul,
    Rrow,
    Rrowf,
    Smx,
    Smxd,
    Smxm,
    Store,
    Sub,
    Vfill,
    Wrow,
    Wrowf,
)
from isa.interface import Plane, memory_planes
from isa.operands import WORD_BYTES, ZERO, Addr, ArrayRef, Mem, Reg, Space

from .attend import KvBlock, block_scores, block_weigh, queries, running
from .codes import quantising
from .emitter import LENGTH, POSITION, TOKENS, Emitter


@dataclass(frozen=True, slots=True)
class _Side:
    """Keys or values: what they are called in the working space, the value that brings rows, the array that blocks pass
    through and that of the ring, columns of a row, and the planes of rows and scales (None in ideal arithmetic)."""

    name: str
    value: str
    array: str
    ring: str
    cols: int
    rows: Plane
    scales: Plane | None


@dataclass(frozen=True, slots=True)
class _Codes:
    """Where rows and their scales lie in the buffer."""

    rows: Addr
    scales: Addr


def emit_streamed(op: AttendStreamed, e: Emitter) -> None:
    """Append the code of an attention operation with rows in memory (int8 or ideal arithmetic)."""
    streamer = _Streamer(op, e)
    if not op.early:
        streamer.append()
        streamer.store()
    streamer.begin()
    streamer.blocks_in_memory()
    if op.early:
        streamer.append()
    if op.hot:
        streamer.blocks_in_ring()
    else:
        streamer.last_block()
    if op.early:
        streamer.store()
    streamer.end()


class _Streamer:
    """The code of one operation in the making.

    `done`: rows of the sequence that are in memory when the segment begins; `whole`: blocks of which all rows are;
    `first`: the first block that the segment's first token sees a row of.
    """

    def __init__(self, op: AttendStreamed, e: Emitter) -> None:
        self.op, self.e, self.n = op, e, queries(op.attend(), e)
        self.sides = self._sides()
        self.done, self.whole, self.first = e.fact(POSITION), e.kept("stream_whole"), ZERO
        if op.hot:
            self.done = e.kept("stream_done")
            e.add(Add(self.done, e.fact(POSITION), -op.hot), Max(self.done, self.done, 0))
        e.add(Div(self.whole, self.done, op.block))
        if op.skip:
            self.first = e.kept("stream_first")
            e.add(Add(self.first, e.fact(POSITION), 1 - op.window), Max(self.first, self.first, 0))
            e.add(Div(self.first, self.first, op.block))

    def _sides(self) -> tuple[_Side, _Side]:
        op, e = self.op, self.e
        planes = memory_planes(op.rows * e.limits.sequences, op.dim, op.v_dim, e.arithmetic.dtype)
        scales = planes[2:] or (None, None)
        return (
            _Side("k", op.k, op.keys, op.hot_keys, op.dim, planes[0], scales[0]),
            _Side("v", op.v, op.values, op.hot_values, op.v_dim, planes[1], scales[1]),
        )

    # ------------------------------------------------------------------------------------------------- blocks

    def begin(self) -> None:
        """Start the running values: nothing seen, so that the first block that is merged is taken over."""
        op, e, s = self.op, self.e, self.e.tmp("s")
        e.add(Vfill(e.at(op.out), self.n, op.v_dim, 0.0), Vfill(s, self.n, 1, 0.0))
        e.add(Smx(s, s, running(op.attend(), e), self.n, 1, ZERO, ZERO, op.group))

    def end(self) -> None:
        """Divide by the sums."""
        op, e = self.op, self.e
        e.add(Smxd(e.at(op.out), e.at(op.out), running(op.attend(), e), self.n, op.v_dim))

    def blocks_in_memory(self) -> None:
        """Attend to the whole blocks in memory, from the first in reach on."""
        op, e = self.op, self.e
        count, row, rows = e.kept("stream_count"), e.kept("stream_row"), e.kept("stream_rows")
        first = self.first
        if op.hot and op.skip:  # the window may lie in the ring
            first = e.kept("stream_from")
            e.add(Min(first, self.first, self.whole))
        e.add(Sub(count, self.whole, first), Li(rows, op.block))

        def body(counter: Reg) -> None:
            e.add(Add(row, counter, first))
            block = self._block(row, rows, ZERO)
            e.add(*self._memory_row(row, block_start(e)))
            for side in self.sides:
                self._load(side, row, block.rows)
            self._merge(block, hot=False)

        e.loop(count, body, e.kept("stream_counter"))

    def last_block(self) -> None:
        """Attend to the block that the segment is in: rows before it from memory, its own as it brings them."""
        e = self.e
        before, rows, row = e.kept("stream_count"), e.kept("stream_rows"), e.kept("stream_row")
        block = self._block(self.whole, rows, ZERO)
        e.add(Sub(before, e.fact(POSITION), block_start(e)), Add(rows, before, e.fact(TOKENS)))
        e.add(*self._memory_row(row, block_start(e)))
        for side in self.sides:
            self._load(side, row, before)
            self._write(e.array(side.array), self._codes(side), TOKENS, before)
        self._merge(block, hot=False)

    def blocks_in_ring(self) -> None:
        """Attend to the blocks in the ring that are not wholly in memory, or were not in reach before."""
        op, e = self.op, self.e
        row, rows, count = (e.kept(f"stream_{name}") for name in ("row", "rows", "count"))
        start = self.whole
        if op.skip:
            start = self.first
            e.add(Max(start, start, self.whole))
        e.add(Div(count, e.fact(POSITION), op.block), Add(count, count, 1), Sub(count, count, start))
        base = e.kv_base(op.hot_keys, own=True)

        def body(counter: Reg) -> None:
            e.add(Add(row, counter, start))
            block = self._block(row, rows, row)
            e.add(Mod(row, row, op.hot // op.block + 1), Mul(row, row, op.block), Add(row, row, base))
            e.add(Sub(rows, e.fact(LENGTH), block_start(e)), Min(rows, rows, op.block), Max(rows, rows, 0))
            self._merge(block, hot=True)

        e.loop(count, body, e.kept("stream_counter"))

    def _block(self, number: Reg, rows: Reg, row: Reg) -> KvBlock:
        """The registers of a block; its first position is in `block_start`."""
        op, e, start = self.op, self.e, block_start(self.e)
        hi, lo, distance = e.kept("stream_hi"), ZERO, ZERO
        e.add(Mul(start, number, op.block), Sub(hi, e.fact(POSITION), start), Add(hi, hi, 1))
        if op.window:
            lo = e.kept("stream_lo")
            e.add(Sub(lo, hi, op.window))
        if op.bias:
            distance = e.kept("stream_distance")
            e.add(Sub(distance, start, e.fact(POSITION)))
        return KvBlock(row, rows, hi, lo, distance)

    def _merge(self, block: KvBlock, *, hot: bool) -> None:
        """Attend to a block that lies in arrays, and merge it into the running values."""
        e, attend = self.e, self.op.attend(hot=hot)
        block_scores(attend, e, self.n, block, e.tmp("ml_block"))
        block_weigh(attend, e, self.n, block, e.tmp("o_block"))
        ml, o = e.tmp("ml_block"), e.tmp("o_block")
        e.add(Smxm(running(attend, e), e.at(self.op.out), ml, o, self.n, self.op.v_dim))

    # --------------------------------------------------------------------------------------------- own rows

    def append(self) -> None:
        """Quantise the segment's rows, and put them into the rings if there are any."""
        e = self.e
        for side in self.sides:
            if e.int8 and not self._is_ready(side):
                codes = self._codes(side)
                n, bits = e.rows(side.value), e.spec(side.array).bits
                e.add(quantising(codes.rows, codes.scales, e.at(side.value), n, side.cols, bits))
            if self.op.hot:
                row = e.kv_row(side.ring, self._ring)
                self._write(e.array(side.ring), self._codes(side), e.rows(side.value), row)

    def store(self) -> None:
        """Store the segment's rows, or those that will be the next to leave the ring: as many, if there are any yet."""
        op, e, row = self.op, self.e, self.e.kept("stream_row")
        e.add(*self._memory_row(row, self.done))
        if not op.hot:
            for side in self.sides:
                self._store(side, self._codes(side), row, TOKENS)
            return
        count, place = e.kept("stream_count"), block_start(e)
        e.add(Add(count, e.fact(LENGTH), -op.hot), Min(count, count, e.fact(TOKENS)), Max(count, count, 0))
        e.add(Mod(place, self.done, self._ring), Add(place, place, e.kv_base(op.hot_keys, own=True)))
        for side in self.sides:
            old = _Codes(e.tmp(f"old_{side.name}"), e.tmp(f"old_{side.name}_scale") if e.int8 else Addr())
            if e.int8:
                e.add(Rrow(e.array(side.ring), old.rows, old.scales, count, place))
            else:
                e.add(Rrowf(e.array(side.ring), old.rows, count, place))
            self._store(side, old, row, count)

    @property
    def _ring(self) -> int:
        return self.op.hot + self.op.block

    def _is_ready(self, side: _Side) -> bool:
        """Whether the rows come quantised."""
        return self.e.value(side.value).format is Format.Q8

    def _codes(self, side: _Side) -> _Codes:
        """The segment's rows as arrays take them."""
        e = self.e
        if not e.int8:
            return _Codes(e.at(side.value), Addr())
        if self._is_ready(side):
            return _Codes(e.at(side.value), e.at(f"{side.value}.scale"))
        return _Codes(e.tmp(f"{side.name}8"), e.tmp(f"{side.name}_scale"))

    # ------------------------------------------------------------------------------------ rows, back and forth

    def _memory_row(self, row: Reg, position: Reg) -> tuple[Add, ...]:
        """Code for row = the row of a plane that a position of the segment's sequence has."""
        base = self.e.sequence_times(self.op.rows) if self.e.limits.sequences > 1 else ZERO
        return (Add(row, position, base),)

    def _at(self, plane: Plane, row: Reg) -> Mem:
        """The place of a row of a plane."""
        e, at = self.e, self.e.kept("stream_at")
        e.add(Mul(at, row, plane.row_bytes), Add(at, at, e.table_register[self.op.table]))
        return Mem(Space.DRAM, at, plane.offset)

    def _load(self, side: _Side, row: Reg, rows: Reg) -> None:
        """Load rows of a plane, and write them into the array that blocks pass through."""
        e, into = self.e, e_in(self.e, side)
        e.add(Load(into.rows, self._at(side.rows, row), rows, side.rows.row_bytes // WORD_BYTES))
        if side.scales is not None:
            e.add(Load(into.scales, self._at(side.scales, row), rows, 1))
        self._write(e.array(side.array), into, rows, ZERO)

    def _store(self, side: _Side, codes: _Codes, row: Reg, rows: Reg) -> None:
        e = self.e
        e.add(Store(self._at(side.rows, row), codes.rows, rows, side.rows.row_bytes // WORD_BYTES))
        if side.scales is not None:
            e.add(Store(self._at(side.scales, row), codes.scales, rows, 1))

    def _write(self, array: ArrayRef, codes: _Codes, rows: Reg, row: Reg) -> None:
        if self.e.int8:
            self.e.add(Wrow(array, codes.rows, codes.scales, rows, row))
        else:
            self.e.add(Wrowf(array, codes.rows, rows, row))


def e_in(e: Emitter, side: _Side) -> _Codes:
    """Where rows that are loaded lie before they are written into an array."""
    name = f"{side.name}_in"
    return _Codes(e.tmp(name), e.tmp(f"{name}_scale") if e.int8 else Addr())


def block_start(e: Emitter) -> Reg:
    """The register with the first position of the block in work."""
    return e.kept("stream_start")
