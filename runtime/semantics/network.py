"""Network instructions. A `recv` may be completed later: the engine waits where its words are needed."""

from __future__ import annotations

from isa import instructions as t
from runtime.engine.state import PendingReceive, TileState

from .registry import semantics


@semantics(t.Send)
def _(tile: TileState, i: t.Send) -> None:
    block = tile.read_words(i.src, tile.count(i.n), tile.count(i.cols), i.pitch)
    tile.outlet(i.port).send(block.reshape(-1))


_DESTINATION = next(field for field in t.Recv.layout if field.name == "dst")


@semantics(t.Recv)
def _(tile: TileState, i: t.Recv) -> None:
    inbox, span = tile.inbox(i.port), tile.span(i, _DESTINATION)
    tile.pending.append(PendingReceive(tile.index, i, tile.port(i.port), inbox, span, tile.registers.copy()))


@semantics(t.Barrier)
def _(tile: TileState, i: t.Barrier) -> None:
    tile.arrive(i.port)
