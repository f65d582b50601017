"""Embeddings: rows of tables, looked up by ids from the host or by position.

A table that is too large for a global buffer lies in DRAM. On one chip its channels would give a row's pieces to the
stage's tiles one after the other; so each piece is looked up by a tile of its own on another chip, which sends it on,
with what other tables have for the same columns added to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compiler.ir.graph import Embed, Input, Node, Role
from compiler.ir.mapping import Add as AddBlock
from compiler.ir.mapping import Format, LoadRows, Lookup, Receive, Send
from isa.diagnostics import fail
from isa.instruction import DType
from isa.program import Direction, Stream, StreamPart

from .builder import TileBuilder
from .sections import node_place, refuse

if TYPE_CHECKING:
    from .hub import StageBuilder


def embed(stage: StageBuilder, node: Node) -> None:
    """Look up a row's columns for a stage's tiles."""
    assert isinstance(node.op, Embed)
    source = next(i for i in stage.graph.inputs if i.name == node.inputs[0])
    is_position = source.role is Role.POSITIONS
    rows = int(stage.graph.constants[node.inputs[1]].shape[0])
    if is_position:
        _check_positions(stage, node, rows - node.op.offset)
    elif node.op.offset:
        help_ = "shift the table's rows instead"
        raise refuse(stage.graph, node, "an offset on token ids is not mapped", help_)
    looking = _lookers(stage)
    ids = "" if is_position else _ids(stage, source, looking)
    out = stage.out(node) if looking is stage.tiles else _found(stage, node)
    for tile, (col, cols) in zip(looking, stage.slots, strict=True):
        slot = f"table{len(tile.tables)}"
        space = stage.builder.table(tile, slot, stage.weights.columns(node.inputs[1], col, cols))
        if is_position:
            tile.add(LoadRows(out, slot, space, node.op.offset), "position_embedding", [node])
        else:
            tile.add(Lookup(out, ids, slot, rows, space), "embedding", [node])


def _lookers(stage: StageBuilder) -> list[TileBuilder]:
    """The tiles that look up: the stage's own, or one for each on another chip."""
    builder, constants = stage.builder, stage.graph.constants
    hardware, cols = builder.hardware, stage.slots[0][1]
    rows = max(int(constants[n.inputs[1]].shape[0]) for n in stage.nodes if isinstance(n.op, Embed))
    is_small = 4 * rows * cols <= int(hardware.gbuf.capacity.si)
    if (
        is_small
        or not stage.sizes.gathers
        or len(stage.tiles) == 1
        or hardware.tiles == hardware.tiles_per_chip
    ):
        return stage.tiles
    if not stage.gatherers:
        stage.gatherers = [builder.new_tile("gather", is_source=stage.is_source) for _ in stage.tiles]
        for tile in stage.gatherers:
            tile.is_remote, tile.rounds = True, [stage.round]
    return stage.gatherers


def _found(stage: StageBuilder, node: Node) -> str:
    """Declare a node's value on the tiles that look up; returns its local name there."""
    name = stage.found[node.output.name] = f"found{len(stage.gatherers[0].values)}"
    for tile, (_, cols) in zip(stage.gatherers, stage.slots, strict=True):
        tile.value(name, Format.F32, cols)
    return name


def add_found(stage: StageBuilder, node: Node) -> bool:
    """Add up two rows where they have been looked up, if nothing else reads them; whether that could be done."""
    a, b = node.inputs
    if a == b or not all(name in stage.found and stage.consumers[name] == [node] for name in (a, b)):
        return False
    left, right = stage.found.pop(a), stage.found.pop(b)
    out = _found(stage, node)
    for tile in stage.gatherers:
        tile.add(AddBlock(out, left, right), "residual", [node])
    return True


def send_on(stage: StageBuilder, node: Node) -> None:
    """Let the tiles that look up send what they found to the stage's tiles."""
    found, out = stage.found.pop(node.output.name), stage.out(node)
    for source, tile, (_, cols) in zip(stage.gatherers, stage.tiles, stage.slots, strict=True):
        parts = ((source.port(f"{found}_out", Direction.OUT), 0, cols),)
        source.add(Send(found, parts), "found", [node])
        port = tile.port(f"{out}_in", Direction.IN)
        tile.add(Receive(out, ((port, 0, cols),)), "found", [node])
        name = f"found{len(stage.builder.channels)}"
        stage.builder.connect(name, [source.end(f"{found}_out")], [tile.end(port)])


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
