"""The links of a system while a step is predicted: how long each is taken, by the messages of a whole class at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from isa.events import Bound
from isa.hardware import Hardware
from isa.program import Reduce
from isa.timing.rates import ceil_div

from .stretches import Distances, Point, Stretch, Tree, tree_of

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

KINDS = (Bound.NETWORK, Bound.CHIP_LINKS, Bound.HOST_LINK)

Row = tuple[int, int, int, int, int, int]
"""A link of a channel: number of the route, link, kind, cycles until a head is there, cycles from its end to the
farthest receiver, and whether (1) a sender's bytes go onto the mesh here."""

TOGETHER = 256
"""Routes that are worked out at once: enough for NumPy to pay, few enough not to take much memory."""


@dataclass(frozen=True, slots=True)
class Way:
    """One channel: the routers of its senders and receivers, and whether the host is among either, and how
    several senders' values are combined."""

    sources: tuple[Point, ...]
    dests: tuple[Point, ...]
    from_host: bool = False
    to_host: bool = False
    reduce: Reduce = Reduce.NONE


@dataclass(frozen=True, slots=True)
class Route:
    """The links that the channels of a flow use, each once.

    `kinds[i]` indexes `KINDS`, `counts[i]` is how many of the channels go over link i, `before[i]` the cycles after
    which a head is there, `rest[i]` those from the end of the link to the farthest receiver, `first[i]` whether a
    sender's bytes go onto the mesh here. `latency` is that of the longest way.
    """

    links: Ints
    kinds: Ints
    counts: Ints
    before: Ints
    rest: Ints
    first: Bools
    latency: int
    bound: Bound


class Links:
    """All links of a target: when each is free again. Routes are the same on targets of the same `geometry`."""

    def __init__(self, target: Hardware) -> None:
        self._mesh = target.mesh_x, target.mesh_y
        chip = int(target.chip.tiles_x.value), int(target.chip.tiles_y.value)
        kinds = target.network, target.chip_link, target.host_link
        latencies = [target.cycles(k.hop_latency if k is target.network else k.latency) for k in kinds]  # type: ignore[union-attr]
        self._latency = np.array(latencies, dtype=np.int64)
        self._widths = (
            target.bytes_per_cycle(target.network.link_width),
            target.bytes_per_cycle(target.chip_link.bandwidth),
            target.bytes_per_cycle(target.host_link.bandwidth),
        )
        self._port = target.bytes_per_cycle(target.buffer.port_width)
        self._borders = [np.arange(1, n) % c == 0 for n, c in zip(self._mesh, chip, strict=True)]
        sums = [[0, *np.cumsum(self._latency[b.astype(int)]).tolist()] for b in self._borders]
        self._sums = [np.array(column, dtype=np.int64) for column in sums]
        combine = {Reduce.SUM: target.network.reduce_latency, Reduce.MAX: target.network.max_latency}
        self.distances = {Reduce.NONE: Distances(sums[0], sums[1], 0)}
        self.distances |= {
            reduce: Distances(sums[0], sums[1], target.cycles(taken)) for reduce, taken in combine.items()
        }
        self._host = 4 * self._mesh[0] * self._mesh[1]
        self.geometry = self._mesh, chip, tuple(latencies), tuple(d.reduce for d in self.distances.values())
        self.free: Ints = np.zeros(self._host + 2, dtype=np.int64)

    # ------------------------------------------------------------------------------------------------ geometry

    def route(self, ways: Sequence[Way]) -> Route:
        """The links that these channels use together."""
        return self.routes([ways])[0]

    def routes(self, groups: Sequence[Sequence[Way]]) -> list[Route]:
        """The links that the channels of each group use together. Worked out for many groups at once, as most have few
        links."""
        batches = (groups[at : at + TOGETHER] for at in range(0, len(groups), TOGETHER))
        return [route for batch in batches for route in self._routes(batch)]

    def _routes(self, groups: Sequence[Sequence[Way]]) -> list[Route]:
        stretches: list[Stretch] = []
        owners: list[int] = []
        hosts: list[Row] = []
        latencies = []
        for number, ways in enumerate(groups):
            trees = [self._tree(way) for way in ways]
            for way, tree in zip(ways, trees, strict=True):
                stretches += tree.stretches
                owners += [number] * len(tree.stretches)
                hosts += self._host_links(number, way, tree)
            latencies.append(max((tree.latency for tree in trees), default=0))
        rows = np.concatenate([self._links(owners, stretches), np.array(hosts, np.int64).reshape(-1, 6).T], 1)
        return _joined(rows, latencies, len(self.free))

    def _tree(self, way: Way) -> Tree:
        tree = tree_of(self.distances[way.reduce], way.sources, way.dests)
        tree.latency += int(self._latency[2]) * (way.from_host + way.to_host)
        if way.from_host:
            late = int(self._latency[2])
            tree.stretches = [
                Stretch(s.along_x, s.line, s.start, s.stop, s.before + late, s.rest) for s in tree.stretches
            ]
        return tree

    def _links(self, owners: Sequence[int], stretches: Sequence[Stretch]) -> Ints:
        """Columns as those of `Row`: all links of the stretches of routes `owners`."""
        if not stretches:
            return np.zeros((6, 0), dtype=np.int64)
        fields = [(s.along_x, s.line, s.start, s.stop, s.before, s.rest) for s in stretches]
        each = np.array(fields, dtype=np.int64)
        lengths = np.abs(each[:, 3] - each[:, 2])
        along_x, line, start, stop, before, rest = np.repeat(each, lengths, axis=0).T
        number = np.arange(len(start)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        step = np.where(stop > start, 1, -1)
        begin = start + step * number
        node = np.where(along_x, line * self._mesh[0] + begin, begin * self._mesh[0] + line)
        link = 4 * node + 2 * (1 - along_x) + (step < 0)
        border = np.where(along_x, self._at_border(0, begin, step), self._at_border(1, begin, step))
        way = np.where(along_x, self._cycles(0, start, begin), self._cycles(1, start, begin))
        left = np.where(along_x, self._cycles(0, stop, begin + step), self._cycles(1, stop, begin + step))
        head = before + way
        return np.stack([np.repeat(owners, lengths), link, border, head, rest + left, head == 0])

    def _at_border(self, axis: int, begin: Ints, step: Ints) -> Ints:
        """Whether links that begin at these routers of an axis join chips; anything beyond the end of the axis."""
        borders = self._borders[axis]
        if not len(borders):
            return np.zeros(len(begin), dtype=np.int64)
        found: Ints = borders[np.clip(np.minimum(begin, begin + step), 0, len(borders) - 1)].astype(np.int64)
        return found

    def _cycles(self, axis: int, one: Ints, other: Ints) -> Ints:
        """Cycles of a head between routers of an axis; anything beyond its end."""
        sums, last = self._sums[axis], len(self._sums[axis]) - 1
        found: Ints = np.abs(sums[np.minimum(other, last)] - sums[np.minimum(one, last)])
        return found

    def _host_links(self, number: int, way: Way, tree: Tree) -> list[Row]:
        """The host link, where a channel of route `number` goes over it."""
        late, found = int(self._latency[2]), []
        if way.from_host:
            found.append((number, self._host, 2, 0, tree.latency - late, 1))
        if way.to_host:
            found.append((number, self._host + 1, 2, tree.latency - late, 0, int(tree.latency == late)))
        return found

    # -------------------------------------------------------------------------------------------------- sending

    def transmit(self, route: Route, size: int, at: int) -> tuple[int, int]:
        """Send a message on each channel of a flow at once: when senders are free, and when the last one arrives."""
        sent = at + ceil_div(size, self._port)
        if not size or not len(route.links):
            return sent, sent + route.latency
        each = np.array([ceil_div(size, width) for width in self._widths], dtype=np.int64)
        widths = np.array(self._widths)[route.kinds]
        taken = np.ceil(np.round(size * route.counts / widths, 9)).astype(np.int64)
        held, ready = self.free[route.links], at + route.before
        begin = np.where(each[route.kinds] == 1, ready, np.maximum(held, ready))  # short messages pass others
        free = begin + taken
        self.free[route.links] = np.maximum(held, begin) + taken
        arrival = int((free + self._latency[route.kinds] + route.rest).max())
        left = int(free[route.first].max(initial=sent))
        return left, max(arrival, sent + route.latency)


def _joined(rows: Ints, latencies: Sequence[int], size: int) -> list[Route]:
    """The routes of these latencies, of columns as those of `Row`, whose links are below `size`: rows of the same link
    of a route as one, counted, the earliest head, the longest rest."""
    keys = rows[0] * size + rows[1]
    order = np.argsort(keys, kind="stable")
    keys, (_, _, kinds, before, rest, first) = keys[order], rows[:, order]
    at = np.flatnonzero(np.diff(keys, prepend=-1))
    counts = np.diff(at, append=len(keys))
    owners, links = np.divmod(keys[at], size)
    if len(at):
        before, rest = np.minimum.reduceat(before, at), np.maximum.reduceat(rest, at)
        first = np.maximum.reduceat(first, at)
    kinds, is_first = kinds[at], first.astype(bool)
    bounds = np.searchsorted(owners, np.arange(len(latencies) + 1)).tolist()
    found = []
    for latency, own in zip(latencies, (slice(a, b) for a, b in pairwise(bounds)), strict=True):
        bound = KINDS[int(kinds[own].max(initial=0))]
        heads = before[own], rest[own], is_first[own]
        found.append(Route(links[own], kinds[own], counts[own], *heads, latency, bound))
    return found
