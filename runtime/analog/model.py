"""The integers that the macros of a kind compute with, from the target's constants."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from isa.diagnostics import fail
from isa.macro import Macro

from .options import AnalogOptions, drift_seconds

MAGNITUDE_BITS = 7
STEPS = 12  # log2 of the steps of a conductance in a cell's range, if sums have room for them
SHIFT = 28  # draws are multiplied by constants that have so many bits behind the point
SCALE_SHIFT = 16  # the same of factors of sums and conductances
DRAWS = 8  # uniform numbers of 16 bits, whose sum is a draw
MEAN = DRAWS * ((1 << 16) - 1) // 2
DEVIATION = math.sqrt(DRAWS * ((1 << 32) - 1) / 12)  # standard deviation of a draw
GOLDEN, FIRST, SECOND = (
    0x9E3779B97F4A7C15,
    0xBF58476D1CE4E5B9,
    0x94D049BB133111EB,
)  # SplitMix64 (Steele et al., 2014)
_WORD = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class AnalogModel:
    """The integers that a kind of macro computes with."""

    input_slices: int
    input_bits: int
    weight_slices: int
    weight_bits: int
    fraction: int  # bits of a conductance behind the point
    limit: int  # no conductance is larger
    error: int  # of a draw, shifted by SHIFT
    drift: tuple[np.float32, np.float32] | None  # ln of a factor: constant, and of a draw
    gain: int  # of sums, shifted by SCALE_SHIFT: what cells lose by drift in the mean
    levels: int  # numbers that a conversion gives: from -levels to levels - 1
    step: int  # of the converter
    noise: int  # of a draw, shifted by SHIFT
    down: int  # rows that a pass sums up
    across: int  # columns that are summed up before a conversion, where sums go over these
    seed: int

    def key(self, tile: int, array: int) -> int:
        """What tells the cells of an array from all others."""
        key = mixed_one(self.seed & _WORD)
        for number in (tile, array):
            key = mixed_one((key + (number + 1) * GOLDEN) & _WORD)
        return key


def slices_of(columns: float) -> tuple[int, int]:
    """How many slices magnitudes have, and the bits of each, where there is room for `columns`."""
    bits = math.ceil(MAGNITUDE_BITS / columns)
    return math.ceil(MAGNITUDE_BITS / bits), bits


def model_of(macro: Macro, options: AnalogOptions) -> AnalogModel | None:
    """How a kind of macro computes; None if exactly."""
    if macro.adc is None or options.is_ideal:
        return None
    inputs, input_bits = slices_of(macro.input_slices.value)
    weights, weight_bits = slices_of(macro.weight_slices.value)
    level, drive = (1 << weight_bits) - 1, (1 << input_bits) - 1
    rows, cols = macro.pass_height, macro.sum_weights
    room = 31 - math.log2(max(rows, cols) * (drive + 1) * 2 * level)
    fraction = min(STEPS - weight_bits, math.ceil(room) - 1)
    if fraction < 0:
        message = f"a pass of {max(rows, cols):,} rows sums up more than 32 bits in one step"
        raise fail("E0502", message, help="give the macro pass_rows, or more slices")
    levels = 1 << (options.adc_bits or int(macro.adc.bits.value)) - 1
    covered = 1.0 if macro.adc.range is None else macro.adc.range.si
    # No step is finer than a level: sums that the converter has room for are exact.
    largest = rows * drive * level
    step = max(1.0, round(covered * largest / levels, 6))
    units, noise = math.ceil(step * (1 << fraction)), macro.noise
    read_noise = noise.read_noise.si * largest * (1 << fraction) / DEVIATION if noise else 0.0
    error = noise.programming_error.si * level * (1 << fraction) / DEVIATION if noise else 0.0
    drift, gain = _drift(macro, options)
    return AnalogModel(
        *(inputs, input_bits, weights, weight_bits, fraction),
        limit=2 * level << fraction,
        error=round(error * (1 << SHIFT)),
        drift=drift,
        gain=gain,
        levels=levels,
        step=units,
        noise=round(read_noise * (1 << SHIFT)),
        down=rows,
        across=cols,
        seed=options.seed,
    )


def _drift(macro: Macro, options: AnalogOptions) -> tuple[tuple[np.float32, np.float32] | None, int]:
    """Constants of the exponents of cells, and the factor that puts the mean back."""
    seconds = drift_seconds(macro, options)
    if seconds is None or macro.noise is None or macro.noise.drift is None:
        return None, 1 << SCALE_SHIFT
    drift = macro.noise.drift
    time = math.log(max(1.0, seconds / drift.start.si))
    of_draw = drift.spread.si * time / DEVIATION
    gain = round(math.exp(drift.exponent.si * time) * (1 << SCALE_SHIFT))
    return (np.float32(-drift.exponent.si * time), np.float32(-of_draw)), gain


def mixed_one(word: int) -> int:
    """The finaliser of SplitMix64, of one word."""
    word = (word ^ word >> 30) * FIRST & _WORD
    word = (word ^ word >> 27) * SECOND & _WORD
    return word ^ word >> 31
