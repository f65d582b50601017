"""What random programs are made of: choices that a seed determines, registers with fixed meanings, blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from isa.operands import Reg

R = Reg
ZERO, SEGMENTS, SEGMENT, TOKENS, POSITION, OUTPUTS, SEQUENCE = (R(i) for i in range(7))
TEMPS = (14, 15, 16)
COUNTERS = range(20, 25)
POINTERS = range(25, 30)
PARAM = R(30)
END = R(31)
ONE = R(17)
ARRAY_ROWS, ARRAY_COLS = 16, 8
WORDS_OF_ROW = 8  # columns of most blocks
DRAM_BYTES = 4096


class Random:
    """Random choices that a seed determines."""

    def __init__(self, seed: int) -> None:
        self._source = np.random.default_rng(seed)

    def random(self) -> float:
        """A number in 0..1."""
        return float(self._source.random())

    def randint(self, low: int, high: int) -> int:
        """A whole number in low..high."""
        return int(self._source.integers(low, high + 1))

    def choice(self, options: Sequence[Any]) -> Any:
        """One of the options."""
        return options[self.randint(0, len(options) - 1)]


@dataclass(frozen=True)
class Block:
    """A float32 block in the buffer: where, rows in a register, columns."""

    offset: int
    rows: Reg
    cols: int


@dataclass(frozen=True)
class Message:
    """A message of a conversation: from tile, to tile (HOST is -1), rows, columns; in passes over the source?"""

    source: int
    dest: int
    outputs: bool
    cols: int
    channel: int
    of_source: bool = False
