"""The least time of a step: the first row's way, what the other rows add, and what each resource has to do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from isa import instructions as table
from isa.hardware import Hardware
from isa.instruction import Inst
from isa.program import Segment
from isa.workload import AttentionWork, Block, Place, Product, RowWork, SectionWork, Task, Workload

from .latency import FUNCTIONS, Latency
from .result import Bound, Limit, Spent, Term, spent
from .rows import Rows, Stretch, attends, rows_of, stretches_of

_SLACK = 1e-6  # of a cycle: rounding of sums


@lru_cache(maxsize=32)
def _latency(hardware_hash: str, hardware: Hardware, resident: bool, is_ideal: bool) -> Latency:
    return Latency(hardware, resident=resident, is_ideal=is_ideal)


class _Step:
    """The bound of one step."""

    def __init__(self, hardware: Hardware, workload: Workload, segments: Sequence[Segment]) -> None:
        self.hardware, self.workload, self.segments = hardware, workload, segments
        self.cells = hardware.tiles * hardware.weight_cells
        resident = self.cells >= workload.weights
        self.latency = _latency(hardware.hash, hardware, resident, workload.is_ideal)
        self.rates = self.latency.rates
        self.tokens, self.source = rows_of(segments, False), rows_of(segments, True)
        blocks = list(workload.blocks())
        self.stretches = {
            is_source: stretches_of([b for b in blocks if b.is_source is is_source], rows)
            for is_source, rows in ((True, self.source), (False, self.tokens))
        }
        own = [b for b in blocks if not b.is_source]
        self.final = next((b for b in reversed(own) if b.result_columns), None)
        self.before_cross = own[: next((n for n, b in enumerate(own) if _is_cross(b)), len(own))]

    def run(self) -> Bound:
        chain, rest = self._way()
        link = self._link()
        arrays = max(chain.total + rest, self._tokens_behind(), self._source_behind())
        behind = max(self._behind(self.tokens), self._behind(self.source))
        parts = chain + spent(Limit.ARRAYS, behind) + spent(Limit.HOST_LINK, link)
        vector = max(
            self._vector() / self.rates.tiles,
            self._in().total + self._vector(early=True) / self.rates.tiles + self._late() + link,
        )
        terms = [
            Term(
                "way of the first row, then the others through the arrays, then the last one's outputs",
                max(parts.by, key=lambda limit: parts.by[limit]),
                _cycles(arrays),
            ),
            Term("vector work over all tiles", Limit.VECTOR, _cycles(vector)),
            Term("bytes from DRAM", Limit.DRAM, _cycles(self._dram())),
            Term("rows to the host", Limit.HOST_LINK, _cycles(self._to_host())),
            Term("operators of the host", Limit.HOST, _cycles(self._host())),
        ]
        by = {limit: round(cycles) for limit, cycles in chain.by.items()}
        return Bound(max(term.cycles for term in terms), tuple(terms), by)

    # ------------------------------------------------------------------------------------------- one row's way

    def _way(self) -> tuple[Spent, float]:
        """The first row from the host through all blocks; and the latency of the link at the end."""
        chain, outputs = self._in(), 0
        for is_source, stretches in self.stretches.items():
            for stretch in stretches:
                chain += self._block(stretch, self.source if is_source else self.tokens).times(stretch.times)
                outputs += stretch.block.result_columns * stretch.section_rows
        return chain, float(self.rates.host_latency + 1) if outputs else 0.0

    def _in(self) -> Spent:
        words = max(1, self.workload.row_columns)
        return spent(Limit.HOST_LINK, self.rates.host_latency + 4 * words / self.rates.host_width)

    def _block(self, stretch: Stretch, rows: Rows, context: int | None = None) -> Spent:
        """A block for the row that looks furthest, or for one that looks at `context` rows."""
        block = stretch.block
        if not stretch.rows:
            return Spent()
        if not stretch.section_rows:
            block = replace(block, sections=())
        return self.latency.block(block, self._context(rows, stretch.block, context))

    def _context(self, rows: Rows, block: Block, context: int | None) -> int:
        attended = [s.attention for s in block.sections if s.attention is not None]
        if any(a.cross for a in attended):
            return (max if context is None else min)((s.source for s in rows.segments), default=0)
        return rows.context if context is None or not all(a.causal for a in attended) else context

    # ------------------------------------------------------------------------------------------ all other rows

    def _tokens_behind(self) -> float:
        """The rows of tokens, one after another through each array, then what the last one has still to go.

        Its outputs end with the last block's sums and one message, or with a product and the bytes of a row.
        """
        early = self._in().total + self._early(self.tokens) + self._late()
        product = early + self._behind(self.tokens) + self._link()
        if self.final is None or not self.tokens.wanted:
            return product
        final = self.latency.block(self.final, self.tokens.shortest).total + self.rates.host_latency + 1
        return max(product, early + self._behind(self.tokens, with_final=True) + final)

    def _source_behind(self) -> float:
        """The rows of the source likewise; then a row of tokens goes on from the first cross-attention."""
        if not self.source.count:
            return 0.0
        before = sum(self.latency.block(b, self.tokens.first).total for b in self.before_cross)
        tokens = self._early(self.tokens) + self._late() + self._link() if self.tokens.count else 0.0
        own = self._in().total + self._early(self.source) + self._behind(self.source)
        return own + max(0.0, tokens - before)

    def _early(self, rows: Rows) -> float:
        """The least way of a row through all blocks that all rows go through."""
        return sum(
            self._block(s, rows, rows.first).total * s.times
            for s in self.stretches[rows is self.source]
            if self._is_early(s, rows)
        )

    def _is_early(self, stretch: Stretch, rows: Rows) -> bool:
        return stretch.section_rows == rows.count and stretch.block != self.final

    def _late(self) -> float:
        """From the last attention of a sequence, by way of the last key to come, to the last block."""
        rows = self.tokens
        behind = [s for s in self.stretches[False] if s.section_rows and not self._is_early(s, rows)]
        cycles = 0.0
        for s in behind:
            if s.block != self.final:
                least = self.latency.late if attends(s.block) else self.latency.block
                cycles += least(s.block, self._context(rows, s.block, rows.shortest)).total * s.times
        return cycles

    def _link(self) -> float:
        """From a row at the last block to its outputs at the host: a product, if there is one, and their bytes."""
        if self.final is None or not self.tokens.wanted:
            return 0.0
        columns = max(self.final.result_columns, 1)
        product = 0 if self.final.result else self.rates.mvm
        return product + self.rates.host_latency + 4 * columns / self.rates.host_width

    def _behind(self, rows: Rows, *, with_final: bool = False) -> float:
        """Cycles that the rows behind the first add: each array takes one after another (docs/bound.md, "Rows")."""
        stretches = self.stretches[rows is self.source]
        through = (s for s in stretches if s.section_rows == rows.count)
        taken = sum(s.weights * s.times for s in through if with_final or s.block != self.final)
        copies = (self.cells - self.workload.weights + taken) / max(1, taken)
        if not taken or copies < 1:
            return 0.0
        along = math.ceil(rows.count / math.floor(copies)) - 1
        stops = sum(stretch.times for stretch in stretches if _stops(stretch.block))
        passes = (stops + 1) * max(0.0, rows.longest / copies - 1) if stops else 0.0
        return max(along, passes) * self.rates.mvm

    # ------------------------------------------------------------------------------------------ work in all

    def _vector(self, *, early: bool = False) -> float:
        """Cycles of vector units, added up over all tiles; with `early`, in blocks that all rows go through."""
        return sum(
            stretch.times * self._vector_block(stretch, rows)
            for rows in (self.source, self.tokens)
            for stretch in self.stretches[rows is self.source]
            if not early or self._is_early(stretch, rows)
        )

    def _vector_block(self, stretch: Stretch, rows: Rows) -> float:
        block = stretch.block
        work = sum(self._row(item) for item in (*block.hub, *block.aside)) * stretch.rows
        return work + sum(self._vector_section(s, stretch.section_rows, rows) for s in block.sections)

    def _row(self, item: RowWork) -> float:
        r = self.rates
        if item.place is Place.HOST:
            return 0.0
        match item.task:
            case Task.EMBED | Task.POSITION | Task.ADD:
                return 0.0
            case Task.RMS:
                return r.work(table.Vsumsq, item.width)
            case Task.LAYER:
                return r.work(table.Vsumsq, item.width) + r.work(table.Vsubc, item.width)
            case task:
                return r.work(FUNCTIONS[task], item.width)

    def _vector_section(self, section: SectionWork, count: int, rows: Rows) -> float:
        work = count * sum(self._row(item) for item in (*section.before, *section.inner))
        source = self.source.count if section.source else 0
        work += sum(self._product(p) * count for p in section.first)
        work += sum(self._product(p) * source for p in section.source)
        if section.last is not None:
            work += self._product(section.last) * count
        if section.attention is not None:
            work += self._scores(section.attention) * rows.looked(section.attention, count < rows.count)
        return work

    def _product(self, product: Product) -> float:
        """Quantising the input once, and dequantising each sum once."""
        if self.workload.is_ideal or product.place is Place.HOST:
            return 0.0
        r = self.rates
        return min(r.work(table.Quant, product.rows), r.work(table.Quantx, product.rows)) + (
            r.dequantise * product.cols
        )

    def _scores(self, attention: AttentionWork) -> float:
        """Softmax of a key's scores, one for each head."""
        kinds: tuple[type[Inst], ...] = (table.Smx,) if self.workload.is_ideal else (table.Smxi, table.Quantw)
        return attention.heads * sum(self.rates.work(kind, 4096) for kind in kinds) / 4096

    def _host(self) -> float:
        """The host's operators, one after another, each on all rows of the step."""
        return sum(
            stretch.times * self._hosted(stretch)
            for stretches in self.stretches.values()
            for stretch in stretches
        )

    def _hosted(self, stretch: Stretch) -> float:
        block, r = stretch.block, self.rates
        total = sum(
            r.on_host(item, stretch.rows)
            for item in (*block.hub, *block.aside)
            if item.place is Place.HOST and stretch.rows
        )
        for section in block.sections if stretch.section_rows else ():
            work: list[RowWork | Product] = [*section.before, *section.inner, *section.products]
            hosted = (item for item in work if item.place is Place.HOST)
            total += sum(r.on_host(item, stretch.section_rows) for item in hosted)
        return total

    # ------------------------------------------------------------------------------------------------ memories

    def _dram(self) -> float:
        """What the chips cannot hold between steps has to come from DRAM in each."""
        h, r = self.hardware, self.rates
        own = h.written_cells if h.kv_macros_per_tile else 0
        held = r.tiles * (h.weight_cells + own + h.buffer_bytes) + r.chips * int(h.gbuf.capacity.si)
        used = self.workload.weight_bytes + sum(
            segment_bytes(self.workload, segment) for segment in _last_of_each(self.segments)
        )
        return max(0, used - held) / (r.dram_width * r.chips)

    def _to_host(self) -> float:
        """All that goes to the host, after the first row of it can be there."""
        r = self.rates
        size = 4 * sum(
            stretch.block.result_columns * stretch.section_rows * stretch.times
            for stretches in self.stretches.values()
            for stretch in stretches
        )
        if not size:
            return 0.0
        before = Spent()
        for stretch in self.stretches[False]:
            if not stretch.block.result_columns:
                before += self._block(stretch, self.tokens).times(stretch.times)
        return self._in().total + before.total + self.rates.mvm + r.host_latency + size / r.host_width


def _is_cross(block: Block) -> bool:
    return any(s.attention is not None and s.attention.cross for s in block.sections)


def _stops(block: Block) -> bool:
    """Whether rows wait there for all others of their sequence."""
    attended = (s.attention for s in block.sections)
    return any(a is not None and not a.causal and not a.cross for a in attended)


def segment_bytes(workload: Workload, segment: Segment) -> int:
    """Bytes of keys and values that the last row of a segment looks at."""
    end = segment.position + segment.tokens
    attended = (s.attention for s in workload.sections())
    return sum(
        a.row_bytes * a.seen(segment.source if a.cross else end)
        for a in attended
        if a is not None and a.cached
    )


def _last_of_each(segments: Sequence[Segment]) -> list[Segment]:
    """The last segment of each sequence."""
    last: dict[int, Segment] = {}
    for segment in segments:
        if not segment.is_source:
            last[segment.sequence] = segment
    return list(last.values())


def _cycles(amount: float) -> int:
    return math.ceil(amount - _SLACK)


def bound(hardware: Hardware, workload: Workload, segments: Sequence[Segment]) -> Bound | None:
    """The least cycles that a step of `segments` can take on a target; None if the work is not known."""
    return _Step(hardware, workload, segments).run() if workload else None
