"""Attention over several tiles: projections, blocks of cached rows and the output projection on tiles of their own.

project   q, k, v of a KV head, with all that follows up to attention; sends them on as arrays take them
take      the same where q, k, v come as they are, from the hub or from a part of the host
attend    some blocks of the head's cached rows (see `compiler.ir.operations.Append`); the parts are added up in the
          network, referred to the largest score of all
combine   rows of the output projection that belong to a group of heads, by some of its columns; one of these tiles
          finishes each head, and the group's heads are shared among all of them
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from compiler.ir.graph import Attention, Node
from compiler.ir.mapping import Append, Attend, Finish, Format, Receive, Scale, Send
from compiler.ir.operations import Part
from isa.interface import KvCache, KvPolicy
from isa.operands import WORD_BYTES
from isa.program import Direction, Endpoint, Reduce

from .builder import TileBuilder
from .core import answered, bias_of
from .deals import Deal
from .feeds import Feed, HubState, Shard, ranges
from .joined import JoinedWeights
from .joining import make_joined
from .lanes import Share
from .parts import LastLayer, PartBuilder, linear_shape
from .sections import Domain, Section
from .sharing import exchange, share_rows
from .streaming import attend_streamed


@dataclass(frozen=True, slots=True)
class _Piece:
    """Columns of q, k or v of a KV head: value `name` on a project tile, ready for attention."""

    tile: TileBuilder
    name: str
    col: int
    cols: int


def shards_each(parts: PartBuilder, section: Section, state: HubState, share: Share) -> int | None:
    """How many shards of the hub value that a share reads a tile takes: 0 if a tile takes it whole and has a head's
    columns, None if it can have them of no shard."""
    geometry, linear = parts.geometry, share.lane.linear
    if linear is None:
        return 0
    if geometry.columns(linear_shape(parts.weights, linear)[0]) >= share.dim:
        return 0
    stacked = geometry.hardware.macros_per_tile // geometry.macros(1, share.dim)
    widest = max(shard.cols for shard in state.feeds[section.read(share.lane)].shards)
    return stacked * geometry.hardware.macro_rows // widest or None


class SplitBuilder:
    """Builds the heads of one attention section, each over `deal.ways` tiles."""

    def __init__(
        self, parts: PartBuilder, section: Section, state: HubState, shares: Sequence[Share], deal: Deal
    ) -> None:
        self.parts, self.section, self.state, self.shares, self.deal = parts, section, state, shares, deal
        node = section.attention
        assert node is not None and isinstance(node.op, Attention)
        self.node, self.op = node, node.op
        self.group = self.op.heads // self.op.kv_heads
        self.out_cols = self.group * self.op.v_head_dim
        self.plan = parts.plans[node.output.name]
        columns = sum(share.cols for share in shares if share.lane.linear is not None)
        self.columns = -(-columns // max(deal.projections, 1))  # of q, k and v on a tile

    # ------------------------------------------------------------------------------------------- projections

    def project(self, head: int) -> dict[str, list[_Piece]]:
        """q, k and v of a KV head, each whole heads at a time; shares that fit one tile together are on one."""
        pieces: dict[str, list[_Piece]] = {share.name: [] for share in self.shares}
        left: list[tuple[Share, int, int]] = []
        for share in self._bare(head, pieces):
            shards = shards_each(self.parts, self.section, self.state, share)
            if shards:
                heads = [col for col, _ in ranges(share.cols, share.dim)]
                pieces[share.name] += [self._summed(share, head, col, shards) for col in heads]
            else:
                left += [(share, col, cols) for col, cols in ranges(share.cols, self._most(share))]
        while left:
            first = left[0][0]
            together = self._together(left)
            tile = self._project_tile(first)
            x = self.parts.receive(self._feed(first), tile)
            for share, col, cols in together:
                pieces[share.name].append(self._piece(tile, share, head, x, col, cols))
            left = left[len(together) :]
        return pieces

    def _bare(self, head: int, pieces: dict[str, list[_Piece]]) -> list[Share]:
        """Let tiles take the columns of a head that come as they are, one a domain; gives the other shares."""
        for domain in dict.fromkeys(share.lane.domain for share in self.shares if share.lane.linear is None):
            tile = self.parts.builder.new_tile("take", is_source=domain is Domain.SOURCE)
            bare = [s for s in self.shares if s.lane.linear is None and s.lane.domain is domain]
            feeds = {share.name: self.state.columns[self.section.read(share.lane)] for share in bare}
            for share in sorted(bare, key=lambda share: feeds[share.name].order):
                y = feeds[share.name].receive(tile, share.name, (head * share.cols, share.cols))
                pieces[share.name].append(self._chain(tile, share, head, y, 0, share.cols))
        return [share for share in self.shares if share.lane.linear is not None]

    def _project_tile(self, share: Share) -> TileBuilder:
        return self.parts.builder.new_tile("project", is_source=share.lane.domain is Domain.SOURCE)

    def _feed(self, share: Share) -> Feed:
        return self.state.feeds[self.section.read(share.lane)]

    def _summed(self, share: Share, head: int, col: int, shards: int) -> _Piece:
        """One head of a share whose columns are too long for a tile: cut by rows, `shards` of the hub value on a tile;
        the network adds up the parts on the first of these tiles."""
        linear, feed, builder = share.lane.linear, self._feed(share), self.parts.builder
        assert linear is not None
        ends: list[Endpoint] = []
        first: TileBuilder | None = None
        for start, count in ranges(len(feed.shards), shards):
            tile = self._project_tile(share)
            x = self.parts.receive(feed, tile, only=range(start, start + count))
            at, size = (feed.shards[start].col, head * share.cols + col), (tile.values[x].cols, share.dim)
            y = self.parts.multiply(tile, linear, x, share.name, at, size, first is None, share.rows)
            out = tile.port("part", Direction.OUT)
            tile.add(Send(y, ((out, 0, share.dim),)), "sum", [linear])
            ends.append(tile.end(out))
            first = first or tile
        assert first is not None
        whole = first.value(f"{share.name}_sum", Format.F32, share.dim, first.values[share.name].rows)
        port = first.port("sum", Direction.IN)
        first.add(Receive(whole, ((port, 0, share.dim),), keeps=share.name), "sum", [linear])
        builder.connect(f"{share.name}_sum{len(builder.channels)}", ends, [first.end(port)], Reduce.SUM)
        return self._chain(first, share, head, whole, col, share.dim)

    def _most(self, share: Share) -> int:
        """Columns of a share that fit a tile, whole heads."""
        assert share.lane.linear is not None
        rows, _ = linear_shape(self.parts.weights, share.lane.linear)
        most = min(self.parts.geometry.columns(rows), self.columns)
        return max(most // share.dim, 1) * share.dim

    def _together(self, left: list[tuple[Share, int, int]]) -> list[tuple[Share, int, int]]:
        """The first of `left`, and those after it that read the same and fit the same tile."""
        taken: list[tuple[Share, int, int]] = []
        macros, read = 0, self.section.read(left[0][0].lane)
        for share, col, cols in left:
            assert share.lane.linear is not None
            rows, _ = linear_shape(self.parts.weights, share.lane.linear)
            macros += self.parts.geometry.macros(rows, cols)
            is_full = macros > self.parts.geometry.hardware.macros_per_tile
            is_full |= sum(columns for _, _, columns in taken) + cols > self.columns
            if taken and (is_full or self.section.read(share.lane) != read):
                break
            taken.append((share, col, cols))
        return taken

    def _piece(self, tile: TileBuilder, share: Share, head: int, x: str, col: int, cols: int) -> _Piece:
        """Columns of a share on `tile`, from the linear layer to what attention takes."""
        linear, weights = share.lane.linear, self.parts.weights
        assert linear is not None
        rows, _ = linear_shape(weights, linear)
        stem = share.name if share.name not in tile.values else f"{share.name}{col}"
        at = 0, head * share.cols + col
        y = self.parts.multiply(tile, linear, x, stem, at, (rows, cols), True, share.rows)
        return self._chain(tile, share, head, y, col, cols)

    def _chain(self, tile: TileBuilder, share: Share, head: int, y: str, col: int, cols: int) -> _Piece:
        """What follows the linear layer, if there is one, on columns of a share, up to what attention takes."""
        at = head * share.cols + col, self.op.kv_heads * share.cols
        linear = share.lane.linear
        name = linear.output.name if linear is not None else share.lane.input
        local = {name: y}
        for node in share.lane.chain:
            self.parts.headwise(tile, node, local, cols // share.dim, at)
            name = node.output.name
        value = local[name]
        factor = self.op.scale if share.name == "q" else 1.0
        if self._is_quantised(share):
            bits = 8 if share.name == "q" else self.parts.geometry.kv_bits
            value = self.parts.quantise(tile, value, [self.node], cols // share.dim, factor, bits)
        elif factor != 1:
            tile.add(Scale(value, value, factor), "scale", [self.node])
        return _Piece(tile, value, col, cols)

    def _is_quantised(self, share: Share) -> bool:
        return self.parts.quantised and share.dim % WORD_BYTES == 0

    def _hand_on(self, share: Share, pieces: list[_Piece], readers: list[TileBuilder]) -> None:
        """Let `readers` receive q, k or v under its name."""
        quantised, builder = self._is_quantised(share), self.parts.builder
        format_ = Format.Q8 if quantised else Format.F32
        data: list[Part] = []
        scales: list[Part] = []
        rows = pieces[0].tile.values[pieces[0].name].rows
        for reader in readers:
            scales_each = share.cols // share.dim if quantised else 1
            reader.value(share.name, format_, share.cols, rows, scales_each)
        for index, piece in enumerate(pieces):
            out = piece.tile.port(f"{piece.name}_out", Direction.OUT)
            scale = piece.tile.port(f"{piece.name}_scale", Direction.OUT) if quantised else ""
            piece.tile.add(Send(piece.name, ((out, 0, piece.cols),), scale), "multicast", [self.node])
            name = share.name if len(pieces) == 1 else f"{share.name}{index}"
            ends = [reader.end(reader.port(name, Direction.IN)) for reader in readers]
            builder.connect(f"{share.name}{len(builder.channels)}", [piece.tile.end(out)], ends)
            data.append((name, piece.col, piece.cols))
            if quantised:
                ends = [reader.end(reader.port(f"{name}_scale", Direction.IN)) for reader in readers]
                builder.connect(f"{share.name}_scale{len(builder.channels)}", [piece.tile.end(scale)], ends)
                scales.append((f"{name}_scale", piece.col // share.dim, piece.cols // share.dim))
        for reader in readers:
            reader.add(
                Receive(share.name, tuple(data), scales=tuple(scales)), f"{share.name}_in", [self.node]
            )

    # --------------------------------------------------------------------------------------------- attention

    def attend(self, head: int, pieces: dict[str, list[_Piece]], *, is_source: bool) -> list[TileBuilder]:
        """The tiles of a head: each has values `attended` and `sums` of its own blocks."""
        kind = "cross_attend" if self.op.cross else "attend"
        tiles = [self.parts.builder.new_tile(kind, is_source=is_source) for _ in range(self.deal.ways)]
        for way, tile in enumerate(tiles if self.deal.ways > 1 else ()):
            tile.parameter("way", way)
        early = [share for share in self.shares if share.lane.domain is not self.section.domain]
        late = [share for share in self.shares if share not in early]
        for shares in (early, late) if early else (late,):
            for share in shares:
                self._hand_on(share, pieces[share.name], tiles)
            for tile in tiles:
                if any(share.name == "k" for share in shares) and self.plan.policy is KvPolicy.RESIDENT:
                    self._append(tile)
                if shares is early:
                    tile.source_phases = tile.phase = 1
        to, back = exchange(self.parts.builder, tiles, "top", Reduce.MAX)
        for tile in tiles:
            self._attend(tile, head, (to, back), 1.0)
        return tiles

    def whole(self, head: int, is_source: bool) -> list[TileBuilder]:
        """The tiles of a head whose queries, keys and values other tiles make."""
        return self.attend(head, self.project(head), is_source=is_source)

    def attend_joined(self, head: int, joined: JoinedWeights) -> list[TileBuilder]:
        """The tiles of a head, each of which makes its queries, keys and values itself, by one array; values as
        `attend` leaves them."""
        tiles = [self.parts.builder.new_tile("attend") for _ in range(self.deal.ways)]
        for way, tile in enumerate(tiles):
            tile.parameter("way", way)
            x = self.parts.receive(self._feed(self.shares[0]), tile)
            make_joined(self.parts, tile, joined, (x, head), self.shares, [self.node])
            self._append(tile)
        to, back = exchange(self.parts.builder, tiles, "top", Reduce.MAX)
        for tile in tiles:
            self._attend(tile, head, (to, back), self.op.scale)
        return tiles

    def _arrays(self, tile: TileBuilder) -> tuple[str, str]:
        rows, make = self.deal.rows, self.parts.kv_array
        keys = tile.array(make("keys", rows, self.op.head_dim), None)
        return keys, tile.array(make("values", rows, self.op.v_head_dim), None)

    def _append(self, tile: TileBuilder) -> None:
        deal = self.deal
        for array, name in zip(self._arrays(tile), "kv", strict=True):
            op = Append(array, name)
            if deal.ways > 1:
                op = Append(array, name, deal.ways, "way", deal.block, deal.blocks)
            tile.add(op, f"append_{name}", [self.node])

    def _attend(self, tile: TileBuilder, head: int, ports: tuple[str, str], scale: float) -> None:
        op, deal, (to, back) = self.op, self.deal, ports
        if self.plan.policy is not KvPolicy.RESIDENT:
            attend_streamed(self.parts, tile, self.node, {name: name for name in "qkv"}, head, 1.0)
            return
        keys, values = self._arrays(tile)
        if op.cache is not None:
            form = (deal.ways, deal.block, deal.blocks) if deal.ways > 1 else (1, 0, 0)
            self.parts.builder.cache_head(KvCache(op.cache, (), op.cross, *form), tile, keys, values)
        if not op.causal and not op.cross:  # all keys and values first
            tile.keep("q")
            tile.phase = 1
        bias, reach = bias_of(self.parts, tile, self.node, self.group, head)
        rows = answered(tile, "q")
        block = Attend(
            tile.value("attended", Format.F32, self.out_cols, rows),
            "q",
            keys,
            values,
            self.group,
            op.head_dim,
            op.v_head_dim,
            scale,
            deal.block,
            op.window or 0 if not op.cross else 0,
            op.softcap or 0.0,
            op.causal and not op.cross,
            op.cross,
            bias,
            reach,
        )
        if deal.ways > 1:
            sums = tile.value("sums", Format.F32, 2 * self.group, rows)
            block = replace(block, ways=deal.ways, way="way", blocks=deal.blocks, sums=sums, to=to, back=back)
        tile.add(block, "attention", [self.node])

    # ---------------------------------------------------------------------------------- the end of the heads

    def finish(self, head: int, tiles: list[TileBuilder], at: TileBuilder) -> str:
        """Add up the parts of a head on tile `at`, and do what follows attention; returns the value's name there."""
        if self.deal.ways == 1:
            return self._after(head, tiles[0], "attended")
        names, rows = [], tiles[0].values["attended"].rows
        for name, cols in (("sums", 2 * self.group), ("attended", self.out_cols)):
            whole = f"{name}_sum"
            port = self._merge(name, cols, tiles, at, whole)
            at.value(whole, Format.F32, cols, rows)
            keeps = name if at in tiles else ""
            at.add(Receive(whole, ((port, 0, cols),), keeps=keeps), "merge", [self.node])
            names.append(whole)
        sums, attended = names
        out = at.value("head", Format.F32, self.out_cols, rows)
        at.add(Finish(out, attended, sums, self.group), "merge", [self.node])
        return self._after(head, at, out)

    def _after(self, head: int, tile: TileBuilder, value: str, heads: int = 1) -> str:
        """What follows attention, on `heads` KV heads from `head` on; returns the value's name."""
        local, name = {self.node.output.name: value}, self.node.output.name
        at = head * self.out_cols, self.op.heads * self.op.v_head_dim
        for node in self.section.inner[1:]:
            self.parts.headwise(tile, node, local, heads * self.group, at)
            name = node.output.name
        return local[name]

    def _finish_all(self, heads: dict[int, list[TileBuilder]], at: TileBuilder) -> str:
        """`finish` for all heads of a group on one tile, side by side: one operation each for all of them, and nothing
        to be exchanged before the row is quantised. Returns the name of the row as arrays take it."""
        names, rows = [], next(iter(heads.values()))[0].values["attended"].rows
        for name, cols in (("sums", 2 * self.group), ("attended", self.out_cols)):
            if name == "sums" and self.deal.ways == 1:
                continue
            whole = at.value(f"{name}_sum", Format.F32, len(heads) * cols, rows)
            received = tuple(
                (self._merge(name, cols, own, at, f"{whole}{number}"), number * cols, cols)
                for number, own in enumerate(heads.values())
            )
            at.add(Receive(whole, received), "merge", [self.node])
            names.append(whole)
        out = names[-1]
        if self.deal.ways > 1:
            out = at.value("heads", Format.F32, len(heads) * self.out_cols, rows)
            at.add(Finish(out, names[1], names[0], len(heads) * self.group), "merge", [self.node])
        return self.parts.quantise(at, self._after(min(heads), at, out, len(heads)), [self.node])

    def _merge(self, name: str, cols: int, tiles: Sequence[TileBuilder], at: TileBuilder, stem: str) -> str:
        """Let a head's tiles send a value to tile `at`, added up on the way; returns its port there."""
        port = at.port(stem, Direction.IN)
        for tile in tiles:
            out = tile.port(f"{name}_out", Direction.OUT)
            tile.add(Send(name, ((out, 0, cols),)), "merge", [self.node])
        ends = [tile.end(f"{name}_out") for tile in tiles]
        self.parts.builder.connect(
            f"{name}{len(self.parts.builder.channels)}", ends, [at.end(port)], Reduce.SUM
        )
        return port

    def combine(
        self, last_node: Node, heads: dict[int, list[TileBuilder]], cols_each: int, last: LastLayer
    ) -> None:
        """The rows of the output projection that belong to a group of `heads`, by columns on tiles of their own.

        The heads are finished on these tiles if there are enough, else each on the first of its own.
        """
        first, rows = min(heads), len(heads) * self.out_cols
        width = linear_shape(self.parts.weights, last_node)[1]
        is_source = next(iter(heads.values()))[0].is_source
        columns = list(ranges(width, cols_each))
        self.parts.builder.begin_part()
        tiles = [self.parts.builder.new_tile("combine", is_source=is_source) for _ in columns]
        if len(tiles) == 1 and len(heads) > 1:
            x = self._finish_all(heads, tiles[0])
            at_ = first * self.out_cols, 0
            y = self.parts.multiply(tiles[0], last_node, x, "o", at_, (rows, width), bias=False)
            last.add(tiles[0], y, 0, width)
            return
        makers: list[Shard] = []
        for number, (head, own) in enumerate(heads.items()):
            at = tiles[number] if len(own) > 1 and len(heads) <= len(tiles) else own[0]
            name = self.finish(head, own, at)
            makers.append(Shard(at, name, (head - first) * self.out_cols, self.out_cols))
        x = share_rows(self.parts, makers, tiles, "x", [self.node])
        for tile, (col, cols) in zip(tiles, columns, strict=True):
            at_, size = (first * self.out_cols, col), (rows, cols)
            y = self.parts.multiply(tile, last_node, x, "o", at_, size, bias=False)
            last.add(tile, y, col, cols)
