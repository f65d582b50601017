"""Products of analog macros (runtime/analog), compiled: the same integers, in an order that suits the cells.

What the cells of an array conduct lies beside its codes, slice after slice, turned where these are turned. It is worked
out when an array is used, for those cells whose codes have changed since.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.analog import arithmetic, model

from . import layout as at
from .functions import exp
from .jit import compiled
from .state import I8, I32, Product, State

U16 = NDArray[np.uint16]

_GOLDEN, _FIRST, _SECOND = np.uint64(model.GOLDEN), np.uint64(model.FIRST), np.uint64(model.SECOND)
_DRIFTS, _ALONG_COLUMNS = np.uint64(arithmetic.DRIFTS), arithmetic.ALONG_COLUMNS
_30, _27, _31, _16, _32, _48 = (np.uint64(bits) for bits in (30, 27, 31, 16, 32, 48))
_TWO, _LOW = np.uint64(2), np.uint64(0xFFFF)
_TURNS = (np.uint64(0), np.uint64(1))
_MEAN, _SHIFT, _SCALE_SHIFT = model.MEAN, model.SHIFT, model.SCALE_SHIFT
_UNIT = np.float32(1 << model.SCALE_SHIFT)
_HELD_CODE = 256  # is added to codes that conductances were worked out of: 0 is none


# ------------------------------------------------------------------------------------------------ random numbers


@compiled
def mixed(word: np.uint64) -> np.uint64:
    """The finaliser of SplitMix64."""
    word = (word ^ (word >> _30)) * _FIRST
    word = (word ^ (word >> _27)) * _SECOND
    return word ^ (word >> _31)


@compiled
def draw(key: np.uint64, counter: int) -> int:
    """A random number about 0."""
    total = _TURNS[0]
    for turn in _TURNS:
        word = mixed(key + (np.uint64(counter) * _TWO + turn) * _GOLDEN)
        total += (word & _LOW) + ((word >> _16) & _LOW) + ((word >> _32) & _LOW) + (word >> _48)
    return int(np.int64(total) - _MEAN)


@compiled
def scaled(value: int, factor: int, shift: int) -> int:
    """value x factor / 2**shift, rounded, halves up."""
    return (value * factor + (1 << (shift - 1))) >> shift


@compiled
def slice_of(code: np.int64, which: int, count: int, bits: int) -> int:
    """A slice of a code, with its sign."""
    found = int(abs(code)) >> (bits * which)
    if which < count - 1:
        found &= (1 << bits) - 1
    return -found if code < 0 else found


# --------------------------------------------------------------------------------------------------------- cells


@compiled
def conductance(s: State, array: int, row: int, col: int, which: int, code: np.int64) -> int:
    """What a pair of cells conducts that was programmed to a slice of a code."""
    kind, key = s.k[array + at.A_ANALOG], np.uint64(s.k[array + at.A_KEY])
    level = slice_of(code, which, s.k[kind + at.N_WEIGHT_SLICES], s.k[kind + at.N_WEIGHT_BITS])
    found, limit = level << s.k[kind + at.N_FRACTION], s.k[kind + at.N_LIMIT]
    counter = ((row << 23 | col << 3 | which) << 8) | int(code & 255)
    if s.k[kind + at.N_ERROR]:
        found += scaled(draw(key, counter), s.k[kind + at.N_ERROR], _SHIFT)
    found = min(max(found, -limit), limit)
    if s.k[kind + at.N_HAS_DRIFT]:
        first, second = np.float32(s.reals[kind + at.N_DRIFT]), np.float32(s.reals[kind + at.N_DRIFT + 1])
        drawn = np.float32(draw(key ^ _DRIFTS, counter))
        factor = int(np.int64(np.rint(exp(first + drawn * second) * _UNIT)))
        found = min(max(scaled(found, factor, _SCALE_SHIFT), -limit), limit)
    return int(found)


@compiled
def is_changed(codes: I8, held: U16) -> bool:
    """Whether there are codes that conductances were not worked out of."""
    found = np.int32(0)
    for j in range(codes.size):
        found |= np.int32((np.int32(codes[j]) + np.int32(_HELD_CODE)) ^ np.int32(held[j]))
    return bool(found != 0)


@compiled
def follow_line(s: State, array: int, line: int, low: int, high: int) -> None:
    """Work out what cells low..high-1 of a line conduct, where their codes have changed."""
    is_turned = s.k[array + at.A_IS_TURNED] != 0
    rows, cols = s.k[array + at.A_ROWS], s.k[array + at.A_COLS]
    width = rows if is_turned else cols
    cells, held = s.k[array + at.A_CELLS] + line * width, s.k[array + at.A_CODES] + line * width
    if not is_changed(s.b[cells + low : cells + high], s.h[held + low : held + high]):
        return
    place = s.k[array + at.A_CONDUCTED] + line * width
    for j in range(low, high):
        code = np.int64(s.b[cells + j])
        if np.uint16(code + _HELD_CODE) == s.h[held + j]:
            continue
        s.h[held + j] = np.uint16(code + _HELD_CODE)
        row, col = (j, line) if is_turned else (line, j)
        for which in range(s.k[s.k[array + at.A_ANALOG] + at.N_WEIGHT_SLICES]):
            found = conductance(s, array, row, col, which, code)
            s.h[place + which * rows * cols + j] = np.uint16(found)


@compiled
def follow(s: State, array: int, row: int, rows: int) -> None:
    """Work out what the cells of some rows conduct, where their codes have changed."""
    if s.k[array + at.A_IS_TURNED]:
        for col in range(s.k[array + at.A_COLS]):
            follow_line(s, array, col, row, row + rows)
    else:
        for line in range(row, row + rows):
            follow_line(s, array, line, 0, s.k[array + at.A_COLS])


# ------------------------------------------------------------------------------------------------------ one pass


@compiled
def vector_key(x: I8, first: int, key: np.uint64) -> np.uint64:
    """What tells a vector from others whose first element is number `first`. Zeros tell nothing."""
    total = _TURNS[0]
    for j in range(x.size):
        if x[j]:
            total += mixed(key + np.uint64((first + j) << 8 | (np.int64(x[j]) & 255)) * _GOLDEN)
    return total


@compiled
def cut(s: State, kind: int, x: I8, to: int) -> int:
    """The slices of a vector, one behind the other at `to`, and which of them drive something: a bit each."""
    count, bits, found = s.k[kind + at.N_INPUT_SLICES], s.k[kind + at.N_INPUT_BITS], 0
    for which in range(count):
        some, place = 0, to + which * x.size
        for j in range(x.size):
            part = slice_of(np.int64(x[j]), which, count, bits)
            some |= part
            s.h[place + j] = np.uint16(part)
        if some:
            found |= 1 << which
    return found


@compiled
def dot(x: U16, w: U16) -> np.int32:
    """The product of two vectors of int16; it fits 32 bits."""
    total = np.int32(0)
    for j in range(x.size):
        total = np.int32(total + np.int32(np.int16(x[j])) * np.int32(np.int16(w[j])))
    return total


@compiled
def add_multiple(sums: I32, w: U16, x: np.int32) -> None:
    """sums += x * w, int16."""
    for c in range(sums.size):
        sums[c] = np.int32(sums[c] + x * np.int32(np.int16(w[c])))


@compiled
def converted(s: State, kind: int, total: int, key: np.uint64, counter: int) -> int:
    """What the converter makes of a sum."""
    if s.k[kind + at.N_NOISE]:
        total += scaled(draw(key, counter), s.k[kind + at.N_NOISE], _SHIFT)
    step, levels = s.k[kind + at.N_STEP], s.k[kind + at.N_LEVELS]
    code = (2 * total + step) // (2 * step)
    if code & 1 and 2 * step * code == 2 * total + step:  # a half: to even
        code -= 1
    return int(min(max(code, -levels), levels - 1))


class Pass(NamedTuple):
    """One vector through the cells that compute together: `size` elements of it, `many` sums."""

    array: int
    key: np.uint64  # of its read noise
    driven: int  # which slices drive something: a bit each
    x: int  # where the slices lie, one behind the other
    size: int
    cells: int  # where conductances of the lowest slice begin
    width: int  # from one line of them to the next
    first: int  # output of the array that is the first of the sums
    many: int
    totals: int  # where sums go


@compiled
def add_dots(s: State, p: Pass) -> None:
    """A pass over cells whose elements of one sum lie together: `size` from `cells` on, and so `width` further on for
    each of the outputs."""
    kind = s.k[p.array + at.A_ANALOG]
    plane = s.k[p.array + at.A_ROWS] * s.k[p.array + at.A_COLS]
    inputs, bits, others = (
        s.k[kind + at.N_INPUT_SLICES],
        s.k[kind + at.N_INPUT_BITS],
        s.k[kind + at.N_WEIGHT_BITS],
    )
    for j in range(s.k[kind + at.N_WEIGHT_SLICES]):
        for c in range(p.many):
            place = p.cells + j * plane + c * p.width
            w, found = s.h[place : place + p.size], 0
            for i in range(inputs):
                if (p.driven >> i) & 1:
                    total = int(dot(s.h[p.x + i * p.size : p.x + (i + 1) * p.size], w))
                    counter = (p.first + c) << 6 | (8 * j + i)
                    found += converted(s, kind, total, p.key, counter) << (i * bits + j * others)
            s.l[p.totals + c] += found


@compiled
def add_rows(s: State, p: Pass) -> None:
    """A pass over cells of which those of all sums lie together: `many` from `cells` on, and so `width` further on
    for each of the elements."""
    kind = s.k[p.array + at.A_ANALOG]
    plane = s.k[p.array + at.A_ROWS] * s.k[p.array + at.A_COLS]
    bits, others = s.k[kind + at.N_INPUT_BITS], s.k[kind + at.N_WEIGHT_BITS]
    sums = s.i[s.m[at.H_ANALOG] : s.m[at.H_ANALOG] + p.many]
    for j in range(s.k[kind + at.N_WEIGHT_SLICES]):
        for i in range(s.k[kind + at.N_INPUT_SLICES]):
            if not (p.driven >> i) & 1:
                continue
            for c in range(p.many):
                sums[c] = 0
            for e in range(p.size):
                given = np.int32(np.int16(s.h[p.x + i * p.size + e]))
                if given:
                    place = p.cells + j * plane + e * p.width
                    add_multiple(sums, s.h[place : place + p.many], given)
            for c in range(p.many):
                counter = (p.first + c) << 6 | (8 * j + i)
                found = converted(s, kind, int(sums[c]), p.key, counter)
                s.l[p.totals + c] += found << (i * bits + j * others)


# ------------------------------------------------------------------------------------------------------ products


@compiled
def analog_vector(s: State, p: Product, to: int, x: int) -> None:
    """Add to the sums at `to` what one vector of a product gives, which is at byte `x`."""
    kind, key = s.k[p.array + at.A_ANALOG], np.uint64(s.k[p.array + at.A_KEY])
    cols = s.k[p.array + at.A_COLS]
    is_turned = s.k[p.array + at.A_IS_TURNED] != 0
    size, many = (cols, p.rows) if p.is_across else (p.rows, cols)
    begin, first = (0, p.row) if p.is_across else (p.row, 0)
    end, low, at_once, width = (
        begin + size,
        begin,
        s.k[kind + (at.N_ACROSS if p.is_across else at.N_DOWN)],
        s.k[p.array + at.A_ROWS] if is_turned else cols,
    )
    room = s.m[at.H_ANALOG] // 2 + s.m[at.H_ANALOG_WORDS] // 2  # of int64: behind that for sums of a pass
    for c in range(many):
        s.l[room + c] = 0
    place = 4 * (room + s.m[at.H_ANALOG_WORDS])  # of int16: behind the totals
    while low < end:
        high = min(end, (low // at_once + 1) * at_once)
        part = s.b[x + low - begin : x + high - begin]
        driven = cut(s, kind, part, place)
        if driven:
            own = vector_key(part, low + (_ALONG_COLUMNS if p.is_across else 0), key)
            are_dots = is_turned != p.is_across
            start = s.k[p.array + at.A_CONDUCTED] + (first * width + low if are_dots else low * width + first)
            one = Pass(p.array, own, driven, place, high - low, start, width, first, many, room)
            if are_dots:
                add_dots(s, one)
            else:
                add_rows(s, one)
        low = high
    factor = s.k[kind + at.N_STEP] * s.k[kind + at.N_GAIN]
    shift = s.k[kind + at.N_FRACTION] + _SCALE_SHIFT
    for c in range(many):
        s.i[to + c] = np.int32(s.i[to + c] + np.int32(scaled(s.l[room + c], factor, shift)))


@compiled
def analog_product(s: State, p: Product) -> None:
    """Add to the sums what a product gives."""
    follow(s, p.array, p.row, p.rows)
    many = p.rows if p.is_across else s.k[p.array + at.A_COLS]
    for i in range(p.n):
        analog_vector(s, p, p.to + i * many, p.x + i * p.pitch)
