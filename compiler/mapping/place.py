"""Where tiles lie on the mesh.

Tiles are made in the order of the data flow, so neighbours in this order talk most. They are laid along a line that
fills the mesh in compact patches: the chips in strips, a strip column by column of small blocks, up and down in turn,
the cells of a block row by row. How wide strips and blocks are is found by trying: the layout in which the messages of
all channels travel least is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from isa.hardware import Hardware
from isa.program import HOST, Channel

Cell = tuple[int, int]
SAMPLE = 3000
"""Tiles by whose channels layouts are compared: some layers of a large model, all of which are alike."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line through the mesh: strips `chips` chips tall, of blocks `block` x `block` tiles within chips."""

    chips: int = 1
    block: int = 1

    def cells(self, hardware: Hardware) -> Iterator[Cell]:
        """All coordinates, in order."""
        tiles_x, tiles_y = int(hardware.chip.tiles_x.value), int(hardware.chip.tiles_y.value)
        chips_y = int(hardware.system.chips_y.value)
        columns = _cuts(int(hardware.system.chips_x.value), tiles_x, self.block)
        is_back = False
        for top in range(0, chips_y, self.chips):
            rows, is_up = _cuts(min(self.chips, chips_y - top), tiles_y, self.block), False
            for left, right in reversed(columns) if is_back else columns:
                for low, high in reversed(rows) if is_up else rows:
                    yield from _block(
                        (left, right), (top * tiles_y + low, top * tiles_y + high), is_up, is_back
                    )
                is_up = not is_up
            is_back = not is_back


def _cuts(chips: int, tiles: int, step: int) -> list[tuple[int, int]]:
    """(first, end) of the pieces of a row of chips, none longer than `step` and none across a border of chips."""
    starts = [(chip * tiles, start) for chip in range(chips) for start in range(0, tiles, step)]
    return [(origin + start, origin + min(start + step, tiles)) for origin, start in starts]


def _block(columns: Cell, rows: Cell, is_up: bool, is_back: bool) -> Iterator[Cell]:
    """The cells of a block row by row, every other row backwards."""
    xs, ys = range(*columns), range(*rows)
    for number, y in enumerate(reversed(ys) if is_up else ys):
        yield from ((x, y) for x in (xs if (number % 2 == 0) is not is_back else reversed(xs)))


SNAKE = Line()
"""The plain line: column by column of each row of chips."""


def place(
    count: int, channels: Sequence[Channel], hardware: Hardware, remote: Sequence[int] = (), *, tries: bool
) -> list[Cell]:
    """Coordinates of `count` tiles. Past the target's last tile they are (-1, -1).

    `remote` tiles lie one a chip, on the chips in use in the order of the line, as far as these reach. `tries`: lines
    are compared, else the plain one is taken.
    """
    line = _best(min(count, hardware.tiles), channels, hardware) if tries else SNAKE
    cells = list(islice(line.cells(hardware), count))
    cells += [(-1, -1)] * (count - len(cells))
    return _spread(cells, remote, hardware) if remote else cells


def _spread(cells: list[Cell], remote: Sequence[int], hardware: Hardware) -> list[Cell]:
    """The cells with those for remote tiles taken out: the middle one of each chip's, in turn."""
    chips: dict[int, list[Cell]] = {}
    for x, y in cells:
        chips.setdefault(hardware.chip_of(x, y), []).append((x, y))
    queues = [sorted(own, key=lambda cell: abs(own.index(cell) - len(own) // 2)) for own in chips.values()]
    taken = dict(zip(remote, _in_turn(queues), strict=False))
    left = (cell for cell in cells if cell not in set(taken.values()))
    return [taken[index] if index in taken else next(left) for index in range(len(cells))]


def _in_turn(queues: list[list[Cell]]) -> Iterator[Cell]:
    """The first of each queue, then the second of each, ..."""
    for number in range(max(map(len, queues))):
        yield from (queue[number] for queue in queues if number < len(queue))


def _best(count: int, channels: Sequence[Channel], hardware: Hardware) -> Line:
    ways = _Ways(min(count, SAMPLE), channels)
    strips = [n for n in (1, 2, 3, 4) if n <= hardware.system.chips_y.value]
    most = max(hardware.chip.tiles_x.value, hardware.chip.tiles_y.value)
    lines = [Line(chips, block) for chips in strips for block in (1, 2, 4, 8) if block <= most]
    return min(lines, key=lambda line: ways.cost(line, hardware))


class _Ways:
    """The channels among the first tiles, as pairs of tiles: from senders to the first receiver, from there to the
    others."""

    def __init__(self, count: int, channels: Sequence[Channel]) -> None:
        self.count = count
        starts: list[int] = []
        ends: list[int] = []
        owners: list[int] = []
        for number, channel in enumerate(channels):
            sources = [e.tile for e in channel.sources]
            dests = [e.tile for e in channel.dests]
            if HOST in (*sources, *dests) or max(*sources, *dests) >= count:
                continue
            root = sources[0] if len(sources) == 1 else dests[0]
            pairs = [(s, root) for s in sources if s != root] + [(root, d) for d in dests if d != root]
            starts += [s for s, _ in pairs]
            ends += [d for _, d in pairs]
            owners += [number] * len(pairs)
        self.start, self.end = np.array(starts, np.int64), np.array(ends, np.int64)
        self.owner: NDArray[np.int64] = np.array(owners, np.int64)

    def cost(self, line: Line, hardware: Hardware) -> float:
        """The cycles of the longest way of each channel, added up."""
        if not len(self.owner):
            return 0.0
        at = np.array(list(islice(line.cells(hardware), self.count)), np.int64)
        chip = at // (int(hardware.chip.tiles_x.value), int(hardware.chip.tiles_y.value))
        hops = np.abs(at[self.start] - at[self.end]).sum(axis=1)
        borders = np.abs(chip[self.start] - chip[self.end]).sum(axis=1)
        hop, border = (
            hardware.cycles(hardware.network.hop_latency),
            hardware.cycles(hardware.chip_link.latency),
        )
        cycles = (hops - borders) * hop + borders * border
        longest = np.zeros(int(self.owner[-1]) + 1)
        np.maximum.at(longest, self.owner, cycles)
        return float(longest.sum())
