"""The sequencer (isa/timing/machine.py): operations are dispatched in order and take their places."""

from __future__ import annotations

from .flights import operation_at, wait_for
from .jit import Items, Words, compiled
from .layout import (
    FLIGHT,
    FLIGHT_BITS,
    H_DEPTH,
    H_REACH,
    H_WAITING,
    I_COUNTS,
    I_GAP,
    I_HEAD,
    I_KIND,
    I_MOST,
    I_OPERAND,
    I_RECEIVES,
    I_ROOM,
    I_SIZE,
    I_WAITERS,
    I_WINDOWED,
    MESSAGE,
    O_CELLS,
    PENDING,
    PORT_KIND,
    PORT_RECEIVES,
    PORT_SENDS,
    PORT_SIZE,
    RING_COUNT,
    RING_FIRST,
    TILE_ALIVE,
    TILE_CIM,
    TILE_HELD,
    TILE_ITEM,
    TILE_PORT_COUNT,
    TILE_PORTS,
    TILE_SEQUENCE,
    TILE_TIME,
    TILE_VECTOR,
    VECTOR,
)
from .operations import make_operation
from .units import begin
from .windows import append_pending, has_room_in_window, held_by, pick, wait_for_start

DISPATCHED, HELD, WRONG, TOO_FAR = range(4)


@compiled
def has_room(m: Words, t: Items, tile: int, item: int, number: int) -> bool:
    """Wait until a queue in order has a place; False if it is not known yet when that will be."""
    oldest = number - t[item + I_ROOM]
    if oldest == number or oldest < m[tile + TILE_ALIVE + RING_FIRST]:
        return True
    if m[operation_at(m, tile, oldest) + O_CELLS] < 0:
        m[tile + TILE_HELD] = held_by(t[item + I_HEAD] & I_KIND, t[item + I_OPERAND])
        return False
    wait_for_start(m, tile, oldest)
    return True


@compiled
def matches(m: Words, t: Items, tile: int, item: int) -> bool:
    """Whether a port has a channel, and its end is one for sending, or for receiving."""
    number = t[item + I_OPERAND]
    if number >= m[tile + TILE_PORT_COUNT]:
        return False
    wanted = PORT_RECEIVES if t[item + I_HEAD] & I_RECEIVES else PORT_SENDS
    return m[m[tile + TILE_PORTS] + PORT_SIZE * number + PORT_KIND] == wanted


@compiled
def wait_for_flights(m: Words, t: Items, tile: int, operation: int, item: int, number: int) -> None:
    """Wait for what is in the way."""
    first = m[tile + TILE_ALIVE + RING_FIRST]
    for at in range(item + I_SIZE, item + I_SIZE + (t[item + I_COUNTS] & I_MOST)):
        other = number - (t[at] >> FLIGHT_BITS)
        if other >= first:
            wait_for(m, operation, operation_at(m, tile, other), t[at] & FLIGHT)


@compiled
def go_to_next(m: Words, t: Items, tile: int, item: int) -> None:
    """Take the cycles that the sequencer needs before the next operation."""
    counts = t[item + I_COUNTS]
    following = item + I_SIZE + (counts & I_MOST) + (counts >> I_WAITERS)
    m[tile + TILE_ITEM] = following
    m[tile + TILE_TIME] += t[following + I_HEAD] >> I_GAP


@compiled
def dispatch(m: Words, t: Items, k: Words, tile: int, item: int) -> int:
    """Hand an operation to its unit, if that has room."""
    head, number = t[item + I_HEAD], m[tile + TILE_SEQUENCE] + 1
    kind = head & I_KIND
    if kind == MESSAGE and not matches(m, t, tile, item):
        return WRONG
    queue = tile + (TILE_VECTOR if kind == VECTOR else TILE_CIM)
    if head & I_WINDOWED:
        if not has_room_in_window(m, tile, queue, m[H_DEPTH]):
            return HELD
    elif not has_room(m, t, tile, item, number):
        return HELD
    operation = make_operation(m, tile, item)
    if m[tile + TILE_ALIVE + RING_COUNT] > m[H_REACH]:
        return TOO_FAR
    wait_for_flights(m, t, tile, operation, item, number)
    m[tile + TILE_TIME] += 1
    is_known = m[operation + O_CELLS] == PENDING
    if head & I_WINDOWED:
        append_pending(m, queue, operation, number)
        if is_known:
            pick(m, t, k, tile, queue)
    elif is_known:
        begin(m, t, k, tile, number, operation)
    if not is_known:
        m[H_WAITING] += 1
    go_to_next(m, t, tile, item)
    return DISPATCHED
