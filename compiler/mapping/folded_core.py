"""Core tiles of a folded mapping: each attends for some KV heads of all layers, one after the other.

A core has KV arrays of its own for every layer and round: array i belongs to iteration i of its loops.
"""

from __future__ import annotations

from compiler.ir.graph import Attention, Node, Norm
from compiler.ir.mapping import (
    FIRST_OF_ROW,
    Advance,
    Append,
    Attend,
    AttendStreamed,
    Format,
    Normalise,
    Part,
    Receive,
    Send,
)
from compiler.ir.streamed import LINE_BYTES
from compiler.optimisations import Optimisation
from isa.interface import KvCache, memory_planes, plane_bytes
from isa.program import Direction, Endpoint, Slice

from .builder import TileBuilder
from .folded import Job
from .folded_hub import Hub
from .parts import PartBuilder
from .policies import resident, skips, streamed
from .sections import Domain, Section
from .streaming import TABLE

_LANES = ("q", "k", "v")
_KEYS, _VALUES = f"keys{FIRST_OF_ROW}", f"values{FIRST_OF_ROW}"


class Core:
    """Builds the core tiles of one attention section of the body; `sections` has one for every layer."""

    def __init__(self, job: Job, hub: Hub, number: int, sections: tuple[Section, ...]) -> None:
        self.job, self.hub, self.number, self.sections = job, hub, number, sections
        self.parts: PartBuilder = job.parts
        self.builder = job.parts.builder
        self.shape = job.heads(sections[0])
        self.tiles = [self.builder.new_tile("core") for _ in range(job.sizes.cores)]
        self.received: list[dict[str, list[Part]]] = [{lane: [] for lane in _LANES} for _ in self.tiles]
        self.regions: dict[int, list[int]] = {}
        geometry = job.parts.geometry
        self.plan = (
            streamed(geometry, Domain.TOKENS)
            if job.sizes.has_rows_in_memory
            else resident(geometry, self.op, Domain.TOKENS)
        )
        self.links: list[tuple[TileBuilder, str, int, str]] = []

    @property
    def widths(self) -> tuple[int, int, int]:
        """Columns of q, k and v of a KV head."""
        return self.shape.group * self.shape.key, self.shape.key, self.shape.value

    def take(self, head: int, tile: TileBuilder, start: int, columns: int) -> list[Part]:
        """Let core `head` take columns start.. of q, k and v, side by side, from a front tile's value; returns the
        parts that it sends."""
        sent: list[Part] = []
        at = 0
        for lane, cols in zip(_LANES, self.widths, strict=True):
            first, last = max(at, start), min(at + cols, start + columns)
            if first < last:
                name = f"{lane}{self.number}_{len(self.received[head][lane])}"
                out = tile.port(f"{lane}{self.number}_{first}_out", Direction.OUT)
                self.received[head][lane].append((name, first - at, last - first))
                sent.append((out, first - start, last - first))
                self.links.append((tile, out, head, name))
            at += cols
        return sent

    def build(self) -> None:
        """All passes of the core tiles, once the front tiles are known."""
        for index, tile in enumerate(self.tiles):
            self._tile(index, tile)
        for source, out, head, port in self.links:
            self.builder.connect("heads", [source.end(out)], [self.tiles[head].end(port)])
        self._channels()
        self._caches()

    def _tile(self, index: int, tile: TileBuilder) -> None:
        rounds = self.job.rounds(self.sections[0])
        with tile.repeated(self.job.fold.count), tile.repeated(rounds):
            tile.next_pass()
            values = {}
            for lane, cols in zip(_LANES, self.widths, strict=True):
                tile.value(lane, Format.F32, cols)
                parts = self.received[index][lane]
                for name, _, _ in parts:
                    tile.port(name, Direction.IN)
                tile.add(Receive(lane, tuple(parts)), "input", self._nodes())
            for number, lane in enumerate(_LANES):
                heads = self.shape.group if lane == "q" else 1
                values[lane] = self._chain(tile, number, lane, heads)
            out = self._attend(tile, values)
            self._send(tile, out)
            if self.job.sizes.has_rows_in_memory:
                tile.next_pass(once=True)
                tile.add(Advance(TABLE, self._region_bytes), "cache")

    def _nodes(self) -> list[Node]:
        return [s.attention for s in self.sections if s.attention is not None]

    @property
    def node(self) -> Node:
        """The attention operator of the first layer."""
        return self._nodes()[0]

    @property
    def op(self) -> Attention:
        """What it is."""
        assert isinstance(self.node.op, Attention)
        return self.node.op

    @property
    def turns(self) -> int:
        """How many KV heads, of all layers, a core has."""
        return self.job.fold.count * self.job.rounds(self.sections[0])

    def _chain(self, tile: TileBuilder, lane: int, start: str, heads: int) -> str:
        """A lane's operators; returns the last value's name."""
        lanes = [s.lanes[lane] for s in self.sections]
        first = lanes[0]
        assert first is not None and first.linear is not None
        local, name = {first.linear.output.name: start}, first.linear.output.name
        for at, node in enumerate(first.chain):
            self._headwise(tile, [x.chain[at] for x in lanes if x is not None], local, heads)
            name = node.output.name
        return local[name]

    def _headwise(self, tile: TileBuilder, nodes: list[Node], local: dict[str, str], heads: int) -> None:
        """An operator on heads. Gains of norms are those of the layer; others have nothing of a layer's own."""
        node = nodes[0]
        if not isinstance(node.op, Norm):
            self.parts.headwise(tile, node, local, heads, (0, heads * self.shape.key))
            return
        x = local[node.inputs[0]]
        value = tile.values[x]
        width = value.cols // heads
        out = local[node.output.name] = tile.value(f"{x}_normed", Format.F32, value.cols)
        gain = self._stacked(tile, f"{out}_gain", [n.inputs[1] for n in nodes], width)
        has_shift = len(node.inputs) > 2 and bool(node.inputs[2])
        shift = self._stacked(tile, f"{out}_shift", [n.inputs[2] for n in nodes], width) if has_shift else ""
        norm = Normalise(out, x, node.op.kind, node.op.eps, width, gain, shift, groups=heads)
        tile.add(norm, "head_norm", nodes)

    def _stacked(self, tile: TileBuilder, name: str, names: list[str], width: int) -> str:
        tensor = self.parts.weights.rows(names, width, (0, width))
        return tile.stacked(name, width, len(names), Slice(tensor, (0,)))

    def _attend(self, tile: TileBuilder, values: dict[str, str]) -> str:
        """Append keys and values, attend, and what follows head by head."""
        tile.value("attended", Format.F32, self.shape.out_columns)
        if self.job.sizes.has_rows_in_memory:
            tile.add(self._in_memory(tile, values), "attention", self._nodes())
        else:
            tile.add(Append(_KEYS, values["k"], ring=self.plan.ring), "append_k", self._nodes())
            tile.add(Append(_VALUES, values["v"], ring=self.plan.ring), "append_v", self._nodes())
            tile.add(self._in_arrays(tile, values["q"]), "attention", self._nodes())
        local, name = {self.node.output.name: "attended"}, self.node.output.name
        for at in range(1, len(self.sections[0].inner)):
            inner = [s.inner[at] for s in self.sections]
            self._headwise(tile, inner, local, self.shape.group)
            name = inner[0].output.name
        return local[name]

    def _in_arrays(self, tile: TileBuilder, query: str) -> Attend:
        """Attention over rows in arrays, of which there are two for each KV head of the tile."""
        op, geometry, shape = self.op, self.parts.geometry, self.shape
        for name, cols in zip(("keys", "values"), (shape.key, shape.value), strict=True):
            for i in range(self.turns):
                tile.array(self.parts.kv_array(f"{name}_i{i}", self.plan.kept, cols), None)
        return Attend(
            "attended",
            query,
            _KEYS,
            _VALUES,
            *self._sizes,
            op.window or 0,
            op.softcap or 0.0,
            skip=skips(geometry, op),
            ring=self.plan.ring,
        )

    def _in_memory(self, tile: TileBuilder, values: dict[str, str]) -> AttendStreamed:
        """Attention over rows in memory, where those of the tile's KV heads lie one behind the other."""
        op, geometry, shape = self.op, self.parts.geometry, self.shape
        for name, cols in (("key_block", shape.key), ("value_block", shape.value)):
            tile.array(self.parts.kv_array(name, self.plan.staged, cols), None)
        regions = [
            self.builder.reserve(tile, "" if i else TABLE, f"kv{tile.index}_{i}", self._region_bytes)
            for i in range(self.turns)
        ]
        self.regions[tile.index] = regions
        return AttendStreamed(
            "attended",
            values["q"],
            values["k"],
            values["v"],
            "key_block",
            "value_block",
            TABLE,
            self.plan.rows,
            *self._sizes,
            window=op.window or 0,
            softcap=op.softcap or 0.0,
            skip=skips(geometry, op),
            early=geometry.does(Optimisation.PREFETCH_KV),
        )

    @property
    def _sizes(self) -> tuple[int, int, int, float, int]:
        """Query heads a KV head, columns of a key and a value, the scores' factor, rows of a block."""
        block = self.parts.geometry.block(Domain.TOKENS)
        return self.shape.group, self.shape.key, self.shape.value, self.op.scale, block

    @property
    def _region_bytes(self) -> int:
        """Bytes of a KV head's rows in memory."""
        total = self.plan.rows * self.job.limits.sequences
        planes = memory_planes(total, self.shape.key, self.shape.value, self.job.dtype)
        return -(-plane_bytes(total, planes) // LINE_BYTES) * LINE_BYTES

    def _send(self, tile: TileBuilder, out: str) -> None:
        sent = self.parts.quantise(tile, out, self._nodes())
        data = tile.port("attended_out", Direction.OUT)
        scale = tile.port("attended_scale", Direction.OUT) if self.parts.quantised else ""
        tile.add(Send(sent, ((data, 0, self.shape.out_columns),), scale), "multicast", self._nodes())

    def _channels(self) -> None:
        for index, tile in enumerate(self.tiles):
            for out, end in (("attended_out", "in"), ("attended_scale", "scale")):
                if out not in tile.ports:
                    continue
                ends: list[Endpoint] = [
                    hub.tile.end(f"head{self.number}_{index}_{end}") for hub in self.hub.tiles
                ]
                self.builder.connect("attended", [tile.end(out)], ends)

    def _caches(self) -> None:
        """Where the caches of all layers lie."""
        rounds = self.job.rounds(self.sections[0])
        in_memory = self.job.sizes.has_rows_in_memory
        for layer, node in enumerate(self._nodes()):
            assert isinstance(node.op, Attention)
            for head in range(self.shape.kv_heads if node.op.cache is not None else 0):
                turn, core = divmod(head, len(self.tiles))
                i, tile = layer * rounds + turn, self.tiles[core]
                assert node.op.cache is not None
                cache = KvCache(node.op.cache, (), ring=self.plan.ring, rows=self.plan.rows)
                if in_memory:
                    region = self.regions[tile.index][i]
                    self.builder.cache_head(cache, tile, "key_block", "value_block", memory=region)
                else:
                    self.builder.cache_head(cache, tile, f"keys_i{i}", f"values_i{i}")
