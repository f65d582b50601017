"""Scalar and control instructions."""

from __future__ import annotations

from typing import Any

from isa import instructions as t
from isa.scalars import BRANCH, SCALAR, physical_page, source_segment, special, token_segment
from runtime.engine.state import TileState
from runtime.engine.trap import TrapError

from .registry import semantics


@semantics(t.Halt)
def _(tile: TileState, i: t.Halt) -> None:
    tile.halted = True


@semantics(t.Li)
def _(tile: TileState, i: t.Li) -> None:
    tile.set(i.rd, i.value)


@semantics(t.Ldp)
def _(tile: TileState, i: t.Ldp) -> None:
    if i.index >= len(tile.params):
        raise TrapError(f"there is no parameter {i.index}; the tile has {len(tile.params)}")
    tile.set(i.rd, tile.params[i.index])


@semantics(t.Sys)
def _(tile: TileState, i: t.Sys) -> None:
    tile.set(i.rd, special(i.what, tile.segments, tile.segment))


@semantics(t.Page)
def _(tile: TileState, i: t.Page) -> None:
    tile.set(i.rd, physical_page(tile.segments, tile.segment, tile.value(i.index)))


@semantics(t.Seg)
def _(tile: TileState, i: t.Seg) -> None:
    tile.segment = token_segment(tile.segments, tile.value(i.index))


@semantics(t.Sseg)
def _(tile: TileState, i: t.Sseg) -> None:
    tile.segment = source_segment(tile.segments, tile.value(i.index))


@semantics(t.Jump)
def _(tile: TileState, i: t.Jump) -> None:
    tile.go_to(i.target)


@semantics(t.Loop)
def _(tile: TileState, i: t.Loop) -> None:
    tile.enter_loop(i.rd, tile.value(i.count), i.end)


@semantics(t.Add, t.Sub, t.Mul, t.Div, t.Mod, t.Min, t.Max, t.Shl, t.Shr, t.And, t.Or, t.Xor)
def _(tile: TileState, i: Any) -> None:
    tile.set(i.rd, SCALAR[type(i)](tile.value(i.a), tile.value(i.b)))


@semantics(t.Beq, t.Bne, t.Blt, t.Bge)
def _(tile: TileState, i: Any) -> None:
    if BRANCH[type(i)](tile.value(i.a), tile.value(i.b)):
        tile.go_to(i.target)
