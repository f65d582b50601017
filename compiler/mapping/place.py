"""Where tiles lie on the mesh.

Tiles are made in the order of the data flow, so neighbours in this order talk most. They are laid along a line that
fills the mesh in compact patches: the chips in strips, a strip column by column of small blocks, up and down in turn,
the cells of a block row by row. How wide strips and blocks are is found by trying: the layout in which the messages of
all channels travel least is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, islice

import numpy as np
from numpy.typing import NDArray

from isa.hardware import Hardware
from isa.program import HOST, Channel

Cell = tuple[int, int]
SAMPLE = 3000
"""Tiles by whose channels layouts are compared: some layers of a large model, all of which are alike."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line through the mesh: strips `chips` chips tall, of blocks `block` x `block` tiles within chips. `is_aligned`:
    it goes on at the next chip rather than cut a unit of tiles that belong together in more pieces than need be."""

    chips: int = 1
    block: int = 1
    is_aligned: bool = False

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


@dataclass(frozen=True, slots=True)
class Crew:
    """What is placed: `count` tiles. `remote` ones lie one a chip; `units` are the first tiles of a hub stage with all
    that it feeds, `parts` those of heads and other pieces of one: each should lie on as few chips as can be."""

    count: int
    remote: tuple[int, ...] = ()
    units: tuple[int, ...] = ()
    parts: tuple[int, ...] = ()

    def pieces(self) -> dict[int, list[int]]:
        """Sizes of units and of parts, by the tile that begins one: its number among those that are not remote."""
        gone = set(self.remote)
        before = list(accumulate((tile not in gone for tile in range(self.count)), initial=0))
        found: dict[int, list[int]] = {}
        for starts in (sorted({0, *self.units}), sorted({0, *self.units, *self.parts})):
            for first, end in zip(starts, [*starts[1:], self.count], strict=True):
                found.setdefault(before[first], []).append(before[end] - before[first])
        return found


def place(crew: Crew, channels: Sequence[Channel], hardware: Hardware, *, tries: bool) -> list[Cell]:
    """Coordinates of the tiles. Past the target's last tile they are (-1, -1).

    Remote tiles lie on the chips nearest to the first tile's. `tries`: layouts are compared, else the plain line is
    taken.
    """
    if not tries or crew.count > hardware.tiles:
        return _layout(SNAKE, crew, hardware)
    ways = _Ways(min(crew.count, SAMPLE), channels)
    layouts = (_layout(line, crew, hardware) for line in _lines(hardware))
    return min(layouts, key=lambda cells: ways.cost(cells, hardware))


def _lines(hardware: Hardware) -> Iterator[Line]:
    strips = [n for n in (1, 2, 3, 4) if n <= hardware.system.chips_y.value]
    most = max(hardware.chip.tiles_x.value, hardware.chip.tiles_y.value)
    for is_aligned in (False, True) if hardware.tiles > hardware.tiles_per_chip else (False,):
        for chips in strips:
            yield from (Line(chips, block, is_aligned) for block in (1, 2, 4, 8) if block <= most)


def _layout(line: Line, crew: Crew, hardware: Hardware) -> list[Cell]:
    """The tiles along a line."""
    cells = list(line.cells(hardware))
    apart = set(crew.remote)
    lonely = _apart(cells, len(apart), hardware)
    taken = set(lonely)
    cells = [cell for cell in cells if cell not in taken]
    if line.is_aligned:
        cells = _aligned(cells, crew.pieces(), crew.count - len(apart), hardware)
    near, rest = iter(lonely), iter(cells)
    return [next(near if tile in apart else rest, (-1, -1)) for tile in range(crew.count)]


def _aligned(
    cells: Sequence[Cell], pieces: Mapping[int, list[int]], count: int, hardware: Hardware
) -> list[Cell]:
    """The cells for `count` tiles, chip by chip: a piece of so many tiles begins a chip if it then lies on fewer, while
    there are cells enough."""
    chips: dict[int, list[Cell]] = {}
    for cell in cells:
        chips.setdefault(hardware.chip_of(*cell), []).append(cell)
    each, spare = hardware.tiles_per_chip, len(cells) - count
    queue = list(chips.values())
    found: list[Cell] = []
    chip = at = 0
    for tile in range(min(count, len(cells))):
        while at == len(queue[chip]):
            chip, at = chip + 1, 0
        left = len(queue[chip]) - at
        for size in pieces.get(tile, ()):
            if at and left < size and 1 - -(size - left) // each > -(-size // each) and left <= spare:
                chip, at, spare = chip + 1, 0, spare - left
                break
        found.append(queue[chip][at])
        at += 1
    return found


def _apart(cells: Sequence[Cell], count: int, hardware: Hardware) -> list[Cell]:
    """Cells on `count` chips near the first cell's, the middle one of each; several a chip if there are too few."""
    if not count:
        return []
    chips: dict[int, list[Cell]] = {}
    for cell in cells:
        chips.setdefault(hardware.chip_of(*cell), []).append(cell)
    wide, tall = int(hardware.chip.tiles_x.value), int(hardware.chip.tiles_y.value)

    def way(own: list[Cell]) -> int:
        (x, y), (u, v) = own[0], cells[0]
        return abs(x // wide - u // wide) + abs(y // tall - v // tall)

    nearest = sorted(chips.values(), key=way)[:count]
    queues = [sorted(own, key=lambda cell: abs(own.index(cell) - len(own) // 2)) for own in nearest]
    return list(islice(_in_turn(queues), count))


def _in_turn(queues: list[list[Cell]]) -> Iterator[Cell]:
    """The first of each queue, then the second of each, ..."""
    for number in range(max(map(len, queues))):
        yield from (queue[number] for queue in queues if number < len(queue))


def from_the_middle(channel: Channel, cells: Sequence[Cell]) -> Channel:
    """A channel that combines values for several tiles with its receivers in an order that begins in their middle:
    the network combines on the way to the first of them."""
    tiles = [end.tile for end in (*channel.sources, *channel.dests)]
    if len(channel.sources) < 2 or len(channel.dests) < 2 or HOST in tiles:
        return channel
    xs, ys = zip(*(cells[tile] for tile in tiles), strict=True)
    x, y = int(min(xs) + max(xs)), int(min(ys) + max(ys))

    def way(at: int) -> int:
        own_x, own_y = cells[channel.dests[at].tile]
        return abs(2 * own_x - x) + abs(2 * own_y - y)

    root = min(range(len(channel.dests)), key=way)
    dests = (channel.dests[root], *channel.dests[:root], *channel.dests[root + 1 :])
    return replace(channel, dests=dests)


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

    def cost(self, cells: Sequence[Cell], hardware: Hardware) -> float:
        """The cycles of the longest way of each channel, added up."""
        if not len(self.owner):
            return 0.0
        at = np.array(cells[: self.count], np.int64)
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
