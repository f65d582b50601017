"""The functions of runtime/numerics.py: their error bounds, their invariances, and their bits."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from runtime import numerics
from tests.values.bench import same_bits

F32 = NDArray[np.float32]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with numerics.quiet():
        yield


def _every(step: int) -> F32:
    """Finite float32 values of both signs, every `step`-th bit pattern."""
    positive = np.arange(0, 0x7F800000, step, dtype=np.uint32).view(np.float32)
    return np.concatenate([positive, -positive])


def _ulps(got: F32, exact: NDArray[np.float64]) -> float:
    spacing = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
    return float(np.max(np.abs(got.astype(np.float64) - exact) / spacing))


def _erf(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([math.erf(v) for v in x])


def _ranged(x: F32, low: float, high: float) -> F32:
    return x[(x >= low) & (x <= high)]


@pytest.mark.parametrize(
    ("function", "exact", "low", "high", "bound"),
    [
        (numerics.exp, np.exp, -104.0, 88.72, 1.0),
        (numerics.tanh, np.tanh, -1e38, 1e38, 1.4),
        (numerics.erf, _erf, -1e38, 1e38, 1.2),
        (numerics.rsqrt, lambda x: 1 / np.sqrt(x), 1e-37, 1e38, 1.5),
        (numerics.reciprocal, lambda x: 1 / x, 1e-37, 1e37, 0.5),
    ],
)
def test_error_bounds(
    function: Callable[[F32], F32], exact: Callable, low: float, high: float, bound: float
) -> None:
    x = np.concatenate([_every(30011), np.linspace(-110, 110, 40001, dtype=np.float32)])
    x = _ranged(x, low, high)
    assert _ulps(function(x), exact(x.astype(np.float64))) <= bound


@pytest.mark.parametrize(
    ("function", "exact"),
    [
        (numerics.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
        (numerics.silu, lambda x: x / (1 + np.exp(-x))),
        (numerics.gelu, lambda x: x * (1 + _erf(x / math.sqrt(2))) / 2),
        (numerics.gelu_tanh, lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2),
    ],
)
def test_activations(function: Callable[[F32], F32], exact: Callable) -> None:
    x = np.linspace(-20, 20, 20001, dtype=np.float32)
    np.testing.assert_allclose(function(x), exact(x.astype(np.float64)), rtol=3e-7, atol=2e-6)


def test_exact_points() -> None:
    inf = np.float32(np.inf)
    x = np.array([0, -0.0, -inf, inf, -103.98, 88.73], np.float32)
    assert numerics.exp(x).tolist() == [1, 1, 0, inf, 0, inf]
    assert numerics.tanh(x).tolist() == [0, 0, -1, 1, -1, 1]
    assert numerics.erf(x).tolist() == [0, 0, -1, 1, -1, 1]
    nan = np.array([np.nan], np.float32)
    functions = (numerics.exp, numerics.erf, numerics.tanh, numerics.gelu, numerics.silu, numerics.relu)
    assert all(np.isnan(f(nan)[0]) for f in functions)


@pytest.mark.parametrize("function", [numerics.tanh, numerics.erf])
def test_odd_functions(function: Callable[[F32], F32]) -> None:
    x = _every(70001)
    assert same_bits(function(-x), -function(x))


def test_bits_are_pinned() -> None:
    """The same bits on every machine and in every version: a change of these digests changes results."""
    x = _every(10007)
    digests = {}
    for function in (
        numerics.exp,
        numerics.erf,
        numerics.tanh,
        numerics.gelu,
        numerics.gelu_tanh,
        numerics.silu,
    ):
        digests[function.__name__] = hashlib.sha256(function(x).tobytes()).hexdigest()[:16]
    assert digests == PINNED


PINNED = {
    "exp": "0946f1c673946576",
    "erf": "2fe6eafb91df28ab",
    "tanh": "e837558a391964e3",
    "gelu": "8cdd934a7decfa6c",
    "gelu_tanh": "e0f4050de1a23b99",
    "silu": "fbdb3401b4c4b0be",
}

floats = st.floats(-1e6, 1e6, width=32)
rows = st.lists(floats, min_size=0, max_size=200)


@settings(max_examples=60)
@given(rows, st.integers(0, 7))
def test_functions_do_not_depend_on_place(values: list[float], shift: int) -> None:
    """Neither alignment nor shape shows: each element alone gives the same bits as the block."""
    padded = np.zeros(len(values) + shift, np.float32)
    padded[shift:] = values
    block = padded[shift:]
    for function in (numerics.exp, numerics.erf, numerics.tanh, numerics.rsqrt):
        together = function(block)
        alone = [function(block[i : i + 1].copy()) for i in range(block.size)]
        assert same_bits(together, np.concatenate([*alone, np.zeros(0, np.float32)]))


@settings(max_examples=80)
@given(rows, st.integers(0, 200))
def test_reductions_ignore_what_is_masked_at_the_end(values: list[float], more: int) -> None:
    row = np.array([values], np.float32).reshape(1, -1)
    zeros = np.concatenate([row, np.zeros((1, more), np.float32)], axis=1)
    lowest = np.concatenate([row, np.full((1, more), -np.inf, np.float32)], axis=1)
    for function in (numerics.row_sum, numerics.row_sum_squares, numerics.row_max_magnitude):
        assert same_bits(function(row), function(zeros))
    assert same_bits(numerics.row_max(row), numerics.row_max(lowest))


def test_the_order_of_a_sum() -> None:
    """64 lanes, each in order from zero; then halves onto halves."""
    x = np.random.default_rng(1).standard_normal((3, 150)).astype(np.float32)
    for row, got in zip(x, numerics.row_sum(x), strict=True):
        lanes = [np.float32(0)] * 64
        for i, value in enumerate(row):
            lanes[i % 64] = lanes[i % 64] + value
        while len(lanes) > 1:
            half = len(lanes) // 2
            lanes = [lanes[i] + lanes[i + half] for i in range(half)]
        assert lanes[0] == got


def test_reductions_of_rows() -> None:
    x = np.random.default_rng(2).standard_normal((5, 97)).astype(np.float32)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(numerics.row_sum(x), wide.sum(1), rtol=0, atol=1e-5)
    np.testing.assert_allclose(numerics.row_sum_squares(x), (wide**2).sum(1), rtol=1e-6)
    assert numerics.row_max(x).tolist() == x.max(1).tolist()
    assert numerics.row_max_magnitude(x).tolist() == np.abs(x).max(1).tolist()
    empty = np.zeros((2, 0), np.float32)
    assert numerics.row_sum(empty).tolist() == [0, 0]
    assert numerics.row_max(empty).tolist() == [-np.inf, -np.inf]
    assert numerics.row_max_magnitude(empty).tolist() == [0, 0]


def test_larger_hides_the_sign_of_zero_and_keeps_nan() -> None:
    zeros = np.array([0.0, -0.0], np.float32)
    assert not np.signbit(numerics.larger(zeros, zeros[::-1])).any()
    assert not np.signbit(numerics.smaller(zeros, zeros[::-1])).any()
    assert np.isnan(
        numerics.larger(np.array([np.nan, 1], np.float32), np.array([1, np.nan], np.float32))
    ).all()


@settings(max_examples=80)
@given(rows)
def test_quantisation(values: list[float]) -> None:
    x = np.array([values], np.float32).reshape(1, -1)
    codes, scales = numerics.quantise(x)
    top = np.abs(x).max(initial=0)
    assert scales.tolist() == [top * np.float32(1 / 127)]
    assert np.abs(codes.astype(int)).max(initial=0) <= 127
    if top > 1e-30:
        assert np.abs(codes.astype(int)).max() == 127
        assert np.all(np.abs(codes * scales[0].astype(np.float64) - x) <= scales[0] * 0.50002)


def test_quantisation_at_the_edges() -> None:
    x = np.array([[0, 0], [1e-40, -1e-40], [np.inf, 1], [np.nan, 1]], np.float32)
    codes, scales = numerics.quantise(x)
    assert codes[:2].tolist() == [[0, 0], [0, 0]]
    assert scales[0] == 0
    assert scales[2] == np.inf
    assert np.isnan(scales[3])


@pytest.mark.parametrize("rows", [0, 1, 64, 1024, 1025, 3000])
def test_integer_products_are_exact(rows: int) -> None:
    rng = np.random.default_rng(rows)
    x = rng.integers(-128, 128, (3, rows)).astype(np.int8)
    cells = rng.integers(-128, 128, (rows, 5)).astype(np.int8)
    exact = x.astype(np.int64) @ cells.astype(np.int64)
    got = numerics.integer_product(x, cells.astype(np.float32))
    assert got.dtype == np.int32
    assert got.tolist() == exact.tolist()


def test_integer_products_at_the_limit() -> None:
    x = np.full((1, 4096), -128, np.int8)
    assert numerics.integer_product(x, x.T.astype(np.float32)).tolist() == [[4096 * 128 * 128]]


def test_ideal_products_round_once() -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((4, 60)).astype(np.float32)
    w = rng.standard_normal((60, 7)).astype(np.float32)
    exact = [[math.fsum(a * b for a, b in zip(i, j, strict=True)) for j in w.T.tolist()] for i in x.tolist()]
    assert numerics.ideal_product(x, w).tolist() == np.array(exact, np.float32).tolist()
    one = np.concatenate([numerics.ideal_product(x[i : i + 1], w) for i in range(4)])
    assert same_bits(one, numerics.ideal_product(x, w))
