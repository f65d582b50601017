"""What passes between hub stages and sections: shards of hub values, partial results, multicast inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from compiler.ir.graph import Node
from compiler.ir.mapping import Format, Part, Receive, Rows
from isa.program import Direction, Endpoint

from .builder import MappingBuilder, TileBuilder


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
    rows: Rows
    made_by: list[Node]

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
        tile.add(Receive(name, tuple(parts), scale), site, self.made_by)
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


def connect_feed(builder: MappingBuilder, feed: Feed) -> None:
    """Join a fed value to all ports that receive it."""
    for shard, ends in zip(feed.shards, feed.data_ends, strict=True):
        builder.connect(f"feed{len(builder.channels)}", [shard.tile.end(f"{shard.name}_out")], ends)
    if feed.quantised:
        first = feed.shards[0]
        builder.connect(
            f"scale{len(builder.channels)}", [first.tile.end(f"{first.name}_scale")], feed.scale_ends
        )
