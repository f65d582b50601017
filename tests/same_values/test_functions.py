"""The compiled functions of the vector unit, number by number, beside runtime/numerics.py.

What whole instructions make of blocks is compared where the reference is tested (tests/values/conftest.py).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from runtime import numerics
from runtime.numerics import F32
from runtime.values import codes
from runtime.values import functions as fn
from runtime.values.functions import F
from runtime.values.jit import entry
from runtime.values.plan import OPCODE

Each = Callable[[F32, F32], None]


def _each(function: Callable[[F], F]) -> Each:
    """A function of one number, on all of an array."""

    def apply(to: F32, x: F32) -> None:
        for j in range(x.size):
            to[j] = function(x[j])

    return entry(apply)


@entry
def there_and_back(to: F32, x: F32) -> None:
    """To float16 and to float32 again."""
    for j in range(x.size):
        to[j] = codes.from_half(codes.half_of(x[j]))


def _numbers() -> F32:
    """Numbers of all sizes: every exponent with some fractions, ties, both zeros, infinities."""
    random = np.random.default_rng(7)
    anything = random.integers(0, 1 << 32, 200_000, dtype=np.uint32).view(np.float32)
    usual = random.normal(0, 4, 100_000).astype(np.float32)
    halves = (np.arange(1 << 16, dtype=np.uint32) << 13).view(np.float32)
    ties = (np.arange(1 << 16, dtype=np.uint32) << 12).view(np.float32)
    some = np.float32(
        [0, -0.0, np.inf, -np.inf, 1, -1, 88.8, 89, -104, 65504, 65519.99, 65520, 2**-24, 2**-25]
    )
    found = np.concatenate([anything, usual, halves, ties, some])
    return np.asarray(found[~np.isnan(found)], np.float32)


X = _numbers()
HALF: Callable[[F32], F32] = lambda x: x.astype(np.float16).astype(np.float32)  # noqa: E731


@pytest.mark.parametrize(
    ("compiled", "expected"),
    [
        (_each(fn.exp), numerics.exp),
        (_each(fn.erf), numerics.erf),
        (_each(fn.tanh), numerics.tanh),
        (_each(fn.rsqrt), numerics.rsqrt),
        (_each(fn.sigmoid), numerics.sigmoid),
        (_each(fn.silu), numerics.silu),
        (_each(fn.gelu), numerics.gelu),
        (_each(fn.gelu_tanh), numerics.gelu_tanh),
        (there_and_back, HALF),
    ],
)
def test_to_the_bit(compiled: Each, expected: Callable[[F32], F32]) -> None:
    found = np.empty_like(X)
    compiled(found, X)
    with numerics.quiet():
        wanted = expected(X)
    equal = (found.view(np.int32) == wanted.view(np.int32)) | (np.isnan(found) & np.isnan(wanted))
    assert X[~equal].tolist() == []


@pytest.mark.parametrize(
    ("first", "last", "members"),
    [
        ("vadd", "vmin", "vadd vsub vmul vdiv vmax vmin"),
        ("vexp", "vneg", "vexp vrecip vrsqrt vsqrt verf vtanh vsigm vsilu vgelu vgelut vrelu vabs vneg"),
        ("verf", "vgelut", "verf vtanh vsigm vsilu vgelu vgelut"),
        ("vsum", "vmean", "vsum vsumsq vmaxr vamax vsumq vmean"),
        ("smx", "smxs", "smx smxm smxd smxi vrel vslope smxs"),
    ],
)
def test_instructions_that_are_told_by_their_opcodes_lie_together(
    first: str, last: str, members: str
) -> None:
    """Each range of `dispatch` ends in an `else`: another instruction among them would be taken for one of them."""
    between = sorted((number, name) for name, number in OPCODE.items())
    assert [n for number, n in between if OPCODE[first] <= number <= OPCODE[last]] == members.split()
