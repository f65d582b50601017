"""Where tiles lie on the mesh (docs/placement.md).

Tiles are made in the order of the data flow, and laid into blocks of the mesh, one block after another (`lines`), in
rows by the columns that they work on (`laying`). How blocks follow one another is found by trying: the layout in which
messages take least is taken (`traffic`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise

from isa.hardware import Hardware
from isa.program import HOST, Channel

from .laying import Order, lay, led
from .lines import SNAKE, Block, Cell, Line, Strips
from .traffic import Grid, Traffic, is_rooted

SAMPLE = 3000
"""Tiles by whose channels layouts are compared: some layers of a large model, all of which are alike."""
SLACK = 1.1
"""Cells over tiles in the part of the mesh that is used: some stay free so that pieces of a layer are not cut."""
LEADS = (0.25, 0.0, 0.5)
"""Shares of a unit's tiles that may lie before its hub tiles; the first is that by which shapes are compared."""
FEW = 256
"""Tiles of a mesh for which more shapes are tried."""
CHOICES = 4
"""Choices for each shape of a layout (`Layout.others`)."""
SQUEEZES = (1.0, 0.5, 0.25)
"""Shares of a block's columns over which hub tiles may lie: on few they are near each other, on many apart."""
SHAPES = 3
"""Shapes for which all leads are tried."""


@dataclass(frozen=True, slots=True)
class Crew:
    """What is placed: `count` tiles. `remote` ones lie one a chip; `units` are the first tiles of a hub stage with all
    that it feeds, `parts` those of heads and other pieces of one: each should lie on as few chips as can be.

    `hubs`: the tiles of each hub stage, in the order of their columns; `stages`: by tile the number of the stage it is
    in, ascending as the data flows; `sizes`: bytes of a row by channel.
    """

    count: int
    remote: tuple[int, ...] = ()
    units: tuple[int, ...] = ()
    parts: tuple[int, ...] = ()
    hubs: tuple[tuple[int, ...], ...] = ()
    stages: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()

    def first(self, count: int) -> Crew:
        """The first tiles of it."""
        if count >= self.count:
            return self
        hubs = tuple(hub for hub in self.hubs if hub[-1] < count)
        rest = [tuple(t for t in own if t < count) for own in (self.remote, self.units, self.parts)]
        return replace(
            self,
            count=count,
            remote=rest[0],
            units=rest[1],
            parts=rest[2],
            hubs=hubs,
            stages=self.stages[:count],
        )

    def slices(self, channels: Sequence[Channel]) -> dict[int, float]:
        """The middle of the columns on which a tile works, as a share of them all: of hub tiles, and of tiles that send
        some of them what they add up."""
        found = {tile: (at + 0.5) / len(hub) for hub in self.hubs for at, tile in enumerate(hub)}
        sent: dict[int, list[float]] = {}
        for channel in channels:
            dest = channel.dests[0].tile
            if len(channel.dests) == 1 and dest in found:
                for end in channel.sources:
                    if end.tile not in found and end.tile != HOST:
                        sent.setdefault(end.tile, []).append(found[dest])
        apart = set(self.remote)
        near = {t: own for t, own in sent.items() if max(own) - min(own) < 0.5 and t not in apart}
        return found | {tile: sum(own) / len(own) for tile, own in near.items()}


@dataclass(frozen=True, slots=True)
class Layout:
    """A way to lay tiles: into which blocks, the share `lead` of a unit before its hub tiles; `is_aligned`: cells stay
    free where pieces then lie on fewer blocks; `is_rowed`: tiles that work on the same columns lie in the same row;
    `squeeze`: the share of a block's columns over which hub tiles lie."""

    shape: Line | Strips
    lead: float = LEADS[0]
    is_aligned: bool = True
    is_rowed: bool = True
    squeeze: float = 1.0

    def others(self) -> Iterator[tuple[Layout, ...]]:
        """Layouts of the same shape, by the choice in which they differ."""
        yield tuple(replace(self, lead=lead) for lead in LEADS if lead != self.lead)
        yield (replace(self, is_aligned=not self.is_aligned),)
        yield (replace(self, is_rowed=not self.is_rowed, lead=0.0),)
        yield tuple(replace(self, squeeze=squeeze) for squeeze in SQUEEZES if squeeze != self.squeeze)


def place(crew: Crew, channels: Sequence[Channel], hardware: Hardware, *, tries: bool) -> list[Cell]:
    """Coordinates of the tiles. Past the target's last tile they are (-1, -1).

    Remote tiles lie on the chips nearest to the first tile's. `tries`: layouts are compared, else the plain line is
    taken.
    """
    if not tries or crew.count > hardware.tiles:
        cells, lonely = _blocks(SNAKE, crew, hardware)
        others = [tile for tile in range(crew.count) if tile not in set(crew.remote)]
        plain = Order(others, {}, frozenset(), {})
        found = lay(plain, iter(cells), set(lonely), 0) | dict(zip(crew.remote, lonely, strict=False))
        return [found.get(tile, (-1, -1)) for tile in range(crew.count)]
    return _Placer(crew, channels, _corner(crew, hardware)).best()


class _Placer:
    """Compares layouts."""

    def __init__(self, crew: Crew, channels: Sequence[Channel], hardware: Hardware) -> None:
        self.crew, self.hardware = crew, hardware
        self.slices = crew.slices(channels)
        self.sample = crew.first(SAMPLE)
        sizes = crew.sizes or (1,) * len(channels)
        self.traffic = Traffic(self.sample.count, channels, sizes, crew.stages or (0,) * crew.count)
        self.grid = Grid(hardware)
        self.blocks: dict[tuple[Line | Strips, int], tuple[list[Block], list[Cell]]] = {}
        self.orders: dict[tuple[float, int], Order] = {}

    def best(self) -> list[Cell]:
        """The cells in the best layout: of the best shapes, one choice after another is changed."""
        layouts = [Layout(shape) for shape in shapes(self.hardware)]
        if self.hardware.tiles <= FEW:
            layouts += [Layout(layout.shape, 0.0, is_rowed=False) for layout in layouts]
        costs = {layout: self.cost(layout) for layout in layouts}
        for layout in sorted(costs, key=lambda layout: costs[layout])[:SHAPES]:
            best = layout
            for number in range(CHOICES):
                tried = {other: self.cost(other) for other in list(best.others())[number]}
                costs |= tried
                best = min((best, *tried), key=lambda layout: costs[layout])
        return self.cells(min(costs, key=lambda layout: costs[layout]), self.crew)

    def cost(self, layout: Layout) -> float:
        """What messages take in it, of the first tiles."""
        times = self.crew.count / max(self.sample.count, 1)
        return self.traffic.cost(self.cells(layout, self.sample), self.grid, times)

    def cells(self, layout: Layout, crew: Crew) -> list[Cell]:
        """The cells of these tiles."""
        key = layout.shape, crew.count
        if key not in self.blocks:
            self.blocks[key] = _blocks(layout.shape, crew, self.hardware)
        blocks, lonely = self.blocks[key]
        at = layout.lead, crew.count
        if at not in self.orders:
            self.orders[at] = order_of(crew, layout.lead)
        order = replace(
            self.orders[at], slices=self.slices if layout.is_rowed else {}, squeeze=layout.squeeze
        )
        spare = self.hardware.tiles - crew.count if layout.is_aligned else 0
        found = lay(order, iter(blocks), set(lonely), spare)
        found |= dict(zip(crew.remote, lonely, strict=True))
        return [found[tile] for tile in range(crew.count)]


def shapes(hardware: Hardware) -> Iterator[Line | Strips]:
    """Shapes of layouts to compare."""
    side = int(max(hardware.chip.tiles_x.value, hardware.chip.tiles_y.value))
    chips_y, is_small = int(hardware.system.chips_y.value), hardware.tiles <= FEW
    sizes = [n for n in (1, 2, 4, side) if n <= side] if is_small else [side]
    for chips in range(1, min(chips_y, 5) + 1):
        yield from (Line(chips, block) for block in dict.fromkeys(sizes))
    widths = [side // 4, side // 2, side] if is_small else [side // 2, side]
    for height in (1, 2, 2.5, 3, 4, 5):
        count = max(round(chips_y / height), 1)
        if count * height <= chips_y + 1 and height <= chips_y:
            new = [
                n for n in dict.fromkeys(widths) if n and (height > 1 or n < side)
            ]  # else as the first line
            yield from (Strips(count, width) for width in new)


def order_of(crew: Crew, lead: float) -> Order:
    """The order in which tiles are laid down if the share `lead` of each unit's comes before its hub tiles."""
    hubs, apart = frozenset(tile for hub in crew.hubs for tile in hub), set(crew.remote)
    begins = frozenset((*crew.parts, *crew.units))
    units = sorted({0, *crew.units, crew.count})
    tiles: list[int] = []
    for first, end in pairwise(units):
        tiles += led([tile for tile in range(first, end) if tile not in apart], hubs, begins, lead)
    return Order(tiles, {}, hubs, _pieces(crew, tiles, hubs))


def _pieces(crew: Crew, tiles: Sequence[int], hubs: frozenset[int]) -> dict[int, list[int]]:
    """Sizes of units, parts and hub stages, by the place in the order at which one begins."""
    at = {tile: place for place, tile in enumerate(tiles)}
    found: dict[int, list[int]] = {}
    units = sorted({0, *crew.units, crew.count})
    for starts in (units, sorted({*units, *crew.parts})):
        for first, end in pairwise(starts):
            own = [at[tile] for tile in range(first, end) if tile in at and tile not in hubs]
            if own:
                found.setdefault(own[0], []).append(len(own))
    for hub in crew.hubs:
        found.setdefault(at[hub[0]], []).append(len(hub))
    return found


def _corner(crew: Crew, hardware: Hardware) -> Hardware:
    """The part of the mesh at the host that is used: chips for all tiles and some more, about as wide as tall."""
    system = hardware.system
    wide, tall = int(system.chips_x.value), int(system.chips_y.value)
    chips = max(math.ceil(SLACK * crew.count / hardware.tiles_per_chip), len(crew.remote), 1)
    across = min(wide, math.ceil(math.sqrt(chips)))
    down = min(tall, math.ceil(chips / across))
    across = min(wide, math.ceil(chips / down))
    sides = {
        name: getattr(system, name).model_copy(update={"value": float(size)})
        for name, size in (("chips_x", across), ("chips_y", down))
    }
    return hardware.model_copy(update={"system": system.model_copy(update=sides)})


def _blocks(shape: Line | Strips, crew: Crew, hardware: Hardware) -> tuple[list[Block], list[Cell]]:
    """The blocks of a shape, and the cells of remote tiles: on as many chips near the first cell's, the middle one of
    each; several a chip if there are too few."""
    blocks = list(shape.blocks(hardware))
    if not crew.remote:
        return blocks, []
    wide, tall = int(hardware.chip.tiles_x.value), int(hardware.chip.tiles_y.value)
    chips: dict[Cell, list[Cell]] = {}
    for block in blocks:
        for x, y in block.cells():
            chips.setdefault((x // wide, y // tall), []).append((x, y))
    (u, v), *_ = chips
    nearest = sorted(chips, key=lambda chip: abs(chip[0] - u) + abs(chip[1] - v))[: len(crew.remote)]
    middle = tall * wide // 2
    queues = [[*chips[chip][middle:], *reversed(chips[chip][:middle])] for chip in nearest]
    return blocks, list(islice(_in_turn(queues), len(crew.remote)))


def _in_turn(queues: list[list[Cell]]) -> Iterator[Cell]:
    """The first of each queue, then the second of each, ..."""
    for number in range(max(map(len, queues))):
        yield from (queue[number] for queue in queues if number < len(queue))


def from_the_middle(channel: Channel, cells: Sequence[Cell]) -> Channel:
    """A channel that combines values for several tiles with its receivers in an order that begins in their middle:
    the network combines on the way to the first of them."""
    if not is_rooted(channel):
        return channel
    tiles = [end.tile for end in (*channel.sources, *channel.dests)]
    xs, ys = zip(*(cells[tile] for tile in tiles), strict=True)
    x, y = int(min(xs) + max(xs)), int(min(ys) + max(ys))

    def way(at: int) -> int:
        own_x, own_y = cells[channel.dests[at].tile]
        return abs(2 * own_x - x) + abs(2 * own_y - y)

    root = min(range(len(channel.dests)), key=way)
    dests = (channel.dests[root], *channel.dests[:root], *channel.dests[root + 1 :])
    return replace(channel, dests=dests)
