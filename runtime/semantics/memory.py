"""Memory instructions: moves inside the tile buffer, and between it and DRAM or the global buffer."""

from __future__ import annotations

import numpy as np

from isa import instructions as t
from isa.operands import WORD_BYTES, Mem
from runtime.engine.state import TileState
from runtime.engine.trap import TrapError
from runtime.numerics import I32

from .registry import semantics


@semantics(t.Copy)
def _(tile: TileState, i: t.Copy) -> None:
    block = tile.read_words(i.src, tile.count(i.n), tile.count(i.cols), i.spitch)
    tile.write_words(i.dst, block, i.dpitch)


def _addresses(tile: TileState, at: Mem, n: int, row_bytes: int, pitch: int) -> range:
    """Where n rows begin in memory."""
    base = tile.value(at.base) + at.offset
    step = pitch or row_bytes
    return range(base, base + n * step, step)


@semantics(t.Load)
def _(tile: TileState, i: t.Load) -> None:
    n, cols = tile.count(i.n), tile.count(i.cols)
    if not n or not cols:
        return
    memory, size = tile.memory(i.src.space), cols * WORD_BYTES
    rows = [memory.read(address, size) for address in _addresses(tile, i.src, n, size, i.pitch)]
    tile.write(i.dst, np.concatenate(rows).view(np.int32))


@semantics(t.Store)
def _(tile: TileState, i: t.Store) -> None:
    n, cols = tile.count(i.n), tile.count(i.cols)
    if not n or not cols:
        return
    memory, size = tile.memory(i.dst.space), cols * WORD_BYTES
    rows = tile.i32(i.src, n, cols).view(np.uint8)
    for address, row in zip(_addresses(tile, i.dst, n, size, i.pitch), rows, strict=True):
        memory.write(address, row)


def _row_numbers(ids: I32, limit: int) -> list[int]:
    numbers: list[int] = ids.tolist()
    for number in numbers:
        if not 0 <= number < limit:
            raise TrapError(f"row {number} of a table of {limit} rows is asked for")
    return numbers


@semantics(t.Gather)
def _(tile: TileState, i: t.Gather) -> None:
    n, cols = tile.count(i.n), tile.count(i.cols)
    if not n or not cols:
        return
    memory, size = tile.memory(i.src.space), cols * WORD_BYTES
    base = tile.value(i.src.base) + i.src.offset
    numbers = _row_numbers(tile.i32(i.ids, 1, n)[0], tile.value(i.limit))
    rows = [memory.read(base + number * size, size) for number in numbers]
    tile.write(i.dst, np.concatenate(rows).view(np.int32))
