"""Rows that a part of the host makes and attention reads as they are: columns go from the host to the heads' tiles."""

from __future__ import annotations

from dataclasses import dataclass, field

from compiler.ir.graph import Graph
from compiler.ir.hosted import parts_within
from compiler.ir.mapping import Format, Receive
from isa.instruction import DType
from isa.program import Direction, Endpoint, Stream, StreamPart

from .builder import MappingBuilder, TileBuilder


def levels(graph: Graph) -> dict[str, int]:
    """Depths of what parts of the host make within the step: what the chip makes of it lies between."""
    apart = len(graph.nodes) + 1
    return {name: apart * number for number, part in enumerate(parts_within(graph)) for name in part.outputs}


@dataclass(slots=True)
class HostColumns:
    """A value of `cols` columns of which each tile reads some, as float32, straight from the host.

    `ends` collects the receiving ports by first column and columns; tiles that read the same share a message, but no
    tile gets one twice.
    """

    name: str
    cols: int
    is_source: bool
    order: int
    ends: list[tuple[tuple[int, int], list[Endpoint]]] = field(default_factory=list)

    def receive(self, tile: TileBuilder, name: str, at: tuple[int, int]) -> str:
        """Let `tile` receive `cols` columns from `col` on (`at`) under `name`; returns the name."""
        tile.value(name, Format.F32, at[1])
        end = tile.end(tile.port(f"{name}_in0", Direction.IN))
        shared = (ends for where, ends in self.ends if where == at and all(e.tile != end.tile for e in ends))
        ends = next(shared, None)
        if ends is None:
            self.ends.append((at, ends := []))
        ends.append(end)
        tile.add(Receive(name, ((f"{name}_in0", 0, at[1]),)), "input")
        return name

    def connect(self, builder: MappingBuilder) -> None:
        """Join the host to all ports that receive columns."""
        parts = [
            StreamPart(builder.from_host(f"{self.name}{col}", ends), col, cols)
            for (col, cols), ends in self.ends
        ]
        builder.stream(Stream(self.name, Direction.IN, DType.F32, self.cols, tuple(parts), self.is_source))
