"""Hub stages: embeddings, the residual stream and norms, on one tile or cut by columns over several.

A stage gets whole rows from earlier stages and sums of partial results from sections, works through its
operators, and sends what sections read: quantised once, multicast to all tiles of the section.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from compiler.ir.graph import Activation, Add, Embed, Function, Graph, Mul, Node, Norm, Role
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
from isa.diagnostics import fail
from isa.instruction import DType
from isa.program import Direction, Endpoint, Reduce, Stream, StreamPart

from .builder import MappingBuilder, TileBuilder
from .sections import Stage, node_place, refuse
from .weights import Weights


@dataclass(frozen=True, slots=True)
class Shard:
    """Columns col..col+cols-1 of a hub value, and where they lie."""

    tile: TileBuilder
    name: str
    col: int
    cols: int


@dataclass(slots=True)
class Partial:
    """Columns of a section's output: value `name` on each of `tiles`, to be added up."""

    tiles: list[TileBuilder]
    name: str
    col: int
    cols: int


@dataclass(slots=True)
class Feed:
    """A hub value as sections read it. `ends` collects the receiving ports: data by shard, then the scale's."""

    shards: list[Shard]
    quantised: bool
    data_ends: list[list[Endpoint]]
    scale_ends: list[Endpoint]
    rows: Rows = Rows.TOKENS
    node: Node | None = None

    @property
    def cols(self) -> int:
        """Columns of the whole row."""
        return sum(s.cols for s in self.shards)

    def receive(self, tile: TileBuilder, name: str, site: str) -> str:
        """Let `tile` receive the value under `name`; returns the name."""
        tile.value(name, Format.Q8 if self.quantised else Format.F32, self.cols, self.rows)
        parts: list[Part] = []
        for index, shard in enumerate(self.shards):
            port = tile.port(f"{name}{index}" if len(self.shards) > 1 else name, Direction.IN)
            self.data_ends[index].append(tile.end(port))
            parts.append((port, shard.col, shard.cols))
        scale = tile.port(f"{name}_scale", Direction.IN) if self.quantised else ""
        if scale:
            self.scale_ends.append(tile.end(scale))
        tile.add(Receive(name, tuple(parts), scale), site, [self.node] if self.node else [])
        return name


@dataclass(slots=True)
class HubState:
    """What later stages and sections need of earlier ones, by name of the graph value."""

    values: dict[str, list[Shard]] = field(default_factory=dict)
    partials: dict[str, list[Partial]] = field(default_factory=dict)
    bias: dict[str, Node] = field(default_factory=dict)  # section outputs whose bias the hub adds
    feeds: dict[str, Feed] = field(default_factory=dict)


def ranges(total: int, width: int) -> Iterator[tuple[int, int]]:
    """(start, size) of successive pieces of at most `width`."""
    for start in range(0, total, width):
        yield start, min(width, total - start)


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

    def build(self, stage: Stage, wanted: list[str], outputs: set[str], kind: str) -> None:
        """Make the stage's tiles and record its values and feeds in the state."""
        width = self._width(stage)
        self.slots = list(ranges(width, self.hub_width))
        self.tiles = [self.builder.new_tile(kind) for _ in self.slots]
        for node in stage.nodes:
            rows = Rows.OUTPUTS if node.output.name in outputs else Rows.TOKENS
            self._node(node, rows)
        for name in wanted:
            self._feed(name, Rows.OUTPUTS if name in outputs else Rows.TOKENS)

    def _width(self, stage: Stage) -> int:
        for node in stage.nodes:
            if isinstance(node.op, Embed):
                return int(self.graph.constants[node.inputs[1]].shape[1])
            for name in node.inputs:
                if name in self.state.values:
                    return sum(s.cols for s in self.state.values[name])
                if name in self.state.partials:
                    return sum(p.cols for p in self.state.partials[name])
        raise refuse(self.graph, stage.nodes[0], "the width of this value is not known", "report this model")

    # ------------------------------------------------------------------------------------------------ inputs

    def _bring(self, name: str, node: Node) -> str:
        """The local name of a hub value, received from where it is if it is not here."""
        if name not in self.local:
            self.local[name] = f"x{len(self.local)}"
            if name in self.state.partials:
                self._bring_partials(name)
            elif name in self.state.values:
                self._bring_carried(name)
            else:
                raise refuse(self.graph, node, f"input {name!r} is not a hub value", "report this model")
        return self.local[name]

    def _bring_carried(self, name: str) -> None:
        local = self.local[name]
        shards, made_by = self.state.values[name], [self.producers[name]]
        for tile, (_, cols), source in zip(self.tiles, self.slots, shards, strict=True):
            out = source.tile.port(f"carry_{source.name}", Direction.OUT)
            source.tile.add(Send(source.name, ((out, 0, source.cols),)), "carry", made_by)
            port = tile.port(f"{local}_in", Direction.IN)
            tile.value(local, Format.F32, cols)
            tile.add(Receive(local, ((port, 0, cols),)), "carry", made_by)
            self.builder.connect(
                f"carry{len(self.builder.channels)}", [source.tile.end(out)], [tile.end(port)]
            )
        self.state.values[name] = [
            Shard(t, local, col, cols) for t, (col, cols) in zip(self.tiles, self.slots, strict=True)
        ]

    def _bring_partials(self, name: str) -> None:
        local, site, made_by = self.local[name], "reduce", [self.producers[name]]
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
        self.state.values[node.output.name] = [
            Shard(t, name, col, cols) for t, (col, cols) in zip(self.tiles, self.slots, strict=True)
        ]
        return name

    def _embed(self, node: Node) -> None:
        by_position = self.graph.input(Role.POSITIONS)
        is_position = by_position is not None and node.inputs[0] == by_position.name
        ids = "" if is_position else self._ids()
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

    def _ids(self) -> str:
        name = "ids"
        if name not in self.tiles[0].values:
            ends = []
            for tile in self.tiles:
                tile.value(name, Format.I32, 1)
                port = tile.port(name, Direction.IN)
                tile.add(Receive(name, ((port, 0, 1),)), "input")
                ends.append(tile.end(port))
            channel = self.builder.from_host("input_ids", ends)
            part = StreamPart(channel, 0, 1)
            self.builder.streams.append(Stream("input_ids", Direction.IN, DType.I32, 1, (part,)))
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
        x = self._bring(node.inputs[0], node)
        out = self._out(node, rows)
        width = sum(cols for _, cols in self.slots)
        to, back = self._exchange(Reduce.SUM)
        for tile, (col, cols) in zip(self.tiles, self.slots, strict=True):
            gain = tile.constant(f"{out}_gain", cols, self.weights.row(node.inputs[1], width, col))
            shift = ""
            if len(node.inputs) > 2 and node.inputs[2]:
                shift = tile.constant(f"{out}_shift", cols, self.weights.row(node.inputs[2], width, col))
            tile.add(Normalise(out, x, op.kind, op.eps, width, gain, shift, to, back), "norm", [node])

    def _activation(self, node: Node, kind: Function) -> None:
        x = self._bring(node.inputs[0], node)
        out = self._out(node)
        for tile in self.tiles:
            tile.add(Activate(out, x, kind), "activation", [node])

    def _binary(self, node: Node) -> None:
        a, b = node.inputs
        if a in self.graph.constants:
            a, b = b, a
        left = self._bring(a, node)
        adds = isinstance(node.op, Add)
        if b not in self.graph.constants:
            right = self._bring(b, node)
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
        local, quantised = self.local[name], self.builder.arithmetic is Arithmetic.INT8
        sent = f"{local}q" if quantised else local
        made_by = [self.producers[name]]
        to, back = self._exchange(Reduce.MAX) if quantised else ("", "")
        for index, (tile, (_, cols)) in enumerate(zip(self.tiles, self.slots, strict=True)):
            if quantised:
                tile.value(sent, Format.Q8, cols, rows)
                tile.add(Quantise(sent, local, to, back), "quantise", made_by)
            data = tile.port(f"{sent}_out", Direction.OUT)
            scale = tile.port(f"{sent}_scale", Direction.OUT) if quantised and index == 0 else ""
            tile.add(Send(sent, ((data, 0, cols),), scale), "multicast", made_by)
        shards = [Shard(t, sent, col, cols) for t, (col, cols) in zip(self.tiles, self.slots, strict=True)]
        self.state.feeds[name] = Feed(shards, quantised, [[] for _ in shards], [], rows, made_by[0])


def connect_feed(builder: MappingBuilder, feed: Feed) -> None:
    """Join a fed value to all ports that receive it."""
    for shard, ends in zip(feed.shards, feed.data_ends, strict=True):
        builder.connect(f"feed{len(builder.channels)}", [shard.tile.end(f"{shard.name}_out")], ends)
    if feed.quantised:
        first = feed.shards[0]
        builder.connect(
            f"scale{len(builder.channels)}", [first.tile.end(f"{first.name}_scale")], feed.scale_ends
        )
