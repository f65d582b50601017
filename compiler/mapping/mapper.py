"""From a canonical graph to a Mapping: stage, sections, stage, sections, ... in the order of the data flow."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

from compiler.explain import Note
from compiler.ir.graph import Attention, Graph, Norm, Rotary
from compiler.ir.hosted import every_row
from compiler.ir.mapping import Mapping, Rows
from compiler.optimisations import Optimisation
from isa.hardware import Hardware
from isa.interface import KvPolicy
from isa.program import Limits

from .attention import AttentionBuilder
from .builder import MappingBuilder
from .cutting import cut
from .deals import Dealing
from .feedforward import DirectBuilder, FeedForwardBuilder, to_host
from .feeds import Feed, HubState, Partial
from .grid import Asked, Cut, Cutter, Shape
from .hostfeeds import HostColumns
from .hub import Sizes, StageBuilder
from .paging import page_rows_for, page_ways, with_pages
from .parts import Geometry, PartBuilder, linear_shape
from .passing import PassingBuilder, passing_section
from .policies import KvChoice
from .problem import Problem
from .rounding import WEIGHT_GROUP
from .rules import WIDEST, hub_columns, spread_by_rule, ways_with_room
from .sections import Domain, Layout, Section, Stage
from .wanted import Wanted, wanted_of
from .weights import Weights

HELD_SHARE = 0.6  # of a tile's buffer, for what is kept of a whole sequence
HEAD_PORTS = 40  # of a hub tile, for columns that it exchanges with heads one by one


@dataclass(frozen=True, slots=True)
class MapOptions:
    """Choices of the mapper. `hub_width`: columns of a hub value a tile takes (0: `rules.hub_columns` decides);
    `block`: rows of a KV block; `kv`: where KV caches lie; `weight_bits`: to what float weights are quantised in int8
    arithmetic, `weight_group`: to 4 bits in groups of how many rows; `kv_bits`: to what keys and values are;
    `without`: optimisations left out.

    `spread`: how many times as many tiles as it needs a feed-forward section may take (0: `rules.room`). `ffn_columns`,
    `ffn_rows`, `ffn_width` fix its cut (`grid.Cut`), else the fastest by `grid.Cutter.cost` is taken. `stream`: whether
    weights are streamed from DRAM (None: if they do not fit the arrays).

    `context_ways`: over how many tiles a KV head's rows are dealt (1: no more than they need), `context_block`: in
    blocks of how many rows; `heads_together`: KV heads (or copies of them) that share tiles of the output projection;
    `kv_copies`: tiles with the same rows, among which the query heads that look at them are divided. 0: `deals`.
    `few_outputs`: an output projection on as few tiles as it fits; `own_outputs`: by columns on the tiles of the heads
    that share it, where each head has one. `own_projections`: queries, keys and values are made on each of a head's
    tiles, not on one that sends them; `projection_tiles`: else on so many (0: as few as they fit).

    `chips`: how many chips along x and y may be used ((0, 0): all); fewer along x only of one row. `passing`: tiles of
    an output layer whose weights pass through their arrays as far as they do not fit (0: all of them stay).
    """

    hub_width: int = 0
    block: int = 512
    weight_bits: int = 8
    weight_group: int = WEIGHT_GROUP
    kv_bits: int = 8
    without: frozenset[Optimisation] = frozenset()
    kv: KvChoice = KvChoice()  # noqa: RUF009  (frozen)
    spread: float = 0.0
    ffn_columns: int = 0
    ffn_rows: int = 0
    ffn_width: int = 0
    kv_tokens: int | None = None
    page_rows: int = 0
    context_ways: int = 0
    context_block: int = 0
    heads_together: int = 0
    kv_copies: int = 0
    few_outputs: bool = False
    own_outputs: bool = False
    own_projections: bool = False
    projection_tiles: int = 0
    stream: bool | None = None
    chips: tuple[int, int] = (0, 0)
    passing: int = 0

    def does(self, optimisation: Optimisation) -> bool:
        """Whether an optimisation is wanted."""
        return optimisation not in self.without


class Mapper:
    """Maps one graph."""

    def __init__(self, problem: Problem, options: MapOptions) -> None:
        graph, hardware, arithmetic = problem.graph, problem.hardware, problem.arithmetic
        self.layout: Layout = cut(graph)
        limits, options = _paged(self.layout, problem.limits, options, hardware)
        self.graph, self.limits, self.options = graph, limits, options
        self.builder = MappingBuilder(hardware, arithmetic, every_row(graph))
        self.weights = Weights(graph, self.builder, options.weight_bits, options.weight_group)
        geometry = Geometry(hardware, limits, options.block, options.without, options.kv, options.kv_bits)
        self.parts = PartBuilder(graph, self.builder, self.weights, geometry)
        self.state = HubState()
        self.only_results, self.carried = _only_results(graph, self.layout), _carried(self.layout)
        leaves_out = options.does(Optimisation.WANTED_ROWS)
        self.wanted = wanted_of(graph, self.layout) if leaves_out else Wanted()
        self.passing = passing_section(graph, self.layout) if options.passing else None
        self.notes: list[Note] = []
        # with an output layer that passes: other tiles, and bytes it loads
        self.layer_tiles, self.loaded = 0, 0
        self.slots: dict[tuple[Domain, int], int] = {}
        self.cuts: dict[Shape, Cut | None] = {}

    def run(self) -> Mapping:
        """The Mapping. Raises `CimError` E03xx if the graph does not fit."""
        for domain, depth in self.layout.steps:
            self.builder.begin_unit()
            for stage in self.layout.stages_at(domain, depth):
                self._stage(stage)
            for section in self.layout.sections_at(domain, depth):
                self._section(section)
            if domain is Domain.TOKENS:
                self.state.connect(self.builder, source=False)
        self.state.connect(self.builder, source=True)
        tries = self.options.does(Optimisation.PLACEMENT)
        return self.builder.finish(self.graph.name, self.limits, tries=tries)

    def _stage(self, stage: Stage) -> None:
        """A hub stage: its operators, what its sections read, and what of it is the model's output."""
        kind = "embed" if stage.depth == 0 else "residual" if stage is not self.layout.stages[-1] else "final"
        if stage.domain is Domain.SOURCE:
            kind = "source" if stage.depth == 0 else "source_residual"
        longest = self.parts.geometry.longest
        most = max(map(longest, Domain))
        does, width = self.options.does, self._shard(stage.domain, stage.width)
        joins, gathers = does(Optimisation.NORM_EXCHANGE), does(Optimisation.GATHER)
        is_early, folds = does(Optimisation.EARLY_BIAS), does(Optimisation.FOLD_GAINS)
        keeps = does(Optimisation.KEEP_ANGLES)
        sizes = Sizes(
            width, longest(stage.domain), most, joins, gathers, is_early, folds, keeps, self.carried
        )
        builder = StageBuilder(self.graph, self.builder, self.weights, self.state, sizes)
        builder.build(stage, self.only_results, kind, self.wanted.of_stage(stage))

    def _shard(self, domain: Domain, width: int) -> int:
        """`_slot_width`, found once."""
        key = domain, width
        if key not in self.slots:
            self.slots[key] = self._slot_width(*key)
        return self.slots[key]

    def _hub_width(self, width: int) -> int:
        """Columns of a hub value that a tile should take, if nothing else limits them."""
        if self.options.hub_width:
            return self.options.hub_width
        is_cut = self.options.does(Optimisation.HUB)
        return hub_columns(width, self.builder.hardware) if is_cut else WIDEST

    def _slot_width(self, domain: Domain, width: int) -> int:
        """Columns of a hub value that a tile takes, the same in all stages of a domain and width.

        They are fewer where a tile must hold a whole sequence between two passes, or exchange columns with many
        heads; and whole heads where the hub works head by head.
        """
        stages = [s for s in self.layout.stages if (s.domain, s.width) == (domain, width)]
        most = min(self._held_width(domain, stages, width), self._ported_width(stages, width))
        unit = math.lcm(*(_head_width(node.op, width) for stage in stages for node in stage.nodes))
        return max(most // unit, 1) * unit

    def _held_width(self, domain: Domain, stages: list[Stage], whole: int) -> int:
        """Columns of which a tile can hold a whole sequence: the residual stream, and what late sections read."""
        width = self._hub_width(whole)
        if all(s.is_causal for s in self.layout.sections if s.domain is domain):
            return width
        longest = self.parts.geometry.longest(domain) * self.limits.sequences
        values = 1 + max(len({read.name for read in stage.reads if read.is_late}) for stage in stages)
        fits = int(self.builder.hardware.buffer_bytes * HELD_SHARE / (4 * longest * values))
        return min(width, fits // 32 * 32 or max(fits // 4 * 4, 4))

    def _ported_width(self, stages: list[Stage], width: int) -> int:
        """Columns whose exchange with heads takes no more than `HEAD_PORTS` ports of a tile."""
        most = self._hub_width(width)
        names = {read.name for stage in stages for read in stage.reads if not read.is_whole}
        for section in self.layout.sections:
            op = section.inner[0].op if section.lanes else None
            if not isinstance(op, Attention):
                continue
            if section.last is None and not section.is_result and op.heads * op.v_head_dim == width:
                most = min(most, HEAD_PORTS * width // op.kv_heads)
            bare = sum(lane is not None and lane.linear is None for lane in section.lanes)
            if bare and names & {lane.input for lane in section.lanes if lane is not None}:
                most = min(most, HEAD_PORTS * width // (bare * op.kv_heads))
        return max(most, 4)

    def _section(self, section: Section) -> None:
        pieces: list[Partial]
        for read in section.reads:
            if read.name in self.layout.direct and not read.is_whole:
                width = _width_of(self.graph, read.name)
                is_source = read.domain is Domain.SOURCE
                self.state.add(HostColumns(read.name, width, is_source, self.state.made), read)
        if section.lanes:
            rows = self.wanted.of_section(section)
            pieces = AttentionBuilder(self.parts, section, self.state, self._dealing(rows), rows).build()
        else:
            (read,) = section.reads
            feed = self.state.feeds[read]
            if section is self.passing:
                self._pass(section, feed)
                return
            if section.last is None:
                pieces = DirectBuilder(self.parts, section, feed).build()
            else:
                rows, cut_ = self.wanted.of_section(section), self._cut(section)
                pieces = FeedForwardBuilder(self.parts, section, feed, cut_, rows).build()
        self.parts.angles.connect()
        if section.is_result:
            node = (*section.inner, *section.first)[0] if section.lanes else section.first[0]
            to_host(self.parts, section, pieces, node)
            return
        self.state.partials[section.output] = pieces
        if section.last is not None:
            self.state.bias[section.output] = section.last

    def _dealing(self, rows: Rows) -> Dealing:
        """How heads that `rows` look at are to be dealt."""
        heads: Counter[Rows] = Counter()
        for section in self.layout.sections:
            if section.attention is not None and isinstance(section.attention.op, Attention):
                heads[self.wanted.of_section(section)] += section.attention.op.kv_heads
        room = ways_with_room(self.graph, self.builder.hardware, self.limits, heads[Rows.OUTPUTS])
        is_behind = rows is Rows.OUTPUTS and heads[Rows.TOKENS] > 0
        return replace(dealing_of(self.options), room=room, is_behind=is_behind)

    def _pass(self, section: Section, feed: Feed) -> None:
        """An output layer whose weights pass through arrays."""
        self.layer_tiles = len(self.builder.tiles)
        passing = PassingBuilder(self.parts, section, feed, self.options.passing)
        passing.build()
        self.loaded = passing.loaded
        self.notes.append(passing.note())

    def _cut(self, section: Section) -> Cut | None:
        """How a feed-forward section is cut; None if nothing fits."""
        assert section.last is not None
        rows, inner = linear_shape(self.weights, section.first[0])
        width = linear_shape(self.weights, section.last)[1]
        shape = Shape(rows, inner, width, len(section.first), self._shard(section.domain, width))
        if shape not in self.cuts:
            options = self.options
            asked = Asked(options.ffn_columns, options.ffn_rows, options.ffn_width)
            cutter = Cutter(self.parts.geometry, shape, asked)
            is_chosen = options.does(Optimisation.FFN_GRID)
            spread = options.spread or spread_by_rule(self.graph, self.builder.hardware, self.limits)
            self.cuts[shape] = cutter.best(spread) if is_chosen else cutter.plain()
        return self.cuts[shape]


def dealing_of(options: MapOptions) -> Dealing:
    """How attention is to be dealt over tiles."""
    dealt = Optimisation.SPLIT_CONTEXT, Optimisation.GROUP_HEADS
    copies = options.kv_copies if options.does(Optimisation.COPY_HEADS) else 1
    asked = options.context_ways, options.context_block, options.heads_together, copies
    outputs = options.few_outputs, options.own_outputs, options.own_projections, options.projection_tiles
    return Dealing(*asked, *outputs, *map(options.does, dealt))


def _paged(
    layout: Layout, limits: Limits, options: MapOptions, hardware: Hardware
) -> tuple[Limits, MapOptions]:
    """The limits with pages, if sequences share KV arrays; a page then is a KV block."""
    tokens = options.kv_tokens
    # memory has room for the longest of each sequence
    is_resident = options.kv.policy in (None, KvPolicy.RESIDENT)
    if tokens is None or not is_resident or not options.does(Optimisation.PAGING):
        return limits, options
    rows = options.page_rows or page_rows_for(limits, hardware, options.block)
    geometry = Geometry(hardware, limits, rows, options.without)
    ways = page_ways(geometry, layout, tokens, rows, dealing_of(options))
    limits = with_pages(limits, tokens, rows, ways)
    return limits, replace(options, block=rows) if limits.pages else options


def _width_of(graph: Graph, name: str) -> int:
    """Columns of an input of the graph."""
    shape = next(i.value.shape for i in graph.inputs if i.name == name)
    assert shape is not None and isinstance(shape[-1], int)
    return shape[-1]


def _head_width(op: object, width: int) -> int:
    """Columns that an operator on the hub needs on one tile."""
    if isinstance(op, Rotary):
        return op.head_dim
    return width // op.groups if isinstance(op, Norm) and op.groups > 1 else 1


def _only_results(graph: Graph, layout: Layout) -> set[str]:
    """Hub values that nothing reads but layers whose columns are the model's output: rows that are not wanted need
    not be made. Of the source all are, and of what the host goes on from."""
    every = every_row(graph)
    ends = [s for s in layout.sections if s.is_result and not s.lanes and s.output not in every]
    others = {name for stage in layout.stages for node in stage.nodes for name in node.inputs}
    others |= {read.name for s in layout.sections if s not in ends for read in s.reads}
    wanted = {read.name for s in ends if s.domain is Domain.TOKENS for read in s.reads}
    return wanted - others - set(graph.outputs)


def _carried(layout: Layout) -> frozenset[str]:
    """Values that more than one stage sends or keeps."""
    stages = Counter(
        name for s in layout.stages for name in {*(read.name for read in s.reads), *s.outputs, *s.holds}
    )
    return frozenset(name for name, count in stages.items() if count > 1)
