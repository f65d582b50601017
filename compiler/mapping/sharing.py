"""Rows that lie by columns on several tiles, quantised as one and sent whole to those that read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from compiler.ir.graph import Node
from compiler.ir.mapping import Arithmetic, Format, Quantise, Receive, Rows, Send
from isa.operands import WORD_BYTES
from isa.program import Direction, Reduce

from .builder import MappingBuilder, TileBuilder
from .feeds import Feed, Shard
from .parts import PartBuilder


def exchange(
    builder: MappingBuilder, tiles: Sequence[TileBuilder], stem: str, reduce: Reduce
) -> tuple[str, str]:
    """Ports `stem`_to and `stem`_back through which tiles combine a column of numbers; "" for a single tile."""
    if len(tiles) == 1:
        return "", ""
    to, back = f"{stem}_to", f"{stem}_back"
    for tile in tiles:
        tile.port(to, Direction.OUT)
        tile.port(back, Direction.IN)
    ends = [t.end(to) for t in tiles], [t.end(back) for t in tiles]
    builder.connect(f"all{len(builder.channels)}", *ends, reduce)
    return to, back


def is_whole_words(shards: Sequence[Shard]) -> bool:
    """Whether the int8 columns of every shard are whole words, which is how they travel."""
    return all(shard.cols % WORD_BYTES == 0 for shard in shards)


def offer(
    builder: MappingBuilder,
    shards: Sequence[Shard],
    nodes: list[Node],
    rows: Rows = Rows.TOKENS,
    stem: str = "",
    order: int = 0,
) -> Feed:
    """Quantise a row of which each shard's tile has columns, with one scale for all of it, and send it.

    int8 rows travel in whole words; others go as float32, and whoever gets them quantises. `stem` sets the names on the
    makers' tiles apart if one value is offered twice. The feed is to be connected when all who read it are known.
    """
    if builder.arithmetic is not Arithmetic.INT8 or not is_whole_words(shards):
        return send_rows(shards, nodes, rows, stem, order)
    tiles, quantised = [shard.tile for shard in shards], []
    to, back = exchange(builder, tiles, f"{shards[0].name}{stem}q", Reduce.MAX)
    for shard in shards:
        name = shard.tile.value(f"{shard.name}{stem}q", Format.Q8, shard.cols, rows)
        shard.tile.add(Quantise(name, shard.name, to, back), "quantise", nodes)
        quantised.append(Shard(shard.tile, name, shard.col, shard.cols))
    return send_rows(quantised, nodes, rows, stem, order)


def send_rows(shards: Sequence[Shard], nodes: list[Node], rows: Rows, stem: str = "", order: int = 0) -> Feed:
    """Let the shards' tiles send their columns as they are, of int8 rows the first tile the scales too."""
    first = shards[0]
    quantised = first.tile.values[first.name].format is Format.Q8
    for shard in shards:
        data = shard.tile.port(f"{shard.name}{stem}_out", Direction.OUT)
        scale = shard.tile.port(f"{shard.name}_scale", Direction.OUT) if quantised and shard is first else ""
        parts = ((data, 0, shard.cols),)
        shard.tile.add(Send(shard.name, parts, scale, rows is Rows.OUTPUTS), "multicast", nodes)
    return Feed(list(shards), f"{stem}_out", quantised, [[] for _ in shards], [], rows, nodes, order)


def share_rows(
    parts: PartBuilder, makers: Sequence[Shard], readers: Sequence[TileBuilder], name: str, nodes: list[Node]
) -> str:
    """Let every reader have the whole row of which each maker has columns; returns its name as arrays take it.

    The makers quantise what they have with the scale of the whole row (`offer`): one message a maker, one for the
    scale. In ideal arithmetic the row stays as it is.
    """
    first = makers[0].tile
    rows = first.values[makers[0].name].rows
    feed = offer(parts.builder, makers, nodes, rows)
    taken = [parts.receive(feed, tile, name) for tile in readers]
    if feed.quantised and first in readers:
        _receive_first(first)
    for shard in feed.shards:
        if shard.tile in readers:
            _keep(shard.tile, shard.name)
    feed.connect(parts.builder)
    return taken[0]


def _receive_first(tile: TileBuilder) -> None:
    """Let a tile that sends a row and its scale to itself, too, have its own columns before it sends the scale: a tile
    has one message on its way out at a time."""
    sent, received = tile.blocks[-2:]
    send, receive = sent.op, received.op
    assert isinstance(send, Send) and isinstance(receive, Receive)
    own, *others = receive.parts
    tile.blocks[-2:] = [
        replace(sent, op=replace(send, scale="")),
        replace(received, op=Receive(receive.out, (own,))),
        replace(sent, op=Send(send.value, (), send.scale)),
        replace(received, op=replace(receive, parts=tuple(others))),
    ]


def _keep(tile: TileBuilder, name: str) -> None:
    """Let what the tile sends to itself stay in its place until it has come."""
    for index, block in enumerate(tile.blocks):
        is_after = any(isinstance(b.op, Send) and b.op.value == name for b in tile.blocks[:index])
        if is_after and isinstance(block.op, Receive):
            tile.blocks[index] = replace(block, op=replace(block.op, keeps=name))
