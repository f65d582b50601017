"""Put a Mapping together tile by tile: slots, ports and blocks as they come, channels between tiles at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from compiler.ir.graph import Node
from compiler.ir.mapping import (
    Arithmetic,
    Block,
    ConstantSlot,
    Format,
    LoadRows,
    Lookup,
    Mapping,
    MapTile,
    MapValue,
    Operation,
    Repeat,
    Rows,
    Template,
)
from isa.diagnostics import fail
from isa.hardware import Hardware
from isa.instruction import DType
from isa.interface import CacheHead, KvCache
from isa.operands import Space
from isa.program import (
    HOST,
    ArrayData,
    ArraySpec,
    Channel,
    Direction,
    Endpoint,
    Limits,
    MemoryRegion,
    Port,
    Reduce,
    Slice,
    Stream,
    TensorInfo,
)

from .crews import crew_of
from .memories import cache_too_large, tables_too_large
from .place import from_the_middle, place

Maker = Callable[[], np.ndarray]


class TileBuilder:
    """One tile in the making. Slots are added when first named.

    With `is_source` all its passes go over the source's segments; else the first `source_phases` do.
    """

    def __init__(self, kind: str, index: int, *, is_source: bool = False) -> None:
        self.kind, self.index = kind, index
        self.x = self.y = -1  # until all tiles are placed
        self.is_source, self.source_phases = is_source, 0
        self.is_hub = False  # whether it has columns of a hub stage
        self.is_remote = False  # whether it lies on a chip that it does not share with others of its kind
        self.phase = 0  # the pass over the segments in which further blocks are done
        self.rounds = [0]  # the round in which each pass of a hub tile is
        self.blocks: list[Block] = []
        self.values: dict[str, MapValue] = {}
        self.arrays: dict[str, tuple[ArraySpec, ArrayData | None]] = {}
        self.ports: dict[str, Port] = {}
        self.constants: dict[str, tuple[ConstantSlot, Slice]] = {}
        self.tables: dict[str, str] = {}  # slot -> tensor ("": a number that the tile is given)
        self.addresses: dict[str, int] = {}  # slot -> the number, or where the tensor lies, once known
        self.nodes: dict[str, list[str]] = {}
        self.angles: dict[tuple[str, int], str] = {}  # rotary table and pass -> value
        self.repeats: list[Repeat] = []  # loops around passes, outer ones first
        self.once: list[int] = []  # passes that go over no segments

    def value(
        self,
        name: str,
        format: Format,  # noqa: A002
        cols: int,
        rows: Rows = Rows.TOKENS,
        scales: int = 1,
    ) -> str:
        """Declare a value; returns its name."""
        self.values[name] = MapValue(name, format, cols, rows, scales)
        return name

    def parameter(self, name: str, number: int) -> str:
        """Give the tile a number of its own; returns the parameter's name."""
        self.tables[name], self.addresses[name] = "", number
        return name

    def pass_in(self, round_: int) -> int:
        """The pass that a hub tile makes in a round; rounds come in order."""
        if round_ not in self.rounds:
            self.rounds.append(round_)
        return self.rounds.index(round_)

    def keep(self, name: str) -> None:
        """Keep a value for the whole sequence, so that a later pass finds it."""
        self.values[name] = replace(self.values[name], rows=Rows.SEQUENCE)

    def port(self, name: str, direction: Direction) -> str:
        """Declare a port; returns its name."""
        self.ports.setdefault(name, Port(name, direction))
        return name

    def end(self, port: str) -> Endpoint:
        """The channel end at a port."""
        return Endpoint(self.index, list(self.ports).index(port))

    def array(self, spec: ArraySpec, data: ArrayData | None) -> str:
        """Declare an array with what it holds (None: a KV array); returns its name."""
        self.arrays[spec.name] = (spec, data)
        return spec.name

    def constant(self, name: str, cols: int, content: Slice) -> str:
        """Declare a constant of one row; returns its name."""
        self.constants[name] = (ConstantSlot(name, cols), content)
        return name

    def stacked(self, name: str, cols: int, times: int, content: Slice) -> str:
        """Declare a constant of a row for each of `times` iterations; returns its name."""
        self.constants[name] = (ConstantSlot(name, cols, times), content)
        return name

    def next_pass(self, *, once: bool = False) -> None:
        """Go on in a new pass over the segments, or in what is done once."""
        self.phase = 1 + max((block.phase for block in self.blocks), default=-1)
        if once:
            self.once.append(self.phase)

    @contextmanager
    def repeated(self, count: int) -> Iterator[None]:
        """A loop around the passes that are added inside."""
        first, at = 1 + max((block.phase for block in self.blocks), default=-1), len(self.repeats)
        self.repeats.append(Repeat(first, first, count))
        yield
        self.repeats[at] = Repeat(first, max(block.phase for block in self.blocks), count)

    def add(self, op: Operation, site: str, nodes: Iterable[Node] = (), phase: int | None = None) -> None:
        """Append a block done for `site`, on behalf of the ONNX nodes behind `nodes`, in this pass or a later."""
        self.blocks.append(Block(op, site, self.phase if phase is None else phase))
        names = self.nodes.setdefault(site, [])
        names += [source for node in nodes for source in node.sources if source not in names]

    def replace(self, old: Operation, new: Operation) -> None:
        """Put another operation in the place of one that was added."""
        index = next(index for index, block in enumerate(self.blocks) if block.op is old)
        self.blocks[index] = replace(self.blocks[index], op=new)

    def settle_table(self, slot: str, region: MemoryRegion) -> None:
        """Say where the table of a slot lies."""
        self.addresses[slot] = region.offset
        for block in self.blocks:
            if isinstance(block.op, Lookup | LoadRows) and block.op.table == slot:
                self.replace(block.op, replace(block.op, space=region.space))

    def template(self) -> Template:
        """The tile's work, without a name."""
        return Template(
            self.kind,
            tuple(self.blocks),
            tuple(self.values.values()),
            tuple(spec for spec, _ in self.arrays.values()),
            tuple(self.ports.values()),
            tuple(slot for slot, _ in self.constants.values()),
            tuple(self.tables),
            max(block.phase for block in self.blocks) + 1 if self.is_source else self.source_phases,
            tuple(self.repeats),
            tuple(self.once),
        )

    def tile(self, template: Template) -> MapTile:
        """The parameter block."""
        return MapTile(
            f"t{self.index}",
            template.name,
            self.x,
            self.y,
            tuple(self.addresses[slot] for slot in self.tables),
            tuple(data for _, data in self.arrays.values()),
            tuple(content for _, content in self.constants.values()),
            tuple(" ".join(self.nodes[site]) for site in template.sites),
        )


@dataclass(frozen=True, slots=True)
class Reserved:
    """Bytes of the DRAM of a tile's chip, and the parameter that says where."""

    tile: TileBuilder
    slot: str
    name: str
    bytes: int


def _shifted(cache: KvCache, before: int) -> KvCache:
    """The cache, its regions counted among all of the mapping, of which `before` come before those reserved."""
    heads = tuple(replace(h, memory=h.memory + before if h.memory >= 0 else -1) for h in cache.heads)
    return replace(cache, heads=heads)


class MappingBuilder:
    """A Mapping in the making: tiles in the order of the data flow, which is also the order on the mesh.

    `every`: the outputs of which the host needs every row, wanted or not.
    """

    def __init__(
        self, hardware: Hardware, arithmetic: Arithmetic, every: frozenset[str] = frozenset()
    ) -> None:
        self.hardware, self.arithmetic, self.every = hardware, arithmetic, every
        self.tiles: list[TileBuilder] = []
        self.channels: list[Channel] = []
        self.streams: list[Stream] = []
        self.tensors: dict[str, TensorInfo] = {}
        self.data: dict[str, Maker] = {}
        self.memory: dict[tuple[int, str], MemoryRegion] = {}
        self.reserved: list[Reserved] = []
        self._caches: dict[int, KvCache] = {}
        self._names: set[str] = set()  # of channels
        self._used: dict[tuple[int, Space], int] = {}
        self._in_dram: set[str] = set()  # tables that the global buffer does not take
        self._units: list[int] = []  # first tiles of what should lie close together
        self._parts: list[int] = []  # the same of pieces of it

    def new_tile(self, kind: str, *, is_source: bool = False) -> TileBuilder:
        """The next tile. Past the target's last tile, counting goes on (see `check_tiles`)."""
        tile = TileBuilder(kind, len(self.tiles), is_source=is_source)
        self.tiles.append(tile)
        return tile

    def begin_unit(self) -> None:
        """Note that the tiles from here on talk with each other more than with those before."""
        self._units.append(len(self.tiles))

    def begin_part(self) -> None:
        """Note that the tiles from here on are a head, or another piece of a unit."""
        self._parts.append(len(self.tiles))

    def tensor(self, name: str, dtype: DType, shape: tuple[int, ...], make: Maker) -> str:
        """Declare a tensor and how to make its contents; returns its name."""
        if name not in self.tensors:
            self.tensors[name] = TensorInfo(name, dtype, shape)
            self.data[name] = make
        return name

    def cache_head(self, cache: KvCache, tile: TileBuilder, keys: str, values: str, memory: int = -1) -> None:
        """Note that the next KV head of a graph's cache lies in two arrays of `tile`, or in what is reserved as number
        `memory`. `cache` says what is the same of all heads."""
        arrays = list(tile.arrays)
        head = CacheHead(tile.index, arrays.index(keys), arrays.index(values), memory)
        found = self._caches.get(cache.layer, cache)
        self._caches[cache.layer] = replace(found, heads=(*found.heads, head))

    def reserve(self, tile: TileBuilder, slot: str, name: str, size: int) -> int:
        """Reserve bytes of the DRAM of `tile`'s chip, whose address is parameter `slot`; returns a number for it.

        With no slot it lies directly behind what was reserved before."""
        if slot:
            tile.tables[slot] = ""
        self.reserved.append(Reserved(tile, slot, name, size))
        return len(self.reserved) - 1

    def table(self, tile: TileBuilder, slot: str, tensor: str, *, dram: bool = False) -> Space:
        """Give `tile` the memory table `tensor`, on its chip: in the global buffer while there is room, else in
        DRAM (`dram`: there in any case). Which it is, and where, is known when tiles are placed; until then it counts
        as DRAM."""
        tile.tables[slot] = tensor
        if dram:
            self._in_dram.add(tensor)
        return Space.DRAM

    def _settle(self, *, tries: bool) -> None:
        """Place the tiles, and then their tables."""
        crew = crew_of(self.tiles, self.channels, self._units, self._parts)
        places = place(crew, self.channels, self.hardware, tries=tries)
        if tries:
            self.channels = [from_the_middle(channel, places) for channel in self.channels]
        for tile, (x, y) in zip(self.tiles, places, strict=True):
            tile.x, tile.y = x, y
            chip = self.hardware.chip_of(x, y)
            for slot, tensor in tile.tables.items():
                if not tensor:
                    continue  # reserved, see below
                region = self.memory.get((chip, tensor))
                if region is None:
                    region = self.memory[chip, tensor] = self._allocate(chip, tensor)
                tile.settle_table(slot, region)

    def _settle_reserved(self) -> Iterator[MemoryRegion]:
        """The regions of what is reserved. Raises `CimError` E0304 if a chip's DRAM is too small."""
        capacity = int(self.hardware.dram.capacity.si)
        for reserved in self.reserved:
            tile = reserved.tile
            chip = self.hardware.chip_of(tile.x, tile.y)
            used = self._used.get((chip, Space.DRAM), 0)
            if used + reserved.bytes > capacity:
                chips = [self.hardware.chip_of(r.tile.x, r.tile.y) for r in self.reserved]
                need = sum(r.bytes for r, at in zip(self.reserved, chips, strict=True) if at == chip)
                raise cache_too_large(self.hardware, chip, need, self.memory.values())
            self._used[chip, Space.DRAM] = -(-(used + reserved.bytes) // 64) * 64
            if reserved.slot:
                tile.addresses[reserved.slot] = used
            yield MemoryRegion(f"{reserved.name}@{chip}", Space.DRAM, chip, used, reserved.bytes)

    def _allocate(self, chip: int, tensor: str) -> MemoryRegion:
        size = self._bytes(tensor)
        memories = {Space.GBUF: self.hardware.gbuf, Space.DRAM: self.hardware.dram}
        for space in (Space.DRAM,) if tensor in self._in_dram else (Space.GBUF, Space.DRAM):
            used = self._used.get((chip, space), 0)
            if used + size <= int(memories[space].capacity.si):
                self._used[chip, space] = -(-(used + size) // 64) * 64
                return MemoryRegion(f"{tensor}@{chip}", space, chip, used, size, tensor)
        chips = [self.hardware.chip_of(tile.x, tile.y) for tile in self.tiles]
        tables = {
            x for tile, at in zip(self.tiles, chips, strict=True) for x in tile.tables.values() if at == chip
        }
        raise tables_too_large(self.hardware, chip, sum(self._bytes(name) for name in tables if name))

    def _bytes(self, tensor: str) -> int:
        info = self.tensors[tensor]
        return int(np.prod(info.shape, dtype=np.int64)) * info.dtype.bytes

    def connect(
        self, name: str, sources: list[Endpoint], dests: list[Endpoint], reduce: Reduce = Reduce.NONE
    ) -> None:
        """Join ports by a channel, whose name gets a stroke for every other of this name."""
        while name in self._names:
            name += "'"
        self._names.add(name)
        kind = reduce if len(sources) > 1 else Reduce.NONE
        self.channels.append(Channel(name, tuple(sources), tuple(dests), kind))

    def stream(self, new: Stream) -> None:
        """Declare a stream; of one that is declared already, further parts."""
        for number, known in enumerate(self.streams):
            if known.name == new.name:
                self.streams[number] = replace(known, parts=(*known.parts, *new.parts))
                return
        self.streams.append(new)

    def from_host(self, name: str, dests: list[Endpoint]) -> int:
        """A channel from the host; returns its number."""
        self.connect(name, [Endpoint(HOST, 0)], dests)
        return len(self.channels) - 1

    def to_host(self, name: str, source: Endpoint) -> int:
        """A channel to the host; returns its number."""
        self.connect(name, [source], [Endpoint(HOST, 0)])
        return len(self.channels) - 1

    def check_tiles(self) -> None:
        """Refuse (E0303) if more tiles were asked for than there are."""
        need, have = len(self.tiles), self.hardware.tiles
        if need > have:
            per_chip = int(self.hardware.chip.tiles_x.value * self.hardware.chip.tiles_y.value)
            raise fail(
                "E0303",
                f"the model needs {need:,} tiles, target {self.hardware.name} has {have:,}",
                help=f"a system of {-(-need // per_chip):,} or more of these chips (chips_x, chips_y in the target "
                f"file; {have // per_chip:,} now), or fewer layers, or a shorter --max-context",
            )

    def finish(self, name: str, limits: Limits, *, tries: bool = True) -> Mapping:
        """The Mapping. Tiles whose work is equal share a template. With `tries` layouts are compared."""
        self.check_tiles()
        self._settle(tries=tries)
        tables, reserved = tuple(self.memory.values()), tuple(self._settle_reserved())
        names: dict[Template, Template] = {}
        counts: dict[str, int] = {}
        tiles: list[MapTile] = []
        for builder in self.tiles:
            key = builder.template()
            if key not in names:
                number = counts[key.name] = counts.get(key.name, 0) + 1
                names[key] = replace(key, name=key.name if number == 1 else f"{key.name}_{number}")
            tiles.append(builder.tile(names[key]))
        return Mapping(
            name,
            self.hardware.name,
            self.arithmetic,
            limits,
            tuple(names.values()),
            tuple(tiles),
            tuple(self.channels),
            (),
            tuple(self.tensors.values()),
            (*tables, *reserved),
            tuple(self.streams),
            tuple(_shifted(self._caches[layer], len(tables)) for layer in sorted(self._caches)),
            data=self.data,
        )
