"""Kernels of the operators that work element by element (with NumPy's broadcasting)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce

import numpy as np

from compiler.ir.tensor import Array
from compiler.ops.call import Call, Kernel, KernelError

_erf_of: Callable[[Array], Array] = np.frompyfunc(math.erf, 1, 1)


def erf(x: Array) -> Array:
    """The error function, in the type of `x`."""
    return np.asarray(_erf_of(x.astype(np.float64)), x.dtype)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-x)), x.dtype)


def gelu(x: Array) -> Array:
    """x * Phi(x)."""
    return np.asarray(x * (1 + erf(x / math.sqrt(2))) / 2, x.dtype)


def gelu_tanh(x: Array) -> Array:
    """The tanh approximation of `gelu`."""
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return np.asarray(x * (1 + np.tanh(inner)) / 2, x.dtype)


def _unary(function: Callable[[Array], Array]) -> Kernel:
    return lambda call: np.asarray(function(call[0]))


def _binary(function: Callable[[Array, Array], Array]) -> Kernel:
    return lambda call: np.asarray(function(call[0], call[1]))


def _variadic(function: Callable[[Array, Array], Array]) -> Kernel:
    return lambda call: np.asarray(reduce(function, [call[i] for i in range(len(call.inputs))]))


def _divide(a: Array, b: Array) -> Array:
    """ONNX integer division rounds towards zero; symbolic sizes divide exactly or not at all."""
    if a.dtype == object or b.dtype == object:
        return np.asarray(np.floor_divide(a, b))
    if np.issubdtype(a.dtype, np.integer):
        quotient = np.abs(a) // np.abs(b)
        return np.asarray(quotient * np.sign(a) * np.sign(b), a.dtype)
    return np.asarray(np.divide(a, b))


def _power(a: Array, b: Array) -> Array:
    return np.asarray(np.power(a, b.astype(a.dtype) if a.dtype != object else b), a.dtype)


def _where(call: Call) -> Array:
    return np.where(call[0].astype(bool), call[1], call[2])


def cast(x: Array, target: np.dtype[np.generic], wide: bool) -> Array:
    """`x` in another type. Symbolic sizes stay as they are in any integer type."""
    if x.dtype == object:
        if not np.issubdtype(target, np.integer):
            raise KernelError("a size known at run time cannot become a float here")
        return x
    if wide and (np.issubdtype(target, np.floating) or target.name == "bfloat16"):
        target = np.dtype(np.float64)
    return x.astype(target)


def _cast(call: Call) -> Array:
    dtype = call.dtype("to")
    if dtype is None:
        raise KernelError("Cast to a type that is not supported")
    return cast(call[0], dtype.numpy, call.wide)


def _cast_like(call: Call) -> Array:
    return cast(call[0], call[1].dtype, call.wide)


def _clip(call: Call) -> Array:
    x = call[0]
    low, high = call.optional(1), call.optional(2)
    if call.version < 11:
        return np.clip(x, call.number("min", -math.inf), call.number("max", math.inf)).astype(x.dtype)
    if low is not None:
        x = np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


def _gelu(call: Call) -> Array:
    return gelu_tanh(call[0]) if call.text("approximate", "none") == "tanh" else gelu(call[0])


def _swish(call: Call) -> Array:
    x = call[0]
    return (x * sigmoid(call.number("alpha", 1.0) * x)).astype(x.dtype)


def _hard_sigmoid(x: Array, alpha: float, beta: float) -> Array:
    return np.clip(alpha * x + beta, 0, 1).astype(x.dtype)


def _leaky_relu(call: Call) -> Array:
    x = call[0]
    return np.where(x < 0, call.number("alpha", 0.01) * x, x).astype(x.dtype)


def _elu(call: Call) -> Array:
    x = call[0]
    return np.where(x < 0, call.number("alpha", 1.0) * np.expm1(np.minimum(x, 0)), x).astype(x.dtype)


def _modulo(call: Call) -> Array:
    return np.fmod(call[0], call[1]) if call.integer("fmod", 0) else np.mod(call[0], call[1])


def _mean(call: Call) -> Array:
    total = reduce(np.add, [call[i] for i in range(len(call.inputs))])
    return (total / len(call.inputs)).astype(total.dtype)


def _is_infinite(call: Call) -> Array:
    x = call[0]
    high, low = call.integer("detect_positive", 1), call.integer("detect_negative", 1)
    return np.asarray(np.isinf(x) & (((x > 0) & bool(high)) | ((x < 0) & bool(low))))


def _dropout(call: Call) -> tuple[Array, ...]:
    ratio, training = call.optional(1), call.optional(2)
    if training is not None and bool(training) and (ratio is None or float(ratio)):
        raise KernelError("Dropout in training mode is random")
    return (call[0], np.ones_like(call[0], dtype=bool))


ELEMENTWISE: dict[str, Kernel] = {
    "Abs": _unary(np.abs),
    "Neg": _unary(np.negative),
    "Sqrt": _unary(np.sqrt),
    "Exp": _unary(np.exp),
    "Log": _unary(np.log),
    "Erf": _unary(erf),
    "Tanh": _unary(np.tanh),
    "Sigmoid": _unary(sigmoid),
    "Relu": _unary(lambda x: np.maximum(x, 0).astype(x.dtype)),
    "Softplus": _unary(lambda x: np.logaddexp(0, x).astype(x.dtype)),
    "Sin": _unary(np.sin),
    "Cos": _unary(np.cos),
    "Reciprocal": _unary(lambda x: (1 / x).astype(x.dtype)),
    "Floor": _unary(np.floor),
    "Ceil": _unary(np.ceil),
    "Round": _unary(np.rint),
    "Sign": _unary(np.sign),
    "Not": _unary(np.logical_not),
    "IsNaN": _unary(np.isnan),
    "IsInf": _is_infinite,
    "Identity": _unary(lambda x: x),
    "HardSigmoid": lambda c: _hard_sigmoid(c[0], c.number("alpha", 0.2), c.number("beta", 0.5)),
    "HardSwish": _unary(lambda x: (x * _hard_sigmoid(x, 1 / 6, 0.5)).astype(x.dtype)),
    "LeakyRelu": _leaky_relu,
    "Elu": _elu,
    "Gelu": _gelu,
    "Swish": _swish,
    "Clip": _clip,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Dropout": _dropout,
    "Add": _binary(np.add),
    "Sub": _binary(np.subtract),
    "Mul": _binary(np.multiply),
    "Div": _binary(_divide),
    "Pow": _binary(_power),
    "Mod": _modulo,
    "Equal": _binary(np.equal),
    "Less": _binary(np.less),
    "LessOrEqual": _binary(np.less_equal),
    "Greater": _binary(np.greater),
    "GreaterOrEqual": _binary(np.greater_equal),
    "And": _binary(np.logical_and),
    "Or": _binary(np.logical_or),
    "Xor": _binary(np.logical_xor),
    "Min": _variadic(np.minimum),
    "Max": _variadic(np.maximum),
    "Sum": _variadic(np.add),
    "Mean": _mean,
    "Where": _where,
}
"""Kernels of ai.onnx by operator type."""
