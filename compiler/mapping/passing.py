"""An output layer whose weights do not all stay: on each of its tiles some columns lie in an array, the others are
pieces that pass through another array one after the other, from the tile's buffer or from DRAM.

The layers before it stay in arrays. Pieces are loaded for each segment of which a row is wanted: once for a token.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compiler.explain import Heading, Note
from compiler.ir.graph import Graph, Linear, Node
from compiler.ir.mapping import AddRow, Format, MultiplyPieces, Rows
from isa.diagnostics import NamedPlace, fail
from isa.instruction import DType
from isa.operands import WORD_BYTES
from isa.program import Direction, Slice, Stream, StreamPart

from .builder import TileBuilder
from .feedforward import send_to_host
from .feeds import Feed, Partial
from .parts import PartBuilder, linear_shape
from .pieces import Patch, Piece, Stack
from .result_sizes import ResultCut, ResultShape, choose_cut, piece_array
from .rules import segment_rows
from .sections import Domain, Layout, Section


def passing_section(graph: Graph, layout: Layout) -> Section | None:
    """The output layer whose weights may pass: the only one, of the rows of tokens, whose last rows alone are asked for
    as a rule; None if there is none."""
    results = [s for s in layout.sections if s.is_result]
    section = results[0] if len(results) == 1 else None
    if section is None or section.lanes or len(section.first) != 1 or section.domain is not Domain.TOKENS:
        return None
    return section if isinstance(section.first[0].op, Linear) else None


class PassingBuilder:
    """Builds an output layer on `count` tiles."""

    def __init__(self, parts: PartBuilder, section: Section, feed: Feed, count: int) -> None:
        self.parts, self.section, self.feed, self.builder = parts, section, feed, parts.builder
        self.node: Node = section.first[0]
        self.rows, self.cols = linear_shape(parts.weights, self.node)
        self.has_bias = parts.weights.bias(self.node, 0) is not None
        segment = segment_rows(parts.graph, parts.geometry.limits)
        shape = ResultShape(self.rows, self.cols, self.has_bias, count, segment)
        hardware, dtype = parts.geometry.hardware, parts.builder.arithmetic.dtype
        is_plain = parts.weights.is_plain(self.node)
        cut = choose_cut(hardware, shape, dtype) if is_plain else None
        if cut is None:
            raise fail(
                "E0303",
                f"no cut of {self.rows:,} x {self.cols:,} outputs fits {count:,} tiles",
                NamedPlace(parts.graph.name),
                help="larger tiles, or more of them",
            )
        self.cut: ResultCut = cut
        self.count, self.spec = count, piece_array(self.rows, cut.columns, dtype)

    def build(self) -> None:
        """All tiles, and the host's stream."""
        stream: list[StreamPart] = []
        for col in range(0, self.cols, self.cut.width):
            stream += self._tile(col, min(self.cut.width, self.cols - col))
        output = Stream(self.section.output, Direction.OUT, DType.F32, self.cols, tuple(stream))
        self.builder.streams.append(output)

    def _tile(self, col: int, cols: int) -> list[StreamPart]:
        """Columns from `col` on: those that stay, which go to the host first, then those that pass."""
        tile, passing = self.builder.new_tile("output"), (self.cut.loaded + self.cut.kept) * self.cut.columns
        stays = cols - passing
        x = self.parts.receive(self.feed, tile)
        name = self.parts.multiply(tile, self.node, x, "y", (0, col), (self.rows, stays), bias=True)
        sent = [self._sent(tile, name, col, stays)]
        name = self._pieces(tile, x, col + stays, passing)
        return [*sent, self._sent(tile, name, col + stays, passing)]

    def _sent(self, tile: TileBuilder, name: str, col: int, cols: int) -> StreamPart:
        """What follows column by column, and the way to the host."""
        local = {self.node.output.name: name}
        for node in self.section.inner:
            self.parts.columnwise(tile, node, local, col, self.cols)
        piece = Partial([tile], local[self.section.output], col, cols)
        wanted = tile.values[piece.name].rows is not Rows.OUTPUTS
        return send_to_host(self.parts, self.section, piece, self.node, wanted=wanted)

    def _pieces(self, tile: TileBuilder, x: str, col: int, cols: int) -> str:
        """`cols` columns from `col` on, piece by piece; returns the value's name."""
        cut, rows = self.cut, tile.values[x].rows
        name = tile.value("passed", Format.F32, cols, rows)
        product = tile.value("piece", Format.F32, cut.columns, rows)
        array = tile.array(self.spec, None)
        stage, table, kept = "", "", ""
        if cut.loaded:
            stage, table = tile.value("stage", Format.F32, cut.bytes // WORD_BYTES, Rows.ONCE), "pieces"
            loaded = self._stack(col, cut.loaded)
            tensor = self.builder.tensor(
                f"pieces.output{tile.index}", DType.I8, (loaded.bytes,), loaded.contents
            )
            self.builder.table(tile, table, tensor, dram=True)
        if cut.kept:
            kept = self._kept(tile, col + cut.loaded * cut.columns)
        op = MultiplyPieces(name, x, array, product, cut.loaded, table, stage, cut.kept, kept)
        tile.add(op, "y", [self.node])
        content = self.parts.weights.bias(self.node, col)
        if content is not None:
            tile.add(AddRow(name, name, tile.constant("b_passed", cols, content)), "y", [self.node])
        return name

    def _kept(self, tile: TileBuilder, col: int) -> str:
        """The constant with the pieces that lie in the buffer."""
        stack = self._stack(col, self.cut.kept)
        words = stack.bytes // WORD_BYTES

        def make() -> NDArray[np.float32]:
            return stack.contents().view(np.float32)

        tensor = self.builder.tensor(f"kept.output{tile.index}", DType.F32, (words,), make)
        return tile.constant("kept", words, Slice(tensor, (0,)))

    def _stack(self, col: int, count: int) -> Stack:
        stack = Stack(self.parts.weights)
        for at in range(col, col + count * self.cut.columns, self.cut.columns):
            patch = Patch(self.node, (0, self.rows), (at, self.cut.columns))
            stack.pieces.append(Piece((self.spec,), ((patch,),)))
        return stack

    @property
    def loaded(self) -> int:
        """Bytes that come from DRAM for a segment with outputs."""
        return self.cut.loaded * self.cut.bytes * self.count

    def note(self) -> Note:
        """What was chosen and why, with the numbers."""
        cut = self.cut
        text = (
            f"the layers' weights stay in the arrays; of the output layer's {self.cols:,} columns about "
            f"{cut.stays * self.count:,} stay in arrays of {self.count} tiles, "
            f"{cut.kept * cut.columns * self.count:,} lie in the tiles' buffers and "
            f"{cut.loaded * cut.columns * self.count:,} in DRAM, {self.rows:,} weights each: {self.loaded:,} bytes "
            f"are loaded for each segment with outputs"
        )
        return Note(Heading.CHOICES, text)
