"""A chip's DRAM or global buffer: the regions that a program declares, loaded or reserved."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isa.diagnostics import NamedPlace, fail
from isa.operands import Space
from isa.program import MemoryRegion, Program

from .trap import TrapError

Bytes = NDArray[np.uint8]


@dataclass(slots=True)
class Region:
    """A range of a memory, and what it holds."""

    start: int
    stop: int
    name: str
    data: Bytes  # shared with the program's tensor until the first write

    @property
    def is_own(self) -> bool:
        """Whether its bytes are its own, and so may be written."""
        return bool(self.data.flags.owndata and self.data.flags.writeable)

    def own(self) -> None:
        """See to it that its bytes are its own; the tensor behind it stays as it is."""
        if not self.is_own:
            self.data = self.data.copy()


def _contents(region: MemoryRegion, tensors: Mapping[str, NDArray[Any]]) -> Bytes:
    if region.tensor is None:
        return np.zeros(region.bytes, np.uint8)
    if region.tensor not in tensors:
        raise fail(
            "E0410", f"tensor {region.tensor!r} is used but not in the program", NamedPlace(region.name)
        )
    data = np.ascontiguousarray(tensors[region.tensor]).reshape(-1).view(np.uint8)
    if data.size >= region.bytes:
        return data[: region.bytes]
    return np.concatenate([data, np.zeros(region.bytes - data.size, np.uint8)])


class MemoryState:
    """One memory of one chip. Reserved regions begin as zeros; nothing exists between regions."""

    def __init__(self, space: Space, regions: list[Region]) -> None:
        """`regions` in the order of their addresses."""
        self.space = space
        self._regions = regions
        self._starts = [region.start for region in self._regions]

    def _find(self, address: int, size: int) -> tuple[Region, slice]:
        at = bisect_right(self._starts, address) - 1
        if at < 0 or address + size > self._regions[at].stop:
            place = f"{self.space.name.lower()} bytes {address}..{address + size - 1}"
            raise TrapError(f"{place} do not lie within one memory region")
        region = self._regions[at]
        return region, slice(address - region.start, address - region.start + size)

    def read(self, address: int, size: int) -> Bytes:
        """The bytes at `address` (a view)."""
        region, where = self._find(address, size)
        return region.data[where]

    def write(self, address: int, data: Bytes) -> None:
        """Replace the bytes at `address`; the tensor behind the region stays as it was."""
        region, where = self._find(address, data.size)
        region.own()
        region.data[where] = data


Regions = dict[tuple[int, Space], list[Region]]  # by chip and space, in the order of their addresses


def load_regions(program: Program, tensors: Mapping[str, NDArray[Any]]) -> Regions:
    """The regions of all memories."""
    regions: Regions = {}
    for region in sorted(program.memory, key=lambda region: region.offset):
        loaded = Region(region.offset, region.offset + region.bytes, region.name, _contents(region, tensors))
        regions.setdefault((region.chip, region.space), []).append(loaded)
    return regions


def load_memories(
    program: Program, tensors: Mapping[str, NDArray[Any]]
) -> dict[tuple[int, Space], MemoryState]:
    """The memories of all chips, by chip and space."""
    return {key: MemoryState(key[1], found) for key, found in load_regions(program, tensors).items()}
