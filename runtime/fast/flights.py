"""Ends of operations and those that wait for them (isa/timing/operation.py), and what can go on (isa/timing/agenda.py).

An operation is told by its tile and its number there; where its row lies may change.
"""

from __future__ import annotations

from .arena import note_end
from .jit import Items, Words, compiled
from .layout import (
    CHUNK,
    CHUNK_BITS,
    FLIGHT,
    FLIGHT_BITS,
    FLIGHT_CELLS,
    FLIGHT_DONE,
    FLIGHT_PORT,
    H_FIRST,
    H_LATEST,
    H_READY,
    H_TILES,
    I_COUNTS,
    I_HEAD,
    I_KIND,
    I_MOST,
    I_SIZE,
    I_WAITERS,
    I_WINDOWED,
    NUMBER_BITS,
    O_CAUSE,
    O_CELLS,
    O_DONE,
    O_ITEM,
    O_PORT,
    O_PORT_RECORD,
    O_READY,
    O_RECORD,
    O_SIZE,
    O_START,
    PENDING,
    PENDING_NUMBER,
    PENDING_START,
    PENDING_WORDS,
    Q_KNOWN,
    Q_PENDING,
    RING_FIRST,
    RING_PLACE,
    RING_SLOTS,
    TILE_ALIVE,
    TILE_BARRIER,
    TILE_CIM,
    TILE_INDEX,
    TILE_NEXT,
    TILE_SEQUENCE,
    TILE_SIZE,
    TILE_VECTOR,
    VECTOR,
)
from .rings import row_at

NUMBER = (1 << NUMBER_BITS) - 1


@compiled
def operation_at(m: Words, tile: int, number: int) -> int:
    """Where the row of an operation lies."""
    ring = tile + TILE_ALIVE
    chunk = m[m[ring + RING_PLACE] + (number >> CHUNK_BITS & (m[ring + RING_SLOTS] - 1))]
    return chunk + O_SIZE * (number & CHUNK)


@compiled
def name_of(m: Words, tile: int, number: int) -> int:
    """What tells an operation from others."""
    return m[tile + TILE_INDEX] << NUMBER_BITS | number


@compiled
def tile_of(m: Words, name: int) -> int:
    """The tile of an operation."""
    return m[H_TILES] + TILE_SIZE * (name >> NUMBER_BITS)


@compiled
def row_of(m: Words, name: int) -> int:
    """Where the row of an operation lies."""
    return operation_at(m, tile_of(m, name), name & NUMBER)


@compiled
def hold_up(m: Words, operation: int, done: int, record: int) -> None:
    """An operation does not start before something else is done."""
    if done > m[operation + O_START]:
        m[operation + O_START] = done
        m[operation + O_CAUSE] = 2 * record


@compiled
def wait_for(m: Words, operation: int, other: int, flight: int) -> None:
    """An operation starts after a flight of another one."""
    if flight == FLIGHT_DONE:
        done, record = m[other + O_DONE], m[other + O_RECORD]
    elif flight == FLIGHT_PORT:
        done, record = m[other + O_PORT], m[other + O_PORT_RECORD]
    else:
        done, record = m[other + O_CELLS], m[other + O_CAUSE]
    if done < 0:
        m[operation + O_CELLS] -= 1
    else:
        hold_up(m, operation, done, record)


@compiled
def note_start(m: Words, tile: int, kind: int, number: int, start: int) -> None:
    """It is known when an operation that waits in a window could start."""
    queue = tile + (TILE_VECTOR if kind == VECTOR else TILE_CIM)
    m[queue + Q_KNOWN] += 1
    ring = queue + Q_PENDING
    at = m[ring + RING_FIRST]
    while m[row_at(m, ring, at, PENDING_WORDS) + PENDING_NUMBER] != number:
        at += 1
    m[row_at(m, ring, at, PENDING_WORDS) + PENDING_START] = start


@compiled
def end_wait(m: Words, t: Items, tile: int, number: int, end: int, record: int) -> None:
    """One end that an operation waits for is known; if that was the last one, it can start."""
    operation = operation_at(m, tile, number)
    hold_up(m, operation, end, record)
    m[operation + O_CELLS] += 1
    if m[operation + O_CELLS] != PENDING:
        return
    head = t[m[operation + O_ITEM] + I_HEAD]
    if head & I_WINDOWED:
        note_start(m, tile, head & I_KIND, number, m[operation + O_START])
    m[operation + O_READY] = m[H_READY]
    m[H_READY] = name_of(m, tile, number)


@compiled
def resolve(
    m: Words, t: Items, tile: int, number: int, item: int, flight: int, end: int, record: int
) -> None:
    """The end of a flight is known: those that waited for it alone can start."""
    counts, latest = t[item + I_COUNTS], m[tile + TILE_SEQUENCE]
    first = item + I_SIZE + (counts & I_MOST)
    for at in range(first, first + (counts >> I_WAITERS)):
        waiter = t[at]
        other = number + (waiter >> FLIGHT_BITS)
        if other > latest:
            break
        if waiter & FLIGHT == flight:
            end_wait(m, t, tile, other, end, record)
    if m[tile + TILE_BARRIER] and flight == FLIGHT_DONE and m[tile + TILE_BARRIER] != number:
        end_wait(m, t, tile, m[tile + TILE_BARRIER], end, record)


@compiled
def free_port(m: Words, t: Items, tile: int, number: int, operation: int, end: int, record: int) -> None:
    """It is known when the unit of an operation is free for the next one."""
    m[operation + O_PORT] = end
    m[operation + O_PORT_RECORD] = record
    resolve(m, t, tile, number, m[operation + O_ITEM], FLIGHT_PORT, end, record)


@compiled
def free_cells(m: Words, t: Items, tile: int, number: int, operation: int, end: int) -> None:
    """It is known when the macro rows of an operation are free."""
    m[operation + O_CELLS] = end
    resolve(m, t, tile, number, m[operation + O_ITEM], FLIGHT_CELLS, end, m[operation + O_CAUSE])


@compiled
def finish(m: Words, t: Items, tile: int, number: int, operation: int, end: int, record: int) -> None:
    """The end of an operation is known."""
    note_end(m, end, record)
    m[operation + O_DONE] = end
    m[operation + O_RECORD] = record
    resolve(m, t, tile, number, m[operation + O_ITEM], FLIGHT_DONE, end, record)


@compiled
def let_go_on(m: Words, tile: int) -> None:
    """A tile can dispatch again, after those that can already."""
    m[tile + TILE_NEXT] = 0
    if m[H_FIRST]:
        m[m[H_LATEST] + TILE_NEXT] = tile
    else:
        m[H_FIRST] = tile
    m[H_LATEST] = tile
