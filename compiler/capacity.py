"""What the arrays of a target have room for: weights, and what is written while a program runs."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from isa.hardware import Hardware


@dataclass(frozen=True, slots=True)
class Capacity:
    """Cells for weights; cells for keys, values and streams; and whether both are the same ones."""

    weights: int
    written: int
    is_shared: bool

    def holds(self, weights: float, written: float) -> bool:
        """Whether there is room for so many weights, and for so many keys and values beside them."""
        if self.is_shared:
            return weights + written <= self.weights
        return weights <= self.weights and written <= self.written

    def fills(self, weights: int, written: int) -> Fraction:
        """The part of the cells that so many weights, keys and values take: of the kind that is fuller."""
        if self.is_shared:
            return Fraction(weights + written, self.weights)
        return max(Fraction(weights, self.weights), Fraction(written, self.written))


def capacity_of(hardware: Hardware, tiles: int | None = None) -> Capacity:
    """The cells of so many tiles, by default of all."""
    count = hardware.tiles if tiles is None else tiles
    is_shared = not hardware.kv_macros_per_tile
    return Capacity(count * hardware.weight_cells, count * hardware.written_cells, is_shared)
