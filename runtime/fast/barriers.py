"""Barriers of a tile (`Machine._barrier`): it waits for all that it has dispatched, then for the others."""

from __future__ import annotations

from .arena import resume_record
from .dispatch import DISPATCHED, HELD, WRONG, go_to_next
from .flights import operation_at, wait_for
from .jit import Items, Words, compiled
from .layout import (
    CIM,
    COPY,
    FLIGHT_DONE,
    H_DEPTH,
    H_WAITING,
    I_HEAD,
    I_KIND,
    I_OPERAND,
    I_WINDOWED,
    MESSAGE,
    O_CELLS,
    O_DONE,
    O_ITEM,
    O_RECORD,
    O_START,
    PENDING,
    PORT_BARRIER,
    PORT_KIND,
    PORT_SIZE,
    Q_STARTED,
    RING_COUNT,
    RING_FIRST,
    TILE_ALIVE,
    TILE_BARRIER,
    TILE_CIM,
    TILE_PORT_COUNT,
    TILE_PORTS,
    TILE_RECORD,
    TILE_SEQUENCE,
    TILE_TIME,
    TILE_VECTOR,
    VECTOR,
)
from .operations import make_operation
from .rings import row_at
from .units import begin
from .windows import held_by


@compiled
def wait_for_started(m: Words, tile: int, queue: int, operation: int) -> None:
    """Wait for the latest that have started in a window, in the order of their starts."""
    ring = queue + Q_STARTED
    for at in range(m[ring + RING_FIRST], m[ring + RING_FIRST] + m[ring + RING_COUNT]):
        number = m[row_at(m, ring, at, 1)]
        if number >= m[tile + TILE_ALIVE + RING_FIRST]:
            wait_for(m, operation, operation_at(m, tile, number), FLIGHT_DONE)


@compiled
def is_of_queue(m: Words, t: Items, tile: int, number: int, queue: int) -> bool:
    """Whether an operation has gone through a queue in order."""
    item = m[operation_at(m, tile, number) + O_ITEM]
    head = t[item + I_HEAD]
    return not head & I_WINDOWED and held_by(head & I_KIND, t[item + I_OPERAND]) == queue


@compiled
def wait_for_queue(m: Words, t: Items, tile: int, operation: int, queue: int, before: int) -> None:
    """Wait for the latest of a queue in order, as many as it has room for; those before `before`."""
    first, number, left = m[tile + TILE_ALIVE + RING_FIRST], before, m[H_DEPTH]
    while number > first and left:
        number -= 1
        left -= is_of_queue(m, t, tile, number, queue)
    for other in range(number, before):
        if is_of_queue(m, t, tile, other, queue):
            wait_for(m, operation, operation_at(m, tile, other), FLIGHT_DONE)


@compiled
def wait_for_all(m: Words, t: Items, tile: int, operation: int, before: int) -> bool:
    """Wait for everything that the tile has dispatched (`TileState.outstanding`). False if it is the boards alone that
    know of what ends last: then which of several counts depends on the order of the reference's blocks."""
    wait_for_started(m, tile, tile + TILE_CIM, operation)
    wait_for_queue(m, t, tile, operation, held_by(CIM, 0), before)
    wait_for_started(m, tile, tile + TILE_VECTOR, operation)
    wait_for_queue(m, t, tile, operation, held_by(VECTOR, 0), before)
    wait_for_queue(m, t, tile, operation, held_by(COPY, 0), before)
    for port in range(m[tile + TILE_PORT_COUNT]):
        wait_for_queue(m, t, tile, operation, held_by(MESSAGE, port), before)
    unknown = 0
    for number in range(m[tile + TILE_ALIVE + RING_FIRST], before):
        other = operation_at(m, tile, number)
        unknown += m[other + O_DONE] < 0
        if m[other + O_DONE] > m[operation + O_START]:
            return False
    m[operation + O_CELLS] = PENDING - unknown
    return True


@compiled
def come_to_barrier(m: Words, t: Items, k: Words, tile: int, item: int) -> int:
    """Wait until all earlier operations of the tile are done, then for the others."""
    number = t[item + I_OPERAND]
    if number >= m[tile + TILE_PORT_COUNT]:
        return WRONG
    if m[m[tile + TILE_PORTS] + PORT_SIZE * number + PORT_KIND] != PORT_BARRIER:
        return WRONG
    operation = make_operation(m, tile, item)
    number = m[tile + TILE_SEQUENCE]
    m[tile + TILE_BARRIER] = number
    if not wait_for_all(m, t, tile, operation, number):
        return WRONG
    if m[operation + O_CELLS] != PENDING:
        m[H_WAITING] += 1
    else:
        begin(m, t, k, tile, number, operation)
    return HELD


@compiled
def leave_barrier(m: Words, t: Items, tile: int, item: int) -> None:
    """The barrier is over: go on."""
    operation = operation_at(m, tile, m[tile + TILE_BARRIER])
    done, record = m[operation + O_DONE], m[operation + O_RECORD]
    m[tile + TILE_RECORD] = resume_record(m, record, done, record)
    m[tile + TILE_BARRIER] = 0
    m[tile + TILE_TIME] = done
    go_to_next(m, t, tile, item)


@compiled
def pass_barrier(m: Words, t: Items, k: Words, tile: int, item: int) -> int:
    """Come to a barrier, or go on behind it."""
    if m[tile + TILE_BARRIER]:
        leave_barrier(m, t, tile, item)
        return DISPATCHED
    return come_to_barrier(m, t, k, tile, item)
