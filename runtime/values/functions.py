"""Functions of the vector unit (runtime/numerics.py), one number at a time: the same operations in the same order."""

from __future__ import annotations

import numpy as np

from runtime import numerics

from .jit import compiled

F = np.float32

_ZERO, _ONE, _TWO, _HALF = F(0), F(1), F(2), F(0.5)
_LOG2_E, _LN2_HIGH, _LN2_LOW = numerics.LOG2_E, numerics.LN2_HIGH, numerics.LN2_LOW
_EXP_LOW, _EXP_HIGH, _EXP = numerics.EXP_LOW, numerics.EXP_HIGH, numerics.EXP
_ERF_SPLIT, _ERF_ONE = numerics.ERF_SPLIT, numerics.ERF_ONE
_ERF_INNER, _ERF_OUTER = numerics.ERF_INNER, numerics.ERF_OUTER
_TANH_SPLIT, _TANH = numerics.TANH_SPLIT, numerics.TANH
_SQRT_HALF, _SQRT_2_OVER_PI, _CUBIC = numerics.SQRT_HALF, numerics.SQRT_2_OVER_PI, numerics.GELU_CUBIC
_SMALLEST, LEVELS, ONE_OVER_LEVELS = numerics.SMALLEST_NORMAL, F(numerics.LEVELS), numerics.ONE_OVER_LEVELS
_SIGN, _MAGNITUDE = np.int32(-(1 << 31)), np.int32((1 << 31) - 1)
_BIAS, _EXPONENT = np.int32(127), np.int32(23)

Coefficients = tuple[F, ...]


@compiled
def bits_of(x: F) -> np.int32:
    """The bits of a number."""
    return np.float32(x).view(np.int32)


@compiled
def float_of(bits: np.int32) -> F:
    """The number that bits stand for."""
    return np.int32(bits).view(np.float32)


@compiled
def larger(a: F, b: F) -> F:
    """The larger of two: NaN if either is, a zero always as +0."""
    found = a if a >= b or a != a else b
    return found + _ZERO


@compiled
def smaller(a: F, b: F) -> F:
    """The smaller of two: NaN if either is, a zero always as +0."""
    found = a if a <= b or a != a else b
    return found + _ZERO


@compiled
def magnitude(x: F) -> F:
    """The magnitude of a number."""
    return float_of(np.int32(bits_of(x) & _MAGNITUDE))


@compiled
def with_sign(x: F, other: F) -> F:
    """A number with another one's sign."""
    return float_of(np.int32((bits_of(x) & _MAGNITUDE) | (bits_of(other) & _SIGN)))


@compiled
def horner_5(x: F, c: Coefficients) -> F:
    """A polynomial of five coefficients, the highest power first."""
    return (((c[0] * x + c[1]) * x + c[2]) * x + c[3]) * x + c[4]


@compiled
def horner_6(x: F, c: Coefficients) -> F:
    """A polynomial of six coefficients, the highest power first."""
    return ((((c[0] * x + c[1]) * x + c[2]) * x + c[3]) * x + c[4]) * x + c[5]


@compiled
def horner_7(x: F, c: Coefficients) -> F:
    """A polynomial of seven coefficients, the highest power first."""
    return (((((c[0] * x + c[1]) * x + c[2]) * x + c[3]) * x + c[4]) * x + c[5]) * x + c[6]


@compiled
def power_of_two(exponent: np.int32) -> F:
    """2**exponent, by writing the exponent field."""
    return float_of(np.int32(np.int32(exponent + _BIAS) << _EXPONENT))


@compiled
def exp(x: F) -> F:
    """e**x."""
    x = _EXP_LOW if x < _EXP_LOW else x
    x = _EXP_HIGH if x > _EXP_HIGH else x
    k = np.rint(x * _LOG2_E)
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    y = (horner_6(r, _EXP) * (r * r) + r) + _ONE
    whole = np.int32(k if k == k else _ZERO)
    half = np.int32(whole >> np.int32(1))
    result: F = (y * power_of_two(half)) * power_of_two(np.int32(whole - half))
    return result


@compiled
def erf(x: F) -> F:
    """The error function."""
    t = magnitude(x)
    t = _ERF_ONE if t > _ERF_ONE else t
    inner = horner_6(t * t, _ERF_INNER) * t + t
    outer = _ONE - exp(horner_7(t, _ERF_OUTER) * t - t)
    return with_sign(inner if t <= _ERF_SPLIT else outer, x)


@compiled
def tanh(x: F) -> F:
    """The hyperbolic tangent."""
    t = magnitude(x)
    square = t * t
    inner = (horner_5(square, _TANH) * square) * t + t
    outer = _ONE - _TWO / (exp(t + t) + _ONE)
    return with_sign(inner if t <= _TANH_SPLIT else outer, x)


@compiled
def rsqrt(x: F) -> F:
    """1 / sqrt(x)."""
    root: F = np.sqrt(x)
    return _ONE / root


@compiled
def sigmoid(x: F) -> F:
    """1 / (1 + exp(-x))."""
    return _ONE / (_ONE + exp(-x))


@compiled
def silu(x: F) -> F:
    """x / (1 + exp(-x))."""
    return x / (_ONE + exp(-x))


@compiled
def gelu(x: F) -> F:
    """(x * (1 + erf(x * sqrt(1/2)))) * 0.5."""
    return (x * (_ONE + erf(x * _SQRT_HALF))) * _HALF


@compiled
def gelu_tanh(x: F) -> F:
    """(x * (1 + tanh(sqrt(2/pi) * (x + 0.044715 * ((x * x) * x))))) * 0.5."""
    inner = _SQRT_2_OVER_PI * (x + _CUBIC * ((x * x) * x))
    return (x * (_ONE + tanh(inner))) * _HALF


@compiled
def inverse_scale(scale: F) -> F:
    """What numbers are multiplied with to quantise them by a scale: 0 if that is below the smallest normal number."""
    return _ONE / scale if scale >= _SMALLEST else _ZERO


@compiled
def code_of(x: F, inverse: F, levels: F) -> np.int8:
    """The code of a number, within +-levels. Clamping first gives what rounding first would: bounds are integers."""
    product = x * inverse
    product = product if product > -levels else -levels  # of NaN, too
    product = product if product < levels else levels
    return np.int8(np.int32(np.rint(product)))


@compiled
def one_over(levels: int) -> F:
    """1 / levels, rounded once; 0 of none."""
    return F(1.0 / levels) if levels else _ZERO
