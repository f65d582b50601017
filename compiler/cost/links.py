"""The links of a system while a step is predicted: how long each is taken, by the messages of a whole class at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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

    def carried(self, kind: Bound) -> int:
        """Over how many links of a kind bytes go, over all channels."""
        return int(self.counts[self.kinds == KINDS.index(kind)].sum())


class Links:
    """All links of a target: when each is free again."""

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
        self.free: Ints = np.zeros(self._host + 2, dtype=np.int64)

    # ------------------------------------------------------------------------------------------------ geometry

    def route(self, ways: Sequence[Way]) -> Route:
        """The links that these channels use together."""
        columns: list[tuple[Ints, ...]] = []
        latency = 0
        for way in ways:
            tree = self._tree(way)
            latency = max(latency, tree.latency)
            columns += [self._links(stretch) for stretch in tree.stretches]
            columns += self._host_links(way, tree)
        if not columns:
            none = np.zeros(0, dtype=np.int64)
            return Route(none, none, none, none, none, none.astype(bool), latency, Bound.NETWORK)
        return _joined([np.concatenate(c) for c in zip(*columns, strict=True)], latency)

    def _tree(self, way: Way) -> Tree:
        tree = tree_of(self.distances[way.reduce], way.sources, way.dests)
        tree.latency += int(self._latency[2]) * (way.from_host + way.to_host)
        if way.from_host:
            late = int(self._latency[2])
            tree.stretches = [
                Stretch(s.along_x, s.line, s.start, s.stop, s.before + late, s.rest) for s in tree.stretches
            ]
        return tree

    def _links(self, stretch: Stretch) -> tuple[Ints, ...]:
        """Links, kinds, heads' cycles, cycles left, and whether it is the first link, of a stretch."""
        step = 1 if stretch.stop > stretch.start else -1
        starts = np.arange(stretch.start, stretch.stop, step, dtype=np.int64)
        axis = 0 if stretch.along_x else 1
        sums = self._sums[axis]
        nodes = (
            stretch.line * self._mesh[0] + starts
            if stretch.along_x
            else starts * self._mesh[0] + stretch.line
        )
        links = 4 * nodes + 2 * axis + (step < 0)
        kinds = self._borders[axis][np.minimum(starts, starts + step)].astype(np.int64)
        before = stretch.before + np.abs(sums[starts] - sums[stretch.start])
        rest = stretch.rest + np.abs(sums[stretch.stop] - sums[starts + step])
        return links, kinds, before, rest, (before == 0).astype(np.int64)

    def _host_links(self, way: Way, tree: Tree) -> list[tuple[Ints, ...]]:
        """The host link, where a channel goes over it."""
        late, found = int(self._latency[2]), []
        if way.from_host:
            found.append((self._host, 2, 0, tree.latency - late, 1))
        if way.to_host:
            found.append((self._host + 1, 2, tree.latency - late, 0, int(tree.latency == late)))
        return [tuple(np.array([value], dtype=np.int64) for value in row) for row in found]

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


def _joined(columns: list[NDArray[Any]], latency: int) -> Route:
    """Rows of the same link as one: counted, the earliest head, the longest rest."""
    links, kinds, before, rest, first = columns
    unique, at, inverse, counts = np.unique(links, return_index=True, return_inverse=True, return_counts=True)
    earliest = np.full(len(unique), np.iinfo(np.int64).max)
    np.minimum.at(earliest, inverse, before)
    longest = np.zeros(len(unique), dtype=np.int64)
    np.maximum.at(longest, inverse, rest)
    is_first = np.zeros(len(unique), dtype=bool)
    np.logical_or.at(is_first, inverse, first.astype(bool))
    kind = max((int(k) for k in kinds), default=0)
    return Route(unique, kinds[at], counts, earliest, longest, is_first, latency, KINDS[kind])
