"""Attention sections: a part is one KV head with the query heads that share it.

Cross-attention's keys and values are rows of the source: their tile takes a pass over the source's segments, in which
it appends them, before it passes over those of the tokens.
"""

from __future__ import annotations

from dataclasses import replace

from compiler.ir.graph import Attention, Node
from compiler.ir.mapping import Format, Receive, Rows, Send
from isa.interface import KvPolicy
from isa.operands import WORD_BYTES
from isa.program import Direction, Endpoint

from .builder import TileBuilder
from .core import append, attend, check_attention
from .deals import Deal, Dealing, copies_of, deal, heads_together, last_columns, stays_whole
from .feeds import HubState, Partial, Shard, ranges
from .joined import JoinedWeights
from .joining import joined_weights, make_joined, may_join, on_own_tiles
from .lanes import Share, of_all_rows, shares_of
from .parts import LastLayer, PartBuilder, check_macros, linear_shape
from .policies import KvPlan, Room, choose_policy, macros, resident, ways_out
from .sections import Domain, Section, refuse
from .sharing import send_rows
from .split import SplitBuilder, shards_each
from .spread import Piece, gather, project
from .streaming import attend_streamed


class AttentionBuilder:
    """Builds one attention section."""

    def __init__(
        self, parts: PartBuilder, section: Section, state: HubState, dealing: Dealing, rows: Rows
    ) -> None:
        self.parts, self.section, self.state, self.dealing = parts, section, state, dealing
        node = section.attention
        assert node is not None and isinstance(node.op, Attention)
        self.node, self.op = node, node.op
        self.group = self.op.heads // self.op.kv_heads
        self.out_cols = self.group * self.op.v_head_dim
        self.shares, self.copies = shares_of(section, self.op, rows), 1
        self.is_source = section.domain is Domain.SOURCE
        self.rows_of = Domain.SOURCE if self.op.cross else section.domain  # whose rows the KV arrays hold

    def build(self) -> list[Partial]:
        """All parts; returns the partial sums of the output projection, or the heads' outputs if there is none."""
        check_attention(self.parts, self.node, self.op)
        self.parts.plans[self.node.output.name] = self.plan = self._plan()
        last = LastLayer({})
        if self.plan.policy is not KvPolicy.RESIDENT:
            self.shares = of_all_rows(self.shares)  # keys stream past the queries of a segment
        geometry, dealt = self.parts.geometry, self._deal()
        is_fused = geometry.hardware.fits_tile(self._projection_macros(), self._kv_macros())
        is_short = is_fused and stays_whole(geometry, self.rows_of, self.group, self.dealing)
        is_apart = (dealt.ways > 1 and not is_short) or (self.dealing.groups_heads and not is_fused)
        if is_apart and not self._stays() and self._can_split(dealt):
            self._split(dealt, last)
            return list(last.partials.values())
        if self._has_pages() and dealt.ways > 1:
            why = f"its pages do not fit on one tile a head, and it has no form over {dealt.ways}"
            raise refuse(self.parts.graph, self.node, why, "fewer --kv-tokens, or --without split-context")
        if is_fused:
            self._copy()
        together = self._together(is_fused)
        if self.section.last is not None:
            self.parts.weights.settle(self.section.last, together * self.out_cols)
        for head in range(0, self.op.kv_heads * self.copies, together):
            if together > 1:
                self._grouped(range(head, head + together), last)
            elif is_fused:
                self._fused(head, last)
            else:
                self._spread(head, last)
        return list(last.partials.values())

    def _together(self, is_fused: bool) -> int:
        """How many heads on tiles of their own share an output projection elsewhere: what is asked for."""
        asked = self.dealing.together if self.dealing.groups_heads else 1
        if self.section.last is None or not is_fused or asked <= 1:
            return 1
        return heads_together(self.parts.geometry, self.op.kv_heads * self.copies, self.out_cols, asked)

    def _copy(self) -> None:
        """Let the query heads that share a KV head go to tiles of their own, each with a copy of its rows."""
        is_plain = self.plan.policy is KvPolicy.RESIDENT and not self._has_pages()
        if is_plain and all(share.lane.linear is not None for share in self.shares):
            self.copies = copies_of(self.group, self.dealing)
        self.group //= self.copies
        self.out_cols //= self.copies
        self.shares = tuple(
            replace(share, heads=self.group) if share.name == "q" else share for share in self.shares
        )

    def _first_column(self, share: Share, head: int) -> int:
        """The first column of a lane that a head has."""
        return (head if share.name == "q" else head // self.copies) * share.cols

    # ------------------------------------------------------------------------------------- over several tiles

    def _deal(self) -> Deal:
        """How a head's rows are dealt: over as many tiles as the rule wants, and as the cache needs; on one if they lie
        in memory."""
        if self.plan.policy is not KvPolicy.RESIDENT:
            return Deal(1, self.plan.staged, 0, self.plan.kept + self.plan.staged)
        return deal(self.parts.geometry, self.rows_of, self.op, self.dealing)

    def _stays(self) -> bool:
        """Whether a head stays on one tile: with a window, while its rows are resident and fit there and nobody asked
        for more, as that tile passes over blocks and can keep a ring."""
        if self.parts.geometry.limits.pages and self.rows_of is Domain.TOKENS:
            return self.plan.ring > 0  # what has no ring has pages, on as many tiles as all others
        is_windowed = 0 < (self.op.window or 0) < self.parts.geometry.longest(self.rows_of)
        is_resident = self.plan.policy is KvPolicy.RESIDENT
        fits = self._kv_macros() <= self.parts.geometry.hardware.written_macros_per_tile
        return is_windowed and is_resident and fits and not self.dealing.ways

    def _can_split(self, dealt: Deal) -> bool:
        """Whether the form over several tiles is there: tiles can have a head's columns of every linear layer, its rows
        of the cache and of the output projection; int8 heads are words."""
        geometry, op = self.parts.geometry, self.op
        if self.parts.quantised and (op.head_dim % WORD_BYTES or op.v_head_dim % WORD_BYTES):
            return False
        wanted = [shards_each(self.parts, self.section, self.state, share) for share in self.shares]
        fits = all(shards is not None for shards in wanted)
        fits &= dealt.macros(geometry, op) <= geometry.hardware.written_macros_per_tile
        fits &= self.section.last is None or geometry.columns(self.out_cols) > 0
        return fits

    def _has_pages(self) -> bool:
        """Whether sequences share the section's KV arrays in pages."""
        return self.parts.geometry.limits.pages > 0 and self.rows_of is Domain.TOKENS and not self.plan.ring

    def _split(self, dealt: Deal, last: LastLayer) -> None:
        """Every head over several tiles, the output projection by groups of heads."""
        builder = SplitBuilder(self.parts, self.section, self.state, self.shares, dealt)
        joined = self._all_joined() if self.dealing.own_projections and self._may_join(dealt) else None
        heads, node, geometry = self.op.kv_heads, self.section.last, self.parts.geometry
        together, cols = 1, 0
        if node is not None:
            asked = self.dealing.together if self.dealing.groups_heads else 1
            together = heads_together(geometry, heads, self.out_cols, asked)
            self.parts.weights.settle(node, together * self.out_cols)
            least = 1 if self.dealing.few_outputs else together
            cols = last_columns(geometry, self._width(), together * self.out_cols, least)
        group: dict[int, list[TileBuilder]] = {}
        for head in range(heads):
            self.parts.builder.begin_part()
            group[head] = (
                builder.attend_joined(head, joined) if joined else builder.whole(head, self.is_source)
            )
            if node is None:
                (own,) = group.values()
                last.add(own[0], builder.finish(head, own, own[0]), head * self.out_cols, self.out_cols)
                group = {}
            elif len(group) == together:
                builder.combine(node, group, cols, last)
                group = {}

    # ----------------------------------------------------------------------------------------------- one tile

    def _plan(self) -> KvPlan:
        """Where the rows of the layer's heads lie: rows in memory leave room for the projections if it is enough."""
        geometry, here = self.parts.geometry, resident(self.parts.geometry, self.op, self.rows_of)
        tile = geometry.hardware.written_macros_per_tile
        fits = macros(geometry, self.op, here) <= tile
        if not fits and (not geometry.kv.one_tile or len(self.parts.plans) < geometry.kv.spared):
            fits = self._can_split(deal(geometry, self.rows_of, self.op, self.dealing))
        left = geometry.hardware.written_beside(self._projection_macros())
        return choose_policy(geometry, self.op, self.rows_of, Room(tile, left, fits))

    def _kv_macros(self) -> int:
        return macros(self.parts.geometry, self.op, self.plan)

    def _projection_macros(self) -> int:
        """Macros of a head's linear layers."""
        geometry, weights = self.parts.geometry, self.parts.weights
        first = sum(
            geometry.macros(linear_shape(weights, share.lane.linear)[0], share.cols)
            for share in self.shares
            if share.lane.linear is not None
        )
        last = geometry.macros(self.out_cols, self._width()) if self.section.last is not None else 0
        return first + last

    @property
    def _output(self) -> Node:
        """The output projection."""
        assert self.section.last is not None
        return self.section.last

    def _width(self) -> int:
        return linear_shape(self.parts.weights, self._output)[1]

    # ------------------------------------------------------------------------------------------ one KV head

    def _core(self, tile: TileBuilder, head: int, pieces: dict[str, list[Piece]] | None) -> str:
        """Everything from the lanes to the end of attention on `tile`; returns the name of what comes out.

        `pieces` are the projections if other tiles make them.
        """
        if pieces is None and self._may_join():
            return self._after(tile, head, self._joined(tile, head))
        early = [share for share in self.shares if share.lane.domain is not self.section.domain]
        values: dict[str, str] = {}
        if early:
            tile.source_phases = 1
            values |= self._lanes(tile, head, early, pieces)
            append(self.parts, tile, self.node, values["k"], values["v"])
            tile.phase = 1
        values |= self._lanes(tile, head, [share for share in self.shares if share not in early], pieces)
        if self.plan.policy is not KvPolicy.RESIDENT:
            out = attend_streamed(self.parts, tile, self.node, values, head, self.op.scale)
        else:
            if "k" in values and not early:
                append(self.parts, tile, self.node, values["k"], values["v"])
            out = attend(self.parts, tile, self.node, self.rows_of, values["q"], head, self.copies)
        return self._after(tile, head, out)

    def _may_join(self, dealt: Deal | None = None) -> bool:
        """Whether a head's queries, keys and values come of one array, on each of the tiles that have dealt rows."""
        is_kept = self.plan.policy is KvPolicy.RESIDENT
        return is_kept and may_join(self.parts, self.section, self.op, self.shares, dealt)

    def _joined(self, tile: TileBuilder, head: int) -> str:
        """Attention of a head whose queries, keys and values come of one array; returns the name of what it gives."""
        (x,) = self._receive(tile, list(self.shares)).values()
        make_joined(self.parts, tile, self._all_joined(), (x, head), self.shares, [self.node])
        append(self.parts, tile, self.node, "k", "v")
        return attend(self.parts, tile, self.node, self.rows_of, "q", head, self.copies)

    def _all_joined(self) -> JoinedWeights:
        """The weights of all heads' queries, keys and values."""
        return joined_weights(self.parts, self.shares, self.op.kv_heads * self.copies, self._first_column)

    def _after(self, tile: TileBuilder, head: int, out: str) -> str:
        """What follows attention on a head's tile; returns the value's name."""
        local, name = {self.node.output.name: out}, self.node.output.name
        at = head * self.out_cols, self.op.heads * self.op.v_head_dim
        for node in self.section.inner[1:]:
            self.parts.headwise(tile, node, local, self.group, at)
            name = node.output.name
        return local[name]

    def _lanes(
        self, tile: TileBuilder, head: int, shares: list[Share], pieces: dict[str, list[Piece]] | None
    ) -> dict[str, str]:
        """The lanes' values on `tile`, by name: first what they begin with, then their operators."""
        ready = pieces or {}
        received = self._receive(tile, [share for share in shares if share.name not in ready])
        starts = self._columns(tile, head, [share for share in shares if share.lane.linear is None])
        projected: dict[tuple[str, int, Rows], str] = {}
        for share in shares:
            linear = share.lane.linear
            if linear is None:
                continue
            key = linear.output.name, share.cols, share.rows
            if key not in projected and share.name in ready:
                projected[key] = gather(self.parts, tile, share, ready[share.name])
            elif key not in projected:
                rows, _ = linear_shape(self.parts.weights, linear)
                at, size = (0, self._first_column(share, head)), (rows, share.cols)
                x = received[share.lane.input]
                projected[key] = self.parts.multiply(tile, linear, x, share.name, at, size, True, share.rows)
            starts[share.name] = projected[key]
        return {share.name: self._chain(tile, share, head, starts[share.name]) for share in shares}

    def _receive(self, tile: TileBuilder, shares: list[Share]) -> dict[str, str]:
        """The hub values that linear layers read, as arrays take them, in the order in which they are sent."""
        reads = {self.section.read(share.lane) for share in shares if share.lane.linear is not None}
        received: dict[str, str] = {}
        for read in sorted(reads, key=lambda read: self.state.feeds[read].order):
            stem = "x" if read.domain is self.section.domain else "source"
            stem = f"{stem}_{len(received)}" if received else stem
            received[read.name] = self.parts.receive(self.state.feeds[read], tile, stem)
        return received

    def _columns(self, tile: TileBuilder, head: int, shares: list[Share]) -> dict[str, str]:
        """The columns of hub values that are heads as they are, in the order in which they are sent."""
        feeds = {share.name: self.state.columns[self.section.read(share.lane)] for share in shares}
        return {
            share.name: feeds[share.name].receive(tile, share.name, (head * share.cols, share.cols))
            for share in sorted(shares, key=lambda share: feeds[share.name].order)
        }

    def _chain(self, tile: TileBuilder, share: Share, head: int, start: str) -> str:
        """The lane's operators on the heads that `tile` has; returns the last value's name."""
        name = share.lane.linear.output.name if share.lane.linear is not None else share.lane.input
        local = {name: start}
        for node in share.lane.chain:
            copies = self.copies if share.name == "q" else 1
            at = self._first_column(share, head), self.op.kv_heads * copies * share.cols
            self.parts.headwise(tile, node, local, share.heads, at)
            name = node.output.name
        return local[name]

    def _fused(self, head: int, last: LastLayer) -> None:
        kind = "cross_attention" if self.op.cross else "attention"
        tile = self.parts.builder.new_tile(kind, is_source=self.is_source)
        out = self._core(tile, head, None)
        if self.section.last is None:
            last.add(tile, out, head * self.out_cols, self.out_cols)
            return
        self._last(tile, self.parts.quantise(tile, out, [self.node]), head, 0, self._width(), last)

    def _grouped(self, heads: range, last: LastLayer) -> None:
        """Heads on tiles of their own up to attention, whose results go to tiles with their output projection."""
        kind, builder, made = "cross_attention" if self.op.cross else "attention", self.parts.builder, []
        for number, head in enumerate(heads):
            tile = builder.new_tile(kind, is_source=self.is_source)
            made.append(Shard(tile, self._core(tile, head, None), number * self.out_cols, self.out_cols))
        rows = len(heads) * self.out_cols
        if self.dealing.own_outputs:
            on_own_tiles(self.parts, made, (self.node, self._output), heads.start, last)
            return
        feed = send_rows(made, [self.node], made[0].tile.values[made[0].name].rows)
        for col, cols in ranges(self._width(), last_columns(self.parts.geometry, self._width(), rows, 1)):
            tile = builder.new_tile("combine", is_source=self.is_source)
            x = self.parts.receive(feed, tile)
            at = (heads.start * self.out_cols, col)
            y = self.parts.multiply(tile, self._output, x, "o", at, (rows, cols), bias=False)
            last.add(tile, y, col, cols)
        feed.connect(builder)

    def _last(self, tile: TileBuilder, x: str, head: int, col: int, cols: int, last: LastLayer) -> None:
        at, size = (head * self.out_cols, col), (self.out_cols, cols)
        last.add(tile, self.parts.multiply(tile, self._output, x, "o", at, size, bias=False), col, cols)

    def _spread(self, head: int, last: LastLayer) -> None:
        """Projections, attention and output projection on tiles of their own."""
        self._check()
        made: dict[tuple[str, int, Rows], list[Piece]] = {}
        pieces: dict[str, list[Piece]] = {}
        for share in self.shares:
            if share.lane.linear is not None:
                key = share.lane.linear.output.name, share.cols, share.rows
                if key not in made:
                    made[key] = project(
                        self.parts, self.state.feeds[self.section.read(share.lane)], share, head
                    )
                pieces[share.name] = made[key]
        kind = "cross_attend" if self.op.cross else "attend"
        core = self.parts.builder.new_tile(kind, is_source=self.is_source)
        out = self._core(core, head, pieces)
        if self.section.last is None:
            last.add(core, out, head * self.out_cols, self.out_cols)
        else:
            self._combine(core, out, head, last)

    def _combine(self, core: TileBuilder, out: str, head: int, last: LastLayer) -> None:
        """The output projection cut by columns over tiles, to which `core` sends what attention gave.

        int8 rows travel in whole words; others go as float32, and are quantised where they arrive.
        """
        builder = self.parts.builder
        quantised = self.parts.quantised and self.out_cols % WORD_BYTES == 0
        sent = self.parts.quantise(core, out, [self.node]) if quantised else out
        data = core.port("attended_out", Direction.OUT)
        scale = core.port("attended_scale", Direction.OUT) if quantised else ""
        core.add(Send(sent, ((data, 0, self.out_cols),), scale), "multicast", [self.node])
        data_ends: list[Endpoint] = []
        scale_ends: list[Endpoint] = []
        for col, cols in ranges(self._width(), self.parts.geometry.columns(self.out_cols)):
            tile = builder.new_tile("combine", is_source=self.is_source)
            tile.value("x", Format.Q8 if quantised else Format.F32, self.out_cols, core.values[sent].rows)
            port = tile.port("x", Direction.IN)
            scale_port = tile.port("x_scale", Direction.IN) if quantised else ""
            tile.add(Receive("x", ((port, 0, self.out_cols),), scale_port), "input", [self.node])
            data_ends.append(tile.end(port))
            scale_ends += [tile.end(scale_port)] if quantised else []
            x = "x" if quantised else self.parts.quantise(tile, "x", [self.node])
            self._last(tile, x, head, col, cols, last)
        builder.connect(f"attended{len(builder.channels)}", [core.end(data)], data_ends)
        if quantised:
            builder.connect(f"attended_scale{len(builder.channels)}", [core.end(scale)], scale_ends)

    def _check(self) -> None:
        geometry, graph = self.parts.geometry, self.parts.graph
        have, plan = geometry.hardware.macros_per_tile, self.plan
        rows = "rows of the source" if self.rows_of is Domain.SOURCE else "tokens"
        what = (
            f"KV cache of one head ({plan.policy.value}) for {geometry.longest(self.rows_of):,} {rows} and "
            f"{geometry.limits.sequences} sequence(s)"
        )
        way_out = ways_out(geometry, self.op, self.rows_of, plan)
        check_macros(
            graph, self.node, self._kv_macros(), geometry.hardware.written_macros_per_tile, what, way_out
        )
        for share in self.shares:
            if share.lane.linear is not None:
                long, _ = linear_shape(self.parts.weights, share.lane.linear)
                what, stacked = f"a column of {long:,} rows", geometry.macros(long, 1)
                check_macros(graph, share.lane.linear, stacked, have, what, "a target with larger tiles")
        if self.section.last is not None:
            stacked = geometry.macros(self.out_cols, 1)
            what = f"a column of {self.out_cols:,} rows"
            check_macros(graph, self.section.last, stacked, have, what, "a target with larger tiles")
