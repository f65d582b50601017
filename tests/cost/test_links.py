"""Ways of messages as the prediction has them, against those of the simulation."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.mapping.systems import with_chips
from compiler.cost.links import Links, Way
from isa.hardware import load_target
from isa.program import HOST, Channel, Endpoint, Limits, Program, Tile
from isa.timing.critical import NO_RECORD, Records
from runtime.timing.network import Network

SYSTEM = with_chips(load_target("dcim22"), 4)
POINTS = st.tuples(st.integers(0, SYSTEM.mesh_x - 1), st.integers(0, SYSTEM.mesh_y - 1))
SIZES = st.sampled_from([0, 4, 256, 4096])


def simulated(sources: list[tuple[int, int]], dests: list[tuple[int, int]], size: int) -> tuple[int, int]:
    """When the senders of a message at cycle 100 are free, and when it has arrived. No places: the host."""
    points = list(dict.fromkeys([*sources, *dests]))
    tiles = tuple(Tile(f"t{i}", "r", x, y) for i, (x, y) in enumerate(points))
    program = Program(SYSTEM, Limits(16, 1), (), tiles)
    senders, receivers = (
        tuple(Endpoint(points.index(p), 0) for p in side) or (Endpoint(HOST, 0),) for side in (sources, dests)
    )
    network = Network(SYSTEM, program)
    journey = network.transmit(
        network.plan(Channel("c", senders, receivers)), size, 100, NO_RECORD, Records()
    )
    return max(a.end for a in journey.departures), max(a.end for a in journey.arrivals)


def predicted(sources: list[tuple[int, int]], dests: list[tuple[int, int]], size: int) -> tuple[int, int]:
    links = Links(SYSTEM)
    way = Way(tuple(sources) or ((0, 0),), tuple(dests) or ((0, 0),), not sources, not dests)
    return links.transmit(links.route([way]), size, 100)


@given(POINTS, st.lists(POINTS, min_size=1, max_size=6, unique=True), SIZES)
@settings(max_examples=150, derandomize=True, deadline=None)
def test_one_sender(source: tuple[int, int], dests: list[tuple[int, int]], size: int) -> None:
    assert predicted([source], dests, size) == simulated([source], dests, size)


@given(st.lists(POINTS, min_size=1, max_size=4, unique=True), SIZES)
@settings(max_examples=50, derandomize=True, deadline=None)
def test_the_host(places: list[tuple[int, int]], size: int) -> None:
    assert predicted([], places, size) == simulated([], places, size)
    assert predicted(places[:1], [], size) == simulated(places[:1], [], size)


@given(
    st.lists(POINTS, min_size=2, max_size=8, unique=True),
    st.lists(POINTS, min_size=1, max_size=4, unique=True),
    SIZES,
)
@settings(max_examples=150, derandomize=True, deadline=None)
def test_several_senders(sources: list[tuple[int, int]], dests: list[tuple[int, int]], size: int) -> None:
    """Where rows and columns of a tree meet, the prediction counts the levels of adders as the simulation does."""
    assert predicted(sources, dests, size)[1] == simulated(sources, dests, size)[1]


def test_messages_of_a_class_share_links() -> None:
    """Two messages over one link take it one after the other."""
    links = Links(SYSTEM)
    ways = [Way(((0, 0),), ((3, 0),)), Way(((1, 0),), ((3, 0),))]
    alone = links.transmit(links.route(ways[:1]), 4096, 0)[1]
    links.free[:] = 0
    both = links.transmit(links.route(ways), 4096, 0)[1]
    width = SYSTEM.bytes_per_cycle(SYSTEM.network.link_width)
    taken = 4096 // width
    assert alone + taken - 2 <= both <= alone + taken


WAYS = st.builds(
    lambda points: Way(tuple(points[:1]), tuple(points[1:])),
    st.lists(POINTS, min_size=2, max_size=4, unique=True),
)


@given(st.lists(st.lists(WAYS, min_size=1, max_size=4), min_size=1, max_size=6))
@settings(max_examples=50, derandomize=True, deadline=None)
def test_routes_worked_out_together_are_those_of_each(groups: list[list[Way]]) -> None:
    links = Links(SYSTEM)
    for route, ways in zip(links.routes(groups), groups, strict=True):
        alone = links.route(ways)
        assert route.latency == alone.latency and route.bound is alone.bound
        for name in ("links", "kinds", "counts", "before", "rest", "first"):
            assert getattr(route, name).tolist() == getattr(alone, name).tolist()
        assert route.counts.sum() >= len(route.links)
