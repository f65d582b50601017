"""Queues of which the oldest instruction that is ready starts (isa/timing/windows.py), and late starts.

What waits in a window lies in a ring with the cycle at which it could start, so that looking for the first to start
reads a few cache lines and no operations.
"""

from __future__ import annotations

from .agenda import push
from .flights import NUMBER, let_go_on, operation_at, tile_of
from .jit import Items, Words, compiled
from .layout import (
    CIM,
    D_PORT,
    H_NOW,
    H_WAITING,
    H_WINDOW,
    HELD_BY_CIM,
    HELD_BY_DMA,
    HELD_BY_PORT,
    HELD_BY_VECTOR,
    I_DURATIONS,
    I_HEAD,
    I_KIND,
    I_OPERAND,
    I_WINDOWED,
    LATE,
    MESSAGE,
    O_CAUSE,
    O_CELLS,
    O_ITEM,
    O_START,
    PENDING,
    PENDING_NUMBER,
    PENDING_START,
    PENDING_WORDS,
    Q_FREE,
    Q_HOLDER,
    Q_KNOWN,
    Q_PENDING,
    Q_STARTED,
    Q_TURN,
    RING_COUNT,
    RING_FIRST,
    RING_PLACE,
    RING_SLOTS,
    TILE_ALIVE,
    TILE_CIM,
    TILE_HELD,
    TILE_INDEX,
    TILE_RECORD,
    TILE_TIME,
    TILE_VECTOR,
    TURN,
    VECTOR,
)
from .rings import drop_row, new_row, row_at
from .units import begin


@compiled
def append_pending(m: Words, queue: int, operation: int, number: int) -> None:
    """An operation waits in a window."""
    row = new_row(m, queue + Q_PENDING, PENDING_WORDS)
    if m[operation + O_CELLS] == PENDING:
        m[row + PENDING_START] = m[operation + O_START]
        m[queue + Q_KNOWN] += 1
    else:
        m[row + PENDING_START] = LATE
    m[row + PENDING_NUMBER] = number


@compiled
def remove_pending(m: Words, queue: int, at: int) -> None:
    """What waits in a window at a place waits no longer; those before it move up."""
    ring = queue + Q_PENDING
    row = row_at(m, ring, at, PENDING_WORDS)
    while at > m[ring + RING_FIRST]:
        at -= 1
        before = row_at(m, ring, at, PENDING_WORDS)
        m[row + PENDING_START] = m[before + PENDING_START]
        m[row + PENDING_NUMBER] = m[before + PENDING_NUMBER]
        row = before
    drop_row(m, ring)


@compiled
def start_picked(m: Words, t: Items, k: Words, tile: int, queue: int, at: int) -> None:
    """Start an operation as soon as it is ready and the unit is free."""
    number = m[row_at(m, queue + Q_PENDING, at, PENDING_WORDS) + PENDING_NUMBER]
    operation = operation_at(m, tile, number)
    if m[queue + Q_FREE] > m[operation + O_START]:
        m[operation + O_START] = m[queue + Q_FREE]
        m[operation + O_CAUSE] = 2 * m[queue + Q_HOLDER]
    remove_pending(m, queue, at)
    m[queue + Q_KNOWN] -= 1
    m[queue + Q_FREE] = m[operation + O_START] + k[t[m[operation + O_ITEM] + I_DURATIONS] + D_PORT]
    begin(m, t, k, tile, number, operation)
    m[queue + Q_HOLDER] = m[operation + O_CAUSE]
    m[new_row(m, queue + Q_STARTED, 1)] = number
    if m[tile + TILE_HELD] == (HELD_BY_CIM if queue == tile + TILE_CIM else HELD_BY_VECTOR):
        m[tile + TILE_HELD] = 0
        let_go_on(m, tile)


@compiled
def ask_turn(m: Words, tile: int, queue: int, number: int, at: int) -> None:
    """Take a turn at a time, unless there is an earlier one."""
    if m[queue + Q_TURN] == PENDING or at < m[queue + Q_TURN]:
        m[queue + Q_TURN] = at
        push(m, at, m[tile + TILE_INDEX], number, TURN, queue)


@compiled
def best_in_window(m: Words, queue: int) -> tuple[int, int, bool]:
    """Which of those known in the window can start first, when (`LATE` if none is), and whether all are known."""
    free, best, at, is_all, ring = m[queue + Q_FREE], 0, LATE, True, queue + Q_PENDING
    first, rows, mask = m[ring + RING_FIRST], m[ring + RING_PLACE], m[ring + RING_SLOTS] - 1
    for number in range(first, first + min(m[ring + RING_COUNT], m[H_WINDOW])):
        start = m[rows + PENDING_WORDS * (number & mask) + PENDING_START]
        if start == LATE:
            is_all = False
        elif max(start, free) < at:
            best, at = number, max(start, free)
    return best, at, is_all


@compiled
def pick(m: Words, t: Items, k: Words, tile: int, queue: int) -> None:
    """Start all of which it is known that nothing else comes first, and ask for a turn for the rest."""
    ring = queue + Q_PENDING
    while m[queue + Q_KNOWN]:
        which = m[ring + RING_FIRST]
        if m[row_at(m, ring, which, PENDING_WORDS) + PENDING_START] > m[queue + Q_FREE]:
            which, at, is_all = best_in_window(m, queue)
            if at == LATE:
                return
            if at > m[H_NOW] and not (is_all and at <= m[tile + TILE_TIME]):
                number = m[row_at(m, ring, which, PENDING_WORDS) + PENDING_NUMBER]
                ask_turn(m, tile, queue, number, at)
                return
        start_picked(m, t, k, tile, queue, which)


@compiled
def take_turn(m: Words, t: Items, k: Words, tile: int, queue: int, at: int) -> None:
    """The turn that a queue asked for has come; one that is void does nothing."""
    if m[queue + Q_TURN] == at:
        m[queue + Q_TURN] = PENDING
        pick(m, t, k, tile, queue)


@compiled
def held_by(kind: int, port: int) -> int:
    """The name of the queue in order that operations of a kind have."""
    if kind >= MESSAGE:
        return HELD_BY_PORT + port
    if kind == CIM:
        return HELD_BY_CIM
    return HELD_BY_VECTOR if kind == VECTOR else HELD_BY_DMA


@compiled
def begin_late(m: Words, t: Items, k: Words, name: int) -> None:
    """Start an operation that had to wait for an end nobody knew; the sequencer may have waited for this."""
    m[H_WAITING] -= 1
    tile, number = tile_of(m, name), name & NUMBER
    operation = operation_at(m, tile, number)
    item = m[operation + O_ITEM]
    head = t[item + I_HEAD]
    if head & I_WINDOWED:
        pick(m, t, k, tile, tile + (TILE_VECTOR if head & I_KIND == VECTOR else TILE_CIM))
        return
    begin(m, t, k, tile, number, operation)
    if m[tile + TILE_HELD] and m[tile + TILE_HELD] == held_by(head & I_KIND, t[item + I_OPERAND]):
        m[tile + TILE_HELD] = 0
        let_go_on(m, tile)


@compiled
def has_room_in_window(m: Words, tile: int, queue: int, depth: int) -> bool:
    """Wait until a queue with a window has a place; False if it is not known yet when that will be."""
    ring = queue + Q_STARTED
    if m[ring + RING_COUNT] + m[queue + Q_PENDING + RING_COUNT] < depth:
        return True
    if m[ring + RING_COUNT] == 0:
        m[tile + TILE_HELD] = HELD_BY_CIM if queue == tile + TILE_CIM else HELD_BY_VECTOR
        return False
    number = m[row_at(m, ring, m[ring + RING_FIRST], 1)]
    drop_row(m, ring)
    wait_for_start(m, tile, number)
    return True


@compiled
def wait_for_start(m: Words, tile: int, number: int) -> None:
    """The sequencer goes on when an operation has started, which it has told."""
    if number < m[tile + TILE_ALIVE + RING_FIRST]:
        return
    operation = operation_at(m, tile, number)
    if m[operation + O_START] > m[tile + TILE_TIME]:
        m[tile + TILE_TIME] = m[operation + O_START]
        m[tile + TILE_RECORD] = m[operation + O_CAUSE]
