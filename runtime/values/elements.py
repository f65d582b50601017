"""Instructions of the vector unit that work element by element. Blocks are float32 [n, cols].

Each says `DONE`, or `TROUBLE` when the reference has to say what is wrong; then nothing was changed.
"""

from __future__ import annotations

import numpy as np

from . import functions as fn
from . import layout as at
from .functions import F
from .jit import compiled
from .operands import apart, is_size, mark, number, source, target
from .plan import OPCODE
from .state import F32, State

VADD, VSUB, VMUL, VDIV, VMAX = OPCODE["vadd"], OPCODE["vsub"], OPCODE["vmul"], OPCODE["vdiv"], OPCODE["vmax"]
VADDR, VMULR, VSUBC, VMULC = OPCODE["vaddr"], OPCODE["vmulr"], OPCODE["vsubc"], OPCODE["vmulc"]
VSCALE, VADDI, VMULI = OPCODE["vscale"], OPCODE["vaddi"], OPCODE["vmuli"]
VEXP, VRECIP, VRSQRT, VSQRT = OPCODE["vexp"], OPCODE["vrecip"], OPCODE["vrsqrt"], OPCODE["vsqrt"]
VERF, VTANH, VSIGM, VSILU = OPCODE["verf"], OPCODE["vtanh"], OPCODE["vsigm"], OPCODE["vsilu"]
VGELU, VGELUT, VRELU, VABS = OPCODE["vgelu"], OPCODE["vgelut"], OPCODE["vrelu"], OPCODE["vabs"]

_ZERO, _ONE = F(0), F(1)


# ----------------------------------------------------------------------------------------------------- two blocks


@compiled
def combine(kind: int, d: F32, a: F32, b: F32) -> None:
    """d = a op b; d overlaps neither."""
    if kind in (VADD, VSUB, VMUL):
        calculate(kind, d, a, b)
    elif kind == VDIV:
        for j in range(d.size):
            d[j] = a[j] / b[j]
    elif kind == VMAX:
        for j in range(d.size):
            d[j] = fn.larger(a[j], b[j])
    else:
        for j in range(d.size):
            d[j] = fn.smaller(a[j], b[j])


@compiled
def calculate(kind: int, d: F32, a: F32, b: F32) -> None:
    """Sums, differences and products."""
    if kind == VADD:
        for j in range(d.size):
            d[j] = a[j] + b[j]
    elif kind == VSUB:
        for j in range(d.size):
            d[j] = a[j] - b[j]
    else:
        for j in range(d.size):
            d[j] = a[j] * b[j]


@compiled
def run_binary(s: State, tile: int, code: int, kind: int) -> int:
    """dst = a op b."""
    n, cols = number(s, tile, code, 0), number(s, tile, code, 1)
    if not is_size(n, cols):
        return at.TROUBLE
    words = n * cols
    d, a, b = (
        target(s, tile, code, 0, words),
        source(s, tile, code, 1, words),
        source(s, tile, code, 2, words),
    )
    if d < 0 or a < 0 or b < 0:
        return at.TROUBLE
    a, b = apart(s, a, words, d, words, 0), apart(s, b, words, d, words, 1)
    combine(kind, s.f[d : d + words], s.f[a : a + words], s.f[b : b + words])
    mark(s, d, words)
    return at.DONE


# ------------------------------------------------------------------------------------- a block, a row or a column


@compiled
def with_row(kind: int, d: F32, x: F32, row: F32) -> None:
    """One row of a block with a row that all have: their sums or products."""
    if kind == VADDR:
        for j in range(d.size):
            d[j] = x[j] + row[j]
    else:
        for j in range(d.size):
            d[j] = x[j] * row[j]


@compiled
def with_number(kind: int, d: F32, x: F32, value: F) -> None:
    """One row of a block with a number: difference, sum or product."""
    if kind == VSUBC:
        for j in range(d.size):
            d[j] = x[j] - value
    elif kind == VADDI:
        for j in range(d.size):
            d[j] = x[j] + value
    else:
        for j in range(d.size):
            d[j] = x[j] * value


@compiled
def with_both(kind: int, d: F32, x: F32, value: F, row: F32) -> None:
    """One row of a block with its number of a column and with a row that all have."""
    if kind == VSCALE:
        for j in range(d.size):
            d[j] = (x[j] * value) * row[j]
    else:
        for j in range(d.size):
            d[j] = x[j] + value * row[j]


@compiled
def run_row(s: State, tile: int, code: int, kind: int) -> int:
    """dst[i, j] = src[i, j] op row[j]."""
    n, cols = number(s, tile, code, 0), number(s, tile, code, 1)
    if not is_size(n, cols):
        return at.TROUBLE
    words = n * cols
    d, x, row = (
        target(s, tile, code, 0, words),
        source(s, tile, code, 1, words),
        source(s, tile, code, 2, cols),
    )
    if d < 0 or x < 0 or row < 0:
        return at.TROUBLE
    x, row = apart(s, x, words, d, words, 0), apart(s, row, cols, d, words, 1)
    for i in range(n):
        start = i * cols
        with_row(
            kind,
            s.f[d + start : d + start + cols],
            s.f[x + start : x + start + cols],
            s.f[row : row + cols],
        )
    mark(s, d, words)
    return at.DONE


@compiled
def run_column(s: State, tile: int, code: int, kind: int) -> int:
    """dst[i, j] = src[i, j] op column[i]."""
    n, cols = number(s, tile, code, 0), number(s, tile, code, 1)
    if not is_size(n, cols):
        return at.TROUBLE
    words = n * cols
    d, x, column = (
        target(s, tile, code, 0, words),
        source(s, tile, code, 1, words),
        source(s, tile, code, 2, n),
    )
    if d < 0 or x < 0 or column < 0:
        return at.TROUBLE
    x, column = apart(s, x, words, d, words, 0), apart(s, column, n, d, words, 1)
    for i in range(n):
        start = i * cols
        with_number(
            kind,
            s.f[d + start : d + start + cols],
            s.f[x + start : x + start + cols],
            s.f[column + i],
        )
    mark(s, d, words)
    return at.DONE


@compiled
def run_both(s: State, tile: int, code: int, kind: int) -> int:
    """dst[i, j] of src[i, j], column[i] and row[j]."""
    n, cols = number(s, tile, code, 0), number(s, tile, code, 1)
    if not is_size(n, cols):
        return at.TROUBLE
    words = n * cols
    d, x = target(s, tile, code, 0, words), source(s, tile, code, 1, words)
    column, row = source(s, tile, code, 2, n), source(s, tile, code, 3, cols)
    if d < 0 or x < 0 or column < 0 or row < 0:
        return at.TROUBLE
    x, column = apart(s, x, words, d, words, 0), apart(s, column, n, d, words, 1)
    row = apart(s, row, cols, d, words, 2)
    for i in range(n):
        start = i * cols
        with_both(
            kind,
            s.f[d + start : d + start + cols],
            s.f[x + start : x + start + cols],
            s.f[column + i],
            s.f[row : row + cols],
        )
    mark(s, d, words)
    return at.DONE


@compiled
def run_immediate(s: State, tile: int, code: int, kind: int) -> int:
    """dst = src op value."""
    n, cols = number(s, tile, code, 0), number(s, tile, code, 1)
    if not is_size(n, cols):
        return at.TROUBLE
    words = n * cols
    d, x = target(s, tile, code, 0, words), source(s, tile, code, 1, words)
    if d < 0 or x < 0:
        return at.TROUBLE
    x = apart(s, x, words, d, words, 0)
    value = np.float32(s.reals[code + at.U_FLOAT])
    with_number(kind, s.f[d : d + words], s.f[x : x + words], value)
    mark(s, d, words)
    return at.DONE


@compiled
def run_fill(s: State, tile: int, code: int) -> int:
    """dst = value, everywhere."""
    n, cols = number(s, tile, code, 0), number(s, tile, code, 1)
    if not is_size(n, cols):
        return at.TROUBLE
    words = n * cols
    d = target(s, tile, code, 0, words)
    if d < 0:
        return at.TROUBLE
    value = np.float32(s.reals[code + at.U_FLOAT])
    filled = s.f[d : d + words]
    for j in range(words):
        filled[j] = value
    mark(s, d, words)
    return at.DONE


# ------------------------------------------------------------------------------------------------- one block


@compiled
def exponential(kind: int, d: F32, x: F32) -> None:
    """Functions made of e**x."""
    if kind == VEXP:
        for j in range(d.size):
            d[j] = fn.exp(x[j])
    elif kind == VERF:
        for j in range(d.size):
            d[j] = fn.erf(x[j])
    elif kind == VTANH:
        for j in range(d.size):
            d[j] = fn.tanh(x[j])
    else:
        activation(kind, d, x)


@compiled
def activation(kind: int, d: F32, x: F32) -> None:
    """What stands between layers, if it is made of e**x."""
    if kind == VSIGM:
        for j in range(d.size):
            d[j] = fn.sigmoid(x[j])
    elif kind == VSILU:
        for j in range(d.size):
            d[j] = fn.silu(x[j])
    elif kind == VGELU:
        for j in range(d.size):
            d[j] = fn.gelu(x[j])
    else:
        for j in range(d.size):
            d[j] = fn.gelu_tanh(x[j])


@compiled
def plain(kind: int, d: F32, x: F32) -> None:
    """Functions without e**x."""
    if kind == VRECIP:
        for j in range(d.size):
            d[j] = _ONE / x[j]
    elif kind == VRSQRT:
        for j in range(d.size):
            d[j] = fn.rsqrt(x[j])
    elif kind == VSQRT:
        for j in range(d.size):
            d[j] = np.sqrt(x[j])
    else:
        change(kind, d, x)


@compiled
def change(kind: int, d: F32, x: F32) -> None:
    """What changes signs."""
    if kind == VRELU:
        for j in range(d.size):
            d[j] = fn.larger(x[j], _ZERO)
    elif kind == VABS:
        for j in range(d.size):
            d[j] = fn.magnitude(x[j])
    else:
        for j in range(d.size):
            d[j] = -x[j]


@compiled
def run_unary(s: State, tile: int, code: int, kind: int) -> int:
    """dst = function of src."""
    n, cols = number(s, tile, code, 0), number(s, tile, code, 1)
    if not is_size(n, cols):
        return at.TROUBLE
    words = n * cols
    d, x = target(s, tile, code, 0, words), source(s, tile, code, 1, words)
    if d < 0 or x < 0:
        return at.TROUBLE
    x = apart(s, x, words, d, words, 0)
    if kind == VEXP or VERF <= kind <= VGELUT:
        exponential(kind, s.f[d : d + words], s.f[x : x + words])
    else:
        plain(kind, s.f[d : d + words], s.f[x : x + words])
    mark(s, d, words)
    return at.DONE
