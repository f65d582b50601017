"""Programs of which several copies lie on the mesh, written out: every copy's tiles and channels."""

from __future__ import annotations

from dataclasses import replace

from .program import HOST, BarrierGroup, Channel, Endpoint, Program, Replica, Stream, Tile


def written_out(program: Program) -> Program:
    """The program with the tiles, channels and barriers of all copies, one copy after the other.

    Streams have parts on the channels of each copy. What says what a tile works on is left as it is: of n copies,
    tile t works for number t div (tiles / n).
    """
    if not program.replicas:
        return program
    copies = list(enumerate(program.corners))
    return replace(
        program,
        tiles=tuple(_moved(tile, n, corner) for n, corner in copies for tile in program.tiles),
        channels=tuple(_joined(c, n, len(program.tiles)) for n, _ in copies for c in program.channels),
        barriers=tuple(_met(b, n, len(program.tiles)) for n, _ in copies for b in program.barriers),
        streams=tuple(_carried(s, len(copies), len(program.channels)) for s in program.streams),
        replicas=(),
    )


def _name(name: str, copy: int) -> str:
    return f"{name}.{copy}" if copy else name


def _moved(tile: Tile, copy: int, corner: Replica) -> Tile:
    return replace(tile, name=_name(tile.name, copy), x=tile.x + corner.x, y=tile.y + corner.y)


def _ends(ends: tuple[Endpoint, ...], copy: int, tiles: int) -> tuple[Endpoint, ...]:
    return tuple(e if e.tile == HOST else Endpoint(e.tile + copy * tiles, e.port) for e in ends)


def _joined(channel: Channel, copy: int, tiles: int) -> Channel:
    sources, dests = _ends(channel.sources, copy, tiles), _ends(channel.dests, copy, tiles)
    return Channel(_name(channel.name, copy), sources, dests, channel.reduce)


def _met(group: BarrierGroup, copy: int, tiles: int) -> BarrierGroup:
    return BarrierGroup(_name(group.name, copy), _ends(group.members, copy, tiles))


def _carried(stream: Stream, copies: int, channels: int) -> Stream:
    parts = [replace(p, channel=p.channel + copy * channels) for copy in range(copies) for p in stream.parts]
    return replace(stream, parts=tuple(parts))
