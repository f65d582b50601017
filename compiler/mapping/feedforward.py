"""Sections without attention: feed-forward layers, gated or not, and the output layer."""

from __future__ import annotations

from compiler.ir.graph import Node
from compiler.ir.mapping import Rows, Send
from isa.instruction import DType
from isa.program import Direction, Stream, StreamPart

from .builder import TileBuilder
from .feeds import Feed, Partial, Shard, ranges
from .grid import Cut
from .parts import LastLayer, PartBuilder, check_macros, linear_shape
from .sections import Domain, Section, refuse
from .sharing import share_rows


class FeedForwardBuilder:
    """Builds one section of linear layers with column-wise operators between them.

    `cut` says how: None if nothing fits a tile, which is refused (E0302). `rows`: those that it works on.
    """

    def __init__(
        self, parts: PartBuilder, section: Section, feed: Feed, cut: Cut | None, rows: Rows = Rows.TOKENS
    ) -> None:
        self.parts, self.section, self.feed, self.cut = parts, section, feed, cut
        self.taken = rows
        self.rows, self.inner = linear_shape(parts.weights, section.first[0])
        assert section.last is not None
        self.last_node, self.is_source = section.last, section.domain is Domain.SOURCE
        self.width = linear_shape(parts.weights, section.last)[1]

    def build(self) -> list[Partial]:
        """All parts; returns the partial sums of the last layer."""
        last = LastLayer({})
        cut = self.cut or self._refuse()
        self.parts.weights.settle(self.last_node, cut.rows)
        if cut.is_fused:
            self._fused(cut, last)
        else:
            self._grid(cut, last)
        return list(last.partials.values())

    def _refuse(self) -> Cut:
        geometry = self.parts.geometry
        need = len(self.section.first) * geometry.macros(self.rows, geometry.hardware.macro_cols)
        have = geometry.hardware.macros_per_tile
        first, graph = self.section.first[0], self.parts.graph
        check_macros(graph, first, need, have, "one column of the layer", "larger tiles")
        raise refuse(graph, first, "no cut of the layer fits a tile", "larger tiles")

    def _fused(self, cut: Cut, last: LastLayer) -> None:
        """Each tile has columns of the first layers, and the rows of the last that meet them."""
        for col, cols in ranges(self.inner, cut.columns):
            tile = self.parts.builder.new_tile("ffn", is_source=self.is_source)
            x = self.parts.quantise(tile, self._first(tile, col, cols), [self.last_node])
            self._second(tile, x, (col, cols), (0, self.width), last)

    def _grid(self, cut: Cut, last: LastLayer) -> None:
        """First layers cut by columns over tiles; the last one by groups of them, and by columns."""
        builder = self.parts.builder
        for row, rows in ranges(self.inner, cut.rows):
            makers = []
            builder.begin_part()
            for col, cols in ranges(rows, cut.columns):
                tile = builder.new_tile("expand", is_source=self.is_source)
                makers.append(Shard(tile, self._first(tile, row + col, cols), col, cols))
            slices = list(ranges(self.width, cut.width))
            readers = [builder.new_tile("reduce", is_source=self.is_source) for _ in slices]
            x = share_rows(self.parts, makers, readers, "x", [self.last_node])
            for tile, columns in zip(readers, slices, strict=True):
                self._second(tile, x, (row, rows), columns, last)

    def _first(self, tile: TileBuilder, col: int, cols: int) -> str:
        """First layers and the operators after them for columns col..; returns the last value's name."""
        x = self.parts.receive(self.feed, tile)
        local: dict[str, str] = {}
        for index, node in enumerate(self.section.first):
            name = f"y{index}"
            at, size = (0, col), (self.rows, cols)
            y = self.parts.multiply(tile, node, x, name, at, size, bias=True, rows=self.taken)
            local[node.output.name] = y
        for node in self.section.inner:
            self.parts.columnwise(tile, node, local, col, self.inner)
        return local[self.last_node.inputs[0]]

    def _second(
        self, tile: TileBuilder, x: str, rows: tuple[int, int], columns: tuple[int, int], last: LastLayer
    ) -> None:
        """Rows and columns (first, how many) of the last layer on `tile`."""
        at, size = (rows[0], columns[0]), (rows[1], columns[1])
        name = self.parts.multiply(tile, self.last_node, x, "down", at, size, bias=False)
        last.add(tile, name, *columns)


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
    """Send a section's columns to the host, piece by piece: the rows whose outputs are wanted, all of the
    source, or every row that the host goes on from."""
    builder, name, is_source = parts.builder, section.output, section.domain is Domain.SOURCE
    stream, every = [], name in builder.every and not is_source
    for piece in pieces:
        (tile,) = piece.tiles
        wanted = tile.values[piece.name].rows is not Rows.OUTPUTS and not is_source and not every
        stream.append(send_to_host(parts, section, piece, made_by, wanted=wanted))
    total = sum(piece.cols for piece in pieces)
    builder.streams.append(Stream(name, Direction.OUT, DType.F32, total, tuple(stream), is_source, every))


def send_to_host(
    parts: PartBuilder, section: Section, piece: Partial, made_by: Node, *, wanted: bool = False
) -> StreamPart:
    """Send columns of a section that lie on one tile to the host, through a port of their own."""
    (tile,), builder = piece.tiles, parts.builder
    port = tile.port(f"{piece.name}_to_host" if "to_host" in tile.ports else "to_host", Direction.OUT)
    tile.add(Send(piece.name, ((port, 0, piece.cols),), wanted=wanted), "output", [made_by])
    channel = builder.to_host(f"{section.output}{len(builder.channels)}", tile.end(port))
    return StreamPart(channel, piece.col, piece.cols)
