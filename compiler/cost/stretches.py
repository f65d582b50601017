"""The way of a channel's messages over the mesh, as straight stretches of links.

Routes are those of docs/timing.md: from several senders along x, then along y in a tree to the first receiver, then out
in a tree. A stretch is a run of links along x or y; with it come the cycles after which a message's head reaches its
first link, and the cycles from its last link to the farthest end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from isa.timing.rates import tree_levels

Point = tuple[int, int]  # x, y of a router
Met = tuple[dict[int, list[int]], dict[int, int], dict[int, int]]  # by row: arrivals, delays, cycles beyond


@dataclass(frozen=True, slots=True)
class Stretch:
    """Links from `start` to `stop` along x (of row `line`) or y (of column `line`)."""

    along_x: bool
    line: int
    start: int
    stop: int
    before: int
    rest: int


@dataclass(frozen=True, slots=True)
class Distances:
    """Cycles of a head along an axis: `x[a]` from column 0 to column a, `y[b]` from row 0 to row b."""

    x: Sequence[int]
    y: Sequence[int]
    reduce: int

    def along_x(self, a: int, b: int) -> int:
        """Cycles from column `a` to column `b`."""
        return abs(self.x[b] - self.x[a])

    def along_y(self, a: int, b: int) -> int:
        """Cycles from row `a` to row `b`."""
        return abs(self.y[b] - self.y[a])

    def between(self, a: Point, b: Point) -> int:
        """Cycles from router to router."""
        return self.along_x(a[0], b[0]) + self.along_y(a[1], b[1])


@dataclass(slots=True)
class Tree:
    """The stretches of one channel and the cycles from its first byte to the farthest end."""

    stretches: list[Stretch] = field(default_factory=list)
    latency: int = 0


def tree_of(d: Distances, sources: Sequence[Point], dests: Sequence[Point]) -> Tree:
    """The way from `sources` to `dests`."""
    tree = Tree()
    root = sources[0] if len(sources) == 1 else dests[0]
    depth = max(d.between(root, dest) for dest in dests)
    gathered = _gather(d, sources, root, depth, tree) if len(sources) > 1 else 0
    _spread(d, root, dests, gathered, tree)
    tree.latency = gathered + depth
    return tree


def _sides(at: int, places: Sequence[int]) -> tuple[list[int], list[int]]:
    """Places below and above `at`, the farthest first."""
    return sorted(p for p in places if p < at), sorted((p for p in places if p > at), reverse=True)


def _gather(d: Distances, sources: Sequence[Point], root: Point, depth: int, tree: Tree) -> int:
    """Add the tree from several senders to the root; the cycles until all have met there."""
    rows: dict[int, list[int]] = {root[1]: []}
    for x, y in sources:
        rows.setdefault(y, []).append(x)
    delays = _delays(d, rows, root)
    beyond = _beyond(d, delays, root, depth)
    arrivals: dict[int, list[int]] = {}  # by row: when heads come along x to the root's column
    for y, xs in rows.items():
        arrivals[y] = [0] * (root[0] in xs)
        for side in _sides(root[0], xs):
            if side:
                arrivals[y].append(_run(d, side, root[0], y, beyond[y], tree))
    ends = arrivals[root[1]]
    for side in _sides(root[1], list(rows)):
        if side:
            ends.append(_column(d, side, (arrivals, delays, beyond), root, tree))
    return max(ends) + delays[root[1]]


def _delays(d: Distances, rows: dict[int, list[int]], root: Point) -> dict[int, int]:
    """Cycles of the adders where each row meets the root's column."""
    delays = {}
    below, above = _sides(root[1], list(rows))
    for y, xs in rows.items():
        inputs = (root[0] in xs) + sum(map(bool, _sides(root[0], xs)))
        if y == root[1]:
            inputs += bool(below) + bool(above)
        else:
            inputs += y not in (min(rows), max(rows))  # another row comes along the column
        delays[y] = tree_levels(inputs) * d.reduce
    return delays


def _beyond(d: Distances, delays: dict[int, int], root: Point, depth: int) -> dict[int, int]:
    """Cycles from where a row has come to the root's column to the farthest receiver."""
    beyond = {root[1]: delays[root[1]] + depth}
    for side in _sides(root[1], list(delays)):
        for following, y in pairwise([root[1], *reversed(side)]):
            beyond[y] = delays[y] + d.along_y(y, following) + beyond[following]
    return beyond


def _run(d: Distances, xs: list[int], to: int, y: int, beyond: int, tree: Tree) -> int:
    """Senders of a row on one side of the column `to`, the farthest first; when their sum is there."""
    at = 0
    for number, (x, following) in enumerate(zip(xs, [*xs[1:], to], strict=True)):
        at += d.reduce if number else 0
        rest = d.along_x(following, to) + (len(xs) - 1 - number) * d.reduce + beyond
        tree.stretches.append(Stretch(True, y, x, following, at, rest))
        at += d.along_x(x, following)
    return at


def _column(d: Distances, ys: list[int], met: Met, root: Point, tree: Tree) -> int:
    """Rows on one side of the root, the farthest first, that add up along its column; when their sum is there."""
    arrivals, delays, beyond = met
    at = 0
    for y, following in zip(ys, [*ys[1:], root[1]], strict=True):
        at = max(at, *arrivals[y]) + delays[y]
        tree.stretches.append(Stretch(False, root[0], y, following, at, beyond[following]))
        at += d.along_y(y, following)
    return at


def _spread(d: Distances, root: Point, dests: Sequence[Point], at: int, tree: Tree) -> None:
    """Add the tree from the root to the receivers, whose head starts at `at`."""
    columns: dict[int, list[int]] = {}
    for x, y in dests:
        columns.setdefault(x, []).append(y)
    for side in _sides(root[0], list(columns)):
        if side:
            depths = (d.between(root, (x, y)) for x in side for y in columns[x])
            rest = max(0, max(depths) - d.along_x(root[0], side[0]))
            tree.stretches.append(Stretch(True, root[1], root[0], side[0], at, rest))
    for x, ys in columns.items():
        for side in _sides(root[1], ys):
            if side:
                begin = at + d.along_x(root[0], x)
                tree.stretches.append(Stretch(False, x, root[1], side[0], begin, 0))
