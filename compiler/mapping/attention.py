"""Attention sections: a part is one KV head with the query heads that share it."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.ir.graph import Attention, Node
from compiler.ir.mapping import Format, Receive, Send
from isa.program import Direction, Endpoint

from .builder import TileBuilder
from .feeds import Feed, Partial, ranges
from .parts import LastLayer, PartBuilder, attend, check_macros, linear_shape, receive_input
from .sections import Section, refuse


@dataclass(frozen=True, slots=True)
class _Lane:
    """A first layer (q, k or v) of the section: its columns a KV head, and its operators up to attention."""

    node: Node
    cols: int
    heads: int
    chain: tuple[Node, ...]


class AttentionBuilder:
    """Builds one attention section."""

    def __init__(self, parts: PartBuilder, section: Section, feed: Feed) -> None:
        self.parts, self.section, self.feed = parts, section, feed
        node = section.attention
        assert node is not None and isinstance(node.op, Attention)
        self.node, self.op = node, node.op
        self.lanes = tuple(self._lane(index) for index in range(3))
        self.group = self.op.heads // self.op.kv_heads
        self.out_cols = self.group * self.op.v_head_dim

    def _lane(self, index: int) -> _Lane:
        """Follow attention's input back to its linear layer."""
        makers = {n.output.name: n for n in (*self.section.first, *self.section.inner)}
        chain: list[Node] = []
        node = makers[self.node.inputs[index]]
        while node not in self.section.first:
            chain.insert(0, node)
            node = next(makers[name] for name in node.inputs if name in makers)
        heads = self.op.heads // self.op.kv_heads if index == 0 else 1
        dim = self.op.v_head_dim if index == 2 else self.op.head_dim
        return _Lane(node, heads * dim, heads, tuple(chain))

    def build(self) -> list[Partial]:
        """All parts; returns the partial sums of the output projection."""
        if len(self.node.inputs) > 3 and self.node.inputs[3]:
            raise refuse(
                self.parts.graph,
                self.node,
                "attention with a bias of scores by distance has no mapping yet",
                "a model with rotary or learned positions",
            )
        if not self.op.causal and self.op.window:
            raise refuse(
                self.parts.graph,
                self.node,
                "a window on attention that sees later tokens is not mapped",
                "export the model without its attention window",
            )
        last = LastLayer({})
        for head in range(self.op.kv_heads):
            if self._fused_macros() <= self.parts.geometry.hardware.macros_per_tile:
                self._fused(head, last)
            else:
                self._spread(head, last)
        return list(last.partials.values())

    def _kv_macros(self) -> int:
        geometry = self.parts.geometry
        return geometry.macros(geometry.kv_rows, self.op.head_dim) + geometry.macros(
            geometry.kv_rows, self.op.v_head_dim
        )

    def _fused_macros(self) -> int:
        geometry, weights = self.parts.geometry, self.parts.weights
        first = sum(geometry.macros(linear_shape(weights, lane.node)[0], lane.cols) for lane in self.lanes)
        assert self.section.last is not None
        _, width = linear_shape(weights, self.section.last)
        return first + self._kv_macros() + geometry.macros(self.out_cols, width)

    def _fused(self, head: int, last: LastLayer) -> None:
        tile = self.parts.builder.new_tile("attention")
        x = receive_input(self.feed, tile)
        local: dict[str, str] = {}
        for lane, name in zip(self.lanes, "qkv", strict=True):
            rows, _ = linear_shape(self.parts.weights, lane.node)
            local[lane.node.output.name] = self.parts.multiply(
                tile, lane.node, x, name, (0, head * lane.cols), (rows, lane.cols), bias=True
            )
        self._chains(tile, local, head)
        out = attend(self.parts, tile, self.node, local, self.parts.geometry)
        self._project(tile, self.parts.quantise(tile, out, self.node), head, 0, self._width(), last)

    def _width(self) -> int:
        assert self.section.last is not None
        return linear_shape(self.parts.weights, self.section.last)[1]

    def _chains(self, tile: TileBuilder, local: dict[str, str], head: int) -> None:
        for lane in self.lanes:
            at = head * lane.cols, self.op.kv_heads * lane.cols
            for node in lane.chain:
                self.parts.headwise(tile, node, local, lane.heads, at)

    def _project(self, tile: TileBuilder, x: str, head: int, col: int, cols: int, last: LastLayer) -> None:
        assert self.section.last is not None
        at, size = (head * self.out_cols, col), (self.out_cols, cols)
        last.add(tile, self.parts.multiply(tile, self.section.last, x, "o", at, size, bias=False), col, cols)

    # ------------------------------------------------------------------------------------------------- spread

    def _spread(self, head: int, last: LastLayer) -> None:
        """Projections, attention and output projection on tiles of their own."""
        self._check()
        builder = self.parts.builder
        pieces = [self._first(lane, name, head) for lane, name in zip(self.lanes, "qkv", strict=True)]
        core = builder.new_tile("attend")
        local: dict[str, str] = {}
        for lane, name, sources in zip(self.lanes, "qkv", pieces, strict=True):
            local[lane.node.output.name] = self._gather(core, lane, name, sources)
        self._chains(core, local, head)
        out = attend(self.parts, core, self.node, local, self.parts.geometry)
        sent = self.parts.quantise(core, out, self.node)
        quantised = self.parts.quantised
        data = core.port("attended_out", Direction.OUT)
        scale = core.port("attended_scale", Direction.OUT) if quantised else ""
        core.add(Send(sent, ((data, 0, self.out_cols),), scale), "multicast", [self.node])
        data_ends: list[Endpoint] = []
        scale_ends: list[Endpoint] = []
        for col, cols in ranges(self._width(), self.parts.geometry.columns(self.out_cols)):
            tile = builder.new_tile("combine")
            tile.value("x", Format.Q8 if quantised else Format.F32, self.out_cols)
            port = tile.port("x", Direction.IN)
            scale_port = tile.port("x_scale", Direction.IN) if quantised else ""
            tile.add(Receive("x", ((port, 0, self.out_cols),), scale_port), "input", [self.node])
            data_ends.append(tile.end(port))
            scale_ends += [tile.end(scale_port)] if quantised else []
            self._project(tile, "x", head, col, cols, last)
        builder.connect(f"attended{len(builder.channels)}", [core.end(data)], data_ends)
        if quantised:
            builder.connect(f"attended_scale{len(builder.channels)}", [core.end(scale)], scale_ends)

    def _check(self) -> None:
        geometry, graph = self.parts.geometry, self.parts.graph
        have = geometry.hardware.macros_per_tile
        need = self._kv_macros()
        per_row = need / geometry.kv_rows
        fits = int(have / per_row / geometry.limits.sequences) // geometry.block * geometry.block
        check_macros(
            graph,
            self.node,
            need,
            have,
            f"KV cache of one head for {geometry.limits.max_context:,} tokens and "
            f"{geometry.limits.sequences} sequence(s)",
            f"--max-context {fits} would fit" if fits else "a target with more macros a tile",
        )
        for lane in self.lanes:
            rows, _ = linear_shape(self.parts.weights, lane.node)
            stacked = geometry.macros(rows, 1)
            check_macros(
                graph, lane.node, stacked, have, f"a column of {rows:,} rows", "a target with larger tiles"
            )

    def _first(self, lane: _Lane, name: str, head: int) -> list[tuple[TileBuilder, str, int, int]]:
        """A projection cut by columns: (tile, value, first column, columns) of each piece."""
        rows, _ = linear_shape(self.parts.weights, lane.node)
        pieces = []
        for col, cols in ranges(lane.cols, self.parts.geometry.columns(rows)):
            tile = self.parts.builder.new_tile("project")
            x = receive_input(self.feed, tile)
            at = (0, head * lane.cols + col)
            value = self.parts.multiply(tile, lane.node, x, "y", at, (rows, cols), bias=True)
            pieces.append((tile, value, col, cols))
        return pieces

    def _gather(
        self, core: TileBuilder, lane: _Lane, name: str, pieces: list[tuple[TileBuilder, str, int, int]]
    ) -> str:
        core.value(name, Format.F32, lane.cols)
        received = []
        for index, (tile, value, col, cols) in enumerate(pieces):
            out = tile.port("y_out", Direction.OUT)
            tile.add(Send(value, ((out, 0, cols),)), "send", [lane.node])
            port = core.port(f"{name}{index}", Direction.IN)
            received.append((port, col, cols))
            self.parts.builder.connect(
                f"{name}{len(self.parts.builder.channels)}", [tile.end(out)], [core.end(port)]
            )
        core.add(Receive(name, tuple(received)), f"{name}_in", [lane.node])
        return name
