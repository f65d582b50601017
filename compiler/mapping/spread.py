"""Projections of a head on tiles of their own, by columns, for a tile that has its rows of keys and values."""

from __future__ import annotations

from compiler.ir.mapping import Format, Receive, Send
from isa.program import Direction

from .builder import TileBuilder
from .feeds import Feed, ranges
from .lanes import Share
from .parts import PartBuilder, linear_shape
from .sections import Domain

Piece = tuple[TileBuilder, str, int, int]  # tile, value, first column, columns


def project(parts: PartBuilder, feed: Feed, share: Share, head: int) -> list[Piece]:
    """A head's projection cut by columns over tiles."""
    linear = share.lane.linear
    assert linear is not None
    rows, _ = linear_shape(parts.weights, linear)
    is_source = share.lane.domain is Domain.SOURCE
    pieces = []
    for col, cols in ranges(share.cols, parts.geometry.columns(rows)):
        tile = parts.builder.new_tile("project", is_source=is_source)
        x = parts.receive(feed, tile)
        at = (0, head * share.cols + col)
        value = parts.multiply(tile, linear, x, "y", at, (rows, cols), True, share.rows)
        pieces.append((tile, value, col, cols))
    return pieces


def gather(parts: PartBuilder, core: TileBuilder, share: Share, pieces: list[Piece]) -> str:
    """Let the pieces of a head's projection come together on tile `core`; returns the value's name there."""
    linear = share.lane.linear
    assert linear is not None
    core.value(share.name, Format.F32, share.cols, pieces[0][0].values[pieces[0][1]].rows)
    received = []
    for index, (tile, value, col, cols) in enumerate(pieces):
        out = tile.port("y_out", Direction.OUT)
        tile.add(Send(value, ((out, 0, cols),)), "send", [linear])
        port = core.port(f"{share.name}{index}", Direction.IN)
        received.append((port, col, cols))
        name = f"{share.name}{len(parts.builder.channels)}"
        parts.builder.connect(name, [tile.end(out)], [core.end(port)])
    core.add(Receive(share.name, tuple(received)), f"{share.name}_in", [linear])
    return share.name
