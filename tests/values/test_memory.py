"""Moves inside the buffer, and between it and memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from isa import instructions as t
from isa.diagnostics import CimError
from isa.instruction import Inst
from isa.operands import Addr, Mem, Space
from runtime.machine import Machine
from tests.values.bench import ONE, Bench, same_bits

rng = np.random.default_rng(9)
TABLE = rng.standard_normal((10, 6)).astype(np.float32)


def _words(*shape: int) -> np.ndarray:
    return rng.integers(-(2**31), 2**31, shape).astype(np.int32)


def test_copy_with_pitches() -> None:
    bench = Bench()
    x, y = _words(4, 10), _words(3, 8)
    src, dst, n, steps = bench.put(x), bench.put(y), bench.reg(3), bench.reg(0)
    from_ = Addr(steps, src.offset + 8, True)
    state = bench.run(t.Copy(dst, from_, n, 5, 8, 10))
    y[:, :5] = x[:3, 2:7]
    assert state.i32(dst, 3, 8).tolist() == y.tolist()
    assert state.registers[steps.index] == 4 * (2 * 10 + 5)


def test_copy_onto_itself() -> None:
    bench = Bench()
    x = _words(1, 12)
    at, n = bench.put(x), bench.reg(1)
    state = bench.run(t.Copy(Addr(offset=at.offset + 8), at, n, 10))
    assert state.i32(at, 1, 12).tolist() == [[*x[0, :2], *x[0, :10]]]


def test_rows_that_repeat_and_gaps_that_stay() -> None:
    """A pitch below the width reads words again; written rows leave the gaps between them unwritten."""
    bench = Bench()
    x = _words(1, 6)
    src, dst, n, one = bench.put(x), bench.room(200), bench.reg(3), bench.reg(1)
    state = bench.run(t.Copy(dst, src, n, 4, 7, 1))
    for i in range(3):
        assert state.i32(Addr(offset=dst.offset + 28 * i), 1, 4).tolist() == [x[0, i : i + 4].tolist()]
    with pytest.raises(CimError, match="never written"):
        bench.run(t.Copy(dst, src, n, 4, 7, 1), t.Copy(src, dst, one, 5))


def test_load_and_store() -> None:
    bench = Bench()
    source, room = bench.dram(TABLE, 4096), bench.reserve(1024, 1 << 20)
    near = bench.dram(TABLE[:2], 0, Space.GBUF)
    dst, dense, back, two, four = (
        bench.room(48),
        bench.room(96),
        bench.room(48),
        bench.reg(2),
        bench.reg(4),
    )
    base = bench.reg(24 * 3)
    state = bench.run(
        t.Load(dst, Mem(Space.DRAM, base, source.offset), two, 4, 48),
        t.Load(dense, source, four, 6),
        t.Store(room, dst, two, 4, 400),
        t.Load(back, Mem(Space.DRAM, offset=room.offset + 400), two, 2, 8),
        t.Load(dense, near, two, 6),
    )
    assert same_bits(state.f32(dst, 2, 4), TABLE[[3, 5], :4])
    assert same_bits(state.f32(back, 1, 4), TABLE[5:6, :4])
    assert same_bits(state.f32(dense, 4, 6), np.concatenate([TABLE[:2], TABLE[2:4]]))


def test_a_store_leaves_the_tensor_alone_and_a_reset_brings_it_back() -> None:
    bench = Bench()
    source, zeros, dst, n = (
        bench.dram(TABLE, 0),
        bench.put(np.zeros(6, np.float32)),
        bench.room(24),
        bench.reg(1),
    )
    before = TABLE.copy()
    machine = Machine(bench.program(t.Load(dst, source, n, 6), t.Store(source, zeros, n, 6)))
    for expected in (TABLE[0], np.zeros(6)):
        machine.step(ONE, {})
        assert machine.tiles[0].f32(dst, 1, 6).tolist() == [expected.tolist()]
    machine.reset()
    machine.step(ONE, {})
    assert machine.tiles[0].f32(dst, 1, 6).tolist() == [TABLE[0].tolist()]
    assert same_bits(TABLE, before)


def test_gather() -> None:
    bench = Bench()
    source, ids = bench.dram(TABLE, 256), bench.put(np.array([3, 0, 9, 3], np.int32))
    dst, n, limit = bench.room(96), bench.reg(4), bench.reg(10)
    state = bench.run(t.Gather(dst, ids, source, n, 6, limit))
    assert same_bits(state.f32(dst, 4, 6), TABLE[[3, 0, 9, 3]])


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            lambda b, m, n: t.Load(b.room(64), Mem(Space.DRAM, offset=4090), n, 2),
            "dram bytes 4090..4097 do not lie",
        ),
        (
            lambda b, m, n: t.Load(b.room(64), Mem(Space.DRAM, offset=m.offset + 236), n, 2),
            "within one memory region",
        ),
        (lambda b, m, n: t.Store(Mem(Space.GBUF), b.put(TABLE), n, 2), "declares no region of gbuf"),
        (
            lambda b, m, n: t.Gather(b.room(64), b.put(np.array([10], np.int32)), m, n, 6, b.reg(10)),
            "row 10 of a table of 10 rows",
        ),
        (lambda b, m, n: t.Copy(b.room(64), Addr(offset=2000), n, 2), "never written"),
    ],
)
def test_traps(code: Callable[[Bench, Mem, object], Inst], message: str) -> None:
    bench = Bench()
    with pytest.raises(CimError, match=message):
        bench.run(code(bench, bench.dram(TABLE, 4096), bench.reg(1)))
