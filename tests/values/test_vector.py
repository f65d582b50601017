"""Instructions of the vector unit against their formulas."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from isa import instructions as t
from isa.diagnostics import CimError
from isa.instruction import DType, Inst
from isa.operands import Addr, Reg
from runtime import numerics
from tests.values.bench import Bench, same_bits

rng = np.random.default_rng(11)
N, COLS = 3, 70
A = rng.standard_normal((N, COLS)).astype(np.float32)
B = rng.standard_normal((N, COLS)).astype(np.float32)
ROW = rng.standard_normal(COLS).astype(np.float32)
COLUMN = rng.random(N).astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "formula"),
    [
        (t.Vadd, lambda a, b: a + b),
        (t.Vsub, lambda a, b: a - b),
        (t.Vmul, lambda a, b: a * b),
        (t.Vdiv, lambda a, b: a / b),
        (t.Vmax, lambda a, b: np.where(a > b, a, b)),
        (t.Vmin, lambda a, b: np.where(a < b, a, b)),
    ],
)
def test_binary(kind: type[Inst], formula: Callable) -> None:
    bench = Bench()
    a, b, n, cols = bench.put(A), bench.put(B), bench.reg(N), bench.reg(COLS)
    state = bench.run(kind(a, a, b, n, cols))  # in place
    assert same_bits(state.f32(a, N, COLS), formula(A, B))


@pytest.mark.parametrize(
    ("make", "formula"),
    [
        (lambda d, s, r, c, n: t.Vaddr(d, s, r, n, COLS), lambda: A + ROW),
        (lambda d, s, r, c, n: t.Vmulr(d, s, r, n, COLS), lambda: A * ROW),
        (lambda d, s, r, c, n: t.Vsubc(d, s, c, n, COLS), lambda: A - COLUMN[:, None]),
        (lambda d, s, r, c, n: t.Vmulc(d, s, c, n, COLS), lambda: A * COLUMN[:, None]),
        (lambda d, s, r, c, n: t.Vscale(d, s, c, r, n, COLS), lambda: (A * COLUMN[:, None]) * ROW),
        (lambda d, s, r, c, n: t.Vaddi(d, s, n, COLS, 0.1), lambda: A + np.float32(0.1)),
        (lambda d, s, r, c, n: t.Vmuli(d, s, n, COLS, 0.1), lambda: A * np.float32(0.1)),
        (
            lambda d, s, r, c, n: t.Vfill(d, n, COLS, -math.inf),
            lambda: np.full((N, COLS), -np.inf, np.float32),
        ),
    ],
)
def test_broadcasts_and_immediates(make: Callable, formula: Callable) -> None:
    bench = Bench()
    dst, src, row, column, n = (
        bench.room(A.nbytes),
        bench.put(A),
        bench.put(ROW),
        bench.put(COLUMN),
        bench.reg(N),
    )
    state = bench.run(make(dst, src, row, column, n))
    assert same_bits(state.f32(dst, N, COLS), formula())


def _erf(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.vectorize(math.erf)(x)


@pytest.mark.parametrize(
    ("kind", "formula"),
    [
        (t.Vexp, np.exp),
        (t.Vrecip, lambda x: 1 / x),
        (t.Vrsqrt, lambda x: 1 / np.sqrt(x)),
        (t.Vsqrt, np.sqrt),
        (t.Verf, _erf),
        (t.Vtanh, np.tanh),
        (t.Vsigm, lambda x: 1 / (1 + np.exp(-x))),
        (t.Vsilu, lambda x: x / (1 + np.exp(-x))),
        (t.Vgelu, lambda x: x * (1 + _erf(x / math.sqrt(2))) / 2),
        (t.Vgelut, lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2),
        (t.Vrelu, lambda x: np.maximum(x, 0)),
        (t.Vabs, np.abs),
        (t.Vneg, lambda x: -x),
    ],
)
def test_unary(kind: type[Inst], formula: Callable) -> None:
    x = np.abs(A) if kind in (t.Vrsqrt, t.Vsqrt) else A
    bench = Bench()
    src, dst, n = bench.put(x), bench.room(x.nbytes), bench.reg(N)
    state = bench.run(kind(dst, src, n, COLS))
    np.testing.assert_allclose(state.f32(dst, N, COLS), formula(x.astype(np.float64)), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("kind", "formula", "empty"),
    [
        (t.Vsum, lambda x: x.sum(1), 0),
        (t.Vsumsq, lambda x: (x * x).sum(1), 0),
        (t.Vmaxr, lambda x: x.max(1), -np.inf),
        (t.Vamax, lambda x: np.abs(x).max(1), 0),
    ],
)
def test_reductions(kind: type[Inst], formula: Callable, empty: float) -> None:
    bench = Bench()
    src, dst, none, n = bench.put(A), bench.room(12), bench.room(12), bench.reg(N)
    state = bench.run(kind(dst, src, n, COLS), kind(none, src, n, 0))
    np.testing.assert_allclose(state.column(dst, N), formula(A.astype(np.float64)), rtol=1e-5, atol=1e-5)
    assert state.column(none, N).tolist() == [empty] * N


def test_quantise() -> None:
    bench = Bench()
    src, dst, scales, n = bench.put(A), bench.room(N * COLS), bench.room(12), bench.reg(N)
    state = bench.run(t.Quant(dst, scales, src, n, COLS))
    expected = np.abs(A).max(1) * np.float32(1 / 127)
    assert same_bits(state.column(scales, N), expected)
    codes = np.clip(np.rint(A * (np.float32(1) / expected)[:, None]), -127, 127).astype(np.int8)
    assert same_bits(state.i8(dst, N, COLS), codes)


@pytest.mark.parametrize("levels", [127, 7, 1, 0])
def test_quantise_to_fewer_levels(levels: int) -> None:
    bench = Bench()
    src, dst, scales, n = bench.put(A), bench.room(N * COLS), bench.room(12), bench.reg(N)
    state = bench.run(t.Quantl(dst, scales, src, n, COLS, levels))
    found, codes = state.column(scales, N), state.i8(dst, N, COLS)
    if not levels:
        assert not found.any() and not codes.any()
        return
    assert same_bits(found, np.abs(A).max(1) * np.float32(1 / levels))
    assert np.abs(codes).max(1).tolist() == [levels] * N
    assert np.abs(codes * found[:, None] - A).max() <= found.max() * 0.5001
    if levels == 127:
        plain = bench.run(t.Quant(dst, scales, src, n, COLS))
        assert same_bits(plain.i8(dst, N, COLS), codes) and same_bits(plain.column(scales, N), found)


def test_quantise_by_a_given_scale() -> None:
    bench = Bench()
    scales = np.array([0.01, 0, 0.5], np.float32)
    src, dst, at, n = bench.put(A), bench.room(N * COLS), bench.put(scales), bench.reg(N)
    codes = bench.run(t.Quantx(dst, at, src, n, COLS)).i8(dst, N, COLS)
    assert (
        codes[0].tolist() == np.clip(np.rint(A[0] * (np.float32(1) / np.float32(0.01))), -127, 127).tolist()
    )
    assert not codes[1].any()
    assert codes[2].tolist() == np.rint(A[2] * 2).tolist()


def test_quantise_by_the_largest_magnitude_of_a_row_of_which_this_is_a_part() -> None:
    """What a multiplication by 1/127 and `quantx` give, to the bit."""
    bench = Bench()
    src, dst, n = bench.put(A), bench.room(N * COLS), bench.reg(N)
    whole = np.abs(A).max(1) * np.array([1, 2, 0], np.float32)
    scales, apart, codes = bench.put(whole), bench.put(whole), bench.room(N * COLS)
    state = bench.run(
        t.Quantm(dst, scales, src, n, COLS),
        t.Vmuli(apart, apart, n, 1, 1 / 127),
        t.Quantx(codes, apart, src, n, COLS),
    )
    assert same_bits(state.column(scales, N), state.column(apart, N))
    assert same_bits(state.i8(dst, N, COLS), state.i8(codes, N, COLS))
    assert np.abs(state.i8(dst, N, COLS)).max(1).tolist() == [127, 64, 0]


def test_columns_of_a_norm() -> None:
    """vmean, vrstd and vrstdm against the instructions that they take the place of."""
    bench = Bench()
    squares, scales = (rng.random(N).astype(np.float32) * factor for factor in (50, 1))
    src, total, n = bench.put(A), bench.put(squares), bench.reg(N)
    mean, plain, root, apart, own = (bench.room(4 * N) for _ in range(5))
    into = bench.put(scales)
    state = bench.run(
        t.Vmean(mean, src, n, COLS, 1 / COLS),
        t.Vsum(plain, src, n, COLS),
        t.Vmuli(plain, plain, n, 1, 1 / COLS),
        t.Vrstd(root, total, n, 1 / COLS, 1e-5),
        t.Vmuli(apart, total, n, 1, 1 / COLS),
        t.Vaddi(apart, apart, n, 1, 1e-5),
        t.Vrsqrt(apart, apart, n, 1),
        t.Vrstdm(into, total, n, 1 / COLS, 1e-5),
        t.Vrstd(own, total, n, 1 / COLS, 1e-5),
    )
    assert same_bits(state.column(mean, N), state.column(plain, N))
    assert same_bits(state.column(root, N), state.column(apart, N))
    assert same_bits(state.column(into, N), scales * state.column(root, N))
    np.testing.assert_allclose(state.column(own, N), 1 / np.sqrt(squares / COLS + 1e-5), rtol=1e-6)


def test_scales_of_arrays() -> None:
    """quantw takes row scales in, deqr and deqc put row and column scales back, deq neither; deqb adds a row."""
    bench = Bench()
    cells, columns = np.ones((6, 4), np.int8), rng.random(4).astype(np.float32)
    rows = rng.random(6).astype(np.float32)
    x, sums = rng.random((2, 3)).astype(np.float32), rng.integers(-9999, 9999, (2, 4)).astype(np.int32)
    factors = np.array([0.5, 0.25], np.float32)
    a, s8, s_rows, six, two, row = (
        bench.array(cells, columns),
        bench.put(cells),
        bench.put(rows),
        bench.reg(6),
        bench.reg(2),
        bench.reg(2),
    )
    src, s32, sf = bench.put(x), bench.put(sums), bench.put(factors)
    q, qs, dc, dr, d, db = (bench.room(size) for size in (8, 8, 32, 24, 32, 32))
    bias = rng.standard_normal(4).astype(np.float32)
    state = bench.run(
        t.Wrow(a, s8, s_rows, six, Reg(0)),
        t.Quantw(a, q, qs, src, two, row, 3),
        t.Deqc(a, dc, s32, sf, two),
        t.Deqb(a, db, s32, sf, bench.put(bias), two),
        t.Deqr(a, dr, s32, sf, two, row, 3),
        t.Deq(d, s32, sf, two, 4),
    )
    codes, scales = numerics.quantise(x * rows[2:5])
    assert same_bits(state.i8(q, 2, 3), codes)
    assert same_bits(state.column(qs, 2), scales)
    wide = sums.astype(np.float32)
    assert same_bits(state.f32(dc, 2, 4), (wide * factors[:, None]) * columns)
    assert same_bits(state.f32(db, 2, 4), (wide * factors[:, None]) * columns + bias)
    dense = wide.reshape(-1)[:6].reshape(2, 3)
    assert same_bits(state.f32(dr, 2, 3), (dense * factors[:, None]) * rows[2:5])
    assert same_bits(state.f32(d, 2, 4), wide * factors[:, None])


def test_half_precision() -> None:
    bench = Bench()
    x = np.array([[1 / 3, 1e6, -1e-8, 65504]], np.float32)
    src, half, back, n = bench.put(x), bench.room(8), bench.room(16), bench.reg(1)
    state = bench.run(t.Vf16(half, src, n, 4), t.Vf32(back, half, n, 4))
    with numerics.quiet():
        expected = x.astype(np.float16)
    assert same_bits(state.read(half, DType.F16, 1, 4), expected)
    assert same_bits(state.f32(back, 1, 4), expected.astype(np.float32))


@pytest.mark.parametrize("interleaved", [False, True])
def test_rope(interleaved: bool) -> None:
    """Against complex multiplication; features beyond `rot` stay."""
    heads, dim, rot = 2, 8, 6
    x = rng.standard_normal((N, heads * dim)).astype(np.float32)
    angles = rng.standard_normal((N, rot // 2))
    table = np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    bench = Bench()
    src, tab, dst, n = bench.put(x), bench.put(table), bench.room(x.nbytes), bench.reg(N)
    state = bench.run(t.Rope(dst, src, tab, n, heads * dim, dim, rot, interleaved))
    got = state.f32(dst, N, heads * dim).reshape(N, heads, dim)
    wide = x.astype(np.float64).reshape(N, heads, dim)
    turned = wide[..., :rot].reshape(N, heads, *((rot // 2, 2) if interleaved else (2, rot // 2)))
    turned = turned if interleaved else turned.swapaxes(2, 3)
    product = (turned[..., 0] + 1j * turned[..., 1]) * np.exp(1j * angles)[:, None, :]
    parts = np.stack([product.real, product.imag], axis=3 if interleaved else 2)
    np.testing.assert_allclose(got[..., :rot], parts.reshape(N, heads, rot), atol=1e-6)
    assert same_bits(got[..., rot:].copy(), x.reshape(N, heads, dim)[..., rot:].copy())


def _trap(code: Callable[[Bench], list[Inst]]) -> str:
    bench = Bench()
    with pytest.raises(CimError) as caught:
        bench.run(*code(bench))
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "E0604"
    return diagnostic.message


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            lambda b: [t.Vneg(b.room(64), Addr(offset=1024), b.reg(1), 4)],
            "reads bytes 1024..1039, of which byte 1024 was never written",
        ),
        (
            lambda b: [t.Vneg(b.room(64), b.put(np.zeros(3, np.float32)), b.reg(1), 4)],
            "byte 204 was never written",
        ),
        (
            lambda b: [t.Vfill(Addr(offset=65528), b.reg(1), 3, 1.0)],
            "bytes 65528..65539 are not all in the buffer",
        ),
        (lambda b: [t.Vfill(Addr(b.reg(-8)), b.reg(1), 1, 1.0)], "bytes -8..-5 are not all in the buffer"),
        (lambda b: [t.Vfill(Addr(b.reg(2)), b.reg(1), 1, 1.0)], "bytes 2..5 do not begin at a word"),
        (lambda b: [t.Vfill(b.room(64), b.reg(-1), 1, 1.0)], "a length is negative"),
        (
            lambda b: [t.Rope(b.room(64), b.room(8), b.room(8), b.reg(1), 8, 4, 6)],
            "rope cannot turn 6 features",
        ),
    ],
)
def test_traps(code: Callable[[Bench], list[Inst]], message: str) -> None:
    assert message in _trap(code)


def test_zero_lengths_touch_nothing() -> None:
    bench = Bench()
    nowhere, zero, one = Addr(offset=1 << 19), bench.reg(0), bench.reg(1)
    bench.run(
        t.Vadd(nowhere, nowhere, nowhere, zero, 8),
        t.Vexp(nowhere, nowhere, one, 0),
        t.Vsum(nowhere, nowhere, zero, 4),
    )


def test_what_is_written_in_part_of_a_word_counts_as_the_word() -> None:
    bench = Bench()
    src, dst, scales, back, one = (
        bench.put(A[:1, :5].copy()),
        bench.room(8),
        bench.room(4),
        bench.room(8),
        bench.reg(1),
    )
    state = bench.run(t.Quant(dst, scales, src, one, 5), t.Copy(back, dst, one, 2))
    assert state.i8(back, 1, 5).tolist() == numerics.quantise(A[:1, :5])[0].tolist()
