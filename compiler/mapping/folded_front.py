"""Front tiles of a folded mapping: they stream first layers, and the output layer.

All have the same arrays, of all rows of the hub by some columns, and take rows from the hub in every round. In a
feed-forward section each array holds columns of one first layer; in attention and in the output layer the arrays hold
neighbouring columns.
"""

from __future__ import annotations

from compiler.ir.graph import Node
from compiler.ir.mapping import Format, Multiply, Place, Receive, Rows, Send
from isa.instruction import DType
from isa.program import ArrayKind, ArraySpec, Direction, Endpoint, Stream, StreamPart

from .builder import TileBuilder
from .folded import Job, Streamer, pieces_in_order
from .folded_core import Core
from .folded_hub import Hub
from .parts import linear_shape
from .pieces import Patch, Piece
from .sections import Section


class Front:
    """Builds the front tiles."""

    def __init__(self, job: Job, hub: Hub, cores: list[Core]) -> None:
        self.job, self.parts, self.builder, self.hub = job, job.parts, job.parts.builder, hub
        self.cores = cores  # one for each attention section of the body
        sizes = job.sizes
        self.tiles = [self.builder.new_tile("front") for _ in range(sizes.front)]
        self.specs = tuple(
            ArraySpec(f"first{i}", ArrayKind.STREAM, hub.width, sizes.columns, job.dtype)
            for i in range(job.arrays)
        )
        self.outs: dict[int, list[Endpoint]] = {}  # by section, the ends that send inner columns

    def build(self) -> None:
        """All passes of all front tiles."""
        for number, tile in enumerate(self.tiles):
            self._tile(number, tile)
        self._feed_channels()
        for number, sections in enumerate(self.job.sections):
            if not sections[0].lanes:
                self._inner_channels(number)
        for section in self.job.results:
            self._stream(section)

    # ------------------------------------------------------------------------------------------------- one tile

    def _tile(self, number: int, tile: TileBuilder) -> None:
        job = self.job
        streamer = Streamer(job, tile, self._turns(), len(job.sections))
        for spec in self.specs:
            tile.array(spec, None)
        streamer.begin()
        cores = iter(self.cores)
        with tile.repeated(job.fold.count):
            for turn, sections in enumerate(job.sections):
                with tile.repeated(job.rounds(sections[0])):
                    self._install(streamer, turn, sections)
                    if sections[0].lanes:
                        self._heads(number, tile, next(cores))
                    else:
                        self._linear(tile, turn, sections)
        turn = len(job.sections)
        for section in job.results:
            for part, rounds in enumerate(job.result_rounds(section)):
                with tile.repeated(rounds):
                    self._install(streamer, turn, (section,))
                    self._result(number, tile, section, part)
                turn += 1
        streamer.stack.pieces += self._pieces(number)
        streamer.finish(f"front{number}")

    def _install(self, streamer: Streamer, turn: int, sections: tuple[Section, ...]) -> None:
        tile, nodes = streamer.tile, [n for s in sections for n in _firsts(s)]
        piece = self._shape(sections[0])
        rows = [f"bias{i}" for i in range(len(piece.arrays))] if piece.has_bias else []
        for name in rows:
            tile.value(name, Format.F32, self.job.sizes.columns, Rows.ONCE)
        streamer.turn(turn, tuple(spec.name for spec in piece.arrays), tuple(rows), nodes)
        tile.next_pass()

    def _receive(self, tile: TileBuilder, rows: Rows) -> str:
        """Take in the hub's rows."""
        name = "x" if rows is Rows.TOKENS else "wanted"
        quantised = self.parts.quantised
        tile.value(name, Format.Q8 if quantised else Format.F32, self.hub.width, rows)
        parts = tuple(
            (tile.port(f"x{i}", Direction.IN), hub.col, hub.cols) for i, hub in enumerate(self.hub.tiles)
        )
        scale = tile.port("x_scale", Direction.IN) if quantised else ""
        tile.add(Receive(name, parts, scale), "input")
        return name

    def _multiply(self, tile: TileBuilder, x: str, index: int, nodes: list[Node], has_bias: bool) -> str:
        rows = tile.values[x].rows
        name = tile.value(f"{x}_y{index}", Format.F32, self.job.sizes.columns, rows)
        bias = f"bias{index}" if has_bias else ""
        tile.add(Multiply(name, x, self.specs[index].name, bias), "first", nodes)
        return name

    def _heads(self, number: int, tile: TileBuilder, core: Core) -> None:
        """Columns of q, k and v of one KV head, for the core tile that has it."""
        piece = self._shape(core.sections[0])
        nodes = [n for s in core.sections for n in _firsts(s)]
        x = self._receive(tile, Rows.TOKENS)
        feeders, columns = self.job.sizes.feeders, self.job.sizes.columns
        head, slot = divmod(number, feeders)
        for index in range(len(piece.arrays)):
            start = (slot * len(self.specs) + index) * columns
            parts = core.take(head, tile, start, columns)
            if parts:
                y = self._multiply(tile, x, index, nodes, piece.has_bias)
                tile.add(Send(y, tuple(parts)), "heads", nodes)

    def _linear(self, tile: TileBuilder, number: int, sections: tuple[Section, ...]) -> None:
        """Columns of a feed-forward section's inner value."""
        section, x = sections[0], self._receive(tile, Rows.TOKENS)
        out = self._inner(tile, section, x, [_firsts(s) for s in sections])
        port = tile.port(f"inner{number}", Direction.OUT)
        tile.add(Send(out, ((port, 0, self.job.sizes.columns),)), "multicast", section.first)
        self.outs.setdefault(number, []).append(tile.end(port))

    def _inner(self, tile: TileBuilder, section: Section, x: str, firsts: list[list[Node]]) -> str:
        """First layers, each in an array, and what follows column by column; returns the last value's name."""
        has_bias = self._shape(section).has_bias
        local: dict[str, str] = {}
        for index, node in enumerate(section.first):
            nodes = [layers[index] for layers in firsts]
            local[node.output.name] = self._multiply(tile, x, index, nodes, has_bias)
        name = section.first[-1].output.name
        for node in section.inner:
            self.parts.columnwise(tile, node, local, 0, self.job.sizes.columns)
            name = node.output.name
        return local[name]

    def _result(self, number: int, tile: TileBuilder, section: Section, part: int) -> None:
        """Columns of the output layer, to the host."""
        x, has_bias = self._receive(tile, Rows.OUTPUTS), self._shape(section).has_bias
        (first,) = section.first
        total = sum(self._columns(section, part, number, index) for index in range(len(self.specs)))
        if not total:
            return
        rows, columns = Rows.OUTPUTS, self.job.sizes.columns
        made = tile.value("result", Format.F32, columns * len(self.specs), rows)
        for index in range(len(self.specs)):
            local = {first.output.name: self._multiply(tile, x, index, [first], has_bias)}
            name = first.output.name
            for node in section.inner:
                self.parts.columnwise(tile, node, local, 0, columns)
                name = node.output.name
            tile.add(Place(made, local[name], index * columns), "output", [first])
        port = tile.port(f"{section.output}_{part}", Direction.OUT)
        tile.add(Send(made, ((port, 0, total),)), "output", [first])

    # ------------------------------------------------------------------------------------------------- channels

    def _feed_channels(self) -> None:
        for index, hub in enumerate(self.hub.tiles):
            ends = [tile.end(f"x{index}") for tile in self.tiles]
            self.builder.connect("feed", [hub.tile.end("feed")], ends)
        if self.parts.quantised:
            ends = [tile.end("x_scale") for tile in self.tiles]
            self.builder.connect("feed_scale", [self.hub.tiles[0].tile.end("feed_scale")], ends)

    def _inner_channels(self, number: int) -> None:
        for index, source in enumerate(self.outs[number]):
            ends = [hub.tile.end(f"inner{number}_{index}") for hub in self.hub.tiles]
            self.builder.connect("inner", [source], ends)

    def _stream(self, section: Section) -> None:
        """The host's stream of an output: a channel of each tile for rounds of equal size."""
        parts = []
        total = self.job.columns(section)
        for part, rounds in enumerate(self.job.result_rounds(section)):
            for number, tile in enumerate(self.tiles):
                cols = sum(self._columns(section, part, number, i) for i in range(len(self.specs)))
                if not cols:
                    continue
                at = [self._first_column(section, part, turn, number, 0) for turn in range(rounds)]
                end = tile.end(f"{section.output}_{part}")
                channel = self.builder.to_host(f"{section.output}{at[0]}", end)
                parts += [StreamPart(channel, col, cols) for col in at]
        stream = Stream(section.output, Direction.OUT, DType.F32, total, tuple(parts))
        self.builder.streams.append(stream)

    # --------------------------------------------------------------------------------------------------- pieces

    def _first_column(self, section: Section, part: int, turn: int, number: int, index: int) -> int:
        """The first column of the output layer that an array has in a round."""
        before = sum(self.job.result_rounds(section)[:part]) + turn
        slot = (before * len(self.tiles) + number) * len(self.specs) + index
        return slot * self.job.sizes.columns

    def _columns(self, section: Section, part: int, number: int, index: int) -> int:
        """How many columns of the output layer an array has in each round of a part."""
        left = self.job.columns(section) - self._first_column(section, part, 0, number, index)
        return max(min(left, self.job.sizes.columns), 0)

    def _shape(self, section: Section) -> Piece:
        """A piece of a section without its contents."""
        count = len(self.specs) if section.lanes or section.last is None else len(section.first)
        has_bias = any(len(node.inputs) > 2 and node.inputs[2] for node in _firsts(section))
        return Piece(self.specs[:count], ((),) * count, bool(has_bias))

    def _turns(self) -> list[tuple[int, int]]:
        body = [(self.job.rounds(s[0]), self._shape(s[0]).bytes) for s in self.job.sections]
        results = [
            (rounds, self._shape(s).bytes) for s in self.job.results for rounds in self.job.result_rounds(s)
        ]
        return body + results

    def _pieces(self, number: int) -> list[Piece]:
        """All pieces of a front tile in the order of their use."""
        body = []
        for sections in self.job.sections:
            rounds = range(self.job.rounds(sections[0]))
            make = self._head_piece if sections[0].lanes else self._linear_piece
            body.append([make(number, section, turn) for section in sections for turn in rounds])
        results = [
            self._result_piece(number, section, part, turn)
            for section in self.job.results
            for part, rounds in enumerate(self.job.result_rounds(section))
            for turn in range(rounds)
        ]
        return list(pieces_in_order(self.job, body, results))

    def _filled(self, section: Section, patches: list[tuple[Patch, ...]]) -> Piece:
        shape = self._shape(section)
        return Piece(shape.arrays, tuple(patches), shape.has_bias)

    def _head_piece(self, number: int, section: Section, turn: int) -> Piece:
        sizes = self.job.sizes
        core, slot = divmod(number, sizes.feeders)
        head = turn * sizes.cores + core
        patches = []
        for index in range(len(self.specs)):
            start = (slot * len(self.specs) + index) * sizes.columns
            patches.append(tuple(self._head_patches(section, head, start, start + sizes.columns)))
        return self._filled(section, patches)

    def _head_patches(self, section: Section, head: int, start: int, stop: int) -> list[Patch]:
        """What columns start..stop-1 of q, k and v of a KV head, side by side, are made of."""
        shape, patches, at = self.job.heads(section), [], 0
        for lane, cols in zip(section.lanes, (shape.group * shape.key, shape.key, shape.value), strict=True):
            first, last = max(at, start), min(at + cols, stop)
            if first < last and lane is not None and lane.linear is not None:
                where = head * cols + first - at, last - first
                rows = 0, self.hub.width
                patches.append(Patch(lane.linear, rows, where, (0, first - start), bias=True))
            at += cols
        return patches

    def _linear_piece(self, number: int, section: Section, turn: int) -> Piece:
        col = (turn * len(self.tiles) + number) * self.job.sizes.columns
        return self._filled(section, [self._column_patches(node, col) for node in section.first])

    def _result_piece(self, number: int, section: Section, part: int, turn: int) -> Piece:
        cols = [self._first_column(section, part, turn, number, index) for index in range(len(self.specs))]
        return self._filled(section, [self._column_patches(section.first[0], col) for col in cols])

    def _column_patches(self, node: Node, col: int) -> tuple[Patch, ...]:
        rows, total = linear_shape(self.parts.weights, node)
        cols = min(self.job.sizes.columns, total - col)
        return (Patch(node, (0, rows), (col, cols), bias=True),) if cols > 0 else ()


def _firsts(section: Section) -> list[Node]:
    """The linear layers that a section begins with."""
    if not section.lanes:
        return list(section.first)
    return [lane.linear for lane in section.lanes if lane is not None and lane.linear is not None]
