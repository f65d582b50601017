"""What the placer has to know of tiles and channels that are made."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from compiler.ir.mapping import Format, Receive, Rows, Send
from isa.program import HOST, Channel

from .place import Crew

if TYPE_CHECKING:
    from .builder import TileBuilder

NUMBER = 4  # bytes of a scale, or of a number that tiles exchange, a row


def crew_of(
    tiles: Sequence[TileBuilder], channels: Sequence[Channel], units: Sequence[int], parts: Sequence[int]
) -> Crew:
    """The tiles for the placer. `units`, `parts`: first tiles of hub stages with all that they feed, and of pieces."""
    remote = tuple(tile.index for tile in tiles if tile.is_remote)
    begins, unit, units_of = set(units), 0, []
    for tile in tiles:
        unit += tile.index in begins
        units_of.append(unit)
    numbers: dict[tuple[int, str], int] = {}
    stages = tuple(numbers.setdefault((units_of[tile.index], tile.kind), len(numbers)) for tile in tiles)
    hubs = groupby((tile for tile in tiles if tile.is_hub), key=lambda tile: stages[tile.index])
    return Crew(
        len(tiles),
        remote,
        tuple(units),
        tuple(parts),
        tuple(tuple(tile.index for tile in own) for _, own in hubs),
        stages,
        row_bytes(tiles, channels),
    )


def row_bytes(tiles: Sequence[TileBuilder], channels: Sequence[Channel]) -> tuple[int, ...]:
    """Bytes of a row on each channel, as its receiver (or who sends to the host) declares them; 0 where there are
    rows for wanted outputs alone, which are few."""
    known: dict[int, dict[str, int]] = {}
    found = []
    for channel in channels:
        dest = channel.dests[0]
        end = dest if dest.tile != HOST else channel.sources[0]
        tile = tiles[end.tile]
        if end.tile not in known:
            known[end.tile] = _ports(tile)
        found.append(known[end.tile].get(list(tile.ports)[end.port], NUMBER))
    return tuple(found)


def _ports(tile: TileBuilder) -> dict[str, int]:
    """Bytes of a row by port, of those that carry columns of a value."""
    found: dict[str, int] = {}
    for block in tile.blocks:
        op = block.op
        if isinstance(op, Receive | Send):
            value = tile.values[op.out if isinstance(op, Receive) else op.value]
            is_rare = value.rows is Rows.OUTPUTS or (isinstance(op, Send) and op.wanted)
            each = 0 if is_rare else 1 if value.format is Format.Q8 else 4
            found |= {port: each * cols for port, _, cols in op.parts}
    return found
