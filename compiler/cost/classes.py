"""Tiles that do the same work at the same time: one of each class stands for all of it."""

from __future__ import annotations

from dataclasses import dataclass

from isa.program import HOST, Endpoint, Program, Tile

WAY = "way"  # the parameter that tells tiles of dealt attention apart: which blocks they have

End = tuple[int, int]  # a class, and a port of its tiles
HOST_END: End = (HOST, 0)


@dataclass(frozen=True, slots=True)
class TileClass:
    """Tiles of one role with the same nodes behind its sites, by number in the program; the first stands for them."""

    number: int
    members: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Classes:
    """All tiles of a program by class. `of[tile]` is the number of a tile's class."""

    classes: tuple[TileClass, ...]
    of: tuple[int, ...]

    def end(self, end: Endpoint) -> End:
        """An endpoint of a channel as its class has it."""
        return HOST_END if end.tile == HOST else (self.of[end.tile], end.port)


def classes_of(program: Program) -> Classes:
    """The classes of a program's tiles: equal role, nodes, and part of dealt attention."""
    ways = {role.name: role.params.index(WAY) for role in program.roles if WAY in role.params}
    members: dict[tuple[str, tuple[str, ...], int], list[int]] = {}
    for index, tile in enumerate(program.tiles):
        members.setdefault(_key(tile, ways), []).append(index)
    classes = tuple(TileClass(number, tuple(found)) for number, found in enumerate(members.values()))
    of = [0] * len(program.tiles)
    for each in classes:
        for index in each.members:
            of[index] = each.number
    return Classes(classes, tuple(of))


def _key(tile: Tile, ways: dict[str, int]) -> tuple[str, tuple[str, ...], int]:
    way = tile.params[ways[tile.role]] if tile.role in ways else 0
    return tile.role, tile.nodes, way
