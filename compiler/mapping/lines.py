"""Blocks of the mesh, in the order in which they are filled with tiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from isa.hardware import Hardware

Cell = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Block:
    """Cells that are filled together: those of columns `left` to `right`, rows `top` to `bottom`, ends not included.
    `is_back`: from right to left, `is_up`: from the bottom upwards. Tiles that have a row of their own have it among
    rows `first` to `end`."""

    left: int
    right: int
    top: int
    bottom: int
    is_back: bool
    is_up: bool
    first: int
    end: int

    def cells(self) -> list[Cell]:
        """Row by row, every other row backwards."""
        xs, ys = range(self.left, self.right), range(self.top, self.bottom)
        found: list[Cell] = []
        for number, y in enumerate(reversed(ys) if self.is_up else ys):
            found += ((x, y) for x in (xs if (number % 2 == 0) is not self.is_back else reversed(xs)))
        return found


@dataclass(frozen=True, slots=True)
class Strips:
    """The mesh in `count` strips of rows, as equal as can be, each in blocks of up to `width` columns within chips,
    there and back. Tiles that have a row of their own have it in a chip in the middle."""

    count: int
    width: int

    def blocks(self, hardware: Hardware) -> Iterator[Block]:
        """All blocks, in order."""
        wide, tall = int(hardware.chip.tiles_x.value), int(hardware.chip.tiles_y.value)
        columns = _cuts(0, hardware.mesh_x, wide, self.width)
        cuts = [hardware.mesh_y * k // self.count for k in range(self.count + 1)]
        is_up = False
        for number, (top, bottom) in enumerate(pairwise(cuts)):
            is_back = number % 2 == 1
            first = (top + bottom) // 2 // tall * tall
            rows = max(first, top), min(first + tall, bottom)
            for left, right in reversed(columns) if is_back else columns:
                yield Block(left, right, top, bottom, is_back, is_up, *rows)
                is_up = not is_up


@dataclass(frozen=True, slots=True)
class Line:
    """A line through the mesh: strips `chips` chips tall, of blocks `block` x `block` tiles within chips, there and
    back, up and down in turn."""

    chips: int = 1
    block: int = 1

    def blocks(self, hardware: Hardware) -> Iterator[Block]:
        """All blocks, in order."""
        wide, tall = int(hardware.chip.tiles_x.value), int(hardware.chip.tiles_y.value)
        step, height = self.chips * tall, hardware.mesh_y
        columns = _cuts(0, hardware.mesh_x, wide, self.block)
        is_back = False
        for top in range(0, height, step):
            rows, is_up = _cuts(top, min(top + step, height), tall, self.block), False
            for left, right in reversed(columns) if is_back else columns:
                for low, high in reversed(rows) if is_up else rows:
                    yield Block(left, right, low, high, is_back, is_up, low, high)
                is_up = not is_up
            is_back = not is_back

    def cells(self, hardware: Hardware) -> Iterator[Cell]:
        """All coordinates, in order."""
        for block in self.blocks(hardware):
            yield from block.cells()


SNAKE = Line()
"""The plain line: column by column of each row of chips."""


def _cuts(first: int, end: int, chip: int, step: int) -> list[tuple[int, int]]:
    """(first, end) of pieces of a side of the mesh, none longer than `step` and none across a border of chips."""
    starts = [(origin, start) for origin in range(first, end, chip) for start in range(0, chip, step)]
    return [(origin + start, origin + min(start + step, chip)) for origin, start in starts]
