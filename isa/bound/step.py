"""The least time of a step: the first row's way, what the other rows add, and what each resource has to do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from isa import instructions as table
from isa.hardware import Hardware
from isa.instruction import Inst
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

    def looked(self, attention: AttentionWork, wanted: bool) -> int:
        """Rows that all rows look at, added up; with `wanted`, all rows whose outputs are wanted."""
        chosen = [s for s in self.segments if s.outputs or s.is_source or not wanted]
        return sum(_looked(segment, attention) for segment in chosen)

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


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A block that occurs `times` times, how many rows its operators on whole rows surely work on, and its sections."""

    block: Block
    rows: int
    section_rows: int
    times: int = 1

    @property
    def weights(self) -> int:
        """Weights on the chip, of one occurrence."""
        return sum(p.rows * p.cols for section in self.block.sections for p in section.on_chip)


def _stretches(blocks: list[Block], rows: _Rows) -> list[_Stretch]:
    """The blocks of a domain.

    From the last attention on only rows are needed whose outputs are wanted, but for its keys and values.
    """
    attends = [any(s.attention is not None for s in block.sections) for block in blocks]
    last = max((index for index, attending in enumerate(attends) if attending), default=0)
    found: dict[tuple[Block, int, int], int] = {}
    for index, block in enumerate(blocks):
        needed = rows.count if index < last else rows.wanted
        key = block, rows.count if index == last and attends[last] else needed, needed
        found[key] = found.get(key, 0) + 1
    return [_Stretch(*key, times) for key, times in found.items()]


@lru_cache(maxsize=32)
def _latency(hardware_hash: str, hardware: Hardware, resident: bool, is_ideal: bool) -> Latency:
    return Latency(hardware, resident=resident, is_ideal=is_ideal)


class _Step:
    """The bound of one step."""

    def __init__(self, hardware: Hardware, workload: Workload, segments: Sequence[Segment]) -> None:
        self.hardware, self.workload, self.segments = hardware, workload, segments
        self.cells = hardware.tiles * hardware.macros_per_tile * hardware.macro_rows * hardware.macro_cols
        resident = self.cells >= workload.weights
        self.latency = _latency(hardware.hash, hardware, resident, workload.is_ideal)
        self.rates = self.latency.rates
        self.tokens, self.source = _rows(segments, False), _rows(segments, True)
        blocks = list(workload.blocks())
        self.stretches = {
            is_source: _stretches([b for b in blocks if b.is_source is is_source], rows)
            for is_source, rows in ((True, self.source), (False, self.tokens))
        }

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
        for is_source, stretches in self.stretches.items():
            for stretch in stretches:
                chain += self._block(stretch, self.source if is_source else self.tokens).times(stretch.times)
                outputs += stretch.block.result_columns * stretch.section_rows
        return chain, float(self.rates.host_latency + 1) if outputs else 0.0

    def _in(self) -> Spent:
        words = max(1, self.workload.row_columns)
        return spent(Limit.HOST_LINK, self.rates.host_latency + 4 * words / self.rates.host_width)

    def _block(self, stretch: _Stretch, rows: _Rows) -> Spent:
        block = stretch.block
        if not stretch.rows:
            return Spent()
        if not stretch.section_rows:
            block = replace(block, sections=())
        return self.latency.block(block, self._context(rows, stretch.block))

    def _context(self, rows: _Rows, block: Block) -> int:
        if any(s.attention is not None and s.attention.cross for s in block.sections):
            return max((segment.source for segment in rows.segments), default=0)
        return rows.context

    # ------------------------------------------------------------------------------------------ all other rows

    def _others(self) -> float:
        """Cycles that the rows behind the first add: each array takes one after another (docs/bound.md, "Rows")."""
        return self._behind(self.tokens) + self._behind(self.source)

    def _behind(self, rows: _Rows) -> float:
        stretches = self.stretches[rows is self.source]
        taken = sum(s.weights * s.times for s in stretches if s.section_rows == rows.count)
        copies = (self.cells - self.workload.weights + taken) / max(1, taken)
        if not taken or copies < 1:
            return 0.0
        along = math.ceil(rows.count / math.floor(copies)) - 1
        stops = sum(stretch.times for stretch in stretches if _stops(stretch.block))
        passes = (stops + 1) * max(0.0, rows.longest / copies - 1) if stops else 0.0
        return max(along, passes) * self.rates.mvm

    # ------------------------------------------------------------------------------------------ work in all

    def _vector(self) -> float:
        """Cycles of vector units, over all tiles."""
        return sum(
            stretch.times * self._vector_block(stretch, self.source if is_source else self.tokens)
            for is_source, stretches in self.stretches.items()
            for stretch in stretches
        )

    def _vector_block(self, stretch: _Stretch, rows: _Rows) -> float:
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

    def _vector_section(self, section: SectionWork, count: int, rows: _Rows) -> float:
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

    def _hosted(self, stretch: _Stretch) -> float:
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
        held = r.tiles * (r.tile_cells + h.buffer_bytes) + r.chips * int(h.gbuf.capacity.si)
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
