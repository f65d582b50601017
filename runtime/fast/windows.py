"""Queues of which the oldest instruction that is ready starts (isa/timing/windows.py), and late starts."""

from __future__ import annotations

from .flights import let_go_on, push
from .jit import Words, compiled
from .layout import (
    C_IS_WINDOWED,
    H_NOW,
    H_WAITING,
    H_WINDOW,
    K_PORT,
    O_CAUSE,
    O_CODE,
    O_COST,
    O_LATER,
    O_QUEUE,
    O_REFERENCES,
    O_SEQUENCE,
    O_START,
    O_STARTED,
    O_TILE,
    O_UNKNOWN,
    PENDING,
    Q_ENTRIES,
    Q_FIRST,
    Q_FREE,
    Q_HOLDER,
    Q_LATEST,
    Q_PENDING,
    Q_PENDING_COUNT,
    Q_PENDING_LATEST,
    Q_TILE,
    Q_TURN,
    T_HELD,
    T_INDEX,
    T_TIME,
    TURN,
)
from .units import begin


@compiled
def append(m: Words, first: int, latest: int, count: int, link: int, operation: int) -> None:
    """An operation is the latest of a chain, whose ends and length are kept at these places."""
    m[operation + link] = 0
    if m[count]:
        m[m[latest] + link] = operation
    else:
        m[first] = operation
    m[latest] = operation
    m[count] += 1


@compiled
def append_entry(m: Words, queue: int, operation: int) -> None:
    """An operation is the latest of its queue."""
    m[operation + O_REFERENCES] += 1
    append(m, queue + Q_FIRST, queue + Q_LATEST, queue + Q_ENTRIES, O_LATER, operation)


@compiled
def append_pending(m: Words, queue: int, operation: int) -> None:
    """An operation waits in a window."""
    append(m, queue + Q_PENDING, queue + Q_PENDING_LATEST, queue + Q_PENDING_COUNT, O_LATER, operation)


@compiled
def remove_pending(m: Words, queue: int, operation: int) -> None:
    """An operation no longer waits in a window."""
    m[queue + Q_PENDING_COUNT] -= 1
    if m[queue + Q_PENDING] == operation:
        m[queue + Q_PENDING] = m[operation + O_LATER]
        return
    before = m[queue + Q_PENDING]
    while m[before + O_LATER] != operation:
        before = m[before + O_LATER]
    m[before + O_LATER] = m[operation + O_LATER]
    if m[queue + Q_PENDING_LATEST] == operation:
        m[queue + Q_PENDING_LATEST] = before


@compiled
def start_picked(m: Words, k: Words, queue: int, operation: int) -> None:
    """Start an operation as soon as it is ready and the unit is free."""
    if m[queue + Q_FREE] > m[operation + O_START]:
        m[operation + O_START] = m[queue + Q_FREE]
        m[operation + O_CAUSE] = 2 * m[queue + Q_HOLDER]
    remove_pending(m, queue, operation)
    append_entry(m, queue, operation)
    m[queue + Q_FREE] = m[operation + O_START] + k[m[operation + O_COST] + K_PORT]
    begin(m, k, operation)
    m[queue + Q_HOLDER] = m[operation + O_STARTED]
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
    """Which of those known in the window can start first, when, and whether all are known; 0 if none is."""
    free, best, at, known, seen = m[queue + Q_FREE], 0, 0, 0, 0
    operation = m[queue + Q_PENDING]
    while operation and seen < m[H_WINDOW]:
        seen += 1
        if m[operation + O_UNKNOWN] == 0:
            known += 1
            could = max(m[operation + O_START], free)
            if best == 0 or could < at:
                best, at = operation, could
        operation = m[operation + O_LATER]
    return best, at, known == seen


@compiled
def pick(m: Words, k: Words, queue: int) -> None:
    """Start all of which it is known that nothing else comes first, and ask for a turn for the rest."""
    while m[queue + Q_PENDING]:
        first = m[queue + Q_PENDING]
        if m[first + O_UNKNOWN] or m[first + O_START] > m[queue + Q_FREE]:
            first, at, is_all = best_in_window(m, queue)
            if first == 0:
                return
            if at > m[H_NOW] and not (is_all and at <= m[m[queue + Q_TILE] + T_TIME]):
                ask_turn(m, queue, first, at)
                return
        start_picked(m, k, queue, first)


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
    queue, tile = m[operation + O_QUEUE], m[operation + O_TILE]
    if queue and k[m[operation + O_CODE] + C_IS_WINDOWED]:
        pick(m, k, queue)
        return
    begin(m, k, operation)
    if queue and m[tile + T_HELD] == queue:
        m[tile + T_HELD] = 0
        let_go_on(m, tile)
