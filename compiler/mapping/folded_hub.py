"""The hub of a folded mapping: tiles that hold columns of all rows of a step, and multiply by last layers.

Values that are needed in a later pass lie in *slots*, which hold a row for every token of the step; a slot is used
again when its value is no longer needed. The value that the loop over layers hands on is always in the first slot.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from compiler.ir.graph import Activation, Embed, Mul, Node, Norm, Role
from compiler.ir.graph import Add as AddNode
from compiler.ir.mapping import (
    Activate,
    Add,
    AddRow,
    Clear,
    Format,
    LoadRows,
    Lookup,
    MulRow,
    Multiply,
    Normalise,
    Quantise,
    Receive,
    Rows,
    Scale,
    Send,
)
from compiler.ir.mapping import Mul as MulValues
from isa.diagnostics import fail
from isa.instruction import DType
from isa.program import ArraySpec, Direction, Reduce, Slice, Stream, StreamPart

from .builder import TileBuilder
from .folded import Job, Streamer
from .folded_last import last_arrays, last_pieces, last_turns
from .folded_liveness import Plan, plan_values
from .sections import Section, node_place, refuse


@dataclass(slots=True)
class HubTile:
    """A hub tile, its columns col..col+cols-1, and what streams its weights."""

    tile: TileBuilder
    col: int
    cols: int
    streamer: Streamer | None = None
    arrays: dict[int, tuple[ArraySpec, ...]] = field(default_factory=dict)  # by section


class Hub:
    """Builds the hub tiles."""

    def __init__(self, job: Job) -> None:
        self.job, self.parts, self.fold = job, job.parts, job.fold
        self.graph, self.builder = job.parts.graph, job.parts.builder
        cols = job.sizes.width
        self.tiles = [
            HubTile(self.builder.new_tile("hub"), index * cols, cols) for index in range(job.sizes.hub)
        ]
        self.width = cols * len(self.tiles)
        self.plan: Plan = plan_values(job.fold)
        self.local: dict[str, str] = {}
        self.fed: dict[str, str] = {}
        self.biases: list[tuple[str, Section, list[Section]]] = []
        self.is_open = False
        self.in_loop = False
        self.turns = last_turns(job)

    # ------------------------------------------------------------------------------------------------- the whole

    def build(self) -> None:
        """All passes of all hub tiles."""
        for hub in self.tiles:
            hub.streamer = Streamer(self.job, hub.tile, self.turns, len(self.job.sections))
            hub.streamer.begin()
        self.is_open = False
        for item in self.fold.before:
            assert isinstance(item.work, Node)
            self._node([item.work], item.output)
        self._body()
        for item in self.fold.after:
            if isinstance(item.work, Section):
                self._result(item.work, item.inputs[0])
            else:
                self._node([item.work], item.output)
        self._outputs()
        self._reductions()
        for hub in self.tiles:
            assert hub.streamer is not None
            hub.streamer.stack.pieces += last_pieces(self.job, hub.col)
            hub.streamer.finish(hub.tile.kind + str(hub.tile.index))

    def _body(self) -> None:
        self._enter()
        number = 0
        for items in self.fold.body:
            work = [item.work for item in items]
            if isinstance(work[0], Section):
                self._section(number, [s for s in work if isinstance(s, Section)], items[0].inputs[0])
                number += 1
            else:
                self._node([n for n in work if isinstance(n, Node)], items[0].output)
        if self.biases:
            self._open()
        self._leave()
        self.local[self.fold.carry[-1]] = self.local[self.fold.body[-1][0].output]

    def _enter(self) -> None:
        self.is_open, self.in_loop = False, True
        self._loops = [hub.tile.repeated(self.fold.count) for hub in self.tiles]
        for loop in self._loops:
            loop.__enter__()

    def _leave(self) -> None:
        for loop in self._loops:
            loop.__exit__(None, None, None)
        self.is_open = self.in_loop = False

    def _open(self) -> None:
        """Begin a pass over the segments if none is open; what sections left behind is made whole first."""
        if self.is_open:
            return
        self.is_open = True
        for hub in self.tiles:
            hub.tile.next_pass()
        for local, first, sections in self.biases:
            nodes = [s.last for s in sections if s.last is not None]
            assert first.last is not None
            if len(first.last.inputs) > 2 and first.last.inputs[2]:
                names = [node.inputs[2] for node in nodes]
                for hub in self.tiles:
                    row = self._row(hub, f"{local}_bias{len(hub.tile.constants)}", names)
                    hub.tile.add(AddRow(local, local, row), "bias", nodes)
        self.biases = []

    # ------------------------------------------------------------------------------------------- values, constants

    def _out(self, name: str) -> str:
        """Where a graph value is made: its slot if a later pass needs it, else a place of its own."""
        slot = self.plan.slots.get(name)
        local = self.local[name] = f"keep{slot}" if slot is not None else f"x{len(self.local)}"
        for hub in self.tiles:
            rows = Rows.TOKENS if slot is None else Rows.STEP
            hub.tile.value(local, Format.F32, hub.cols, rows)
        return local

    def _row(self, hub: HubTile, name: str, names: list[str], groups: int = 1) -> str:
        """A constant of one row: this tile's columns of it, of each iteration if there is a loop around."""
        width, weights = self.width // groups, self.parts.weights
        if not self.in_loop:
            return hub.tile.constant(name, hub.cols, weights.row(names[0], width, hub.col))
        tensor = weights.rows(names, width, (hub.col, hub.cols))
        return hub.tile.stacked(name, hub.cols, len(names), Slice(tensor, (0,)))

    def _ports(self, name: str) -> tuple[str, str]:
        """Ports through which the tiles make sums or maxima of rows whole; empty for a single tile."""
        if len(self.tiles) == 1:
            return "", ""
        for hub in self.tiles:
            hub.tile.port(f"{name}_part", Direction.OUT)
            hub.tile.port(f"{name}_whole", Direction.IN)
        return f"{name}_part", f"{name}_whole"

    def _reductions(self) -> None:
        """Join the ports of the tiles' sums and maxima."""
        for name, reduce in (("sum", Reduce.SUM), ("most", Reduce.MAX)):
            if f"{name}_part" in self.tiles[0].tile.ports:
                sources = [hub.tile.end(f"{name}_part") for hub in self.tiles]
                dests = [hub.tile.end(f"{name}_whole") for hub in self.tiles]
                self.builder.connect(name, sources, dests, reduce)

    # -------------------------------------------------------------------------------------------------- operators

    def _node(self, nodes: list[Node], name: str) -> None:
        """A hub operator, in all iterations."""
        self._open()
        node = nodes[0]
        match node.op:
            case Embed():
                self._embed(node)
            case Norm():
                self._norm(nodes, node.op)
            case Activation(kind=kind):
                x, out = self.local[node.inputs[0]], self._out(name)
                for hub in self.tiles:
                    hub.tile.add(Activate(out, x, kind), "activation", nodes)
            case AddNode() | Mul():
                self._binary(nodes, name)
            case _:
                raise refuse(self.graph, node, "this operator cannot work on whole rows", "report this model")

    def _embed(self, node: Node) -> None:
        assert isinstance(node.op, Embed)
        source = next(i for i in self.graph.inputs if i.name == node.inputs[0])
        is_position = source.role is Role.POSITIONS
        if not is_position:
            self._ids("types" if source.role is Role.TOKEN_TYPES else "ids", source.name)
        rows, out = int(self.graph.constants[node.inputs[1]].shape[0]), self._out(node.output.name)
        have, context = rows - node.op.offset, self.job.limits.max_context
        if is_position and have < context:
            message = f"the model has learned {have:,} positions, the context is {context:,}"
            raise fail("E0308", message, node_place(self.graph, node), help=f"--max-context {have}")
        for hub in self.tiles:
            tensor = self.parts.weights.columns(node.inputs[1], hub.col, hub.cols)
            slot = f"table{len(hub.tile.tables)}"
            space = self.builder.table(hub.tile, slot, tensor)
            if is_position:
                hub.tile.add(LoadRows(out, slot, space, node.op.offset), "position_embedding", [node])
            else:
                hub.tile.add(Lookup(out, "ids", slot, rows, space), "embedding", [node])

    def _ids(self, name: str, source: str) -> None:
        if name in self.tiles[0].tile.values:
            return
        stream = "input_ids" if name == "ids" else source
        for hub in self.tiles:
            hub.tile.value(name, Format.I32, 1)
            hub.tile.add(Receive(name, ((hub.tile.port(name, Direction.IN), 0, 1),)), "input")
        ends = [hub.tile.end(name) for hub in self.tiles]
        part = StreamPart(self.builder.from_host(stream, ends), 0, 1)
        self.builder.streams.append(Stream(stream, Direction.IN, DType.I32, 1, (part,)))

    def _norm(self, nodes: list[Node], op: Norm) -> None:
        x, out = self.local[nodes[0].inputs[0]], self._out(nodes[0].output.name)
        to, back = self._ports("sum")
        stem = f"n{len(self.tiles[0].tile.constants)}"
        has_shift = len(nodes[0].inputs) > 2 and bool(nodes[0].inputs[2])
        for hub in self.tiles:
            gain = self._row(hub, f"{stem}_gain", [n.inputs[1] for n in nodes])
            shift = self._row(hub, f"{stem}_shift", [n.inputs[2] for n in nodes]) if has_shift else ""
            hub.tile.add(Normalise(out, x, op.kind, op.eps, self.width, gain, shift, to, back), "norm", nodes)

    def _binary(self, nodes: list[Node], name: str) -> None:
        node = nodes[0]
        adds = isinstance(node.op, AddNode)
        data = [x for x in node.inputs if x not in self.graph.constants]
        constant = next((x for x in node.inputs if x in self.graph.constants), None)
        left = self.local[data[0]]
        right = self.local[data[-1]]
        out = self._out(name)
        factor = self.parts.weights.scalar(constant) if constant is not None and not adds else None
        for hub in self.tiles:
            if constant is None:
                op = Add(out, left, right) if adds else MulValues(out, left, right)
                hub.tile.add(op, "residual", nodes)
            elif factor is not None:
                hub.tile.add(Scale(out, left, factor), "scale", nodes)
            else:
                at = node.inputs.index(constant)
                row = self._row(hub, f"row{len(hub.tile.constants)}", [n.inputs[at] for n in nodes])
                hub.tile.add(AddRow(out, left, row) if adds else MulRow(out, left, row), "row", nodes)

    # --------------------------------------------------------------------------------------------------- sections

    def _feed(self, name: str) -> None:
        """Make what sections read of a value, once: quantised rows that stay for all rounds."""
        if name in self.fed:
            return
        self._open()
        local = self.fed[name] = f"fed{self.plan.feeds[name]}"
        quantised = self.parts.quantised
        to, back = self._ports("most") if quantised else ("", "")
        for hub in self.tiles:
            hub.tile.value(local, Format.Q8 if quantised else Format.F32, hub.cols, Rows.STEP)
            x = self.local[name]
            hub.tile.add(Quantise(local, x, to, back) if quantised else Scale(local, x, 1.0), "quantise")

    def _send(self, name: str, *, wanted: bool) -> None:
        for index, hub in enumerate(self.tiles):
            data = hub.tile.port("feed", Direction.OUT)
            scale = hub.tile.port("feed_scale", Direction.OUT) if self.parts.quantised and not index else ""
            hub.tile.add(Send(self.fed[name], ((data, 0, hub.cols),), scale, wanted), "multicast")

    def _section(self, number: int, sections: list[Section], name: str) -> None:
        """A section's rounds: send what it reads, take in its inner columns, multiply and add."""
        first = sections[0]
        self._feed(name)
        acc = self._out(first.output)
        nodes = [s.last for s in sections if s.last is not None]
        for hub in self.tiles:
            hub.tile.add(Clear(acc), "sum", nodes)
        loops = [hub.tile.repeated(self.job.rounds(first)) for hub in self.tiles]
        for loop in loops:
            loop.__enter__()
        for hub in self.tiles:
            assert hub.streamer is not None
            specs = last_arrays(self.job, first, hub.cols)
            hub.arrays[number] = specs
            for spec in specs:
                hub.tile.array(spec, None)
            hub.streamer.turn(number, tuple(spec.name for spec in specs), (), nodes)
            hub.tile.next_pass()
        self._send(name, wanted=False)
        for hub in self.tiles:
            if first.lanes:
                self._heads(hub, number, first, acc, nodes)
            else:
                self._columns(hub, number, acc, nodes)
        for loop in loops:
            loop.__exit__(None, None, None)
        self.is_open = False
        self.biases.append((acc, first, sections))

    def _heads(self, hub: HubTile, number: int, section: Section, acc: str, nodes: list[Node]) -> None:
        """Take in the heads of a round, and add their products."""
        tile, cols = hub.tile, self.job.heads(section).out_columns
        names = []
        quantised = self.parts.quantised
        for i in range(self.job.sizes.cores):
            name = tile.value(f"head{number}_{i}", Format.Q8 if quantised else Format.F32, cols)
            port = tile.port(f"{name}_in", Direction.IN)
            scale = tile.port(f"{name}_scale", Direction.IN) if quantised else ""
            tile.add(Receive(name, ((port, 0, cols),), scale), "input", nodes)
            names.append(name)
        for name, spec in zip(names, hub.arrays[number], strict=True):
            self._add_product(hub, name, spec, acc, nodes)

    def _columns(self, hub: HubTile, number: int, acc: str, nodes: list[Node]) -> None:
        """Take in the inner columns of a round, and add their product."""
        tile, sizes = hub.tile, self.job.sizes
        name = tile.value(f"inner{number}", Format.F32, sizes.front * sizes.columns)
        parts = [
            (tile.port(f"{name}_{i}", Direction.IN), i * sizes.columns, sizes.columns)
            for i in range(sizes.front)
        ]
        tile.add(Receive(name, tuple(parts)), "input", nodes)
        x = self.parts.quantise(tile, name, nodes)
        self._add_product(hub, x, hub.arrays[number][0], acc, nodes)

    def _add_product(self, hub: HubTile, x: str, spec: ArraySpec, acc: str, nodes: list[Node]) -> None:
        product = hub.tile.value(f"{x}_product", Format.F32, hub.cols)
        hub.tile.add(Multiply(product, x, spec.name), "last", nodes)
        hub.tile.add(Add(acc, acc, product), "sum", nodes)

    def _result(self, section: Section, name: str) -> None:
        """Send the rows that are wanted to the output layer, in each of its rounds."""
        self._feed(name)
        self.is_open = False
        for rounds in self.job.result_rounds(section):
            loops = [hub.tile.repeated(rounds) for hub in self.tiles]
            for loop in loops:
                loop.__enter__()
            for hub in self.tiles:
                hub.tile.next_pass()
            self._send(name, wanted=True)
            for loop in loops:
                loop.__exit__(None, None, None)

    def _outputs(self) -> None:
        """Hub values that are the model's outputs."""
        for name in dict.fromkeys(self.graph.outputs):
            if name not in self.local:
                continue
            self._open()
            parts = []
            for hub in self.tiles:
                port = hub.tile.port(f"{self.local[name]}_host", Direction.OUT)
                hub.tile.add(Send(self.local[name], ((port, 0, hub.cols),), wanted=True), "output")
                channel = self.builder.to_host(f"{name}{hub.col}", hub.tile.end(port))
                parts.append(StreamPart(channel, hub.col, hub.cols))
            self.builder.streams.append(Stream(name, Direction.OUT, DType.F32, self.width, tuple(parts)))
