"""What a layout costs: how long messages are on their way, and how much the links of the mesh carry.

Routes are those of docs/timing.md: along x, then along y; from several senders in a tree to the first receiver, then
out in a tree. All channels are worked off at once, as pairs of a channel and an end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isa.hardware import Hardware
from isa.program import HOST, Channel, Reduce

Ints = NDArray[np.int64]
Cells = Sequence[tuple[int, int]]
ROWS = 64
"""Rows of the step that stands for prefill; another one has one row."""
STEP = 3
"""How many times as long as its messages a row takes, with the work of tiles and the host link (at least: two layers of
large models take 2.8 to 3.5 times as long)."""


@dataclass(frozen=True, slots=True)
class Loads:
    """Cycles for which links are taken: `along[k][y, x]` of the link from router (x, y) to the next one to the right,
    left, down, up for k = 0..3."""

    along: NDArray[np.int64]

    @property
    def busiest(self) -> int:
        """Cycles of the link that is taken longest."""
        return int(self.along.max(initial=0))


class Grid:
    """Numbers of the mesh: where borders between chips are, and what a hop takes."""

    def __init__(self, hardware: Hardware) -> None:
        self.shape = hardware.mesh_y, hardware.mesh_x
        chip = int(hardware.chip.tiles_x.value), int(hardware.chip.tiles_y.value)
        kinds = hardware.network, hardware.chip_link
        hop, border = hardware.cycles(kinds[0].hop_latency), hardware.cycles(kinds[1].latency)
        self.widths = (
            hardware.bytes_per_cycle(kinds[0].link_width),
            hardware.bytes_per_cycle(kinds[1].bandwidth),
        )
        network = hardware.network
        self.reduce, self.compare = (
            hardware.cycles(n) for n in (network.reduce_latency, network.max_latency)
        )
        mesh = hardware.mesh_x, hardware.mesh_y
        self.is_border = [np.arange(1, n + 1) % c == 0 for n, c in zip(mesh, chip, strict=True)]
        sums = [np.cumsum(np.where(b, border, hop)) for b in self.is_border]
        self.at: list[Ints] = [np.concatenate(([0], s)).astype(np.int64) for s in sums]


class Traffic:
    """The channels among the first `count` tiles and the host.

    `sizes` are bytes of a row by channel; `stages` by tile the number of its stage, in the order in which a row
    goes through them. The host begins a step, and what it gets ends one.
    """

    def __init__(
        self, count: int, channels: Sequence[Channel], sizes: Sequence[int], stages: Sequence[int]
    ) -> None:
        kept = [
            (channel, size)
            for channel, size in zip(channels, sizes, strict=True)
            if max(end.tile for end in (*channel.sources, *channel.dests)) < count
        ]
        self.count, self.number = count, len(kept)
        self.bytes: Ints = np.array([size for _, size in kept], np.int64)
        self._sent, self._source = _pairs([[e.tile for e in c.sources] for c, _ in kept])
        self._got, self._dest = _pairs([[e.tile for e in c.dests] for c, _ in kept])
        self._first_source = _firsts(self._sent)
        self._first_dest = _firsts(self._got)
        self._compares: NDArray[np.bool_] = np.array([c.reduce is Reduce.MAX for c, _ in kept], bool)
        self._many: NDArray[np.bool_] = np.array([len(c.sources) > 1 for c, _ in kept], bool)
        rooted = np.array([is_rooted(c) for c, _ in kept], bool)
        self._free_ends = np.flatnonzero(rooted[self._got]), np.flatnonzero(rooted[self._sent])
        last = max(stages, default=0) + 1
        places = {HOST: last, **dict(enumerate(stages))}
        steps = [
            (-1 if c.sources[0].tile == HOST else places[c.sources[0].tile], places[c.dests[0].tile])
            for c, _ in kept
        ]
        self._steps = list(dict.fromkeys(steps))
        numbers = {step: number for number, step in enumerate(self._steps)}
        self._step: Ints = np.array([numbers[step] for step in steps], np.int64)

    # ------------------------------------------------------------------------------------------------ geometry

    def _places(self, cells: Cells) -> tuple[Ints, Ints]:
        """Coordinates by tile, and at the end those of the router at the host (`HOST` is -1); those of the roots."""
        assert HOST == -1
        at = np.concatenate((np.asarray(cells[: self.count], np.int64).reshape(-1, 2), [[0, 0]]))
        return at, self._roots(at)

    def _roots(self, at: Ints) -> Ints:
        """Where each channel's tree to senders meets its tree to receivers."""
        roots = np.where(self._many, self._dest[self._first_dest], self._source[self._first_source])
        found: Ints = at[roots]
        dests, sources = self._free_ends
        if len(dests):
            got, there = self._got[dests], at[self._dest[dests]]
            ends = np.concatenate((there, at[self._source[sources]]))
            low, high = _extent(np.concatenate((got, self._sent[sources])), ends, self.number)
            way = np.abs(2 * there - (low + high)[got]).sum(axis=1)
            order = np.lexsort((way, got))  # the first of several that are as near
            best = order[_firsts(got[order])]
            found[got[best]] = there[best]
        return found

    # ---------------------------------------------------------------------------------------------------- loads

    def loads(self, cells: Cells, grid: Grid, rows: int) -> Loads:
        """How long each link is taken by a message of `rows` rows on every channel."""
        at, root = self._places(cells)
        found = []
        for width in grid.widths:
            cycles = np.ceil(self.bytes * rows / width).astype(np.int64)
            found.append(self._carried(at, root, grid.shape, cycles))
            if grid.widths[0] == grid.widths[1]:
                return Loads(found[0])
        inside, across = found
        along = inside.copy()
        borders_x, borders_y = grid.is_border
        along[0][:, borders_x] = across[0][:, borders_x]
        along[2][borders_y] = across[2][borders_y]
        along[1][:, 1:][:, borders_x[:-1]] = across[1][:, 1:][:, borders_x[:-1]]
        along[3][1:][borders_y[:-1]] = across[3][1:][borders_y[:-1]]
        return Loads(along)

    def _carried(self, at: Ints, root: Ints, shape: tuple[int, int], cycles: Ints) -> Ints:
        """`Loads.along` if a message takes these cycles by channel."""
        tall, wide = shape
        count = np.zeros((4, tall + 1, wide + 1), np.int64)  # differences: begins minus ends
        many = self._many[self._sent]
        _gathered(count, self._sent[many], at[self._source[many]], root, cycles)
        _spread(count, self._got, at[self._dest], root, cycles)
        return _summed(count)[:, :tall, :wide]

    # ------------------------------------------------------------------------------------------------- latency

    def ways(self, cells: Cells, grid: Grid) -> Ints:
        """Cycles of the longest way of each channel, with those of what combines several senders' values."""
        at, root = self._places(cells)
        there = _way(at[self._source], root[self._sent], grid), self._first_source
        on = _way(at[self._dest], root[self._got], grid), self._first_dest
        ways = sum(np.maximum.reduceat(way, first) for way, first in (there, on))
        many = self._many[self._sent]
        met = _meetings(self._sent[many], at[self._source[many]], root, self.number)
        return np.asarray(ways + met * np.where(self._compares, grid.compare, grid.reduce), np.int64)

    def latency(self, cells: Cells, grid: Grid) -> int:
        """Cycles that messages are on their way of the row that goes through all stages, one after another."""
        if not self.number:
            return 0
        longest = np.zeros(len(self._steps), np.int64)
        np.maximum.at(longest, self._step, self.ways(cells, grid))
        own: dict[int, int] = {}
        into: dict[int, list[tuple[int, int]]] = {}
        for (a, b), way in zip(self._steps, longest.tolist(), strict=True):
            if a < b:
                into.setdefault(b, []).append((a, way))
            else:  # within a stage, or to an earlier one: what that one sends waits for it
                own[b] = own.get(b, 0) + way
        done: dict[int, int] = {}
        for stage in sorted({*own, *into, *(a for a, _ in self._steps)}):
            begin = max((done[a] + way for a, way in into.get(stage, ())), default=0)
            done[stage] = begin + own.get(stage, 0)
        return max(done.values(), default=0)

    def cost(self, cells: Cells, grid: Grid, times: float = 1.0) -> float:
        """Cycles of a step of one row times those of one of `ROWS`, in which the busiest link sets the pace: what their
        geometric mean goes by. A row goes through `times` as many layers as these."""
        step = STEP * times * self.latency(cells, grid)
        return step * (step + self.loads(cells, grid, ROWS).busiest)


def is_rooted(channel: Channel) -> bool:
    """Whether the network may combine at any of the receivers: several tiles send, several tiles receive."""
    ends = (*channel.sources, *channel.dests)
    return len(channel.sources) > 1 and len(channel.dests) > 1 and all(end.tile != HOST for end in ends)


def _pairs(lists: Sequence[Sequence[int]]) -> tuple[Ints, Ints]:
    owners = np.repeat(np.arange(len(lists)), [len(own) for own in lists])
    return owners.astype(np.int64), np.array([tile for own in lists for tile in own], np.int64)


def _firsts(owners: Ints) -> Ints:
    """Index of the first entry of each owner; owners ascend."""
    return np.flatnonzero(np.concatenate(([True], owners[1:] != owners[:-1]))) if len(owners) else owners


def _extent(owners: Ints, at: Ints, number: int) -> tuple[Ints, Ints]:
    """Lowest and highest coordinates by owner."""
    low, high = np.full((number, 2), 1 << 30, np.int64), np.zeros((number, 2), np.int64)
    np.minimum.at(low, owners, at)
    np.maximum.at(high, owners, at)
    return low, high


def _way(a: Ints, b: Ints, grid: Grid) -> Ints:
    """Cycles of a head from each of the routers `a` to that of `b`."""
    return np.asarray(sum(np.abs(grid.at[k][a[:, k]] - grid.at[k][b[:, k]]) for k in (0, 1)), np.int64)


def _meetings(owners: Ints, at: Ints, root: Ints, number: int) -> Ints:
    """By channel, how many adders follow one another about, where streams from these senders meet: one for each other
    sender on a side of a row, one for each other row on a side of the root's column, and one where sides meet."""
    far = int(at.max(initial=0)) + 1
    dx, dy = (at - root[owners]).T
    rows = _most(owners * far + at[:, 1], np.sign(dx), far, number)
    places = np.unique(owners * (2 * far) + dy + far)
    return rows + _most(places // (2 * far), np.sign(places % (2 * far) - far), 1, number)


def _most(lines: Ints, sides: Ints, lines_each: int, number: int) -> Ints:
    """By owner of lines, the most entries on one side of a line that meet one by one, and whether sides meet."""
    found = np.zeros(number, np.int64)
    keys, counts = np.unique(3 * lines + sides + 1, return_counts=True)
    np.maximum.at(found, keys // (3 * lines_each), np.where(keys % 3 != 1, counts - 1, 0))
    both = np.zeros(number, np.int64)
    ends, times = np.unique(keys // 3, return_counts=True)
    np.maximum.at(both, ends // lines_each, times - 1)
    return found + both


def _runs(keys: Ints, places: Ints) -> tuple[Ints, Ints, Ints]:
    """Each key once, with the lowest and the highest of its places."""
    order = np.argsort(keys, kind="stable")
    keys, places = keys[order], places[order]
    first = _firsts(keys)
    if not len(keys):
        return keys, keys, keys
    return keys[first], np.minimum.reduceat(places, first), np.maximum.reduceat(places, first)


def _line(count: Ints, kind: int, rows: Ints, cols: Ints, cycles: Ints) -> None:
    """Add a difference at (row, col) of one kind of links."""
    np.add.at(count[kind], (rows, cols), cycles)


def _spread(count: Ints, owners: Ints, at: Ints, root: Ints, cycles: Ints) -> None:
    """Trees from roots to receivers: along the root's row, then along the column of each receiver."""
    channel, low, high = _runs(owners, at[:, 0])
    x, y, each = root[channel, 0], root[channel, 1], cycles[channel]
    for kind, start, stop in ((0, x, np.maximum(high, x)), (1, np.minimum(low, x) + 1, x + 1)):
        _line(count, kind, y, start, each)
        _line(count, kind, y, stop, -each)
    wide = count.shape[2]
    key, low, high = _runs(owners * wide + at[:, 0], at[:, 1])
    channel, x = key // wide, key % wide
    y, each = root[channel, 1], cycles[channel]
    _vertical(count, x, y, (low, high), each, outwards=True)


def _gathered(count: Ints, owners: Ints, at: Ints, root: Ints, cycles: Ints) -> None:
    """Trees from senders to roots: along the row of each sender, then along the root's column."""
    tall = count.shape[1]
    key, low, high = _runs(owners * tall + at[:, 1], at[:, 0])
    channel, y = key // tall, key % tall
    x, each = root[channel, 0], cycles[channel]
    for kind, start, stop in ((0, np.minimum(low, x), x), (1, x + 1, np.maximum(high, x) + 1)):
        _line(count, kind, y, start, each)
        _line(count, kind, y, stop, -each)
    channel, low, high = _runs(owners, at[:, 1])
    _vertical(count, root[channel, 0], root[channel, 1], (low, high), cycles[channel], outwards=False)


def _vertical(
    count: Ints, x: Ints, y: Ints, ends: tuple[Ints, Ints], cycles: Ints, *, outwards: bool
) -> None:
    """Runs along columns between row `y` and the lowest and highest rows of `ends`, away from `y` or to it."""
    top, bottom = np.minimum(ends[0], y), np.maximum(ends[1], y)
    down, up = ((y, bottom), (top, y)) if outwards else ((top, y), (y, bottom))
    _line(count, 2, down[0], x, cycles)
    _line(count, 2, down[1], x, -cycles)
    _line(count, 3, up[0] + 1, x, cycles)
    _line(count, 3, up[1] + 1, x, -cycles)


def _summed(count: Any) -> Ints:
    """Loads from differences."""
    along = count.copy()
    along[:2] = np.cumsum(count[:2], axis=2)
    along[2:] = np.cumsum(count[2:], axis=1)
    return np.asarray(along, np.int64)
