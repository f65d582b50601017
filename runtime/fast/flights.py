"""Flights and those that wait for them (isa/timing/operation.py), and what can go on (isa/timing/agenda.py)."""

from __future__ import annotations

from .arena import add_waiter, free_waiters, note_end, release, take_room
from .jit import Words, compiled
from .layout import (
    A_KIND,
    A_ORDER,
    A_PUSHED,
    A_SIZE,
    A_TIME,
    A_WHAT,
    F_DONE,
    F_RECORD,
    H_FIRST,
    H_HEAP,
    H_HEAP_CAP,
    H_HEAP_LEN,
    H_LATEST,
    H_PUSHED,
    H_READY,
    O_CAUSE,
    O_FLIGHTS,
    O_IS_READY,
    O_LATER,
    O_NEXT,
    O_START,
    O_UNKNOWN,
    O_WINDOW,
    PENDING,
    PENDING_OPERATION,
    PENDING_START,
    PENDING_WORDS,
    Q_PENDING,
    RING_FIRST,
    T_NEXT,
    W_NEXT,
    W_OPERATION,
)
from .rings import row_at


@compiled
def hold_up(m: Words, operation: int, done: int, record: int) -> None:
    """An operation does not start before something else is done."""
    if done > m[operation + O_START]:
        m[operation + O_START] = done
        m[operation + O_CAUSE] = 2 * record


@compiled
def wait_for(m: Words, operation: int, flight: int) -> None:
    """An operation starts after a flight."""
    if m[flight + F_DONE] < 0:
        add_waiter(m, flight, operation)
        m[operation + O_UNKNOWN] += 1
    else:
        hold_up(m, operation, m[flight + F_DONE], m[flight + F_RECORD])


@compiled
def note_start(m: Words, queue: int, operation: int) -> None:
    """It is known when an operation that waits in a window could start. In the ring it is where it was, or later."""
    ring = queue + Q_PENDING
    number = max(m[operation + O_LATER], m[ring + RING_FIRST])
    while m[row_at(m, ring, number, PENDING_WORDS) + PENDING_OPERATION] != operation:
        number += 1
    m[row_at(m, ring, number, PENDING_WORDS) + PENDING_START] = m[operation + O_START]


@compiled
def end_wait(m: Words, operation: int, end: int, record: int) -> None:
    """One end that an operation waits for is known; if that was the last one, it can start."""
    hold_up(m, operation, end, record)
    m[operation + O_UNKNOWN] -= 1
    if m[operation + O_UNKNOWN]:
        return
    if m[operation + O_WINDOW]:
        note_start(m, m[operation + O_WINDOW], operation)
    m[operation + O_IS_READY] = 1
    m[operation + O_NEXT] = m[H_READY]
    m[H_READY] = operation


@compiled
def resolve(m: Words, flight: int, end: int, record: int) -> None:
    """The end of a flight is known: those that waited for it alone can start."""
    pending, latest = m[flight + F_DONE], m[flight + F_RECORD]
    m[flight + F_DONE] = end
    m[flight + F_RECORD] = record
    if pending == PENDING:
        return
    end_wait(m, ~pending, end, record)
    if latest == 0:
        return
    waiter = first = m[latest + W_NEXT]
    while True:
        end_wait(m, m[waiter + W_OPERATION], end, record)
        if waiter == latest:
            break
        waiter = m[waiter + W_NEXT]
    free_waiters(m, first, latest)


@compiled
def finish(m: Words, operation: int, end: int, record: int) -> None:
    """The end of an operation is known."""
    note_end(m, end, record)
    flights = m[operation + O_FLIGHTS]
    resolve(m, flights, end, record)
    release(m, flights)


@compiled
def let_go_on(m: Words, tile: int) -> None:
    """A tile can dispatch again, after those that can already."""
    m[tile + T_NEXT] = 0
    if m[H_FIRST]:
        m[m[H_LATEST] + T_NEXT] = tile
    else:
        m[H_FIRST] = tile
    m[H_LATEST] = tile


# ------------------------------------------------------------------------------------------------- the agenda


@compiled
def is_before(m: Words, a: int, b: int) -> bool:
    """Whether entry `a` of the agenda is served before `b`."""
    if m[a + A_TIME] != m[b + A_TIME]:
        return m[a + A_TIME] < m[b + A_TIME]
    if m[a + A_ORDER] != m[b + A_ORDER]:
        return m[a + A_ORDER] < m[b + A_ORDER]
    return m[a + A_PUSHED] < m[b + A_PUSHED]


@compiled
def swap_entries(m: Words, a: int, b: int) -> None:
    """Exchange two entries of the agenda."""
    for word in range(A_SIZE):
        kept = m[a + word]
        m[a + word] = m[b + word]
        m[b + word] = kept


@compiled
def enlarge_agenda(m: Words) -> None:
    """Move the agenda to twice the room."""
    length, old = m[H_HEAP_LEN], m[H_HEAP]
    m[H_HEAP_CAP] = 2 * m[H_HEAP_CAP]
    new = take_room(m, A_SIZE * m[H_HEAP_CAP])
    for word in range(A_SIZE * length):
        m[new + word] = m[old + word]
    m[H_HEAP] = new


@compiled
def push(m: Words, time: int, tile: int, sequence: int, kind: int, what: int) -> None:
    """Something shared is asked for: it takes its turn in the order (time, tile, sequence)."""
    if m[H_HEAP_LEN] == m[H_HEAP_CAP]:
        enlarge_agenda(m)
    heap, at = m[H_HEAP], m[H_HEAP_LEN]
    m[H_HEAP_LEN] = at + 1
    m[H_PUSHED] += 1
    entry = heap + at * A_SIZE
    m[entry + A_TIME] = time
    m[entry + A_ORDER] = ((tile + 1) << 32) | sequence
    m[entry + A_PUSHED] = m[H_PUSHED]
    m[entry + A_KIND] = kind
    m[entry + A_WHAT] = what
    while at:
        above = (at - 1) >> 1
        if not is_before(m, heap + at * A_SIZE, heap + above * A_SIZE):
            return
        swap_entries(m, heap + at * A_SIZE, heap + above * A_SIZE)
        at = above


@compiled
def drop_first(m: Words) -> None:
    """Take the earliest entry off the agenda."""
    heap, length = m[H_HEAP], m[H_HEAP_LEN] - 1
    m[H_HEAP_LEN] = length
    for word in range(A_SIZE):
        m[heap + word] = m[heap + length * A_SIZE + word]
    at = 0
    while True:
        least = 2 * at + 1
        if least >= length:
            return
        if least + 1 < length and is_before(m, heap + (least + 1) * A_SIZE, heap + least * A_SIZE):
            least += 1
        if not is_before(m, heap + least * A_SIZE, heap + at * A_SIZE):
            return
        swap_entries(m, heap + least * A_SIZE, heap + at * A_SIZE)
        at = least
