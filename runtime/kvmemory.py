"""Rows of a KV cache that lie in a chip's memory, put there and taken from there from outside.

A head's region has a plane of keys, one of values, and, with int8, one of the scales of each
(`isa.interface.memory_planes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from isa.instruction import DType
from isa.interface import KvCache, Plane, memory_planes
from isa.levels import levels_of
from isa.operands import Space
from isa.program import Program

from . import numerics
from .engine.memory import MemoryState
from .engine.state import ArrayState
from .numerics import F32


class Holder(Protocol):
    """A tile, whichever engine's: what it holds from step to step."""

    @property
    def arrays(self) -> Sequence[ArrayState]:
        """Its arrays; cells of int8 may be that, or float32."""

    def memory(self, space: Space) -> MemoryState:
        """Its chip's memory of this space."""


def rows_in_memory(cache: KvCache, tokens: int) -> int:
    """How many of a sequence's first rows lie in memory when it has `tokens` tokens."""
    return max(tokens - cache.hot, 0) if cache.rows else 0


class HeadMemory:
    """Keys (side 0) or values (side 1) of one head of a cache, in the memory of its tile's chip."""

    def __init__(
        self, program: Program, tiles: Sequence[Holder], cache: KvCache, side: int, head: int
    ) -> None:
        entry = cache.heads[head]
        tile = tiles[entry.tile]
        specs = [tile.arrays[entry.keys].spec, tile.arrays[entry.values].spec]
        self._dtype, self._cols, self._rows = specs[side].dtype, specs[side].cols, cache.rows
        self._levels = levels_of(specs[side].bits)
        total = cache.rows * program.limits.sequences
        planes = memory_planes(total, specs[0].cols, specs[1].cols, self._dtype)
        self._plane, self._scales = planes[side], planes[2 + side] if len(planes) > 2 else None
        self._base = program.memory[entry.memory].offset
        self._memory: MemoryState = tile.memory(Space.DRAM)

    def _at(self, plane: Plane, sequence: int) -> int:
        return self._base + plane.offset + sequence * self._rows * plane.row_bytes

    def write(self, sequence: int, rows: F32) -> None:
        """Replace the first rows of a sequence."""
        if not len(rows):
            return
        if self._scales is None:
            self._put(self._at(self._plane, sequence), np.ascontiguousarray(rows))
            return
        codes, scales = numerics.quantise(rows, self._levels)
        self._put(self._at(self._plane, sequence), codes)
        self._put(self._at(self._scales, sequence), scales)

    def read(self, sequence: int, count: int) -> F32:
        """The first rows of a sequence: codes times scales where they are int8."""
        cells = self._get(self._plane, sequence, count, self._dtype).reshape(count, self._cols)
        if self._scales is None:
            return np.array(cells, np.float32)
        scales = self._get(self._scales, sequence, count, DType.F32)
        rows: F32 = cells.astype(np.float32) * scales[:, None]
        return rows

    def _put(self, address: int, values: NDArray[Any]) -> None:
        self._memory.write(address, values.reshape(-1).view(np.uint8))

    def _get(self, plane: Plane, sequence: int, count: int, dtype: DType) -> NDArray[Any]:
        if not count:
            return np.zeros(0, dtype.value)
        return self._memory.read(self._at(plane, sequence), count * plane.row_bytes).view(dtype.value)
