"""What the arithmetic units compute, to the bit.

Every function is a fixed sequence of IEEE-754 float32 operations (+ - * / sqrt, round to nearest even, never
fused), so any implementation that follows the sequence gives the same bits, whatever the shape, alignment or
vector width. NumPy's own exp, tanh and sum are not used: their bits depend on the machine.

Conventions. Arguments are float32 arrays; row operations take [rows, cols] and reduce along cols. NaN goes
through every function. Overflow is legal and gives infinities: callers silence NumPy's warnings (`quiet`).
The error figures below are measured by tests/values/test_numerics.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isa.instruction import LANES

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I8 = NDArray[np.int8]

EXACT_ROWS = 1024  # sums of so many int8 x int8 products stay within 2**24: exact in float32 in any order
LEVELS = 127  # int8 codes are symmetric: -127..127


def quiet() -> np.errstate:
    """The context in which arithmetic may overflow or be invalid without a warning."""
    return np.errstate(all="ignore")


# ------------------------------------------------------------------------------------------ special functions


def _polynomial(text: str) -> tuple[np.float32, ...]:
    """Coefficients, the highest power first."""
    return tuple(np.float32(c) for c in text.split())


def _horner(x: F32, coefficients: tuple[np.float32, ...]) -> F32:
    """c0 x^n + c1 x^(n-1) + ... + cn, as (((c0 x + c1) x + c2) x + ...)."""
    result = coefficients[0] * x + coefficients[1]
    for c in coefficients[2:]:
        result = result * x + c
    return result


def _power_of_two(exponent: I32) -> F32:
    """2**exponent for exponents of normal numbers, by writing the exponent field."""
    return ((exponent + np.int32(127)) << np.int32(23)).view(np.float32)


LOG2_E = np.float32("1.44269504088896341")
LN2_HIGH = np.float32("0.693359375")  # 9 significant bits: k * LN2_HIGH is exact
LN2_LOW = np.float32("-2.12194440e-4")
EXP_LOW, EXP_HIGH = np.float32("-104"), np.float32("89")  # beyond: 0 and infinity
EXP = _polynomial(
    "1.9875691500e-4 1.3981999507e-3 8.3334519073e-3 4.1665795894e-2 1.6666665459e-1 5.0000001201e-1"
)


def exp(x: F32) -> F32:
    """e**x. At most 1.0 ulp off; exp(0) = 1, exp(-inf) = 0, exp(inf) = inf.

    x = k ln 2 + r with |r| <= ln(2)/2; e**r by the polynomial of Cephes' expf; times 2**k in two steps, so that
    denormal results are rounded once.
    """
    x = np.minimum(np.maximum(x, EXP_LOW), EXP_HIGH)
    k = np.rint(x * LOG2_E)
    r = (x - k * LN2_HIGH) - k * LN2_LOW
    y = (_horner(r, EXP) * (r * r) + r) + np.float32(1)
    whole = np.where(k == k, k, np.float32(0)).astype(np.int32)
    half = whole >> np.int32(1)
    result: F32 = (y * _power_of_two(half)) * _power_of_two(whole - half)
    return result


ERF_SPLIT = np.float32("0.927734375")
ERF_ONE = np.float32("4")  # from here on erf(x) rounds to 1
ERF_INNER = _polynomial(
    "-5.96761703e-4 4.99119423e-3 -2.67681349e-2 1.12819925e-1 -3.76125336e-1 1.28379166e-1"
)
ERF_OUTER = _polynomial(
    "-1.72853470e-5 3.83197126e-4 -3.88396438e-3 2.42546219e-2 -1.06777877e-1 -6.34846687e-1 -1.28717512e-1"
)


def erf(x: F32) -> F32:
    """The error function. At most 1.2 ulp off; odd to the bit; 1 from 4 on.

    With t = |x|, at most 4: up to 0.9277 t + t P(t^2), beyond 1 - exp(t Q(t) - t); the sign of x. Polynomials of
    N. Juffa's single-precision erff.
    """
    t = np.minimum(np.abs(x), ERF_ONE)
    inner = _horner(t * t, ERF_INNER) * t + t
    outer = np.float32(1) - exp(_horner(t, ERF_OUTER) * t - t)
    result: F32 = np.copysign(np.where(t <= ERF_SPLIT, inner, outer), x)
    return result


TANH_SPLIT = np.float32("0.625")
TANH = _polynomial("-5.70498872745e-3 2.06390887954e-2 -5.37397155531e-2 1.33314422036e-1 -3.33332819422e-1")


def tanh(x: F32) -> F32:
    """The hyperbolic tangent. At most 1.4 ulp off; odd to the bit.

    With t = |x|: up to 0.625 t + t (t^2 P(t^2)), the polynomial of Cephes' tanhf, beyond 1 - 2 / (exp(2t) + 1); the
    sign of x.
    """
    t = np.abs(x)
    square = t * t
    inner = (_horner(square, TANH) * square) * t + t
    outer = np.float32(1) - np.float32(2) / (exp(t + t) + np.float32(1))
    result: F32 = np.copysign(np.where(t <= TANH_SPLIT, inner, outer), x)
    return result


def reciprocal(x: F32) -> F32:
    """1 / x, correctly rounded."""
    return np.float32(1) / x


def rsqrt(x: F32) -> F32:
    """1 / sqrt(x), both operations correctly rounded: at most 1.5 ulp off."""
    root: F32 = np.sqrt(x)
    return np.float32(1) / root


def sigmoid(x: F32) -> F32:
    """1 / (1 + exp(-x))."""
    return np.float32(1) / (np.float32(1) + exp(-x))


def silu(x: F32) -> F32:
    """x / (1 + exp(-x))."""
    return x / (np.float32(1) + exp(-x))


SQRT_HALF = np.float32("0.70710678118654752")


def gelu(x: F32) -> F32:
    """(x * (1 + erf(x * sqrt(1/2)))) * 0.5."""
    return (x * (np.float32(1) + erf(x * SQRT_HALF))) * np.float32(0.5)


SQRT_2_OVER_PI = np.float32("0.79788456080286536")
GELU_CUBIC = np.float32("0.044715")


def gelu_tanh(x: F32) -> F32:
    """(x * (1 + tanh(sqrt(2/pi) * (x + 0.044715 * ((x * x) * x))))) * 0.5."""
    inner = SQRT_2_OVER_PI * (x + GELU_CUBIC * ((x * x) * x))
    return (x * (np.float32(1) + tanh(inner))) * np.float32(0.5)


def relu(x: F32) -> F32:
    """x where it is positive, else +0; NaN stays."""
    return larger(x, np.zeros_like(x))


def larger(a: F32, b: F32) -> F32:
    """The larger of two, element by element: NaN if either is, a zero always as +0 (so order never shows)."""
    return np.maximum(a, b) + np.float32(0)


def smaller(a: F32, b: F32) -> F32:
    """The smaller of two, element by element: NaN if either is, a zero always as +0."""
    return np.minimum(a, b) + np.float32(0)


# ------------------------------------------------------------------------------------------------- reductions


def _reduce(x: F32, combine: Callable[[Any, Any], Any], start: float) -> F32:
    """Each row of x [rows, cols] combined to one value: [rows].

    Lane j of 64 combines `start`, x[j], x[j + 64], x[j + 128], ... in this order; then lane j takes in lane j + 32,
    then j + 16, and so on. Elements equal to the neutral `start` at the end of a row change nothing.
    """
    rows, cols = x.shape
    lanes = np.full((rows, LANES), start, np.float32)
    for at in range(0, cols, LANES):
        part = x[:, at : at + LANES]
        width = part.shape[1]
        lanes[:, :width] = combine(lanes[:, :width], part)
    half = LANES // 2
    while half:
        lanes = combine(lanes[:, :half], lanes[:, half:])
        half //= 2
    return lanes[:, 0]


def row_sum(x: F32) -> F32:
    """The sum of each row; 0 for an empty one."""
    return _reduce(x, np.add, 0.0)


def row_sum_squares(x: F32) -> F32:
    """The sum of the squares of each row; 0 for an empty one."""
    return _reduce(x * x, np.add, 0.0)


def row_max(x: F32) -> F32:
    """The largest element of each row; -inf for an empty one."""
    return _reduce(x, larger, -np.inf)


def row_max_magnitude(x: F32) -> F32:
    """The largest magnitude in each row; 0 for an empty one."""
    return _reduce(np.abs(x), larger, 0.0)


# ----------------------------------------------------------------------------------------------- quantisation

ONE_OVER_LEVELS = np.float32(1.0 / LEVELS)
SMALLEST_NORMAL = np.finfo(np.float32).smallest_normal


def one_over(levels: int) -> np.float32:
    """1 / levels, rounded once; 0 of none."""
    return np.float32(1.0 / levels) if levels else np.float32(0)


def quantise_by(x: F32, scales: F32, levels: int = LEVELS) -> I8:
    """int8 codes of x [rows, cols]: round(x * r) to nearest even within +-levels, r = 1 / scale of the row.

    r is 0 where the scale is below the smallest normal number (or NaN); a NaN that reaches the rounding gives -levels.
    """
    r = np.where(scales >= SMALLEST_NORMAL, np.float32(1) / scales, np.float32(0))
    codes = np.rint(x * r[:, None])
    low, high = np.float32(-levels), np.float32(levels)
    clamped: F32 = np.fmin(np.fmax(codes, low), high)
    return clamped.astype(np.int8)


def quantise(x: F32, levels: int = LEVELS) -> tuple[I8, F32]:
    """int8 codes of x [rows, cols] and the scale of each row: its largest magnitude times float32(1/levels)."""
    scales = row_max_magnitude(x) * one_over(levels)
    return quantise_by(x, scales, levels), scales


# --------------------------------------------------------------------------------------------- array products


def integer_product(x: I8, cells: F32) -> I32:
    """x [n, k] times cells [k, c] (int8 values held as float32): exact sums, modulo 2**32.

    A float32 product of up to 1024 rows is exact in any order; longer ones are cut.
    """
    total = np.zeros((x.shape[0], cells.shape[1]), np.int32)
    for at in range(0, x.shape[1], EXACT_ROWS):
        part = x[:, at : at + EXACT_ROWS].astype(np.float32) @ cells[at : at + EXACT_ROWS]
        total += part.astype(np.int32)
    return total


def ideal_product(x: F32, cells: F32) -> F32:
    """x [n, k] times cells [k, c] in ideal arithmetic: float64 products (exact) added in the order of k from 0 on
    in float64, the sum rounded to float32 once."""
    wide, weights = x.astype(np.float64), cells.astype(np.float64)
    total = np.zeros((x.shape[0], cells.shape[1]))
    for row in range(x.shape[1]):
        total += wide[:, row : row + 1] * weights[row]
    return total.astype(np.float32)
