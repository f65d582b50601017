"""The least time of a step: the first row's way, what the other rows add, and what each resource has to do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from isa import instructions as table
from isa.hardware import Hardware
from isa.program import Segment
from isa.workload import AttentionWork, Block, Place, Product, RowWork, SectionWork, Task, Workload

from .latency import FUNCTIONS, Latency
from .result import Bound, Limit, Spent, Term, spent

_SLACK = 1e-6  # of a cycle: rounding of sums


@dataclass(frozen=True, slots=True)
class _Rows:
    """What goes through in a step: rows of the tokens or of the source.

    `context` is what the row that looks furthest looks at, `looked` the sum over all rows, `longest` the rows of the
    longest sequence, `wanted` those whose outputs go to the host.
    """

    count: int
    context: int
    longest: int
    wanted: int
    segments: tuple[Segment, ...]

    def looked(self, attention: AttentionWork) -> int:
        """Rows that all rows look at, added up."""
        return sum(_looked(segment, attention) for segment in self.segments)

    @property
    def sequences(self) -> int:
        """How many sequences they belong to."""
        return len({segment.sequence for segment in self.segments})


def _looked(segment: Segment, attention: AttentionWork) -> int:
    end = segment.position + segment.tokens
    if attention.cross and not segment.is_source:
        return segment.tokens * segment.source
    if not attention.causal:
        return segment.tokens * attention.seen(end)
    return sum(attention.seen(at + 1) for at in range(segment.position, end))


def _rows(segments: Sequence[Segment], is_source: bool) -> _Rows:
    own = tuple(segment for segment in segments if segment.is_source is is_source)
    by_sequence: dict[int, int] = {}
    for segment in own:
        by_sequence[segment.sequence] = by_sequence.get(segment.sequence, 0) + segment.tokens
    wanted = [s for s in own if s.outputs or is_source]
    return _Rows(
        sum(s.tokens for s in own),
        max((s.position + s.tokens for s in wanted or own), default=0),
        max(by_sequence.values(), default=0),
        sum(s.tokens for s in wanted),
        own,
    )


@lru_cache(maxsize=32)
def _latency(hardware_hash: str, hardware: Hardware, resident: bool, is_ideal: bool) -> Latency:
    return Latency(hardware, resident=resident, is_ideal=is_ideal)


class _Step:
    """The bound of one step."""

    def __init__(self, hardware: Hardware, workload: Workload, segments: Sequence[Segment]) -> None:
        self.hardware, self.workload, self.segments = hardware, workload, segments
        cells = hardware.tiles * hardware.macros_per_tile * hardware.macro_rows * hardware.macro_cols
        self.copies = cells / max(1, workload.weights)
        self.latency = _latency(hardware.hash, hardware, self.copies >= 1, workload.is_ideal)
        self.rates = self.latency.rates
        self.tokens, self.source = _rows(segments, False), _rows(segments, True)

    def run(self) -> Bound:
        chain, rest = self._way()
        arrays = chain.total + self._others() + rest
        terms = [
            Term(
                "way of the first row, then the others through the arrays",
                self._largest(chain),
                _cycles(arrays),
            ),
            Term("vector work over all tiles", Limit.VECTOR, _cycles(self._vector() / self.rates.tiles)),
            Term("bytes from DRAM", Limit.DRAM, _cycles(self._dram())),
            Term("rows to the host", Limit.HOST_LINK, _cycles(self._to_host())),
            Term("operators of the host", Limit.HOST, _cycles(self._host())),
        ]
        if self._others() > chain.total:
            terms[0] = Term(terms[0].name, Limit.ARRAYS, terms[0].cycles)
        by = {limit: round(cycles) for limit, cycles in chain.by.items()}
        return Bound(max(term.cycles for term in terms), tuple(terms), by)

    @staticmethod
    def _largest(chain: Spent) -> Limit:
        return max(chain.by, key=lambda limit: chain.by[limit], default=Limit.ARRAYS)

    # ------------------------------------------------------------------------------------------- one row's way

    def _way(self) -> tuple[Spent, float]:
        """The first row from the host through all blocks; and the latency of the link at the end."""
        chain, outputs = self._in(), 0
        for repeat in self.workload.repeats:
            inside = Spent()
            for block in repeat.blocks:
                inside += self._block(block)
                outputs += block.result_columns
            chain += inside.times(repeat.count)
        goes_out = outputs and (self.tokens.wanted or self.source.count)
        return chain, float(self.rates.host_latency + 1) if goes_out else 0.0

    def _in(self) -> Spent:
        words = max(1, self.workload.row_columns)
        return spent(Limit.HOST_LINK, self.rates.host_latency + 4 * words / self.rates.host_width)

    def _block(self, block: Block) -> Spent:
        rows = self.source if block.is_source else self.tokens
        if not rows.count:
            return Spent()
        if not rows.wanted and not any(s.attention is not None for s in block.sections):
            return Spent()
        return self.latency.block(block, self._context(rows, block))

    def _context(self, rows: _Rows, block: Block) -> int:
        if any(s.attention is not None and s.attention.cross for s in block.sections):
            return max((segment.source for segment in rows.segments), default=0)
        return rows.context

    # ------------------------------------------------------------------------------------------ all other rows

    def _others(self) -> float:
        """Cycles that the rows behind the first add: each array takes one after another (docs/bound.md, "Rows")."""
        return self._behind(self.tokens) + self._behind(self.source)

    def _behind(self, rows: _Rows) -> float:
        if not rows.count or self.copies < 1:
            return 0.0
        along = math.ceil(rows.count / math.floor(self.copies)) - 1
        passes = 1 + sum(
            s.attention is not None and not s.attention.causal and not s.attention.cross
            for block in self.workload.blocks()
            if block.is_source is (rows is self.source)
            for s in block.sections
        )
        stops = passes * max(0.0, rows.longest / self.copies - 1) if passes > 1 else 0.0
        return max(along, stops) * self.rates.mvm

    # ------------------------------------------------------------------------------------------ work in all

    def _vector(self) -> float:
        """Cycles of vector units, over all tiles."""
        return sum(
            repeat.count * sum(self._vector_block(block) for block in repeat.blocks)
            for repeat in self.workload.repeats
        )

    def _vector_block(self, block: Block) -> float:
        rows = self.source if block.is_source else self.tokens
        needed = self._count(rows, block)
        work = sum(self._row(item) for item in (*block.hub, *block.aside)) * needed
        return work + sum(self._vector_section(section, needed, rows) for section in block.sections)

    def _count(self, rows: _Rows, block: Block) -> int:
        """Rows that a block surely works on: of the last ones only those whose outputs are wanted."""
        attends = any(s.attention is not None for s in block.sections)
        return rows.count if attends or block is not self._last_block() else rows.wanted

    def _last_block(self) -> Block:
        return self.workload.repeats[-1].blocks[-1]

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

    def _vector_section(self, section: SectionWork, count: int, rows: _Rows) -> float:
        work = count * sum(self._row(item) for item in (*section.before, *section.inner))
        source = self.source.count if section.source else 0
        work += sum(self._product(p) * count for p in section.first)
        work += sum(self._product(p) * source for p in section.source)
        if section.last is not None:
            work += self._product(section.last) * count
        if section.attention is not None:
            work += self._scores(section.attention) * rows.looked(section.attention)
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
        r, kinds = self.rates, [table.Smx]
        total = sum(r.work(kind, 4096) for kind in kinds) / 4096
        if not self.workload.is_ideal:
            total += (r.work(table.Deqr, 4096) + r.work(table.Quantw, 4096)) / 4096
        return attention.heads * total

    def _host(self) -> float:
        """The host's operators, one after another, each on all rows of the step."""
        total = 0.0
        for repeat in self.workload.repeats:
            for block in repeat.blocks:
                rows = self._count(self.source if block.is_source else self.tokens, block)
                work: list[RowWork | Product] = [*block.hub, *block.aside]
                for section in block.sections:
                    work += [*section.before, *section.inner, *section.products]
                hosted = [item for item in work if item.place is Place.HOST]
                total += repeat.count * sum(self.rates.on_host(item, rows) for item in hosted) * bool(rows)
        return total

    # ------------------------------------------------------------------------------------------------ memories

    def _dram(self) -> float:
        """What the chips cannot hold between steps has to come from DRAM in each."""
        h, r = self.hardware, self.rates
        held = r.tiles * (r.tile_cells + h.buffer_bytes) + r.chips * int(h.gbuf.capacity.si)
        used = self.workload.weight_bytes + sum(
            segment_bytes(self.workload, segment) for segment in _last_of_each(self.segments)
        )
        return max(0, used - held) / (r.dram_width * r.chips)

    def _to_host(self) -> float:
        """All that goes to the host, after the first row of it can be there."""
        r = self.rates
        tokens = sum(b.result_columns for b in self.workload.blocks() if not b.is_source)
        source = sum(b.result_columns for b in self.workload.blocks() if b.is_source)
        size = 4 * (tokens * self.tokens.wanted + source * self.source.count)
        if not size:
            return 0.0
        before = Spent()
        for repeat in self.workload.repeats:
            for block in repeat.blocks:
                if not block.result_columns and not block.is_source:
                    before += self._block(block).times(repeat.count)
        return self._in().total + before.total + self.rates.mvm + r.host_latency + size / r.host_width


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
