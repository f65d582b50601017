"""CIM instructions against integer arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isa import instructions as t
from isa.diagnostics import CimError
from isa.instruction import DType, Inst
from isa.operands import Addr, ArrayRef, Reg
from tests.values.bench import Bench

rng = np.random.default_rng(7)
CELLS = rng.integers(-127, 128, (40, 12)).astype(np.int8)
SCALES = rng.random(12).astype(np.float32)
X = rng.integers(-127, 128, (3, 20)).astype(np.int8)
Y = rng.integers(-127, 128, (3, 12)).astype(np.int8)


def test_mvm() -> None:
    bench = Bench()
    a, src, dst, n, row = (
        bench.array(CELLS, SCALES),
        bench.put(X),
        bench.room(144),
        bench.reg(3),
        bench.reg(7),
    )
    state = bench.run(t.Mvm(a, dst, src, n, row, 20))
    exact = X.astype(int) @ CELLS[7:27].astype(int)
    assert state.i32(dst, 3, 12).tolist() == exact.tolist()


def test_mvm_accumulates() -> None:
    bench = Bench()
    before = rng.integers(-1000, 1000, (3, 12)).astype(np.int32)
    a, src, dst, n, row = bench.array(CELLS), bench.put(X), bench.put(before), bench.reg(3), bench.reg(0)
    state = bench.run(t.Mvm(a, dst, src, n, row, 20, True))
    assert state.i32(dst, 3, 12).tolist() == (before + X.astype(int) @ CELLS[:20].astype(int)).tolist()


@pytest.mark.parametrize("acc", [False, True])
def test_mvmt(acc: bool) -> None:
    bench = Bench()
    before = rng.integers(-1000, 1000, (3, 9)).astype(np.int32)
    a, src, dst, n, row = bench.array(CELLS), bench.put(Y), bench.put(before), bench.reg(3), bench.reg(30)
    rows = bench.reg(9)
    state = bench.run(t.Mvmt(a, dst, src, n, row, rows, acc))
    exact = Y.astype(int) @ CELLS[30:39].astype(int).T
    assert state.i32(dst, 3, 9).tolist() == (exact + before * acc).tolist()


@settings(max_examples=60)
@given(
    st.integers(1, 9),
    st.integers(1, 200),
    st.integers(1, 11),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
def test_products_of_all_sizes_are_exact(
    n: int, size: int, many: int, transposed: bool, acc: bool, seed: int
) -> None:
    """Vectors of all lengths, of which processors multiply some blocks at once, with all bytes there are."""
    own, bench = np.random.default_rng(seed), Bench()
    w = own.integers(-128, 128, (many, size) if transposed else (size, many)).astype(np.int8)
    before = own.integers(-1000, 1000, (n, many)).astype(np.int32)
    x = own.integers(-128, 128, (n, size)).astype(np.int8)
    a, src, dst = bench.array(w), bench.put(x), bench.put(before)
    count, length = bench.reg(n), bench.reg(many)
    if transposed:
        state = bench.run(t.Mvmt(a, dst, src, count, Reg(0), length, acc))
    else:
        state = bench.run(t.Mvm(a, dst, src, count, Reg(0), size, acc))
    exact = x.astype(int) @ (w.T if transposed else w).astype(int) + before * acc
    assert state.i32(dst, n, many).tolist() == exact.tolist()


def test_sums_over_no_rows_are_zero() -> None:
    bench = Bench()
    a, src, dst, n = bench.array(CELLS), bench.put(X), bench.room(144), bench.reg(3)
    state = bench.run(t.Mvm(a, dst, src, n, Reg(0), 0))
    assert state.i32(dst, 3, 12).tolist() == np.zeros((3, 12), int).tolist()


def test_rows_and_scales_go_in_and_come_out() -> None:
    bench = Bench()
    rows, scales = rng.integers(-128, 128, (2, 6)).astype(np.int8), np.array([0.5, 0.25], np.float32)
    a, src, at, n, row = bench.kv(8, 6), bench.put(rows), bench.put(scales), bench.reg(2), bench.reg(5)
    back, back_scales, all_rows = bench.room(48), bench.room(32), bench.reg(8)
    state = bench.run(t.Wrow(a, src, at, n, row), t.Rrow(a, back, back_scales, all_rows, Reg(0)))
    expected = np.zeros((8, 6), np.int8)
    expected[5:7] = rows
    assert state.i8(back, 8, 6).tolist() == expected.tolist()
    assert state.column(back_scales, 8).tolist() == [0, 0, 0, 0, 0, 0.5, 0.25, 0]


def test_groups_of_rows_have_scales_of_their_own() -> None:
    bench = Bench()
    cells = rng.integers(-127, 128, (12, 8)).astype(np.int8)
    scales = rng.random((3, 8), np.float32)
    x = rng.integers(-127, 128, (2, 12)).astype(np.int8)
    x_scales = np.array([0.5, 0.125], np.float32)
    a = bench.array(cells, scales, block=4)
    src, at, sums, dst = bench.put(x), bench.put(x_scales), bench.room(64), bench.room(64)
    n, groups = bench.reg(2), [bench.reg(g) for g in range(3)]
    code: list[Inst] = []
    for g, row in enumerate([bench.reg(0), bench.reg(4), bench.reg(8)]):
        part = Addr(src.base, src.offset + 4 * g)
        code.append(t.Mvmw(a, sums, part, n, row, 4, 3))
        code.append(t.Deqg(a, dst, sums, at, n, groups[g], acc=g > 0))
    expected = np.zeros((2, 8), np.float32)
    for g in range(3):
        rows = slice(4 * g, 4 * g + 4)
        exact = (x[:, rows].astype(np.int32) @ cells[rows].astype(np.int32)).astype(np.float32)
        part = (exact * x_scales[:, None]) * scales[g]
        expected = part if g == 0 else expected + part
    assert bench.run(*code).f32(dst, 2, 8).tolist() == expected.tolist()


def test_zero_points_of_weights_add_the_sum_of_a_row_times_a_constant() -> None:
    bench = Bench()
    x = rng.integers(-127, 128, (3, 16)).astype(np.int8)
    x_scales = np.array([0.5, 0.25, 2.0], np.float32)
    row, block = rng.random(6, np.float32), rng.random((3, 6), np.float32)
    src, at, total, n = bench.put(x), bench.put(x_scales), bench.room(12), bench.reg(3)
    out = bench.room(72)
    state = bench.run(
        t.Vsumq(total, src, at, n, 16), t.Vouter(out, bench.put(block), total, bench.put(row), n, 6)
    )
    sums = x.sum(axis=1, dtype=np.int32).astype(np.float32) * x_scales
    assert state.column(total, 3).tolist() == sums.tolist()
    assert state.f32(out, 3, 6).tolist() == (block + sums[:, None] * row).tolist()


def test_a_group_that_is_not_there_is_refused() -> None:
    bench = Bench()
    a = bench.array(np.ones((8, 4), np.int8), np.ones((2, 4), np.float32), block=4)
    sums, at = bench.put(np.ones((1, 4), np.int32)), bench.put(np.ones(1, np.float32))
    with pytest.raises(CimError, match="no group 2"):
        bench.run(t.Deqg(a, bench.room(16), sums, at, bench.reg(1), bench.reg(2)))


def test_column_scales() -> None:
    bench = Bench()
    a, src = bench.array(CELLS), bench.put(SCALES)
    state = bench.run(t.Wscale(a, src))
    assert state.arrays[0].column_scales.tolist() == [SCALES.tolist()]


def test_ideal_arithmetic() -> None:
    bench = Bench()
    w = rng.standard_normal((10, 4)).astype(np.float32)
    x, y = rng.standard_normal((2, 6)).astype(np.float32), rng.standard_normal((2, 4)).astype(np.float32)
    new = rng.standard_normal((3, 4)).astype(np.float32)
    a, kv = bench.array(w), bench.kv(5, 4, DType.F32)
    sx, sy, sn = bench.put(x), bench.put(y), bench.put(new)
    d1, d2, two, three, row = bench.room(32), bench.room(24), bench.reg(2), bench.reg(3), bench.reg(2)
    state = bench.run(
        t.Mvmf(a, d1, sx, two, row, 6), t.Wrowf(kv, sn, three, row), t.Mvmtf(kv, d2, sy, two, row, 3)
    )
    exact = (x.astype(float) @ w[2:8].astype(float)).astype(np.float32)
    assert state.f32(d1, 2, 4).tolist() == exact.tolist()
    assert state.f32(d2, 2, 3).tolist() == (y.astype(float) @ new.astype(float).T).astype(np.float32).tolist()


def test_arrays_are_chosen_by_register_and_addresses_step() -> None:
    bench = Bench()
    bench.array(np.zeros((4, 3), np.int8))
    bench.array(np.ones((4, 3), np.int8))
    src, dst, n, one = bench.put(X[:2, :4].copy()), bench.room(64), bench.reg(1), bench.reg(1)
    from_, to = bench.reg(src.offset), bench.reg(dst.offset)
    mvm = t.Mvm(ArrayRef(0, one), Addr(to, 0, True), Addr(from_, 0, True), n, Reg(0), 4)
    state = bench.run(mvm, mvm)
    assert state.i32(dst, 2, 3)[:, 0].tolist() == X[:2, :4].sum(1, dtype=int).tolist()
    assert state.registers[from_.index] == src.offset + 8
    assert state.registers[to.index] == dst.offset + 24


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda a, f, at, r: t.Mvm(a, at, at, r, r, 40), "rows 1..40 are not all in array w0 of 40 rows"),
        (lambda a, f, at, r: t.Mvmt(ArrayRef(2), at, at, r, r, 4), "there is no array a2"),
        (lambda a, f, at, r: t.Mvm(f, at, at, r, r, 1), "array w1 holds float32, not int8"),
        (lambda a, f, at, r: t.Mvmf(a, at, at, r, r, 1), "array w0 holds int8, not float32"),
        (lambda a, f, at, r: t.Wrow(a, at, at, r, Reg(9)), "rows 40..40"),
    ],
)
def test_traps(make: object, message: str) -> None:
    bench = Bench()
    a, f, at, r = bench.array(CELLS), bench.array(np.zeros((2, 2), np.float32)), bench.put(X), bench.reg(1)
    assert callable(make)
    inst: Inst = make(a, f, at, r)
    with pytest.raises(CimError, match=message):
        bench.run(t.Li(Reg(9), 40), inst)
