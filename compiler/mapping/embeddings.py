"""Embeddings: rows of tables, looked up by ids from the host or by position.

A table that is too large for a global buffer lies in DRAM. On one chip its channels would give a row's pieces to the
stage's tiles one after the other; so columns are looked up by tiles on other chips, which send them on, with
what other tables have for the same columns added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from compiler.ir.graph import Embed, Input, Node, Role
from compiler.ir.mapping import FOUND, Format, LoadRows, Lookup, Part, Receive, Send
from compiler.ir.mapping import Add as AddBlock
from isa.diagnostics import fail
from isa.instruction import DType
from isa.operands import WORD_BYTES
from isa.program import Direction, Stream, StreamPart

from .builder import TileBuilder
from .feeds import ranges
from .rules import gather_columns
from .sections import node_place, refuse

if TYPE_CHECKING:
    from .hub import StageBuilder


@dataclass(frozen=True, slots=True)
class Looker:
    """A tile that looks up columns col..col+cols-1 of rows."""

    tile: TileBuilder
    col: int
    cols: int


def embed(stage: StageBuilder, node: Node) -> None:
    """Look up a row's columns for a stage's tiles."""
    assert isinstance(node.op, Embed)
    source = next(i for i in stage.graph.inputs if i.name == node.inputs[0])
    is_position = source.role is Role.POSITIONS
    rows, used = int(stage.graph.constants[node.inputs[1]].shape[0]), _rows_used(stage, node, node.op)
    if is_position:
        _check_positions(stage, node, rows - node.op.offset)
    elif node.op.offset:
        help_ = "shift the table's rows instead"
        raise refuse(stage.graph, node, "an offset on token ids is not mapped", help_)
    looking = _lookers(stage)
    ids = "" if is_position else _ids(stage, source, [looker.tile for looker in looking])
    out = _found(stage, node) if looking is stage.gatherers else stage.out(node)
    for looker in looking:
        tile, slot = looker.tile, f"table{len(looker.tile.tables)}"
        table = stage.weights.columns(node.inputs[1], looker.col, looker.cols, used)
        space = stage.builder.table(tile, slot, table)
        if is_position:
            tile.add(LoadRows(out, slot, space, node.op.offset), "position_embedding", [node])
        else:
            tile.add(Lookup(out, ids, slot, rows, space), "embedding", [node])


def _rows_used(stage: StageBuilder, node: Node, op: Embed) -> int:
    """Rows of a table that can be asked for: of positions, those of the context."""
    rows = int(stage.graph.constants[node.inputs[1]].shape[0])
    source = next(i for i in stage.graph.inputs if i.name == node.inputs[0])
    return min(rows, stage.sizes.context + op.offset) if source.role is Role.POSITIONS else rows


def _lookers(stage: StageBuilder) -> list[Looker]:
    """The tiles that look up: the stage's own, or some for each of them on other chips."""
    own = [Looker(tile, *slot) for tile, slot in zip(stage.tiles, stage.slots, strict=True)]
    hardware = stage.builder.hardware
    rows = [_rows_used(stage, node, node.op) for node in stage.nodes if isinstance(node.op, Embed)]
    is_small = WORD_BYTES * max(rows) * own[0].cols <= int(hardware.gbuf.capacity.si)
    if is_small or not stage.sizes.gathers or hardware.tiles == hardware.tiles_per_chip:
        return own
    if not stage.gatherers:
        each = gather_columns(own[0].cols, len(own), hardware, rows)
        pieces = [(slot.col + col, cols) for slot in own for col, cols in ranges(slot.cols, each)]
        if len(pieces) == 1:
            return own
        for col, cols in pieces:
            tile = stage.builder.new_tile("gather", is_source=stage.is_source)
            tile.is_remote, tile.rounds = True, [stage.round]
            stage.gatherers.append(Looker(tile, col, cols))
    return stage.gatherers


def _found(stage: StageBuilder, node: Node) -> str:
    """Declare a node's value on the tiles that look up; returns its local name there."""
    name = stage.found[node.output.name] = f"found{len(stage.gatherers[0].tile.values)}"
    for looker in stage.gatherers:
        looker.tile.value(name, Format.F32, looker.cols)
    return name


def add_found(stage: StageBuilder, node: Node) -> bool:
    """Add up two rows where they have been looked up, if nothing else reads them; whether that could be done."""
    a, b = node.inputs
    if a == b or not all(name in stage.found and stage.consumers[name] == [node] for name in (a, b)):
        return False
    left, right = stage.found.pop(a), stage.found.pop(b)
    out = _found(stage, node)
    for looker in stage.gatherers:
        looker.tile.add(AddBlock(out, left, right), "residual", [node])
    return True


def send_on(stage: StageBuilder, node: Node) -> None:
    """Let the tiles that look up send what they found to the stage's tiles."""
    found, out = stage.found.pop(node.output.name), stage.out(node)
    for tile, (first, count) in zip(stage.tiles, stage.slots, strict=True):
        parts: list[Part] = []
        for looker in stage.gatherers:
            if not first <= looker.col < first + count:
                continue
            port = tile.port(f"{out}_in{len(parts)}", Direction.IN)
            parts.append((port, looker.col - first, looker.cols))
            sent = looker.tile.port(f"{found}_out", Direction.OUT)
            looker.tile.add(Send(found, ((sent, 0, looker.cols),)), "found", [node])
            name = f"found{len(stage.builder.channels)}"
            stage.builder.connect(name, [looker.tile.end(sent)], [tile.end(port)])
        tile.add(Receive(out, tuple(parts)), FOUND, [node])


def _check_positions(stage: StageBuilder, node: Node, have: int) -> None:
    """Refuse (E0308) a sequence longer than the learned positions."""
    context = stage.sizes.context
    if have < context:
        what, option = ("source", "--max-source") if stage.is_source else ("context", "--max-context")
        raise fail(
            "E0308",
            f"the model has learned {have:,} positions, the {what} is {context:,}",
            node_place(stage.graph, node),
            help=f"{option} {have}",
        )


def _ids(stage: StageBuilder, source: Input, tiles: list[TileBuilder]) -> str:
    """Receive ids from the host: tokens, or token types."""
    name = "types" if source.role is Role.TOKEN_TYPES else "ids"
    others = {i.name for i in stage.graph.inputs if i is not source}  # an encoder's ids may have that name
    plain = name == "ids" and not stage.is_source and "input_ids" not in others
    stream = "input_ids" if plain else source.name
    if name not in tiles[0].values:
        ends = []
        for tile in tiles:
            tile.value(name, Format.I32, 1)
            port = tile.port(name, Direction.IN)
            tile.add(Receive(name, ((port, 0, 1),)), "input")
            ends.append(tile.end(port))
        part = StreamPart(stage.builder.from_host(stream, ends), 0, 1)
        stage.builder.streams.append(Stream(stream, Direction.IN, DType.I32, 1, (part,), stage.is_source))
    return name
