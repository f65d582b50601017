"""The order in which tiles of the mesh are filled."""

from __future__ import annotations

from collections.abc import Iterator

from isa.hardware import Hardware


def _snake(width: int, height: int) -> Iterator[tuple[int, int]]:
    """All cells of a grid, row by row, every other row backwards, so that successive cells are neighbours."""
    for y in range(height):
        row = range(width) if y % 2 == 0 else range(width - 1, -1, -1)
        yield from ((x, y) for x in row)


def coordinates(hardware: Hardware) -> Iterator[tuple[int, int]]:
    """Global coordinates of all tiles: chip after chip, a snake over chips and a snake within each.

    Work is created in the order of the data flow, so neighbours in this order talk most.
    """
    tiles_x, tiles_y = int(hardware.chip.tiles_x.value), int(hardware.chip.tiles_y.value)
    for chip_x, chip_y in _snake(int(hardware.system.chips_x.value), int(hardware.system.chips_y.value)):
        for x, y in _snake(tiles_x, tiles_y):
            yield chip_x * tiles_x + x, chip_y * tiles_y + y
