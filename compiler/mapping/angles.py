"""Rotary angles: rows of a table by position, for each tile that turns heads.

A memory gives so many bytes a cycle: where dozens of tiles of a chip look up the same rows, each token waits for it
longer than for arrays or links. So the table lies in the tiles' own buffers where these have room for it. Where they
have not, one tile looks rows up for some that follow it, and multicasts what it gets.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from compiler.ir.graph import Node
from compiler.ir.mapping import ConstantSlot, Format, LoadRows, Receive, Send
from isa.operands import WORD_BYTES
from isa.program import Direction, Endpoint, Slice

from .builder import MappingBuilder, TileBuilder

BUFFER_SHARE = 0.5
"""Of a tile's buffer, for the angles of all positions."""

SHARED = 16
"""Tiles that share a look-up: neighbours for the most part, as tiles lie in the order in which they are made."""

_SITE = "angles"


@dataclass(slots=True)
class _Group:
    """Tiles that share a look-up: who makes it, under which name, and where the others receive it."""

    tile: TileBuilder
    name: str
    node: Node
    ends: list[Endpoint] = field(default_factory=list)


@dataclass(slots=True)
class Angles:
    """Gives tiles the angles of their rows. `keeps`: in their buffers, if they have room. `most`: so many tiles share a
    look-up otherwise."""

    builder: MappingBuilder
    keeps: bool = True
    most: int = SHARED
    groups: list[_Group] = field(default_factory=list)
    # by table, its columns and the pass
    open: dict[tuple[str, int, int], _Group] = field(default_factory=dict)

    def on(self, tile: TileBuilder, tensor: str, rot: int, node: Node) -> str:
        """Let `tile` have the angles of its rows, `rot` columns of a rotary table; returns the value's name."""
        rows, _ = self.builder.tensors[tensor].shape
        if self.keeps and WORD_BYTES * rows * rot <= BUFFER_SHARE * self.builder.hardware.buffer_bytes:
            return self._keep(tile, tensor, rot, rows)
        known = tensor, tile.phase
        if known not in tile.angles:
            tile.angles[known] = self._looked_up(tile, tensor, rot, node)
        return tile.angles[known]

    def connect(self) -> None:
        """Let those that look up send, and join them to those that receive. What comes later shares nothing with the
        tiles so far, which work on other rows at the same time."""
        for group in self.groups:
            if group.ends:
                ends = [group.tile.end(group.tile.port(f"{group.name}_out", Direction.OUT))]
                self.builder.connect(f"angles{len(self.builder.channels)}", ends, group.ends)
        self.groups, self.open = [], {}

    def _keep(self, tile: TileBuilder, tensor: str, rot: int, rows: int) -> str:
        """Have the whole table in the tile's buffer."""
        name = f"rotary_{rot}_{tensor}"
        if name not in tile.constants:
            slot = ConstantSlot(name, rot, rows, by_position=True)
            tile.constants[name] = slot, Slice(_flat(self.builder, tensor), (0,))
        return name

    def _looked_up(self, tile: TileBuilder, tensor: str, rot: int, node: Node) -> str:
        """Have rows loaded once a pass, by the tile or by one before it."""
        key = tensor, rot, tile.phase
        group = self.open.get(key)
        is_plain = self.most > 1 and not tile.is_source and not tile.source_phases
        name = f"rotary_{rot}" if f"rotary_{rot}" not in tile.values else f"rotary_{rot}_{len(tile.values)}"
        tile.value(name, Format.F32, rot)
        if is_plain and group is not None and len(group.ends) + 1 < self.most:
            _receive(group, tile, name, rot)
            return name
        space = self.builder.table(tile, name, tensor)
        tile.add(LoadRows(name, name, space), _SITE, [node])
        if is_plain:
            self.open[key] = _Group(tile, name, node)
            self.groups.append(self.open[key])
        return name


def _receive(group: _Group, tile: TileBuilder, name: str, rot: int) -> None:
    port = tile.port(f"{name}_in", Direction.IN)
    tile.add(Receive(name, ((port, 0, rot),)), _SITE, [group.node])
    if not group.ends:
        _let_send(group, rot)
    group.ends.append(tile.end(port))


def _let_send(group: _Group, rot: int) -> None:
    """Let the tile that looks up send what it gets, as soon as it has it."""
    blocks, port = group.tile.blocks, group.tile.port(f"{group.name}_out", Direction.OUT)
    at = next(n for n, b in enumerate(blocks) if isinstance(b.op, LoadRows) and b.op.out == group.name)
    blocks.insert(at + 1, replace(blocks[at], op=Send(group.name, ((port, 0, rot),))))


def _flat(builder: MappingBuilder, name: str) -> str:
    """A tensor's rows one behind the other; returns its name."""
    info, make = builder.tensors[name], builder.data[name]
    count = int(np.prod(info.shape, dtype=np.int64))
    return builder.tensor(f"{name}.flat", info.dtype, (count,), lambda: make().reshape(-1))
