"""How far apart tiles are, in cycles: the least way from any place to the farthest of `n` tiles.

Ways on the mesh are sums of a way along x and a way along y; a hop costs more where it leaves a chip. So the number of
tiles t with d(s, t) <= r follows from the two axes apart: with A(e), B(e) the most coordinates of an axis within e of
any of its coordinates,

    tiles within r  <=  sum over e of (A(e) - A(e - 1)) x B(r - e).
"""

from __future__ import annotations

import bisect
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from isa.hardware import Hardware


class Distances:
    """Distances on the mesh of a target."""

    def __init__(self, hardware: Hardware) -> None:
        self._hop = hardware.cycles(hardware.network.hop_latency)
        self._border = hardware.cycles(hardware.chip_link.latency)
        system, chip = hardware.system, hardware.chip
        self._x = int(chip.tiles_x.value), int(system.chips_x.value)
        self._y = int(chip.tiles_y.value), int(system.chips_y.value)
        self.tiles = hardware.tiles
        self._within: list[int] = []

    def reach(self, tiles: int) -> int:
        """The least cycles of latency from any place to the farthest of `tiles` tiles."""
        if tiles <= 1:
            return 0
        wanted, most = min(tiles, self.tiles), max(len(self._within), 32)
        while not self._within or self._within[-1] < wanted:
            self._within = self._counts(most)
            most *= 2
        return bisect.bisect_left(self._within, wanted)

    def tiles_within(self, cycles: int) -> int:
        """The most tiles within so many cycles of any place."""
        while len(self._within) <= cycles and (not self._within or self._within[-1] < self.tiles):
            self._within = self._counts(2 * max(len(self._within), cycles, 16))
        return self._within[min(cycles, len(self._within) - 1)]

    def _counts(self, most: int) -> list[int]:
        """Tiles within 0..most cycles."""
        along_x = _coordinates(*self._x, self._hop, self._border, most)
        along_y = _coordinates(*self._y, self._hop, self._border, most)
        first = np.diff(along_x, prepend=0)
        return [int(n) for n in np.minimum(np.convolve(first, along_y)[: most + 1], self.tiles)]


@lru_cache(maxsize=64)
def _coordinates(width: int, chips: int, hop: int, border: int, most: int) -> NDArray[np.int64]:
    """For e = 0..most: the most coordinates of an axis within e of one of them.

    The axis is taken as endless on both sides, but no more coordinates count than it has.
    """
    total = width * chips
    crossing = border - hop if chips > 1 else 0
    reach = min(total, most // max(hop, 1) + 1) if hop else total
    start = -(-reach // width) * width
    places = np.arange(2 * start + width)
    at = places * hop + places // width * crossing
    within = np.zeros(most + 1, dtype=np.int64)
    budget = np.arange(most + 1)
    for here in range(start, start + width):
        upper = np.searchsorted(at, at[here] + budget, side="right")
        lower = np.searchsorted(at, at[here] - budget, side="left")
        within = np.maximum(within, upper - lower)
    return np.minimum(within, total)
