"""Hub stages: embeddings, the residual stream and norms, on one tile or cut by columns over several.

A stage gets whole rows from earlier stages and sums of partial results from sections, works through its
operators, and sends what sections read: quantised once, multicast to all tiles of the section.
"""

from __future__ import annotations

from dataclasses import dataclass

from compiler.ir.graph import Activation, Add, Embed, Function, Graph, Input, Mul, Node, Norm, Role
from compiler.ir.mapping import (
    Activate,
    AddRow,
    Arithmetic,
    Format,
    LoadRows,
    Lookup,
    MulRow,
    Normalise,
    Part,
    Quantise,
    Receive,
    Rows,
    Scale,
    Send,
)
from compiler.ir.mapping import Add as AddBlock
from compiler.ir.mapping import Mul as MulBlock
from isa.diagnostics import NamedPlace, fail
from isa.instruction import DType
from isa.operands import WORD_BYTES
from isa.program import Direction, Endpoint, Reduce, Stream, StreamPart

from .builder import MappingBuilder, TileBuilder
from .feeds import Feed, HubState, Partial, Shard, ranges
from .sections import Stage, node_place, refuse
from .weights import Weights


@dataclass(frozen=True, slots=True)
class Sizes:
    """What bounds a stage: columns of a hub value a tile takes, tokens of the longest context."""

    hub_width: int
    context: int


class StageBuilder:
    """Builds one stage. `wanted` are the values that sections read; `outputs` those read for logits only."""

    def __init__(
        self, graph: Graph, builder: MappingBuilder, weights: Weights, state: HubState, sizes: Sizes
    ) -> None:
        self.graph, self.builder, self.weights, self.state = graph, builder, weights, state
        self.hub_width, self.context = sizes.hub_width, sizes.context
        self.producers = graph.producers()
        self.local: dict[str, str] = {}  # graph value -> name on this stage's tiles
        self.tiles: list[TileBuilder] = []
        self.slots: list[tuple[int, int]] = []
        self.reductions = 0

    def build(
        self, stage: Stage, wanted: list[str], outputs: set[str], kind: str, *, two_passes: bool
    ) -> None:
        """Make the stage's tiles and record its values and feeds in the state.

        `two_passes`: what it feeds answers only after the whole sequence, so what it carries on waits for a second
        pass.
        """
        names = [name for node in stage.nodes for name in node.inputs]
        width = self._width([*names, *wanted, *self.graph.outputs])
        self.slots = list(ranges(width, self.hub_width))
        self.tiles = [self.builder.new_tile(kind) for _ in self.slots]
        for node in stage.nodes:
            rows = Rows.OUTPUTS if node.output.name in outputs else Rows.TOKENS
            self._node(node, rows)
        for name in wanted:
            self._feed(name, Rows.OUTPUTS if name in outputs else Rows.TOKENS)
        for tile in self.tiles:
            tile.phase = int(two_passes)

    def _width(self, names: list[str]) -> int:
        """Columns of the stage's values: those of the first one that is known, or of an embedding's rows."""
        rows = {i.name: i.value.shape for i in self.graph.inputs if i.role is Role.OTHER}
        for name in names:
            if name in self.state.values:
                return sum(s.cols for s in self.state.values[name])
            if name in self.state.partials:
                return sum(p.cols for p in self.state.partials[name])
            shape = rows.get(name)
            if shape is not None and isinstance(shape[-1], int):
                return shape[-1]
        tables = [name for name in names if name in self.graph.constants]
        if not tables:
            raise fail(
                "E0306", "the width of the rows the model works on is not known", NamedPlace(self.graph.name)
            )
        return int(self.graph.constants[tables[0]].shape[-1])

    def to_host(self, name: str) -> None:
        """Send a hub value to the host: the rows whose outputs are wanted."""
        local, parts = self._bring(name), []
        for tile, (col, cols) in zip(self.tiles, self.slots, strict=True):
            port = tile.port(f"{local}_host", Direction.OUT)
            tile.add(Send(local, ((port, 0, cols),), wanted=True), "output", self._maker(name))
            parts.append(StreamPart(self.builder.to_host(f"{name}{col}", tile.end(port)), col, cols))
        width = sum(cols for _, cols in self.slots)
        self.builder.streams.append(Stream(name, Direction.OUT, DType.F32, width, tuple(parts)))

    def _maker(self, name: str) -> list[Node]:
        """The node behind a value, if it is not an input."""
        return [self.producers[name]] if name in self.producers else []

    # ------------------------------------------------------------------------------------------------ inputs

    def _bring(self, name: str) -> str:
        """The local name of a hub value, received from where it is if it is not here."""
        if name not in self.local:
            self.local[name] = f"x{len(self.local)}"
            if name in self.state.partials:
                self._bring_partials(name)
            elif name in self.state.values:
                self._bring_carried(name)
            elif any(i.name == name and i.role is Role.OTHER for i in self.graph.inputs):
                self._bring_rows(name)
            else:
                raise fail(
                    "E0306", f"{name!r} is not a row of the model's width", NamedPlace(self.graph.name)
                )
        return self.local[name]

    def _bring_rows(self, name: str) -> None:
        """Receive an input of the model, float32 rows, from the host."""
        local = self.local[name]
        parts = []
        for tile, (col, cols) in zip(self.tiles, self.slots, strict=True):
            port = tile.port(f"{local}_in", Direction.IN)
            tile.value(local, Format.F32, cols)
            tile.add(Receive(local, ((port, 0, cols),)), "input")
            parts.append(StreamPart(self.builder.from_host(f"{name}{col}", [tile.end(port)]), col, cols))
        width = sum(cols for _, cols in self.slots)
        self.builder.streams.append(Stream(name, Direction.IN, DType.F32, width, tuple(parts)))
        self._record(name, local)

    def _record(self, name: str, local: str) -> None:
        self.state.values[name] = [
            Shard(t, local, col, cols) for t, (col, cols) in zip(self.tiles, self.slots, strict=True)
        ]

    def _bring_carried(self, name: str) -> None:
        local = self.local[name]
        shards, made_by = self.state.values[name], self._maker(name)
        for tile, (_, cols), source in zip(self.tiles, self.slots, shards, strict=True):
            if source.tile.phase:
                source.tile.keep(source.name)
            out = source.tile.port(f"carry_{source.name}", Direction.OUT)
            source.tile.add(Send(source.name, ((out, 0, source.cols),)), "carry", made_by)
            port = tile.port(f"{local}_in", Direction.IN)
            tile.value(local, Format.F32, cols)
            tile.add(Receive(local, ((port, 0, cols),)), "carry", made_by)
            self.builder.connect(
                f"carry{len(self.builder.channels)}", [source.tile.end(out)], [tile.end(port)]
            )
        self._record(name, local)

    def _bring_partials(self, name: str) -> None:
        local, site, made_by = self.local[name], "reduce", self._maker(name)
        sends: dict[int, tuple[TileBuilder, str, list[Part]]] = {}
        for tile, (col, cols) in zip(self.tiles, self.slots, strict=True):
            parts: list[Part] = []
            for partial in self.state.partials[name]:
                start, stop = max(col, partial.col), min(col + cols, partial.col + partial.cols)
                if start >= stop:
                    continue
                port = tile.port(f"{local}_sum{len(parts)}", Direction.IN)
                parts.append((port, start - col, stop - start))
                ends = [self._send_part(sends, t, partial, start, stop) for t in partial.tiles]
                self.builder.connect(f"sum{len(self.builder.channels)}", ends, [tile.end(port)], Reduce.SUM)
            tile.value(local, Format.F32, cols)
            tile.add(Receive(local, tuple(parts)), site, made_by)
        for source, value, parts in sends.values():
            source.add(Send(value, tuple(parts)), site, made_by)
        bias = self.state.bias.get(name)
        if bias is not None:
            self._bias(local, bias)
        self._record(name, local)

    def _send_part(
        self,
        sends: dict[int, tuple[TileBuilder, str, list[Part]]],
        tile: TileBuilder,
        partial: Partial,
        start: int,
        stop: int,
    ) -> Endpoint:
        _, _, parts = sends.setdefault(tile.index, (tile, partial.name, []))
        port = tile.port(f"out{len(parts)}", Direction.OUT)
        parts.append((port, start - partial.col, stop - start))
        return tile.end(port)

    def _bias(self, local: str, node: Node) -> None:
        for tile, (col, cols) in zip(self.tiles, self.slots, strict=True):
            content = self.weights.bias(node, col)
            if content is not None:
                tile.add(AddRow(local, local, tile.constant(f"{local}_bias", cols, content)), "bias", [node])

    # ------------------------------------------------------------------------------------------------- nodes

    def _node(self, node: Node, rows: Rows) -> None:
        match node.op:
            case Embed():
                self._embed(node)
            case Norm():
                self._norm(node, rows)
            case Activation(kind=kind):
                self._activation(node, kind)
            case Add() | Mul():
                self._binary(node)
            case _:
                raise refuse(self.graph, node, "this operator cannot work on whole rows", "report this model")

    def _out(self, node: Node, rows: Rows = Rows.TOKENS) -> str:
        name = f"x{len(self.local)}"
        self.local[node.output.name] = name
        for tile, (_, cols) in zip(self.tiles, self.slots, strict=True):
            tile.value(name, Format.F32, cols, rows)
        self._record(node.output.name, name)
        return name

    def _embed(self, node: Node) -> None:
        source = next(i for i in self.graph.inputs if i.name == node.inputs[0])
        is_position = source.role is Role.POSITIONS
        ids = "" if is_position else self._ids(source)
        out = self._out(node)
        assert isinstance(node.op, Embed)
        for tile, (col, cols) in zip(self.tiles, self.slots, strict=True):
            tensor = self.weights.columns(node.inputs[1], col, cols)
            slot = f"table{len(tile.tables)}"
            space = self.builder.table(tile, slot, tensor)
            rows = int(self.graph.constants[node.inputs[1]].shape[0])
            if is_position:
                self._check_positions(node, rows - node.op.offset)
                tile.add(LoadRows(out, slot, space, node.op.offset), "position_embedding", [node])
            else:
                if node.op.offset:
                    raise refuse(
                        self.graph,
                        node,
                        "an offset on token ids is not mapped",
                        "shift the table's rows instead",
                    )
                tile.add(Lookup(out, ids, slot, rows, space), "embedding", [node])

    def _check_positions(self, node: Node, have: int) -> None:
        """Refuse (E0308) a context longer than the learned positions."""
        if have < self.context:
            raise fail(
                "E0308",
                f"the model has learned {have:,} positions, the context is {self.context:,}",
                node_place(self.graph, node),
                help=f"--max-context {have}",
            )

    def _ids(self, source: Input) -> str:
        """Receive ids from the host: tokens, or token types."""
        name, stream = ("types", source.name) if source.role is Role.TOKEN_TYPES else ("ids", "input_ids")
        if name not in self.tiles[0].values:
            ends = []
            for tile in self.tiles:
                tile.value(name, Format.I32, 1)
                port = tile.port(name, Direction.IN)
                tile.add(Receive(name, ((port, 0, 1),)), "input")
                ends.append(tile.end(port))
            part = StreamPart(self.builder.from_host(stream, ends), 0, 1)
            self.builder.streams.append(Stream(stream, Direction.IN, DType.I32, 1, (part,)))
        return name

    def _exchange(self, reduce: Reduce) -> tuple[str, str]:
        """Ports through which all tiles of the stage combine a column of numbers; empty for a single tile."""
        if len(self.tiles) == 1:
            return "", ""
        self.reductions += 1
        to, back = f"part{self.reductions}", f"whole{self.reductions}"
        for tile in self.tiles:
            tile.port(to, Direction.OUT)
            tile.port(back, Direction.IN)
        self.builder.connect(
            f"all{len(self.builder.channels)}",
            [t.end(to) for t in self.tiles],
            [t.end(back) for t in self.tiles],
            reduce,
        )
        return to, back

    def _norm(self, node: Node, rows: Rows) -> None:
        op = node.op
        assert isinstance(op, Norm)
        if op.groups > 1 and len(self.tiles) > 1:
            raise refuse(
                self.graph,
                node,
                "a norm of parts of a row that is split over tiles",
                "a smaller --max-context",
            )
        x = self._bring(node.inputs[0])
        out = self._out(node, rows)
        width = sum(cols for _, cols in self.slots) // op.groups
        to, back = self._exchange(Reduce.SUM)
        for tile, (col, cols) in zip(self.tiles, self.slots, strict=True):
            size = cols // op.groups
            gain = tile.constant(f"{out}_gain", size, self.weights.row(node.inputs[1], width, col))
            shift = ""
            if len(node.inputs) > 2 and node.inputs[2]:
                shift = tile.constant(f"{out}_shift", size, self.weights.row(node.inputs[2], width, col))
            block = Normalise(out, x, op.kind, op.eps, width, gain, shift, to, back, op.groups)
            tile.add(block, "norm", [node])

    def _activation(self, node: Node, kind: Function) -> None:
        x = self._bring(node.inputs[0])
        out = self._out(node)
        for tile in self.tiles:
            tile.add(Activate(out, x, kind), "activation", [node])

    def _binary(self, node: Node) -> None:
        a, b = node.inputs
        if a in self.graph.constants:
            a, b = b, a
        left = self._bring(a)
        adds = isinstance(node.op, Add)
        if b not in self.graph.constants:
            right = self._bring(b)
            out = self._out(node)
            block = AddBlock(out, left, right) if adds else MulBlock(out, left, right)
            for tile in self.tiles:
                tile.add(block, "residual", [node])
            return
        out = self._out(node)
        factor = None if adds else self.weights.scalar(b)
        width = sum(cols for _, cols in self.slots)
        for tile, (col, cols) in zip(self.tiles, self.slots, strict=True):
            if factor is not None:
                tile.add(Scale(out, left, factor), "scale", [node])
                continue
            row = tile.constant(f"{out}_row", cols, self.weights.row(b, width, col))
            tile.add(AddRow(out, left, row) if adds else MulRow(out, left, row), "row", [node])

    # ------------------------------------------------------------------------------------------------- feeds

    def _feed(self, name: str, rows: Rows) -> None:
        """Quantise a value once and send it to whatever will read it."""
        local, quantised = self._bring(name), self.builder.arithmetic is Arithmetic.INT8
        sent = f"{local}q" if quantised else local
        if quantised and any(cols % WORD_BYTES for _, cols in self.slots):
            raise fail(
                "E0306",
                f"{name!r} has {self.slots[-1][1]} columns; int8 rows travel in words of {WORD_BYTES} bytes",
                NamedPlace(self.graph.name),
                help="a model whose width is a multiple of 4, or --weights float32",
            )
        made_by = self._maker(name)
        to, back = self._exchange(Reduce.MAX) if quantised else ("", "")
        for index, (tile, (_, cols)) in enumerate(zip(self.tiles, self.slots, strict=True)):
            if quantised:
                tile.value(sent, Format.Q8, cols, rows)
                tile.add(Quantise(sent, local, to, back), "quantise", made_by)
            data = tile.port(f"{sent}_out", Direction.OUT)
            scale = tile.port(f"{sent}_scale", Direction.OUT) if quantised and index == 0 else ""
            tile.add(Send(sent, ((data, 0, cols),), scale, rows is Rows.OUTPUTS), "multicast", made_by)
        shards = [Shard(t, sent, col, cols) for t, (col, cols) in zip(self.tiles, self.slots, strict=True)]
        self.state.feeds[name] = Feed(shards, quantised, [[] for _ in shards], [], rows, made_by)
