"""Operations under way: rows in chunks, which tiles take when they dispatch and give back when all in one are over."""

from __future__ import annotations

from .arena import set_stop, take_lines
from .flights import operation_at
from .jit import Words, compiled
from .layout import (
    CHUNK,
    CHUNK_BITS,
    H_CHUNKS,
    H_MOST,
    O_CAUSE,
    O_CELLS,
    O_DONE,
    O_ITEM,
    O_PORT,
    O_SIZE,
    O_START,
    PENDING,
    RING_COUNT,
    RING_FIRST,
    RING_PLACE,
    RING_SLOTS,
    TILE_ALIVE,
    TILE_RECORD,
    TILE_SEQUENCE,
    TILE_TIME,
)

FEWEST = 8  # places of chunks


@compiled
def free_chunk(m: Words, place: int) -> None:
    """Give a chunk back."""
    m[m[place]] = m[H_CHUNKS]
    m[H_CHUNKS] = m[place]


@compiled
def retire(m: Words, tile: int) -> None:
    """Forget the oldest operations, as long as they are over: nothing that is dispatched from now on waits for them."""
    ring, time = tile + TILE_ALIVE, m[tile + TILE_TIME]
    first, end = m[ring + RING_FIRST], m[ring + RING_FIRST] + m[ring + RING_COUNT]
    while first < end:
        done = m[operation_at(m, tile, first) + O_DONE]
        if done < 0 or done > time:
            break
        first += 1
        if first & CHUNK == 0:
            free_chunk(m, m[ring + RING_PLACE] + ((first - 1) >> CHUNK_BITS & (m[ring + RING_SLOTS] - 1)))
    m[ring + RING_FIRST] = first
    m[ring + RING_COUNT] = end - first


@compiled
def enlarge_places(m: Words, ring: int, chunk: int) -> None:
    """Make room for twice as many places of chunks; the next one will be `chunk`."""
    slots, old = m[ring + RING_SLOTS], m[ring + RING_PLACE]
    more = max(2 * slots, FEWEST)
    place = take_lines(m, more)
    for at in range(chunk - slots, chunk):
        m[place + (at & (more - 1))] = m[old + (at & (slots - 1))]
    m[ring + RING_PLACE], m[ring + RING_SLOTS] = place, more
    m[H_MOST] = max(m[H_MOST], more)
    set_stop(m)


@compiled
def take_chunk(m: Words, ring: int, chunk: int) -> None:
    """A tile comes to the operations of a chunk."""
    if chunk - (m[ring + RING_FIRST] >> CHUNK_BITS) >= m[ring + RING_SLOTS]:
        enlarge_places(m, ring, chunk)
    free = m[H_CHUNKS]
    if free:
        m[H_CHUNKS] = m[free]
    else:
        free = take_lines(m, O_SIZE << CHUNK_BITS)
    m[m[ring + RING_PLACE] + (chunk & (m[ring + RING_SLOTS] - 1))] = free


@compiled
def make_operation(m: Words, tile: int, item: int) -> int:
    """An operation that is dispatched now. Its number is one more than how many were before it on the tile."""
    retire(m, tile)
    ring, number = tile + TILE_ALIVE, m[tile + TILE_SEQUENCE] + 1
    if number & CHUNK == 0 or number == 1:
        take_chunk(m, ring, number >> CHUNK_BITS)
    m[ring + RING_COUNT] += 1
    m[tile + TILE_SEQUENCE] = number
    operation = operation_at(m, tile, number)
    m[operation + O_DONE] = m[operation + O_PORT] = m[operation + O_CELLS] = PENDING
    m[operation + O_START] = m[tile + TILE_TIME]
    m[operation + O_CAUSE] = 2 * m[tile + TILE_RECORD] + 1
    m[operation + O_ITEM] = item
    return operation
