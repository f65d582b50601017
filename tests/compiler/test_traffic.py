"""Where tiles lie, and what links carry by the placer's count: as the simulator's network has it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compiler.mapping.laying import Order, lay
from compiler.mapping.lines import Block, Line, Strips
from compiler.mapping.place import Crew, from_the_middle, place
from compiler.mapping.traffic import Grid, Traffic
from compiler.optimisations import Optimisation
from isa.events import Resource, Sink
from isa.hardware import Hardware
from isa.program import HOST, Channel, Endpoint, Limits, Program, Reduce, Segment, Tile, segments_of
from isa.timing.critical import Records
from runtime.timing import Simulator
from runtime.timing.network import Network

from .building import Choices, program_of, tiny, with_quantity
from .graphs import Shape, decoder

MESH = 12, 8
LIMITS = Limits(64, chunk=1)
SHAPES = [Line(1, 1), Line(1, 4), Line(2, 2), Strips(1, 1), Strips(1, 2), Strips(2, 4), Strips(3, 4)]


def _system(tiles: int, chips_x: int, chips_y: int) -> Hardware:
    return with_quantity(
        with_quantity(tiny(tiles), "system", "chips_x", chips_x), "system", "chips_y", chips_y
    )


def _narrow() -> Hardware:
    """3 x 2 chips of 4 x 4 tiles; links between chips are narrower than others."""
    hardware = _system(4, 3, 2)
    return with_quantity(hardware, "chip_link", "bandwidth", hardware.chip_link.bandwidth.value / 3)


@st.composite
def _channels(draw: st.DrawFn, tiles: int = 20) -> list[Channel]:
    """From one tile to one, one to many, many to one, many to many, from and to the host."""
    found = []
    for number in range(draw(st.integers(1, 6))):
        ends = st.lists(st.integers(0, tiles - 1), min_size=1, max_size=6, unique=True)
        sources, dests = draw(ends), draw(ends)
        host = draw(st.integers(0, 7))
        sources, dests = [HOST] if host == 0 else sources, [HOST] if host == 1 else dests
        kind = Reduce.SUM if len(sources) > 1 else Reduce.NONE
        own = [tuple(Endpoint(tile, 0) for tile in side) for side in (sources, dests)]
        found.append(Channel(f"c{number}", own[0], own[1], kind))
    return found


def _carried(network: Network, mesh: tuple[int, int]) -> NDArray[np.int64]:
    """Busy cycles of all links of a network, as `Loads.along` has them."""
    wide, tall = mesh
    found = np.zeros((4, tall, wide), np.int64)
    for y, x in itertools.product(range(tall), range(wide)):
        for kind, (dx, dy) in enumerate(((1, 0), (-1, 0), (0, 1), (0, -1))):
            if 0 <= x + dx < wide and 0 <= y + dy < tall:
                found[kind, y, x] = network.link(y * wide + x, (y + dy) * wide + x + dx).busy
    return found


CELLS = st.permutations([(x, y) for x in range(MESH[0]) for y in range(MESH[1])]).map(
    lambda cells: cells[:20]
)


@settings(max_examples=60)
@given(CELLS, _channels(), st.data())
def test_links_carry_what_the_network_says(
    cells: list[tuple[int, int]], channels: list[Channel], data: st.DataObject
) -> None:
    """Any channels among any tiles: the same cycles on every link, the same longest ways."""
    hardware, records = _narrow(), Records()
    sizes = [data.draw(st.integers(1, 300)) for _ in channels]
    channels = [from_the_middle(channel, cells) for channel in channels]
    tiles = tuple(Tile(f"t{n}", "", x, y) for n, (x, y) in enumerate(cells))
    network = Network(hardware, Program(hardware, LIMITS, (), tiles))
    for number, (channel, size) in enumerate(zip(channels, sizes, strict=True)):
        ready, record = 10_000 * number, records.add(0, -1, False, 0, 0, 0)  # none right behind another
        network.transmit(network.plan(channel), size, ready, record, records)
    traffic, grid = Traffic(20, channels, sizes, [0] * 20), Grid(hardware)
    np.testing.assert_array_equal(traffic.loads(cells, grid, 1).along, _carried(network, MESH))


@settings(max_examples=40)
@given(CELLS, _channels())
def test_ways_are_as_long_as_the_network_says(cells: list[tuple[int, int]], channels: list[Channel]) -> None:
    """Of messages without bytes, of which nothing is made on the way."""
    hardware, records = with_quantity(_narrow(), "network", "reduce_latency", 0), Records()
    hardware = with_quantity(hardware, "network", "max_latency", 0)
    channels = [from_the_middle(channel, cells) for channel in channels]
    tiles = tuple(Tile(f"t{n}", "", x, y) for n, (x, y) in enumerate(cells))
    network = Network(hardware, Program(hardware, LIMITS, (), tiles))
    ways = Traffic(20, channels, [1] * len(channels), [0] * 20).ways(cells, Grid(hardware))
    for channel, way in zip(channels, ways, strict=True):
        record = records.add(0, -1, False, 0, 0, 0)
        journey = network.transmit(network.plan(channel), 0, 0, record, records)
        hosts = HOST in (channel.sources[0].tile, channel.dests[0].tile)
        late = hosts * hardware.cycles(hardware.host_link.latency)
        assert way == max(arrival.end for arrival in journey.arrivals) - late


@pytest.fixture(scope="module", params=[1, 4])
def pair(request: pytest.FixtureRequest) -> tuple[Program, Program]:
    """A decoder on one chip or on four, with tiles placed and in a plain line."""
    side = int(request.param**0.5)
    hardware = _system(12 // side, side, side)
    choices = Choices(128, hub_width=16)
    return (
        program_of(decoder(WIDE), hardware, choices),
        program_of(decoder(WIDE), hardware, replace(choices, without=frozenset({Optimisation.PLACEMENT}))),
    )


WIDE = Shape(width=64, layers=2, heads=4, kv_heads=4, inner=128)


def test_links_of_a_program_carry_what_the_placer_says(pair: tuple[Program, Program]) -> None:
    """A step of one row: the bytes of every message from the simulator, the cycles of all links from the placer. Fewer
    where messages that follow one another share a cycle of a link."""
    for program in pair:
        sizes = _Sizes(len(program.channels))
        cost = Simulator(program).step([Segment(1, 40, 1)], cast(Sink, sizes))
        cells = [(tile.x, tile.y) for tile in program.tiles]
        traffic = Traffic(len(cells), program.channels, sizes.found, [0] * len(cells))
        busy = cost.busy[Resource.LINKS] + cost.busy[Resource.CHIP_LINKS]
        counted = int(traffic.loads(cells, Grid(program.target), 1).along.sum())
        assert 0.9 * counted <= busy <= counted


def test_placed_tiles_take_less_time(pair: tuple[Program, Program]) -> None:
    placed, plain = (Simulator(program) for program in pair)
    for rows in (1, 16):
        segments = segments_of(rows, 40, pair[0].limits.chunk)
        assert placed.step(segments).cycles <= plain.step(segments).cycles


@settings(max_examples=40)
@given(st.data())
def test_every_tile_has_a_cell_of_its_own(data: st.DataObject) -> None:
    """Whatever the layout, the pieces, the rows and what is taken already."""
    hardware = _system(4, 3, 3)
    count = data.draw(st.integers(1, 120))
    shape, spare = (
        data.draw(st.sampled_from(SHAPES)),
        data.draw(st.integers(0, 144 - 24 - count if count < 120 else 0)),
    )
    taken = set(data.draw(st.permutations([(x, y) for x in range(12) for y in range(12)]))[:24])
    rowed = data.draw(st.lists(st.integers(0, count - 1), max_size=30, unique=True))
    slices = {tile: data.draw(st.floats(0, 1)) for tile in rowed}
    pieces = {
        start: [size]
        for start, size in data.draw(st.dictionaries(st.integers(0, count), st.integers(1, 30))).items()
    }
    order = Order(list(range(count)), slices, frozenset(rowed[:5]), pieces)
    cells = lay(order, shape.blocks(hardware), taken, spare)
    assert sorted(cells) == list(range(count))
    assert len(set(cells.values())) == count
    assert not taken & set(cells.values())
    assert all(0 <= x < 12 and 0 <= y < 12 for x, y in cells.values())


def test_hub_tiles_lie_in_rows_of_their_own_and_sums_come_along_them() -> None:
    """A hub of 4 tiles, 40 tiles that it feeds, 8 that send sums to the next hub of 4."""
    hardware = _system(4, 4, 1)
    first, fed, senders, second = range(4), range(4, 44), range(44, 52), range(52, 56)
    ends = [Endpoint(tile, 0) for tile in range(56)]
    channels = [Channel(f"feed{h}", (ends[h],), tuple(ends[t] for t in fed)) for h in first]
    channels += [
        Channel(f"sum{h}", tuple(ends[t] for t in senders[n::4]), (ends[h],), Reduce.SUM)
        for n, h in enumerate(second)
    ]
    stages = [stage for stage, own in enumerate((first, fed, senders, second)) for _ in own]
    crew = Crew(
        56,
        units=(0, 52),
        hubs=(tuple(first), tuple(second)),
        stages=tuple(stages),
        sizes=(256,) * len(channels),
    )
    cells = place(crew, channels, hardware, tries=True)
    for hub in (first, second):
        assert len({cells[tile][1] for tile in hub}) == 4
    plain = place(crew, channels, hardware, tries=False)
    traffic, grid = Traffic(56, channels, crew.sizes, stages), Grid(hardware)
    assert traffic.cost(cells, grid) <= traffic.cost(plain, grid)


def test_more_chips_do_not_change_where_tiles_lie() -> None:
    """The part of the mesh that tiles take is the one at the host, however large the rest is."""
    ends = [Endpoint(tile, 0) for tile in range(40)]
    channels = [Channel("all", (ends[0],), tuple(ends[1:]))]
    assert place(Crew(40), channels, _system(4, 3, 3), tries=True) == place(
        Crew(40), channels, _system(4, 5, 4), tries=True
    )


class _Sizes:
    """Bytes of the messages on each channel."""

    def __init__(self, channels: int) -> None:
        self.found = [0] * channels

    def on_message(
        self, channel: int, start: int, end: int, sources: object, dests: object, size: int
    ) -> None:
        """A message has arrived."""
        assert not self.found[channel], "one message a channel"
        self.found[channel] = size

    def __getattr__(self, name: str) -> object:
        return lambda *args, **kwargs: None


def test_hub_tiles_that_are_squeezed_keep_their_rows() -> None:
    hubs = tuple(range(8))
    order = Order(hubs, {tile: (tile + 0.5) / 8 for tile in hubs}, frozenset(hubs), {})
    for squeeze in (1.0, 0.5, 0.25):
        cells = lay(replace(order, squeeze=squeeze), iter([Block(0, 8, 0, 8, False, False, 0, 8)]), set(), 0)
        assert {y for _, y in cells.values()} == set(range(8))
        assert len({x for x, _ in cells.values()}) == 8 * squeeze


def test_a_deep_model_weighs_the_way_of_a_row_more() -> None:
    channels = [Channel("c", (Endpoint(0, 0),), (Endpoint(1, 0),))]
    traffic, grid = Traffic(2, channels, [256], [0, 1]), Grid(tiny())
    near, far = [(0, 0), (1, 0)], [(0, 0), (5, 0)]
    ratios = [traffic.cost(far, grid, times) / traffic.cost(near, grid, times) for times in (1, 10)]
    assert ratios[0] < ratios[1]
