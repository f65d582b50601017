"""Queues of which the oldest instruction that is ready starts (isa/timing/windows.py), and late starts.

What waits in a window lies in a ring with the cycle at which it could start, so that looking for the first to start
reads a few cache lines and no operations.
"""

from __future__ import annotations

from .arena import free_operation
from .flights import let_go_on, push
from .jit import Words, compiled
from .layout import (
    F_DONE,
    F_OPERATION,
    H_DEPTH,
    H_NOW,
    H_WAITING,
    H_WINDOW,
    K_PORT,
    LATE,
    NO_RECORD,
    O_CAUSE,
    O_COST,
    O_FLIGHTS,
    O_IS_READY,
    O_LATER,
    O_QUEUE,
    O_SEQUENCE,
    O_START,
    O_STARTED,
    O_TILE,
    O_UNKNOWN,
    O_WINDOW,
    PENDING,
    PENDING_OPERATION,
    PENDING_START,
    PENDING_WORDS,
    Q_FREE,
    Q_HOLDER,
    Q_PENDING,
    Q_STARTED,
    Q_TILE,
    Q_TURN,
    RING_COUNT,
    RING_FIRST,
    RING_PLACE,
    RING_SLOTS,
    STARTED_DONE,
    STARTED_RECORD,
    STARTED_START,
    STARTED_WORDS,
    T_HELD,
    T_INDEX,
    T_RECORD,
    T_TIME,
    TURN,
)
from .rings import drop_row, new_row, oldest_row, row_at
from .units import begin


@compiled
def append_pending(m: Words, queue: int, operation: int) -> None:
    """An operation waits in a window."""
    ring = queue + Q_PENDING
    m[operation + O_WINDOW] = queue
    m[operation + O_LATER] = m[ring + RING_FIRST] + m[ring + RING_COUNT]
    row = new_row(m, ring, PENDING_WORDS)
    m[row + PENDING_START] = LATE if m[operation + O_UNKNOWN] else m[operation + O_START]
    m[row + PENDING_OPERATION] = operation


@compiled
def remove_pending(m: Words, queue: int, number: int) -> None:
    """What waits in a window with this number waits no longer; those before it move up."""
    ring = queue + Q_PENDING
    row = row_at(m, ring, number, PENDING_WORDS)
    while number > m[ring + RING_FIRST]:
        number -= 1
        before = row_at(m, ring, number, PENDING_WORDS)
        m[row + PENDING_START] = m[before + PENDING_START]
        m[row + PENDING_OPERATION] = m[before + PENDING_OPERATION]
        row = before
    drop_row(m, ring)


@compiled
def give_back(m: Words, operation: int) -> None:
    """Nobody needs to know more of an operation that has started from a window than its flights."""
    m[m[operation + O_FLIGHTS] + F_OPERATION] = 0
    free_operation(m, operation)


@compiled
def start_picked(m: Words, k: Words, queue: int, number: int) -> None:
    """Start an operation as soon as it is ready and the unit is free."""
    operation = m[row_at(m, queue + Q_PENDING, number, PENDING_WORDS) + PENDING_OPERATION]
    if m[queue + Q_FREE] > m[operation + O_START]:
        m[operation + O_START] = m[queue + Q_FREE]
        m[operation + O_CAUSE] = 2 * m[queue + Q_HOLDER]
    remove_pending(m, queue, number)
    start = m[operation + O_START]
    m[queue + Q_FREE] = start + k[m[operation + O_COST] + K_PORT]
    begin(m, k, operation)
    m[queue + Q_HOLDER] = m[operation + O_STARTED]
    row = new_row(m, queue + Q_STARTED, STARTED_WORDS)
    m[row + STARTED_START] = start
    m[row + STARTED_DONE] = m[m[operation + O_FLIGHTS] + F_DONE]
    m[row + STARTED_RECORD] = m[operation + O_STARTED]
    if not m[operation + O_IS_READY]:
        give_back(m, operation)
    tile = m[queue + Q_TILE]
    if m[tile + T_HELD] == queue:
        m[tile + T_HELD] = 0
        let_go_on(m, tile)


@compiled
def ask_turn(m: Words, queue: int, operation: int, at: int) -> None:
    """Take a turn at a time, unless there is an earlier one."""
    if m[queue + Q_TURN] == PENDING or at < m[queue + Q_TURN]:
        m[queue + Q_TURN] = at
        push(m, at, m[m[queue + Q_TILE] + T_INDEX], m[operation + O_SEQUENCE], TURN, queue)


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
def pick(m: Words, k: Words, queue: int) -> None:
    """Start all of which it is known that nothing else comes first, and ask for a turn for the rest."""
    ring = queue + Q_PENDING
    while m[ring + RING_COUNT]:
        number = m[ring + RING_FIRST]
        if m[row_at(m, ring, number, PENDING_WORDS) + PENDING_START] > m[queue + Q_FREE]:
            number, at, is_all = best_in_window(m, queue)
            if at == LATE:
                return
            if at > m[H_NOW] and not (is_all and at <= m[m[queue + Q_TILE] + T_TIME]):
                ask_turn(m, queue, m[row_at(m, ring, number, PENDING_WORDS) + PENDING_OPERATION], at)
                return
        start_picked(m, k, queue, number)


@compiled
def take_turn(m: Words, k: Words, queue: int, at: int) -> None:
    """The turn that a queue asked for has come; one that is void does nothing."""
    if m[queue + Q_TURN] == at:
        m[queue + Q_TURN] = PENDING
        pick(m, k, queue)


@compiled
def begin_late(m: Words, k: Words, operation: int) -> None:
    """Start an operation that had to wait for an end nobody knew; the sequencer may have waited for this."""
    m[H_WAITING] -= 1
    queue = m[operation + O_WINDOW]
    if queue:
        m[operation + O_IS_READY] = 0
        if m[operation + O_STARTED] != NO_RECORD:  # with the one before it
            give_back(m, operation)
        pick(m, k, queue)
        return
    begin(m, k, operation)
    queue, tile = m[operation + O_QUEUE], m[operation + O_TILE]
    if queue and m[tile + T_HELD] == queue:
        m[tile + T_HELD] = 0
        let_go_on(m, tile)


@compiled
def has_room_in_window(m: Words, tile: int, queue: int) -> bool:
    """Wait until a queue with a window has a place; False if it is not known yet when that will be. What is over is
    let go of: nothing that is dispatched from now on can wait for it."""
    ring, time = queue + Q_STARTED, m[tile + T_TIME]
    while m[ring + RING_COUNT] and m[oldest_row(m, ring, STARTED_WORDS) + STARTED_DONE] <= time:
        drop_row(m, ring)
    if m[ring + RING_COUNT] + m[queue + Q_PENDING + RING_COUNT] < m[H_DEPTH]:
        return True
    if m[ring + RING_COUNT] == 0:
        m[tile + T_HELD] = queue
        return False
    oldest = oldest_row(m, ring, STARTED_WORDS)
    drop_row(m, ring)
    if m[oldest + STARTED_START] > time:
        m[tile + T_TIME] = m[oldest + STARTED_START]
        m[tile + T_RECORD] = m[oldest + STARTED_RECORD]
    return True
