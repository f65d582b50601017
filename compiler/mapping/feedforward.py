"""Sections without attention: feed-forward layers, gated or not, and the output layer."""

from __future__ import annotations

from compiler.ir.graph import Node
from compiler.ir.mapping import Format, Receive, Rows, Send
from isa.instruction import DType
from isa.program import Direction, Endpoint, Stream, StreamPart

from .builder import TileBuilder
from .feeds import Feed, Partial, ranges
from .parts import LastLayer, PartBuilder, check_macros, linear_shape
from .sections import Domain, Section


class FeedForwardBuilder:
    """Builds one section of linear layers with column-wise operators between them."""

    def __init__(self, parts: PartBuilder, section: Section, feed: Feed) -> None:
        self.parts, self.section, self.feed = parts, section, feed
        self.rows, self.inner = linear_shape(parts.weights, section.first[0])
        assert section.last is not None
        self.last_node, self.is_source = section.last, section.domain is Domain.SOURCE
        self.width = linear_shape(parts.weights, section.last)[1]

    def build(self) -> list[Partial]:
        """All parts; returns the partial sums of the last layer."""
        last = LastLayer({})
        piece = self._fused_columns()
        if piece and -(-self.inner // piece) <= self._spread_tiles():
            for col, cols in ranges(self.inner, piece):
                tile = self.parts.builder.new_tile("ffn", is_source=self.is_source)
                out = self._first(tile, col, cols)
                self._second(
                    tile, self.parts.quantise(tile, out, [self.last_node]), col, cols, 0, self.width, last
                )
        else:
            self._spread(last)
        return list(last.partials.values())

    def _fused_columns(self) -> int:
        """Inner columns a tile takes so that first and last layers both fit; 0 if not even one macro row does.

        One macro's rows are taken if they fit: more tiles work side by side, and the last layer's array is full.
        """
        geometry = self.parts.geometry
        count = len(self.section.first)
        step = geometry.hardware.macro_cols
        for cols in range(geometry.hardware.macro_rows, 0, -step):
            need = count * geometry.macros(self.rows, cols) + geometry.macros(cols, self.width)
            if need <= geometry.hardware.macros_per_tile:
                return cols
        return 0

    def _spread_piece(self) -> int:
        """Inner columns of a tile with first layers alone, when the part is spread; 0 if not one column fits."""
        geometry = self.parts.geometry
        block, most = geometry.hardware.macro_rows, geometry.columns(self.rows, len(self.section.first))
        sizes = range(geometry.hardware.macro_cols, block + 1)
        return max((p for p in sizes if p <= most and block % p == 0), default=0)

    def _spread_tiles(self) -> float:
        """How many tiles the section takes when spread; infinity if it cannot be."""
        block, piece = self.parts.geometry.hardware.macro_rows, self._spread_piece()
        if not piece:
            return float("inf")
        last = -(-self.width // self.parts.geometry.columns(block))
        return sum(-(-rows // piece) + last for _, rows in ranges(self.inner, block))

    def _first(self, tile: TileBuilder, col: int, cols: int) -> str:
        """First layers and the operators after them for columns col..; returns the last value's name."""
        x = self.parts.receive(self.feed, tile)
        local: dict[str, str] = {}
        for index, node in enumerate(self.section.first):
            name = f"y{index}"
            at, size = (0, col), (self.rows, cols)
            local[node.output.name] = self.parts.multiply(tile, node, x, name, at, size, bias=True)
        for node in self.section.inner:
            self.parts.columnwise(tile, node, local, col, self.inner)
        return local[self.last_node.inputs[0]]

    def _second(
        self, tile: TileBuilder, x: str, row: int, rows: int, col: int, cols: int, last: LastLayer
    ) -> None:
        name = self.parts.multiply(tile, self.last_node, x, "down", (row, col), (rows, cols), bias=False)
        last.add(tile, name, col, cols)

    # ------------------------------------------------------------------------------------------------- spread

    def _spread(self, last: LastLayer) -> None:
        """First layers cut by columns; the last layer cut into blocks of a macro's rows by columns."""
        geometry, builder = self.parts.geometry, self.parts.builder
        count = len(self.section.first)
        have = geometry.hardware.macros_per_tile
        need = count * geometry.macros(self.rows, 1)
        check_macros(
            self.parts.graph, self.section.first[0], need, have, "one column of the layer", "larger tiles"
        )
        block, piece = geometry.hardware.macro_rows, self._spread_piece()
        for row, rows in ranges(self.inner, block):
            sources = []
            for col, cols in ranges(rows, piece):
                tile = builder.new_tile("expand", is_source=self.is_source)
                value = self._first(tile, row + col, cols)
                out = tile.port("out", Direction.OUT)
                tile.add(Send(value, ((out, 0, cols),)), "multicast", [self.last_node])
                sources.append((tile.end(out), col, cols))
            self._rows(sources, row, rows, last)

    def _rows(self, sources: list[tuple[Endpoint, int, int]], row: int, rows: int, last: LastLayer) -> None:
        geometry, builder = self.parts.geometry, self.parts.builder
        ends: list[list[Endpoint]] = [[] for _ in sources]
        for col, cols in ranges(self.width, geometry.columns(rows)):
            tile = builder.new_tile("reduce", is_source=self.is_source)
            tile.value("x", Format.F32, rows)
            received = []
            for index, (_, start, count) in enumerate(sources):
                port = tile.port(f"x{index}", Direction.IN)
                ends[index].append(tile.end(port))
                received.append((port, start, count))
            tile.add(Receive("x", tuple(received)), "input", [self.last_node])
            self._second(tile, self.parts.quantise(tile, "x", [self.last_node]), row, rows, col, cols, last)
        for (source, _, _), dests in zip(sources, ends, strict=True):
            builder.connect(f"inner{len(builder.channels)}", [source], dests)


class DirectBuilder:
    """Builds a section without a last layer: the output layer, or a dense layer whose columns the hub gathers."""

    def __init__(self, parts: PartBuilder, section: Section, feed: Feed) -> None:
        self.parts, self.section, self.feed = parts, section, feed
        self.rows, self.cols = linear_shape(parts.weights, section.first[0])

    def build(self) -> list[Partial]:
        """The layers cut by columns over tiles; each piece is whole (nothing to add)."""
        geometry, section = self.parts.geometry, self.section
        have, count = geometry.hardware.macros_per_tile, len(section.first)
        need = geometry.macros(self.rows, 1) * count
        check_macros(
            self.parts.graph, section.first[0], need, have, f"a column of {self.rows:,} rows", "larger tiles"
        )
        pieces = []
        is_source = section.domain is Domain.SOURCE
        for col, cols in ranges(self.cols, geometry.columns(self.rows, count)):
            tile = self.parts.builder.new_tile("output", is_source=is_source)
            x = self.parts.receive(self.feed, tile)
            local: dict[str, str] = {}
            for index, node in enumerate(section.first):
                name = "y" if count == 1 else f"y{index}"
                at, size = (0, col), (self.rows, cols)
                local[node.output.name] = self.parts.multiply(tile, node, x, name, at, size, bias=True)
            for node in section.inner:
                self.parts.columnwise(tile, node, local, col, self.cols)
            pieces.append(Partial([tile], local[section.output], col, cols))
        return pieces


def to_host(parts: PartBuilder, section: Section, pieces: list[Partial], made_by: Node) -> None:
    """Send a section's columns to the host, piece by piece: the rows whose outputs are wanted, or all of the source."""
    builder, name, is_source = parts.builder, section.output, section.domain is Domain.SOURCE
    stream = []
    for piece in pieces:
        (tile,) = piece.tiles
        port = tile.port("to_host", Direction.OUT)
        wanted = tile.values[piece.name].rows is not Rows.OUTPUTS and not is_source
        tile.add(Send(piece.name, ((port, 0, piece.cols),), wanted=wanted), "output", [made_by])
        channel = builder.to_host(f"{name}{len(builder.channels)}", tile.end(port))
        stream.append(StreamPart(channel, piece.col, piece.cols))
    total = sum(piece.cols for piece in pieces)
    builder.streams.append(Stream(name, Direction.OUT, DType.F32, total, tuple(stream), is_source))
