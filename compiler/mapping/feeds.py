"""What passes between hub stages and sections: shards of hub values, partial results, multicast inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from compiler.ir.graph import Node
from compiler.ir.mapping import Format, Part, Receive, Rows, Send
from isa.program import Direction, Endpoint

from .builder import MappingBuilder, TileBuilder
from .hostfeeds import HostColumns
from .sections import Read


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
    """A hub value as sections read it, whole rows, sent through ports named after it and `out`.

    `ends` collects the receiving ports: data by shard, then the scale's.

    What feeds a tile is sent in the `order` in which it was made, whole rows before columns. Tiles must receive in this
    order too: one that waited for a later message first would keep the earlier from all.
    """

    shards: list[Shard]
    out: str
    quantised: bool
    data_ends: list[list[Endpoint]]
    scale_ends: list[Endpoint]
    rows: Rows
    made_by: list[Node]
    order: int

    @property
    def is_source(self) -> bool:
        """Whether it has rows of the source."""
        return self.shards[0].tile.is_source

    @property
    def cols(self) -> int:
        """Columns of the whole row."""
        return sum(s.cols for s in self.shards)

    def receive(self, tile: TileBuilder, name: str, site: str, only: range | None = None) -> str:
        """Let `tile` receive the value under `name`, or the columns that the shards with the numbers `only` have;
        returns the name."""
        taken = [(index, self.shards[index]) for index in only or range(len(self.shards))]
        first, cols = taken[0][1].col, sum(shard.cols for _, shard in taken)
        tile.value(name, Format.Q8 if self.quantised else Format.F32, cols, self.rows)
        parts: list[Part] = []
        for index, shard in taken:
            port = tile.port(f"{name}{index}" if len(self.shards) > 1 else name, Direction.IN)
            self.data_ends[index].append(tile.end(port))
            parts.append((port, shard.col - first, shard.cols))
        scale = tile.port(f"{name}_scale", Direction.IN) if self.quantised else ""
        if scale:
            self.scale_ends.append(tile.end(scale))
        tile.add(Receive(name, tuple(parts), scale), site, self.made_by)
        return name

    def connect(self, builder: MappingBuilder) -> None:
        """Join the value to all ports that receive it."""
        for shard, ends in zip(self.shards, self.data_ends, strict=True):
            builder.connect(f"feed{len(builder.channels)}", [shard.tile.end(f"{shard.name}{self.out}")], ends)
        if self.quantised:
            first = self.shards[0]
            builder.connect(
                f"scale{len(builder.channels)}", [first.tile.end(f"{first.name}_scale")], self.scale_ends
            )


@dataclass(slots=True)
class ColumnFeed:
    """A hub value of which each tile reads some columns, as float32: attention without a linear layer before it.

    `sends` are the operations on the shards' tiles that send them; they get their `parts` once all are known.
    """

    shards: list[Shard]
    sends: list[Send]
    made_by: list[Node]
    order: int
    parts: dict[int, list[tuple[Part, Endpoint]]] = field(default_factory=dict)

    @property
    def is_source(self) -> bool:
        """Whether it has rows of the source."""
        return self.shards[0].tile.is_source

    def receive(self, tile: TileBuilder, name: str, at: tuple[int, int]) -> str:
        """Let `tile` receive `cols` columns from `col` on (`at`) under `name`; returns the name."""
        col, cols = at
        first = self.shards[0]
        tile.value(name, Format.F32, cols, first.tile.values[first.name].rows)
        parts: list[Part] = []
        for index, shard in enumerate(self.shards):
            start, stop = max(col, shard.col), min(col + cols, shard.col + shard.cols)
            if start >= stop:
                continue
            port = tile.port(f"{name}_in{len(parts)}", Direction.IN)
            parts.append((port, start - col, stop - start))
            sent = self.parts.setdefault(index, [])
            out = shard.tile.port(f"{shard.name}_{self.order}part{len(sent)}", Direction.OUT)
            sent.append(((out, start - shard.col, stop - start), tile.end(port)))
        tile.add(Receive(name, tuple(parts)), "input", self.made_by)
        return name

    def connect(self, builder: MappingBuilder) -> None:
        """Let the shards send, and join their ports to those that receive."""
        for index, (shard, send) in enumerate(zip(self.shards, self.sends, strict=True)):
            sent = self.parts.get(index, [])
            shard.tile.replace(send, replace(send, parts=tuple(part for part, _ in sent)))
            for (port, _, _), end in sent:
                builder.connect(f"columns{len(builder.channels)}", [shard.tile.end(port)], [end])


@dataclass(slots=True)
class HubState:
    """What later stages and sections need of earlier ones, by name of the graph value."""

    values: dict[str, list[Shard]] = field(default_factory=dict)
    partials: dict[str, list[Partial]] = field(default_factory=dict)
    bias: dict[str, Node] = field(default_factory=dict)  # section outputs whose bias the hub adds
    feeds: dict[Read, Feed] = field(default_factory=dict)
    columns: dict[Read, ColumnFeed | HostColumns] = field(default_factory=dict)
    waiting: list[Feed | ColumnFeed | HostColumns] = field(default_factory=list)  # not connected yet
    made: int = 0  # feeds so far

    def add(self, feed: Feed | ColumnFeed | HostColumns, read: Read) -> None:
        """Offer a hub value to the sections that come."""
        if isinstance(feed, Feed):
            self.feeds[read] = feed
        else:
            self.columns[read] = feed
        self.waiting.append(feed)
        self.made += 1

    def connect(self, builder: MappingBuilder, *, source: bool) -> None:
        """Connect the feeds of the source's rows, or of the tokens', to all that receive them."""
        for feed in self.waiting:
            if feed.is_source is source:
                feed.connect(builder)
        self.waiting = [feed for feed in self.waiting if feed.is_source is not source]


def ranges(total: int, width: int) -> Iterator[tuple[int, int]]:
    """(start, size) of successive pieces of at most `width`."""
    for start in range(0, total, width):
        yield start, min(width, total - start)
