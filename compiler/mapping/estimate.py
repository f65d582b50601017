"""Cycles that a tile takes for a row, estimated from the target: what the mapper's rules choose by.

The formulas are those of docs/timing.md without contention.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from isa.hardware import Hardware

_FLOAT = 4
_BYTE = 1


@dataclass(frozen=True, slots=True)
class Pace:
    """What one row costs on a target. `cols` are columns of the row that the tile has."""

    hardware: Hardware

    @property
    def startup(self) -> int:
        """Cycles before the first result of the vector unit."""
        return self.hardware.cycles(self.hardware.vector.startup)

    def vector(self, cols: int, moved: int, alu: int, sfu: int = 0) -> float:
        """A vector operation: `moved` bytes, `alu` and `sfu` operations a column; without its startup."""
        port = self.hardware.bytes_per_cycle(self.hardware.buffer.port_width)
        vector = self.hardware.vector
        return cols * max(moved / port, alu / vector.lanes.value, sfu / vector.sfu_lanes.value)

    def multiply(self, rows: int, cols: int) -> float:
        """An activation of an array of rows x cols."""
        port = self.hardware.bytes_per_cycle(self.hardware.cim.port_width)
        return max(self.hardware.cycles(self.hardware.macro.mvm_latency), rows / port, _FLOAT * cols / port)

    def dequantise(self, cols: int) -> float:
        """Sums of an array to float32."""
        return self.vector(cols, 2 * _FLOAT, 3)

    def largest(self, cols: int) -> float:
        """The largest magnitude of a row."""
        return self.vector(cols, _FLOAT, 2)

    def quantise(self, cols: int) -> float:
        """float32 to int8 with a given scale."""
        return self.vector(cols, _FLOAT + _BYTE, 3)

    def activate(self, cols: int) -> float:
        """A special function of every element."""
        return self.vector(cols, 2 * _FLOAT, 1, 1)

    def combine(self, cols: int) -> float:
        """The sum or product of two rows."""
        return self.vector(cols, 3 * _FLOAT, 1)

    def message(self, size: float) -> float:
        """The bytes of a message on a link."""
        return size / min(
            self.hardware.bytes_per_cycle(self.hardware.network.link_width),
            self.hardware.bytes_per_cycle(self.hardware.buffer.port_width),
        )

    def sides(self, tiles: int) -> tuple[int, int]:
        """Width and height of a patch of so many tiles, as square as can be."""
        side = max(math.isqrt(tiles), 1)
        return side, -(-tiles // side)

    def travel(self, tiles: int) -> float:
        """A message from corner to corner of a patch of so many tiles, with the borders of chips on the way."""
        chip = math.isqrt(self.hardware.tiles_per_chip)
        hops = sum(side - 1 for side in self.sides(tiles))
        borders = sum(-(-side // chip) - 1 for side in self.sides(tiles))
        hop, border = self.hardware.network.hop_latency, self.hardware.chip_link.latency
        return (hops - borders) * self.hardware.cycles(hop) + borders * self.hardware.cycles(border)

    def reduce(self, tiles: int) -> float:
        """One number combined over a patch of so many tiles and back."""
        level = self.hardware.cycles(self.hardware.network.reduce_latency)
        return 2 * self.travel(tiles) + level * sum(side - 1 for side in self.sides(tiles))
