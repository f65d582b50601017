"""What analog macros compute, to the bit (docs/analog.md).

A code is a sign and a magnitude of seven bits. Magnitudes are cut into slices: of inputs, which are driven one after
another, and of weights, each in a pair of cells whose difference has the sign. What a pass of a slice over a slice
sums up has its share of errors of cells and of noise, and is converted to a whole number within the converter's range;
these numbers are shifted, added and scaled back.

Everything is computed in integers, so that it is the same in any order: a conductance counts 2**-`fraction` of a
level. Random numbers are functions of where a cell is and what it holds, or of what is multiplied, never of when.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isa.hardware import Hardware
from isa.program import ArrayKind, ArraySpec
from runtime.numerics import F32, I8, I32, exp

from .model import (
    FIRST,
    GOLDEN,
    MEAN,
    SCALE_SHIFT,
    SECOND,
    SHIFT,
    AnalogModel,
    model_of,
)
from .options import AnalogOptions

I16 = NDArray[np.int16]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

DRIFTS = 0xD1B54A32D192ED03  # tells draws of drift from those of errors
ALONG_COLUMNS = 1 << 40  # tells places along columns from those along rows
_EMPTY = np.int16(1 << 8)  # no code

# ------------------------------------------------------------------------------------------------ random numbers


def mixed(words: U64) -> U64:
    """The finaliser of SplitMix64."""
    words = (words ^ words >> np.uint64(30)) * np.uint64(FIRST)
    words = (words ^ words >> np.uint64(27)) * np.uint64(SECOND)
    found: U64 = words ^ words >> np.uint64(31)
    return found


def draws(keys: U64, counters: U64) -> I64:
    """Random numbers about 0: sums of DRAWS uniform ones, of standard deviation DEVIATION."""
    total = np.zeros(np.broadcast_shapes(keys.shape, counters.shape), np.uint64)
    for turn in (0, 1):
        words = mixed(keys + (counters * np.uint64(2) + np.uint64(turn)) * np.uint64(GOLDEN))
        for low in (0, 16, 32, 48):
            total = total + (words >> np.uint64(low) & np.uint64(0xFFFF))
    found: I64 = total.astype(np.int64) - MEAN
    return found


def _scaled(values: I64, factor: int, shift: int) -> I64:
    """values x factor / 2**shift, rounded, halves up."""
    found: I64 = (values * factor + (1 << shift - 1)) >> shift
    return found


# ------------------------------------------------------------------------------------------------- slices and cells


def slices(codes: I8, count: int, bits: int) -> I64:
    """The slices of codes [...], signed, the lowest first: [count, ...]. The last has all that is left, of 128, too."""
    signed = codes.astype(np.int64)
    magnitudes, signs = np.abs(signed), np.sign(signed)
    cut = [magnitudes >> bits * i & (1 << bits) - 1 for i in range(count - 1)]
    found: I64 = np.stack([*cut, magnitudes >> bits * (count - 1)]) * signs
    return found


def conductances(codes: I8, first: int, key: int, model: AnalogModel) -> I16:
    """What pairs of cells conduct that were programmed to codes [rows, cols]: [slices, rows, cols]. `first` is the row
    of the array that they begin with."""
    rows, cols = codes.shape
    level = slices(codes, model.weight_slices, model.weight_bits) << model.fraction
    row, col = np.arange(first, first + rows)[:, None], np.arange(cols)
    place = (row << 23 | col << 3)[None] | np.arange(model.weight_slices)[:, None, None]
    counters = (place << 8 | (codes.astype(np.int64) & 255)).astype(np.uint64)
    found = level
    if model.error:
        found = found + _scaled(draws(np.full(1, key, np.uint64), counters), model.error, SHIFT)
    found = np.clip(found, -model.limit, model.limit)
    if model.drift is not None:
        drawn = draws(np.full(1, key ^ DRIFTS, np.uint64), counters).astype(np.float32)
        factors = np.rint(exp(model.drift[0] + drawn * model.drift[1]) * np.float32(1 << SCALE_SHIFT))
        found = (found * factors.astype(np.int64) + (1 << SCALE_SHIFT - 1)) >> SCALE_SHIFT
        found = np.clip(found, -model.limit, model.limit)
    return found.astype(np.int16)


# ---------------------------------------------------------------------------------------------------------- products


def vector_keys(x: I8, first: int, key: int) -> U64:
    """What tells the vectors x [n, k] from others whose first element is number `first`: [n]. Zeros tell nothing."""
    places = np.arange(first, first + x.shape[1], dtype=np.int64) << 8
    counters = (places | (x.astype(np.int64) & 255)).astype(np.uint64)
    words = mixed(np.full(1, key, np.uint64) + counters * np.uint64(GOLDEN))
    total: U64 = np.where(x != 0, words, np.uint64(0)).sum(axis=1, dtype=np.uint64)
    return total


def _converted(sums: I64, keys: U64, outputs: I64, pair: int, model: AnalogModel) -> I64:
    """What the converter makes of sums [n, outputs]; `pair` is the number of the pair of slices, below 64."""
    if model.noise:
        counters = (outputs << 6 | pair).astype(np.uint64)
        sums = sums + _scaled(draws(keys[:, None], counters[None, :]), model.noise, SHIFT)
    codes, rest = np.divmod(2 * sums + model.step, 2 * model.step)
    codes -= (rest == 0) & (
        codes & 1
    )  # halves to even: otherwise whole sums with a step of 2 would have a mean
    found: I64 = np.clip(codes, -model.levels, model.levels - 1)
    return found


def _pass(x: I8, cells: I16, keys: U64, outputs: I64, model: AnalogModel) -> I64:
    """x [n, k] times conductances [slices, k, c] of one pass, shifted and added. Steps that drive nothing give 0."""
    total = np.zeros((len(x), cells.shape[2]), np.int64)
    for i, driven in enumerate(slices(x, model.input_slices, model.input_bits)):
        is_driven = driven.any(axis=1)[:, None]
        for j, held in enumerate(cells.astype(np.float64)):
            sums = (driven.astype(np.float64) @ held).astype(np.int64)  # exact: below 2**53 in any order
            found = _converted(sums, keys, outputs, 8 * j + i, model) * is_driven
            total += found << i * model.input_bits + j * model.weight_bits
    return total


@dataclass(slots=True)
class AnalogArray:
    """The cells of an array. What they conduct is worked out again where their codes have changed."""

    model: AnalogModel
    key: int
    conducted: I16  # [slices, rows, cols]
    codes: I16  # [rows, cols] of which it was worked out

    def product(self, x: I8, cells: F32, row: int, is_across: bool) -> I32:
        """x [n, k] times some rows [rows, cols] of the array, from `row` on, or (`is_across`) times their transpose."""
        model, rows = self.model, len(cells)
        self._follow(cells, row)
        held = self.conducted[:, row : row + rows]
        at_once, first = (model.across, 0) if is_across else (model.down, row)
        outputs = np.arange(row, row + rows) if is_across else np.arange(cells.shape[1])
        held = held.transpose(0, 2, 1) if is_across else held
        total = np.zeros((len(x), len(outputs)), np.int64)
        end, low = first + x.shape[1], first
        while low < end:
            high = min(end, (low // at_once + 1) * at_once)
            part = slice(low - first, high - first)
            keys = vector_keys(x[:, part], low + (ALONG_COLUMNS if is_across else 0), self.key)
            total += _pass(x[:, part], held[:, part], keys, outputs, model)
            low = high
        scale = model.step * model.gain
        return _scaled(total, scale, model.fraction + SCALE_SHIFT).astype(np.int32)

    def _follow(self, cells: F32, row: int) -> None:
        codes = cells.astype(np.int16)
        window = self.codes[row : row + len(codes)]
        for at in np.flatnonzero((window != codes).any(axis=1)).tolist():
            made = conductances(codes[at : at + 1].astype(np.int8), row + at, self.key, self.model)
            self.conducted[:, row + at] = made[:, 0]
        window[:] = codes


class AnalogTarget:
    """How the arrays of a target compute."""

    def __init__(self, target: Hardware, options: AnalogOptions) -> None:
        self._weights, self._written = model_of(target.macro, options), model_of(target.written, options)

    def model(self, spec: ArraySpec) -> AnalogModel | None:
        """How an array computes; None if exactly."""
        if spec.dtype.value != "int8":
            return None
        return self._weights if spec.kind is ArrayKind.WEIGHT else self._written

    def array(self, spec: ArraySpec, tile: int, number: int) -> AnalogArray | None:
        """An array of a tile; None if it computes exactly."""
        model = self.model(spec)
        if model is None:
            return None
        codes = np.full((spec.rows, spec.cols), _EMPTY, np.int16)
        held = np.zeros((model.weight_slices, spec.rows, spec.cols), np.int16)
        return AnalogArray(model, model.key(tile, number), held, codes)
