"""Tiles laid into blocks of the mesh, those that work on the same columns in the same row.

In a block, tiles of a hub stage and those that send them sums have rows of their own by the columns on which they work.
So what a hub tile multicasts goes along its own row, and up and down in many columns; sums for one hub tile come
together in a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .lines import Block, Cell


@dataclass(frozen=True, slots=True)
class Order:
    """Tiles in the order in which they are laid down.

    `slices`: of tiles that have a row, the middle of the columns on which they work, as a share of all; `hubs`: those
    of hub stages. `pieces`: sizes of the pieces that begin at a place of the order, which should lie on as few blocks
    as can be. `squeeze`: over which share of a block's columns the hub tiles of a stage lie, in its middle.
    """

    tiles: Sequence[int]
    slices: Mapping[int, float]
    hubs: frozenset[int]
    pieces: Mapping[int, Sequence[int]]
    squeeze: float = 1.0


def lay(order: Order, blocks: Iterator[Block], taken: set[Cell], spare: int) -> dict[int, Cell]:
    """Cells of the tiles, none of them in `taken`. Up to `spare` cells stay free where a piece is then less cut."""
    found: dict[int, Cell] = {}
    at, total = 0, len(order.tiles)
    for block in blocks:
        if at >= total:
            break
        cells = [cell for cell in block.cells() if cell not in taken]
        count = min(_fitting(order, at, len(cells), spare), total - at)
        if at + count < total:
            spare -= len(cells) - count
        found |= _fill(block, cells, order, range(at, at + count))
        at += count
    return found


def _fitting(order: Order, at: int, room: int, spare: int) -> int:
    """How many tiles from place `at` on go to a block of `room` cells: no piece begins in it that fits a block and
    would be cut, if there are cells to spare."""
    for start in range(at + max(room - spare, 1), at + room):
        if any(start + size > at + room and size <= room for size in order.pieces.get(start, ())):
            return start - at
    return room


def _fill(block: Block, cells: list[Cell], order: Order, places: range) -> dict[int, Cell]:
    """The tiles of a block: hub tiles each in a row and a column of its own, others that have a row near it, then the
    rest in order."""
    found: dict[int, Cell] = {}
    tiles = [order.tiles[place] for place in places]
    free = np.array(cells, np.int64).reshape(-1, 2)
    wide = block.right - block.left
    rowed = [
        (tile not in order.hubs, number, tile) for number, tile in enumerate(tiles) if tile in order.slices
    ]
    for is_other, number, tile in sorted(rowed):
        share = order.slices[tile]
        y = block.first + share * (block.end - block.first) - 0.5
        along = number / len(tiles) if is_other else 0.5 + order.squeeze * (share - 0.5)
        x = along * wide - 0.5
        x = block.right - 1 - x if block.is_back and is_other else block.left + x
        best = int((np.abs(free[:, 1] - y) + 0.5 * np.abs(free[:, 0] - x)).argmin())
        found[tile] = int(free[best, 0]), int(free[best, 1])
        free[best] = 1 << 20
    own = set(found.values())
    rest = iter(cell for cell in cells if cell not in own)
    return found | {tile: next(rest) for tile in tiles if tile not in found}


def led(unit: Sequence[int], hubs: frozenset[int], begins: frozenset[int], lead: float) -> list[int]:
    """The tiles of a unit, its hub tiles behind the share `lead` of the others, at the beginning of a piece."""
    own = [tile for tile in unit if tile in hubs]
    others = [tile for tile in unit if tile not in hubs]
    wanted = lead * len(others)
    starts = [k for k, tile in enumerate(others) if tile in begins and own] or [0]
    before = min((0, *starts, len(others)), key=lambda k: abs(k - wanted)) if lead else 0
    return others[:before] + own + others[before:]
