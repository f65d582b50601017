"""Cycles that a tile takes for a row, estimated from the target: what the mapper's rules choose by.

The formulas are those of docs/timing.md without contention; what instructions take follows from their table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from isa.bound.rates import Rates
from isa.hardware import Hardware
from isa.instruction import Inst
from isa.instructions import Deqc, Quantm, Vadd, Vaddr, Vamax, Vmul, Vmulr, Vsilu, Vsumsq
from isa.operands import WORD_BYTES

STAGE = (Vaddr, Vadd, Vmulr, Vamax, Vsumsq, Quantm)
"""What a hub stage does with a row: a section's bias and sum added, a norm, quantised."""


@dataclass(frozen=True)
class Pace:
    """What one row costs on a target. `cols` are columns of the row that the tile has."""

    hardware: Hardware

    @cached_property
    def _rates(self) -> Rates:
        return Rates(self.hardware)

    @property
    def startup(self) -> int:
        """Cycles before the first result of the vector unit."""
        return self._rates.startup

    def vector(self, kinds: Iterable[type[Inst]], cols: int) -> float:
        """Vector instructions on one row, one after the other, without their startups."""
        return sum(self._rates.work(kind, cols) for kind in kinds)

    def multiply(self, rows: int, cols: int) -> float:
        """An activation of an array of rows x cols."""
        port = self._rates.cim_width
        return max(self._rates.mvm, rows / port, WORD_BYTES * cols / port)

    def dequantise(self, cols: int) -> float:
        """Sums of an array to float32."""
        return self.vector([Deqc], cols)

    def inner(self, cols: int, count: int) -> float:
        """What happens to the columns of `count` first layers of a section until the last layer's arrays take them."""
        return self.vector([*count * [Deqc], Vsilu, *(count - 1) * [Vmul], Vamax, Quantm], cols)

    def stage(self, cols: int) -> float:
        """A hub stage: sums come, its operators, int8 rows go."""
        return self.message(WORD_BYTES * cols) + self.vector(STAGE, cols) + self.message(cols)

    def message(self, size: float) -> float:
        """The bytes of a message on a link."""
        return size / min(self._rates.link, self._rates.buffer_width)

    def receive(self, messages: int) -> float:
        """Cycles in which a tile that takes so many messages has issued their instructions: one each."""
        return float(messages)

    def sides(self, tiles: int) -> tuple[int, int]:
        """Width and height of a patch of so many tiles, as square as can be."""
        side = max(math.isqrt(tiles), 1)
        return side, -(-tiles // side)

    def travel(self, tiles: int) -> float:
        """A message from corner to corner of a patch of so many tiles, with the borders of chips on the way."""
        chip = math.isqrt(self.hardware.tiles_per_chip)
        hops = sum(side - 1 for side in self.sides(tiles))
        borders = sum(-(-side // chip) - 1 for side in self.sides(tiles))
        border = self.hardware.cycles(self.hardware.chip_link.latency)
        return (hops - borders) * self._rates.hop + borders * border

    def reduce(self, tiles: int) -> float:
        """One number combined over a patch of so many tiles and back."""
        return 2 * self.travel(tiles) + self._rates.reduce * sum(side - 1 for side in self.sides(tiles))
