"""Hub stages: embeddings, the residual stream and norms, on one tile or cut by columns over several.

A stage gets whole rows from earlier stages and sums of partial results from sections, works through its
operators, and sends what sections read: quantised once, multicast to all tiles of the section.
"""

from __future__ import annotations

from dataclasses import dataclass

from compiler.ir.graph import (
    Activation,
    Add,
    Embed,
    Function,
    Graph,
    Mul,
    Node,
    Norm,
    Role,
    Rotary,
)
from compiler.ir.hosted import parts_within
from compiler.ir.mapping import (
    Activate,
    AddRow,
    Format,
    MulRow,
    Part,
    Receive,
    Rotate,
    Rows,
    Scale,
    Send,
)
from compiler.ir.mapping import Add as AddBlock
from compiler.ir.mapping import Mul as MulBlock
from isa.diagnostics import NamedPlace, fail
from isa.instruction import DType
from isa.program import Direction, Endpoint, Reduce, Stream, StreamPart

from .angles import Angles
from .builder import MappingBuilder, TileBuilder
from .embeddings import Looker, add_found, embed, send_on
from .feeds import ColumnFeed, HubState, Partial, Shard, ranges
from .norms import norm
from .sections import Domain, Read, Stage, refuse
from .sharing import offer, send_rows
from .weights import Weights

_ROWS = (Role.OTHER, Role.SOURCE)


@dataclass(frozen=True, slots=True)
class Sizes:
    """What bounds a stage: columns of a hub value a tile takes, rows of the longest sequence, and of all.

    `joins_norms`: norms that only arrays read are normalised and quantised in one (`NormQuantise`), `folds_gains`: with
    their gains in the weights. `gathers`: embeddings whose tables lie in DRAM have tiles of their own, on several
    chips. `early_bias`: a section's bias is added to what its result is added to. `keeps_angles`: rotary tables lie in
    tile buffers. `carried`: values that more than one stage works on.
    """

    columns: int
    context: int
    positions: int
    joins_norms: bool = True
    gathers: bool = True
    early_bias: bool = True
    folds_gains: bool = True
    keeps_angles: bool = True
    carried: frozenset[str] = frozenset()


class StageBuilder:
    """Builds one stage."""

    def __init__(
        self, graph: Graph, builder: MappingBuilder, weights: Weights, state: HubState, sizes: Sizes
    ) -> None:
        self.graph, self.builder, self.weights, self.state, self.sizes = graph, builder, weights, state, sizes
        self.producers, self.consumers = graph.producers(), graph.consumers()
        self.reads: tuple[Read, ...] = ()
        self.local: dict[str, str] = {}  # graph value -> name on this stage's tiles
        self.tiles: list[TileBuilder] = []
        self.slots: list[tuple[int, int]] = []
        self.is_source, self.round = False, 0
        self.rows = Rows.TOKENS
        self.gatherers: list[Looker] = []  # tiles of their own that look up rows for the stage's
        self.found: dict[str, str] = {}  # values on them that have not been sent on, and their names there
        self.nodes: tuple[Node, ...] = ()
        self.early: set[str] = set()  # results of sections whose bias has been added already
        self.quantised: dict[str, list[Shard]] = {}  # norms that were quantised at once

    def build(self, stage: Stage, only_results: set[str], kind: str, rows: Rows = Rows.TOKENS) -> None:
        """Make the stage's tiles and record its values and feeds in the state.

        `rows` are those that the stage works on. Of the values `only_results` no rows are needed but those whose
        outputs are wanted.
        """
        self.rows = rows
        self.is_source, self.round, self.reads = stage.domain is Domain.SOURCE, stage.round, stage.reads
        self.slots, self.nodes = list(ranges(stage.width, self.sizes.columns)), stage.nodes
        self.tiles = [self.builder.new_tile(kind, is_source=self.is_source) for _ in self.slots]
        for tile in self.tiles:
            tile.is_hub, tile.rounds = True, [stage.round]
        for name in stage.holds:
            self.bring(name)
        for node in sorted(stage.nodes, key=self._waits_for_ids):
            self._node(node, self._rows(node.output.name, only_results))
        for name in tuple(self.found):
            self.bring(name)
        self._serve([read for read in stage.reads if not read.is_late], only_results)
        for name in stage.outputs:
            self.to_host(name)
        late = [read for read in stage.reads if read.is_late]
        for read in late:
            self.bring(read.name)
        for tile in self.tiles if late else ():
            for read in late:
                tile.keep(self.local[read.name])
            tile.phase = tile.pass_in(stage.round + 1)
        self._serve(late, only_results)

    def _serve(self, reads: list[Read], only_results: set[str]) -> None:
        """Send what sections read: first whole rows, then columns."""
        for read in reads:
            if read.is_whole:
                self._feed(read, self._rows(read.name, only_results))
        for read in reads:
            if not read.is_whole:
                self._columns(read)

    def _waits_for_ids(self, node: Node) -> bool:
        """Whether a node is anything but a look-up by position. That can begin at once, and behind one that waits for
        ids from the host the DMA engine would hold it up."""
        positions = {i.name for i in self.graph.inputs if i.role is Role.POSITIONS}
        return not (isinstance(node.op, Embed) and node.inputs[0] in positions)

    def _rows(self, name: str, only_results: set[str]) -> Rows:
        return Rows.OUTPUTS if name in only_results else self.rows

    @property
    def _is_wanted(self) -> bool:
        """Whether it takes in wanted rows alone, of what other tiles may have all rows of."""
        return self.rows is Rows.OUTPUTS

    def to_host(self, name: str) -> None:
        """Send a hub value to the host: the rows whose outputs are wanted, or all of the source."""
        local, parts = self.bring(name), []
        every = name in self.builder.every and not self.is_source
        wanted = not self.is_source and not every
        for tile, (col, cols) in zip(self.tiles, self.slots, strict=True):
            port = tile.port(f"{local}_host", Direction.OUT)
            tile.add(Send(local, ((port, 0, cols),), wanted=wanted), "output", self._maker(name))
            parts.append(StreamPart(self.builder.to_host(f"{name}{col}", tile.end(port)), col, cols))
        width = sum(cols for _, cols in self.slots)
        stream = Stream(name, Direction.OUT, DType.F32, width, tuple(parts), self.is_source, every)
        self.builder.streams.append(stream)

    def _maker(self, name: str) -> list[Node]:
        """The node behind a value, if it is not an input."""
        return [self.producers[name]] if name in self.producers else []

    # ------------------------------------------------------------------------------------------------ inputs

    def bring(self, name: str) -> str:
        """The local name of a hub value, received from where it is if it is not here."""
        if name in self.found:
            send_on(self, self.producers[name])
        if name not in self.local:
            self.local[name] = f"x{len(self.local)}"
            is_given = any(i.name == name and i.role in _ROWS for i in self.graph.inputs)
            if is_given and parts_within(self.graph):
                self._bring_rows(name)  # no stage waits for a later one that waits for the host
            elif name in self.state.values:
                self._bring_carried(name)
            elif name in self.state.partials:
                self._bring_partials(name)
            elif is_given:
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
        stream = Stream(name, Direction.IN, DType.F32, width, tuple(parts), self.is_source)
        self.builder.stream(stream)
        self._record(name, local)

    def _record(self, name: str, local: str) -> None:
        self.state.values[name] = self.shards(local)

    def _bring_carried(self, name: str) -> None:
        local = self.local[name]
        shards, made_by = self.state.values[name], self._maker(name)
        for tile, (_, cols), source in zip(self.tiles, self.slots, shards, strict=True):
            later = source.tile.pass_in(self.round)
            if later:
                source.tile.keep(source.name)
            out = source.tile.port(f"carry_{source.name}", Direction.OUT)
            send = Send(source.name, ((out, 0, source.cols),), wanted=self._is_wanted)
            source.tile.add(send, "carry", made_by, later)
            port = tile.port(f"{local}_in", Direction.IN)
            tile.value(local, Format.F32, cols, self.rows)
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
            tile.value(local, Format.F32, cols, self.rows)
            tile.add(Receive(local, tuple(parts)), site, made_by)
        for source, value, parts in sends.values():
            source.add(Send(value, tuple(parts), wanted=self._is_wanted), site, made_by)
        bias = self.state.bias.get(name)
        if bias is not None and name not in self.early:
            self._bias(local, local, bias)
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

    def _bias(self, out: str, x: str, node: Node) -> None:
        """out = x + the bias of a section's last layer, if it has one."""
        for tile, (col, cols) in zip(self.tiles, self.slots, strict=True):
            content = self.weights.bias(node, col)
            if content is not None:
                tile.add(AddRow(out, x, tile.constant(f"{out}_bias", cols, content)), "bias", [node])

    def _is_early(self, name: str, node: Node) -> bool:
        """Whether `node` alone adds up what a section will send with something else: then that gets the section's bias,
        while the section still works."""
        bias = self.state.bias.get(name)
        return (
            self.sizes.early_bias
            and name in self.state.partials
            and name not in {*self.local, *self.state.values, *self.sizes.carried, *self.graph.outputs}
            and self.consumers[name] == [node]
            and bias is not None
            and self.weights.bias(bias, 0) is not None
        )

    def _add_early(self, node: Node, late: str, other: str) -> None:
        """The sum of what a section will send and another value, which gets the section's bias before it comes."""
        left = self.bring(other)
        out = self.out(node)
        self._bias(out, left, self.state.bias[late])
        self.early.add(late)
        right = self.bring(late)
        for tile in self.tiles:
            tile.add(AddBlock(out, out, right), "residual", [node])

    # ------------------------------------------------------------------------------------------------- nodes

    def _node(self, node: Node, rows: Rows) -> None:
        match node.op:
            case Embed():
                embed(self, node)
            case Norm():
                norm(self, node, rows)
            case Activation(kind=kind):
                self._activation(node, kind)
            case Add() | Mul():
                self._binary(node)
            case Rotary():
                self._rotary(node, node.op)
            case _:
                raise refuse(self.graph, node, "this operator cannot work on whole rows", "report this model")

    def out(self, node: Node, rows: Rows | None = None) -> str:
        """Declare a node's value on the stage's tiles, of the stage's rows if nothing else is said; returns its local
        name."""
        name = f"x{len(self.local)}"
        self.local[node.output.name] = name
        for tile, (_, cols) in zip(self.tiles, self.slots, strict=True):
            tile.value(name, Format.F32, cols, rows or self.rows)
        self._record(node.output.name, name)
        return name

    def _rotary(self, node: Node, op: Rotary) -> None:
        x = self.bring(node.inputs[0])
        out = self.out(node)
        tensor = self.weights.rotary_table(node, self.sizes.positions)
        own = Angles(self.builder, self.sizes.keeps_angles, most=1)
        for tile in self.tiles:
            angles = own.on(tile, tensor, op.rotary_dim, node)
            tile.add(Rotate(out, x, angles, op.head_dim, op.rotary_dim, op.interleaved), "rotary", [node])

    def _activation(self, node: Node, kind: Function) -> None:
        x = self.bring(node.inputs[0])
        out = self.out(node)
        for tile in self.tiles:
            tile.add(Activate(out, x, kind), "activation", [node])

    def _binary(self, node: Node) -> None:
        a, b = node.inputs
        if a in self.graph.constants:
            a, b = b, a
        adds = isinstance(node.op, Add)
        if adds and add_found(self, node):
            return
        for late, other in ((b, a), (a, b)):
            if adds and other not in self.graph.constants and self._is_early(late, node):
                self._add_early(node, late, other)
                return
        left = self.bring(a)
        if b not in self.graph.constants:
            right = self.bring(b)
            out = self.out(node)
            block = AddBlock(out, left, right) if adds else MulBlock(out, left, right)
            for tile in self.tiles:
                tile.add(block, "residual", [node])
            return
        out = self.out(node)
        factor = None if adds else self.weights.scalar(b)
        width = sum(cols for _, cols in self.slots)
        for tile, (col, cols) in zip(self.tiles, self.slots, strict=True):
            if factor is not None:
                tile.add(Scale(out, left, factor), "scale", [node])
                continue
            row = tile.constant(f"{out}_row", cols, self.weights.row(b, width, col))
            tile.add(AddRow(out, left, row) if adds else MulRow(out, left, row), "row", [node])

    # ------------------------------------------------------------------------------------------------- feeds

    def _feed(self, read: Read, rows: Rows) -> None:
        """Quantise a value once and send it to whatever will read it."""
        made_by, made = self._maker(read.name), self.state.made
        if read.name in self.quantised:
            self.state.add(send_rows(self.quantised[read.name], made_by, rows, order=made), read)
            return
        shards = self.shards(self.bring(read.name))
        stem = "late" if read.is_late else ""
        self.state.add(offer(self.builder, shards, made_by, rows, stem, made), read)

    def _columns(self, read: Read) -> None:
        """Let attention read columns of a value as they are."""
        shards, made_by = self.shards(self.bring(read.name)), self._maker(read.name)
        sends = [Send(shard.name, ()) for shard in shards]
        for shard, send in zip(shards, sends, strict=True):
            shard.tile.add(send, "columns", made_by)
        self.state.add(ColumnFeed(shards, sends, made_by, self.state.made), read)

    def shards(self, local: str) -> list[Shard]:
        """A local value as pieces of the whole row."""
        return [Shard(t, local, col, cols) for t, (col, cols) in zip(self.tiles, self.slots, strict=True)]
