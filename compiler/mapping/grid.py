"""How a section of linear layers is cut: fused on tiles that have its first and last layers, or as a grid.

In a grid the first layers are cut by columns over tiles (`expand`). Their columns are taken together in groups of
`rows`, which are rows of the last layer: each group has tiles (`reduce`) with `width` columns of it, whose sums the
network adds over the groups. A group's rows are shared with one scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from isa.operands import WORD_BYTES

from .estimate import Pace
from .feeds import ranges
from .parts import Geometry

MAKERS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32)
"""Tiles that share a row: readers need a port for each."""

ROWS = 8
"""Rows for which a cut is chosen: the latency of the first, and the others after it."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A section between two hub stages: the first layers are `count` of rows x inner, the last is inner x width.

    The hub takes the result by `shard` columns.
    """

    rows: int
    inner: int
    width: int
    count: int
    shard: int


@dataclass(frozen=True, slots=True)
class Cut:
    """Columns of the first layers a tile has, rows and columns of the last; fused tiles have whole rows of it."""

    columns: int
    rows: int
    width: int
    is_fused: bool = False

    def tiles(self, shape: Shape) -> int:
        """Tiles that it takes."""
        if self.is_fused:
            return -(-shape.inner // self.columns)
        groups = [rows for _, rows in ranges(shape.inner, self.rows)]
        return sum(-(-rows // self.columns) for rows in groups) + len(groups) * -(-shape.width // self.width)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options fix of a cut (0: the rule decides)."""

    columns: int = 0
    rows: int = 0
    width: int = 0


class Cutter:
    """Finds the cuts of a section that fit, and the best of them."""

    def __init__(self, geometry: Geometry, shape: Shape, asked: Asked = Asked()) -> None:
        self.geometry, self.shape, self.asked = geometry, shape, asked
        self.pace = Pace(geometry.hardware)

    def plain(self) -> Cut | None:
        """The simple choice: fused if one macro row of columns fits, else groups of a macro's rows; None if neither."""
        cuts = list(self._fused())
        if cuts:
            return max(cuts, key=lambda cut: cut.columns)
        block, most = self.geometry.hardware.macro_rows, self._most()
        piece = max((p for p in range(self._step, block + 1) if p <= most and block % p == 0), default=0)
        return Cut(piece, block, self.geometry.columns(block)) if piece else None

    def best(self, spread: float) -> Cut | None:
        """The fastest cut among those that take at most `spread` times as many tiles as the smallest; None if no cut
        fits a tile."""
        cuts = [*self._fused(), *self._grids()]
        least = min((cut.tiles(self.shape) for cut in cuts), default=0)
        return min(
            (cut for cut in cuts if cut.tiles(self.shape) <= spread * least), key=self._rank, default=None
        )

    # --------------------------------------------------------------------------------------------- what fits

    @property
    def _step(self) -> int:
        return self.geometry.hardware.macro_cols

    def _most(self) -> int:
        """Columns of the first layers that a tile has room for."""
        return self.geometry.columns(self.shape.rows, self.shape.count)

    def _columns(self, most: int) -> list[int]:
        """Columns to try: whole macros, doubling; the most; and equal pieces of the row on few tiles."""
        if self.asked.columns:
            return [self.asked.columns] if self.asked.columns <= most else []
        sizes = {most} if most else set()
        while (size := self._step << len(sizes)) < most:
            sizes.add(size)
        sizes |= {self._piece(self.shape.inner, tiles) for tiles in MAKERS}
        return sorted(size for size in sizes if size <= most)

    def _piece(self, columns: int, tiles: int) -> int:
        """Columns of so many equal pieces, in whole macros."""
        return -(-columns // (tiles * self._step)) * self._step

    def _fused(self) -> Iterator[Cut]:
        shape, geometry = self.shape, self.geometry
        if self.asked.rows or self.asked.width:
            return
        for cols in self._columns(geometry.hardware.macro_rows):
            need = shape.count * geometry.macros(shape.rows, cols) + geometry.macros(cols, shape.width)
            if need <= geometry.hardware.macros_per_tile:
                yield Cut(cols, cols, shape.width, is_fused=True)

    def _grids(self) -> Iterator[Cut]:
        for cols in self._columns(self._most()):
            if cols % WORD_BYTES:
                continue
            for makers in MAKERS:
                rows = self.asked.rows or makers * cols
                if rows < self.shape.inner + cols and rows % cols == 0:
                    yield from (Cut(cols, rows, width) for width in self._widths(min(rows, self.shape.inner)))

    def _widths(self, rows: int) -> list[int]:
        """Columns of the last layer to try: whole shards of the hub, or whole parts of one; of all if they fit."""
        most = min(self.geometry.columns(rows), self.shape.width)
        if self.asked.width:
            return [self.asked.width] if self.asked.width <= most else []
        shard = min(self.shape.shard, self.shape.width)
        sizes = {width for width in range(self._step, min(shard, most + 1), self._step) if shard % width == 0}
        sizes |= {
            width for tiles in MAKERS if (width := self._piece(self.shape.width, tiles)) <= min(shard, most)
        }
        return sorted(sizes.union(range(shard, most + 1, shard)))

    # ------------------------------------------------------------------------------------------ what is fast

    def _rank(self, cut: Cut) -> tuple[float, int]:
        latency, row = self.cost(cut)
        return latency + ROWS * row, cut.tiles(self.shape)

    def cost(self, cut: Cut) -> tuple[float, float]:
        """Cycles of one row from the hub to the hub, and cycles between rows when they follow each other."""
        return self._fused_cost(cut) if cut.is_fused else self._grid_cost(cut)

    def _inner(self, cols: int) -> float:
        """What happens to the columns of the first layers on their tile."""
        return self.pace.inner(cols, self.shape.count)

    def _results(self, cols: int) -> float:
        """Messages with columns of the last layer: those of a tile wait for each other."""
        others = -(-cols // self.shape.shard) - 1
        return self.pace.message(4 * cols) + others * self.pace.travel(self.geometry.hardware.tiles_per_chip)

    def _fused_cost(self, cut: Cut) -> tuple[float, float]:
        pace, shape = self.pace, self.shape
        first, last = pace.multiply(shape.rows, cut.columns), pace.multiply(cut.columns, shape.width)
        work = self._inner(cut.columns) + pace.dequantise(shape.width)
        taken, sent = pace.message(shape.rows), self._results(shape.width)
        latency = taken + shape.count * first + work + last + sent + (2 * shape.count + 4) * pace.startup
        return latency + pace.travel(cut.tiles(shape)), max(taken, work, shape.count * first, last, sent)

    def _grid_cost(self, cut: Cut) -> tuple[float, float]:
        pace, shape = self.pace, self.shape
        first, last = pace.multiply(shape.rows, cut.columns), pace.multiply(cut.rows, cut.width)
        inner, outer = self._inner(cut.columns), pace.dequantise(cut.width)
        taken, shared, sent = pace.message(shape.rows), pace.message(cut.rows), self._results(cut.width)
        makers, groups = cut.rows // cut.columns, -(-shape.inner // cut.rows)
        combined = pace.reduce(makers) + pace.reduce(groups)
        startups = (2 * shape.count + 4) * pace.startup
        way = pace.travel(makers + shape.width // cut.width) + pace.travel(cut.tiles(shape))
        latency = (
            taken + shape.count * first + inner + combined + shared + last + outer + sent + startups + way
        )
        return latency, max(taken, inner, shape.count * first, shared, last, outer, sent)
