"""Online softmax: a block, the merge, the end; and that blocks merged equal one softmax."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from isa import instructions as t
from isa.operands import Reg
from runtime import numerics
from tests.values.bench import Bench, same_bits

F32 = NDArray[np.float32]
INF = np.float32(np.inf)


def _block(
    scores: F32, hi: int, lo: int = 0, group: int = 1, causal: bool = False, window: bool = False
) -> tuple[F32, F32]:
    """What `smx` gives: p and (m, l)."""
    n, cols = scores.shape
    bench = Bench()
    s, p, ml, rows = bench.put(scores), bench.room(scores.nbytes), bench.room(8 * n), bench.reg(n)
    smx = t.Smx(p, s, ml, rows, cols, bench.reg(hi), bench.reg(lo), group, causal, window)
    state = bench.run(smx)
    return state.f32(p, n, cols).copy(), state.f32(ml, n, 2).copy()


def _mask(n: int, cols: int, hi: int, lo: int, group: int, causal: bool, window: bool) -> NDArray[np.bool_]:
    """The valid columns, by the words of the table."""
    valid = np.zeros((n, cols), bool)
    for i in range(n):
        for j in range(cols):
            below = j < hi + (i // group if causal else 0)
            valid[i, j] = below and (not window or j >= lo + i // group)
    return valid


@settings(max_examples=50)
@given(
    st.integers(1, 6),
    st.integers(1, 80),
    st.integers(-5, 90),
    st.integers(-5, 20),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
)
def test_block(n: int, cols: int, hi: int, lo: int, group: int, causal: bool, window: bool) -> None:
    scores = np.random.default_rng(n * 100 + cols).standard_normal((n, cols)).astype(np.float32) * 5
    p, ml = _block(scores, hi, lo, group, causal, window)
    valid = _mask(n, cols, hi, lo, group, causal, window)
    for i in range(n):
        if not valid[i].any():
            assert ml[i].tolist() == [-np.inf, 0]
            assert not p[i].any()
            continue
        m = scores[i, valid[i]].max()
        expected = np.where(valid[i], np.exp(scores[i].astype(float) - m), 0)
        assert ml[i, 0] == m
        np.testing.assert_allclose(p[i], expected, rtol=2e-6, atol=1e-30)
        np.testing.assert_allclose(ml[i, 1], expected.sum(), rtol=2e-6)
        assert not p[i][~valid[i]].any()


@settings(max_examples=25)
@given(
    st.integers(1, 5),
    st.integers(1, 70),
    st.integers(-3, 80),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
)
def test_a_block_from_integer_sums(
    n: int, cols: int, hi: int, group: int, causal: bool, window: bool
) -> None:
    """`smxi` gives what `deqr` and `smx` give, to the bit."""
    rng = np.random.default_rng(n * 100 + cols)
    sums = rng.integers(-(2**20), 2**20, (n, cols)).astype(np.int32)
    rows, queries = rng.random(cols + 2).astype(np.float32), rng.random(n).astype(np.float32) * 1e-5
    bench = Bench()
    cells = np.ones((cols + 2, 4), np.int8)
    a, s8, scales = bench.array(cells, np.ones(4, np.float32)), bench.put(cells), bench.put(rows)
    s, fused, q = bench.put(sums), bench.put(sums), bench.put(queries)
    ml, fused_ml = bench.room(8 * n), bench.room(8 * n)
    count, wide, row, all_rows = bench.reg(n), bench.reg(cols), bench.reg(1), bench.reg(cols + 2)
    seen = bench.reg(hi), bench.reg(hi // 2), group, causal, window
    state = bench.run(
        t.Wrow(a, s8, scales, all_rows, Reg(0)),
        t.Deqr(a, s, s, q, count, row, cols),
        t.Smx(s, s, ml, count, cols, *seen),
        t.Smxi(a, fused, fused_ml, q, count, row, wide, *seen),
    )
    assert same_bits(state.f32(fused, n, cols), state.f32(s, n, cols))
    assert same_bits(state.f32(fused_ml, n, 2), state.f32(ml, n, 2))


def test_what_is_masked_does_not_show() -> None:
    """Other scores beyond `hi`, or a longer block, change no bit."""
    scores = np.random.default_rng(3).standard_normal((2, 40)).astype(np.float32)
    p, ml = _block(scores, 40)
    longer = np.concatenate([scores, np.full((2, 50), 99, np.float32)], axis=1)
    longer_p, longer_ml = _block(longer, 40)
    assert same_bits(ml, longer_ml)
    assert same_bits(p, longer_p[:, :40].copy())
    assert not longer_p[:, 40:].any()


def test_scores_of_minus_infinity_count_nothing() -> None:
    p, ml = _block(np.array([[-INF, 1, -INF], [-INF, -INF, -INF]], np.float32), 3)
    assert p.tolist() == [[0, 1, 0], [0, 0, 0]]
    assert ml.tolist() == [[1, 1], [-np.inf, 0]]


def _merge(ml: F32, o: F32, mlb: F32, ob: F32) -> tuple[F32, F32]:
    n, cols = o.shape
    bench = Bench()
    at = [bench.put(x) for x in (ml, o, mlb, ob)]
    state = bench.run(t.Smxm(*at, bench.reg(n), cols))
    return state.f32(at[0], n, 2).copy(), state.f32(at[1], n, cols).copy()


def test_an_empty_side_leaves_the_other_as_it_is() -> None:
    rng = np.random.default_rng(4)
    full, o = np.array([[0.3, 2.5]], np.float32), rng.standard_normal((1, 9)).astype(np.float32)
    o[0, 0] = -0.0
    empty, rubbish = np.array([[-np.inf, 0]], np.float32), np.full((1, 9), np.nan, np.float32)
    for ml, merged in (_merge(full, o, empty, rubbish), _merge(empty, rubbish, full, o)):
        assert same_bits(ml, full)
        assert same_bits(merged, o)
    both = _merge(empty, np.zeros((1, 9), np.float32), empty, rubbish)
    assert both[0].tolist() == [[-np.inf, 0]]
    assert not both[1].any()


@pytest.mark.parametrize("cuts", [(64,), (20, 64), (1, 2, 3, 64), (30, 31, 60, 64)])
def test_blocks_merged_are_one_softmax(cuts: tuple[int, ...]) -> None:
    rng = np.random.default_rng(5)
    n, width, d = 3, 64, 7
    scores = rng.standard_normal((n, width)).astype(np.float32) * 4
    values = rng.standard_normal((width, d)).astype(np.float32)
    ml = np.repeat(np.array([[-np.inf, 0]], np.float32), n, axis=0)
    o = np.zeros((n, d), np.float32)
    start = 0
    for stop in cuts:
        p, mlb = _block(scores[:, start:stop].copy(), stop - start)
        ob = numerics.ideal_product(p, values[start:stop])
        ml, o = _merge(ml, o, mlb, ob)
        start = stop
    bench = Bench()
    at_o, at_ml, dst, rows = bench.put(o), bench.put(ml), bench.room(o.nbytes), bench.reg(n)
    got = bench.run(t.Smxd(dst, at_o, at_ml, rows, d)).f32(dst, n, d)
    wide = np.exp(scores.astype(float) - scores.max(1, keepdims=True))
    expected = (wide / wide.sum(1, keepdims=True)) @ values
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


def test_the_end_of_a_masked_row_is_zero() -> None:
    bench = Bench()
    o, ml = bench.put(np.full((2, 3), 6, np.float32)), bench.put(np.array([[-np.inf, 0], [1, 4]], np.float32))
    assert bench.run(t.Smxd(o, o, ml, bench.reg(2), 3)).f32(o, 2, 3).tolist() == [[0, 0, 0], [1.5, 1.5, 1.5]]
