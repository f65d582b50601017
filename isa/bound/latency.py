"""The least time from one row to what becomes of it, operator by operator (docs/bound.md, "One row").

A section runs on p tiles. More tiles share the work, but are further apart: the least is taken over p, and for each
linear layer over the shape of the block of weights that a tile holds. Shapes and numbers of tiles are looked at by
intervals; within one, what grows is taken at its lower end and what falls at its upper end, so what comes out is not
more than at any point.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from isa import instructions as table
from isa.hardware import Hardware
from isa.instruction import Inst
from isa.workload import AttentionWork, Block, Place, Product, RowWork, SectionWork, Task

from .distances import Distances
from .rates import Rates
from .result import Limit, Spent, longest, spent

Grid = NDArray[np.float64]

_GRID = 2**0.25  # ratio of successive points of a grid of shapes
_STRIDE = 4  # cycles of latency between successive numbers of tiles

FUNCTIONS: Mapping[Task, type[Inst]] = {
    Task.ADD: table.Vadd,
    Task.MUL: table.Vmul,
    Task.ROTARY: table.Rope,
    Task.RELU: table.Vrelu,
    Task.GELU: table.Vgelu,
    Task.GELU_TANH: table.Vgelut,
    Task.QUICK_GELU: table.Vsigm,
    Task.SILU: table.Vsilu,
    Task.SIGMOID: table.Vsigm,
    Task.TANH: table.Vtanh,
}
"""The least instruction that does an operator."""


def _points(low: float, high: float) -> Grid:
    """Points from low to high, at most `_GRID` apart; the last is `high`."""
    low = min(low, high)
    count = max(1, math.ceil(math.log(high / low) / math.log(_GRID))) if high > low else 1
    return np.append(low * (high / low) ** (np.arange(count) / count), high)


class Latency:
    """Least latencies on a target. `resident`: its macros for weights hold all of them, so that each layer takes tiles
    for its own."""

    def __init__(self, hardware: Hardware, *, resident: bool, is_ideal: bool) -> None:
        self.rates, self.distances = Rates(hardware, resident=resident), Distances(hardware)
        self.resident, self.is_ideal = resident, is_ideal
        self.weight_cells = hardware.weight_cells
        self.section = lru_cache(maxsize=256)(self._section)
        self.norm = lru_cache(maxsize=64)(self._norm)
        self._quantising = lru_cache(maxsize=64)(self._quantise)

    @cached_property
    def _by_hand(self) -> float:
        """Cycles to combine values of several tiles, for each doubling of their number: message after message, in a
        vector unit."""
        r = self.rates
        return min((m - 1 + r.startup + 1 + r.hop) / math.log2(m) for m in range(2, 66))

    @cached_property
    def _addition(self) -> float:
        """The same for sums, in the network or by hand."""
        return min(float(self.rates.reduce), self._by_hand)

    @cached_property
    def _comparison(self) -> float:
        """The same for maxima."""
        return min(float(self.rates.compare), self._by_hand)

    @cached_property
    def _merge(self) -> float:
        """The same for blocks of online softmax: their maxima first, then their sums."""
        r = self.rates
        return min(float(r.compare + r.reduce), float(r.startup + 1 + r.hop))

    def sum(self, parts: float) -> float:
        """Cycles to add up `parts` values that lie on as many tiles."""
        return self._addition * math.log2(max(parts, 1.0))

    def maximum(self, parts: float) -> float:
        """Cycles to find the largest of `parts` values that lie on as many tiles."""
        return self._comparison * math.log2(max(parts, 1.0))

    # ------------------------------------------------------------------------------------------------ the hub

    def hub(self, work: RowWork) -> Spent:
        """An operator on whole rows."""
        r = self.rates
        if work.place is Place.HOST:
            return spent(Limit.HOST, r.on_host(work))
        match work.task:
            case Task.EMBED:
                return spent(Limit.DRAM, r.lookup(work.width, work.entries))
            case Task.RMS | Task.LAYER:
                return self.norm(work.task, work.width)
            case Task.POSITION | Task.ADD:  # loaded beside the embedding; added by the network on the way
                return Spent()
            case task:
                return spent(Limit.VECTOR, r.vector(FUNCTIONS[task], max(1.0, work.width / r.tiles)))

    def _norm(self, task: Task, width: int) -> Spent:
        """A norm: its mean, made whole over q tiles, and what is left without it. Its factor may wait: it is a factor
        of the sums of products too."""
        r, best = self.rates, Spent()
        if task is Task.RMS:
            return best
        for low, high in pairwise(_points(1.0, float(width))):
            tiles = width / high
            vector = r.vector(table.Vsum, low) + r.vector(table.Vsubc, low)
            network = self.sum(tiles) + 2 if tiles > 1 else 0.0
            if not best.by or vector + network < best.total:
                best = Spent({Limit.VECTOR: vector, Limit.NETWORK: network})
        return best

    # ------------------------------------------------------------------------------------------ linear layers

    def _quantise(self, rows: int) -> tuple[Grid, Grid, Grid, Grid, Grid]:
        """Quantising an input of `rows` columns for tiles that take k of them, c columns on a tile: (k, c) pairs.

        Returns the lower and upper ends of k, and by k and c: cycles in vector units, cycles in the network, and into
        how many pieces with a scale of their own the k columns fall. Pieces may share a scale after an exchange.
        """
        r = self.rates
        points = _points(1.0, float(rows))
        low, high = np.append(points[:-1], rows), np.append(points[1:], rows)
        count = len(low)
        vector, network, pieces = (np.full((count, 2 * count), start) for start in (np.inf, np.inf, 1.0))
        for i in range(count):
            for j in range(i + 1):
                parts = max(1.0, low[i] / high[j])
                arriving = max(0.0, low[i] - high[j]) / r.into_tile
                if self.is_ideal:
                    vector[i, j], network[i, j], pieces[i, j] = 0.0, 0.0, 1.0
                    continue
                vector[i, j], network[i, j] = r.vector(table.Quant, low[j]), arriving
                pieces[i, j] = parts
                if parts > 1:
                    both = r.vector(table.Vamax, low[j]) + r.vector(table.Quantx, low[j])
                    vector[i, count + j] = both
                    network[i, count + j] = self.maximum(parts) + 2 + arriving
                    pieces[i, count + j] = 1.0
        return low, high, vector, network, pieces

    def product(self, work: Product, tiles: int) -> Spent:
        """A linear layer on `tiles` tiles, each with a block of k rows x n columns: the least over k."""
        r = self.rates
        low, high, quantising, exchange, pieces = self._quantising(work.rows)
        columns = work.rows * work.cols / (tiles * high)
        fits = columns <= work.cols
        parts = work.rows / high
        arrays = np.array([r.activation(k, n) for k, n in zip(low, columns, strict=True)])
        sums = np.where(parts > 1, self._addition * np.log2(np.maximum(parts, 1.0)), 0.0)
        leaving = np.where(parts > 1, 4 * columns / min(r.fastest_link, r.buffer_width), 0.0)
        per_column = 0.0 if self.is_ideal else r.dequantise
        start = 0 if self.is_ideal else r.startup
        vector = quantising + start + np.maximum(1.0, columns[:, None] * pieces * per_column)
        network = exchange + (sums + leaving)[:, None]
        total = np.where(fits[:, None], arrays[:, None] + vector + network, np.inf)
        i, j = np.unravel_index(np.argmin(total), total.shape)
        return Spent(
            {
                Limit.ARRAYS: float(arrays[i]),
                Limit.VECTOR: float(vector[i, j]),
                Limit.NETWORK: float(network[i, j]),
            }
        )

    # ----------------------------------------------------------------------------------------------- sections

    def least_tiles(self, section: SectionWork) -> int:
        """The tiles that a section's weights take."""
        if not self.resident:
            return 1
        weights = sum(product.rows * product.cols for product in section.on_chip)
        return max(1, -(-weights // self.weight_cells))

    def _section(self, section: SectionWork, context: int) -> Spent:
        """A section for a row that looks at `context` rows: the least over its number of tiles."""
        elsewhere = self._on_host(section)
        if not section.on_chip and section.attention is None:
            return elsewhere
        reach, best = self.distances.reach(self.least_tiles(section)), Spent()
        while not best.by or reach < best.total:
            following = (reach // _STRIDE + 1) * _STRIDE  # the same intervals wherever they begin
            tiles = self.distances.tiles_within(following - 1)
            work = self.on_tiles(section, context, tiles)
            here = spent(Limit.NETWORK, reach) + work
            if not best.by or here.total < best.total:
                best = here
            if tiles >= self.rates.tiles:
                break
            reach = following
        return best + elsewhere

    def _on_host(self, section: SectionWork) -> Spent:
        """A section's linear layers on the host, and the rows of attention that cross the link."""
        r, chain = self.rates, Spent()
        hosted = [product for product in section.first if product.place is Place.HOST]
        if hosted:
            chain += longest([spent(Limit.HOST, r.on_host(product)) for product in hosted])
        if section.attention is not None and hosted:
            chain += spent(Limit.HOST_LINK, r.crossing(max(product.cols for product in hosted)))
        if section.last is not None and section.last.place is Place.HOST:
            chain += spent(Limit.HOST, r.on_host(section.last))
            if section.attention is not None:
                chain += spent(Limit.HOST_LINK, r.crossing(section.last.rows))
        return chain

    def on_tiles(self, section: SectionWork, context: int, tiles: int) -> Spent:
        """A section on up to `tiles` tiles, without the way to them."""
        on_chip = [product for product in section.first if product.place is Place.CHIP]
        chain = longest([self.product(product, tiles) for product in on_chip])
        for work in section.before:
            chain += self._columns(work, tiles)
        if section.attention is not None:
            chain += self.attention(section.attention, context, tiles)
        for work in section.inner:
            chain += self._columns(work, tiles)
        if section.last is not None and section.last.place is Place.CHIP:
            chain += self.product(section.last, tiles)
        return chain

    def _columns(self, work: RowWork, tiles: int) -> Spent:
        """An operator column by column or head by head."""
        if work.place is Place.HOST:
            return spent(Limit.HOST, self.rates.on_host(work))
        kind = FUNCTIONS.get(work.task, table.Vsumsq)
        return spent(Limit.VECTOR, self.rates.vector(kind, work.width / min(tiles, work.width), 1.0))

    def attention(self, work: AttentionWork, context: int, tiles: int) -> Spent:
        """Attention of one row: each head on s tiles, which merge their parts."""
        seen = work.seen(context)
        splits = _points(1.0, max(1.0, tiles / work.heads))
        chains = [self._split(work, seen, tiles, low, high) for low, high in pairwise(splits)]
        return min(chains, key=lambda chain: chain.total)

    def _split(self, work: AttentionWork, seen: int, tiles: float, low: float, high: float) -> Spent:
        """Each head on low..high tiles. If there are so many, some tile has a row as long as its share of scores."""
        r, spread = self.rates, tiles >= work.heads * high
        tiles = min(tiles, work.heads * high)
        scores = max(1.0, work.heads * seen / tiles)
        row = scores if spread else 1.0
        if self.is_ideal:
            vector = r.vector(table.Smx, scores, row)
        else:
            queries = max(1.0, work.heads * work.head_dim / tiles)
            vector = r.vector(table.Quant, queries, 1.0) + r.vector(table.Smxi, scores, row)
            vector += r.vector(table.Quantw, scores, row) + r.vector(table.Deq, 1)
        vector += r.vector(table.Smxd, 1)
        arrays = r.kv_mvmt + r.levels(work.head_dim / r.macro_cols) + r.kv_mvm
        if work.causal and not work.cross:
            arrays += r.row_write  # a row sees itself
        return Spent(
            {
                Limit.ARRAYS: arrays,
                Limit.VECTOR: vector,
                Limit.NETWORK: self._merge * math.log2(max(low, 1.0)),
            }
        )

    def block(self, block: Block, context: int) -> Spent:
        """A block: its operators on whole rows, then the longest of its sections."""
        chain = Spent()
        for work in block.hub:
            chain += self.hub(work)
        return chain + longest([self.section(s, context) for s in block.sections if s.on_path])

    def late(self, block: Block, context: int) -> Spent:
        """A block with attention for a row that waits for the key of another one, which comes last: that row's norm and
        its product on as many tiles as there are, then attention and what is behind it."""
        chain = Spent()
        for work in block.hub:
            chain += self.hub(work)
        return chain + longest([self._from_key(s, context) for s in block.sections if s.on_path])

    def _from_key(self, section: SectionWork, context: int) -> Spent:
        on_chip = [product for product in section.first if product.place is Place.CHIP]
        key = [self.product(product, self.rates.tiles) for product in on_chip]
        behind = self.section(replace(section, first=(), before=()), context)
        return behind + min(key, key=lambda chain: chain.total, default=Spent())
