"""How streamed work is cut: how many tiles hold the hub, stream first layers and attend, and how large pieces are.

For each way that fits, the time of a decode step and of a prompt is estimated from the bytes that are loaded and the
rounds that rows go through; the best of both together is taken (`choose_sizes`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from compiler.ir.mapping import Arithmetic
from isa.interface import KvPolicy

from .parts import Geometry
from .sections import Domain

STAGE_SHARE = 0.55  # of a tile's buffer, for the piece that comes next
ROUND_CYCLES = 4_000  # that no load hides: writing the arrays, and a row's way to the front and back
MOST_HUB_TILES = 40
SPARE_PORTS = 10  # of a tile, for ids, reductions, scales


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """An attention section: KV heads, query heads of each, columns of a query, a key and a value; rows of KV arrays
    that keep all of a layer, and why rows cannot lie in memory ("" if they can)."""

    kv_heads: int
    group: int
    key: int
    value: int
    kept: int
    why_resident: str

    @property
    def columns(self) -> int:
        """Columns of q, k and v of a KV head."""
        return (self.group + 1) * self.key + self.value

    @property
    def out_columns(self) -> int:
        """Columns of what a KV head gives."""
        return self.group * self.value


@dataclass(frozen=True, slots=True)
class LinearShape:
    """A section of linear layers: how many first ones, their columns; a last one makes hub columns again."""

    firsts: int
    columns: int


@dataclass(frozen=True, slots=True)
class Shapes:
    """What is to be streamed: a hub of `width` columns, `layers` times the sections, then the result's columns."""

    width: int
    layers: int
    attentions: tuple[AttentionShape, ...]
    linears: tuple[LinearShape, ...]
    results: tuple[int, ...]

    @property
    def arrays(self) -> int:
        """Arrays of a front tile: as many as a section has first layers."""
        return max([1, *(linear.firsts for linear in self.linears)])


@dataclass(frozen=True, slots=True)
class Sizes:
    """`hub` tiles with `width` columns each; `front` tiles with arrays of `columns` columns; `cores` KV heads at a time
    (of each attention section), each fed by `feeders` front tiles. `rows`: of a step. `bytes`: of weights, in a step.
    `has_rows_in_memory`: KV rows lie in DRAM, and blocks of them pass through arrays."""

    hub: int
    width: int
    front: int
    columns: int
    cores: int
    feeders: int
    rows: int
    bytes: int
    rounds: int
    has_rows_in_memory: bool = False

    @property
    def tiles(self) -> int:
        """Tiles but those of attention."""
        return self.hub + self.front


class Sizer:
    """Tries the ways to cut for one model and target."""

    def __init__(self, shapes: Shapes, geometry: Geometry, arithmetic: Arithmetic) -> None:
        self.shapes, self.geometry = shapes, geometry
        self.hardware, self.limits = geometry.hardware, geometry.limits
        hardware = geometry.hardware
        self.size = arithmetic.dtype.bytes
        self.stage = int(hardware.buffer_bytes * STAGE_SHARE)
        self.ports = int(hardware.tile.ports.value)

    def choose(self) -> Sizes | None:
        """The best way; None if none fits."""
        found = list(self._ways())
        return min(found, key=self._cost, default=None)

    def _cost(self, sizes: Sizes) -> float:
        """Product of the estimated cycles of a decode step and of a prompt of the longest sequence."""
        h = self.hardware
        rate = h.bytes_per_cycle(h.dram.bandwidth) * h.dram.channels.value
        load = float(sizes.bytes / rate)
        row = self.shapes.width * self.size / h.bytes_per_cycle(h.network.link_width)
        prompt = self.limits.max_context
        steps = math.ceil(prompt / sizes.rows)
        work = sizes.rounds * (ROUND_CYCLES + float(row) * prompt / steps)
        return (load + sizes.rounds * ROUND_CYCLES) * steps * max(load, work)

    def _ways(self) -> Iterator[Sizes]:
        shapes = self.shapes
        for hub in range(1, min(MOST_HUB_TILES, self.hardware.tiles) + 1):
            if shapes.width % hub or (shapes.width // hub) % 4:
                continue
            for columns in self._columns():
                for cores, feeders in self._cores(columns, hub):
                    for front in self._fronts(hub, cores, feeders):
                        way = self._way(hub, columns, cores, feeders, front)
                        if way is not None:
                            yield way

    def _columns(self) -> Iterator[int]:
        """Columns of a front array whose pieces fit the stage and the macros."""
        shapes, step = self.shapes, min(4, int(self.hardware.macro_cols))
        most = max([*(a.columns for a in shapes.attentions), *(x.columns for x in shapes.linears), 1])
        for columns in range(step, most + step, step):
            size = shapes.arrays * columns * (shapes.width * self.size + 8)
            macros = shapes.arrays * self._macros(shapes.width, columns)
            if size > self.stage or macros > self.hardware.written_macros_per_tile:
                return
            yield columns

    def _macros(self, rows: int, cols: int) -> int:
        return math.ceil(rows / self.hardware.macro_rows) * math.ceil(cols / self.hardware.macro_cols)

    def _cores(self, columns: int, hub: int) -> Iterator[tuple[int, int]]:
        """KV heads at a time, and front tiles for each."""
        attentions = self.shapes.attentions
        if not attentions:
            yield 0, 1
            return
        feeders = max(math.ceil(a.columns / (self.shapes.arrays * columns)) for a in attentions)
        heads = math.gcd(*(a.kv_heads for a in attentions))
        for cores in range(1, heads + 1):
            left = self.hardware.tiles - hub - cores * len(attentions)
            is_possible = self._kv_fits(cores) or self._kv_passes()
            if heads % cores == 0 and cores * feeders <= left and is_possible:
                yield cores, feeders

    def _kv_passes(self) -> bool:
        """Whether KV rows may lie in DRAM, and a block of them fits a core."""
        block = math.ceil(self.geometry.block(Domain.TOKENS) / self.hardware.macro_rows)
        fits = all(
            block * self._kv_macros(a) <= self.hardware.written_macros_per_tile
            for a in self.shapes.attentions
        )
        can = all(not a.why_resident for a in self.shapes.attentions)
        return fits and can and self.geometry.kv.policy is not KvPolicy.RESIDENT

    def _kv_fits(self, cores: int) -> bool:
        """Whether a core has room for the KV arrays of all layers and of the heads it takes one after the other."""
        if self.geometry.kv.policy not in (None, KvPolicy.RESIDENT):
            return False
        return all(
            self.shapes.layers
            * (a.kv_heads // cores)
            * math.ceil(a.kept / self.hardware.macro_rows)
            * self._kv_macros(a)
            <= self.hardware.written_macros_per_tile
            for a in self.shapes.attentions
        )

    def _kv_macros(self, a: AttentionShape) -> int:
        cols = self.hardware.macro_cols
        return math.ceil(a.key / cols) + math.ceil(a.value / cols)

    def _fronts(self, hub: int, cores: int, feeders: int) -> Iterator[int]:
        if cores:
            yield cores * feeders
        else:
            yield from range(1, self.hardware.tiles - hub + 1)

    def _way(self, hub: int, columns: int, cores: int, feeders: int, front: int) -> Sizes | None:
        shapes, width = self.shapes, self.shapes.width // hub
        inner = front * columns
        heads = [a.out_columns for a in shapes.attentions]
        pieces = [cores * out * width * self.size for out in heads]
        pieces += [inner * width * self.size for _ in shapes.linears]
        macros = sum(cores * self._macros(out, width) for out in heads)
        macros += len(shapes.linears[:1]) * self._macros(inner, width)
        results = [math.ceil(n / (front * shapes.arrays * columns)) for n in shapes.results]
        if (
            max(pieces, default=0) > self.stage
            or macros > self.hardware.written_macros_per_tile
            or front * len(shapes.linears) + 2 * cores * len(heads) + SPARE_PORTS > self.ports
            or hub + 2 * len(results) + SPARE_PORTS > self.ports
        ):
            return None
        rows = self._rows(width, inner, max(pieces, default=0))
        if rows < self.limits.sequences:
            return None
        rounds = [a.kv_heads // max(cores, 1) for a in shapes.attentions]
        rounds += [math.ceil(x.columns / inner) for x in shapes.linears]
        front_piece = shapes.arrays * columns * (shapes.width * self.size + 4)
        loads = sum(r * (front * front_piece + hub * p) for r, p in zip(rounds, pieces, strict=True))
        total = shapes.layers * loads + sum(results) * front * front_piece
        all_rounds = shapes.layers * sum(rounds) + sum(results)
        in_memory = bool(heads) and not self._kv_fits(cores)
        return Sizes(hub, width, front, columns, cores, feeders, rows, total, all_rounds, in_memory)

    def _rows(self, width: int, inner: int, piece: int) -> int:
        """Rows of a step that the hub's buffers keep: a residual, two sums, a quantised row; beside the piece, what a
        segment of 16 rows needs, and constants."""
        chunk = min(16, self.limits.max_context)
        constants = 6 * 4 * width * (self.shapes.layers + 1)
        working = chunk * (inner * (4 + self.size) + 4 * width * 4) + (16 << 10)
        left = self.hardware.buffer_bytes - piece - constants - working
        row = width * (3 * 4 + self.size) + 8
        return max(left // row, 0)


def choose_sizes(shapes: Shapes, geometry: Geometry, arithmetic: Arithmetic) -> Sizes | None:
    """The way to cut that is estimated to be fastest for decode and prompts together; None if none fits."""
    return Sizer(shapes, geometry, arithmetic).choose()
