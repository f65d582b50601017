"""Rounding of weights to integers with scales: a scale for each column, or for each column and group of rows.

int8: scale = largest magnitude / 127, codes within +-127. With 255 levels the error of the largest element does not
matter, so nothing is searched.

4 bits: codes -8..7. Of each column of a group the scale is searched that leaves the least squared error:

    scale = sign * ratio * m / top,   m the largest magnitude, ratio in RATIOS,
    (top, sign) = (7, +1), or (8, -1 if the largest magnitude is of a positive weight, else +1)

With the second form the 16th code, -8, stands for the largest weight, which seven of its own sign would clip; scales
may then be negative, which no product minds. Ratios below 1 clip the largest weights and round the others finer.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from isa.levels import levels_of

WEIGHT_BITS = 8
WEIGHT_GROUP = 128
"""Rows that share a scale in each column when weights are rounded to 4 bits, unless something else is asked for."""

RATIOS = tuple(1 - 0.025 * step for step in range(15))
"""How far below the largest magnitude the end of the range is tried: 1 to 0.65."""

F32 = NDArray[np.float32]
I8 = NDArray[np.int8]


def quantise_weight(weight: F32, bits: int = WEIGHT_BITS) -> tuple[I8, F32]:
    """Codes [K, N] and a scale a column: weight[k, n] is about codes[k, n] * scales[n]. Zero columns get scale 0."""
    levels = levels_of(bits)
    if bits == WEIGHT_BITS:
        scales = (np.abs(weight).max(axis=0) / np.float32(levels)).astype(np.float32)
        return _codes(weight, scales, levels, levels), scales
    best_codes, best, least = None, np.zeros(weight.shape[1], np.float32), np.zeros(weight.shape[1])
    for scales, lowest in _candidates(weight, levels):
        codes = _codes(weight, scales, lowest, levels)
        error = np.square(codes * scales - weight, dtype=np.float64).sum(axis=0)
        if best_codes is None:
            best_codes, best, least = codes, scales, error
            continue
        is_better = error < least
        best_codes[:, is_better] = codes[:, is_better]
        best, least = np.where(is_better, scales, best), np.where(is_better, error, least)
    assert best_codes is not None
    return best_codes, best


def _candidates(weight: F32, levels: int) -> Iterator[tuple[F32, int]]:
    """Scales of the columns that are tried, and how far codes may go below zero with them."""
    largest = np.abs(weight).max(axis=0)
    sign = np.where(weight.max(axis=0) >= largest, np.float32(-1), np.float32(1))
    for ratio in RATIOS:
        yield (largest * np.float32(ratio / levels)).astype(np.float32), levels
        yield (largest * sign * np.float32(ratio / (levels + 1))).astype(np.float32), levels + 1


def _codes(weight: F32, scales: F32, lowest: int, highest: int) -> I8:
    inverse = np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=scales != 0)
    codes: I8 = np.clip(np.rint(weight * inverse), -lowest, highest).astype(np.int8)
    return codes


def quantise_in_groups(weight: F32, bits: int, block: int) -> tuple[I8, F32]:
    """As `quantise_weight`, each group of `block` rows (0: all) by itself: codes [K, N], scales [groups, N]."""
    rows = len(weight)
    starts = range(0, rows, block or rows or 1)
    parts = [quantise_weight(weight[at : at + (block or rows)], bits) for at in starts]
    return np.concatenate([v for v, _ in parts]), np.stack([s for _, s in parts])
