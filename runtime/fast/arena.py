"""The state arena: room at its end, lists of free rows, and records."""

from __future__ import annotations

from .jit import Words, compiled
from .layout import (
    F_CELLS,
    F_DONE,
    F_OPERATION,
    F_PORT,
    F_RECORD,
    F_REFERENCES,
    F_ROW,
    H_END,
    H_FLIGHTS,
    H_FREE,
    H_LAST,
    H_OPS,
    H_WAITERS,
    LINE,
    O_NEXT,
    O_SIZE,
    PENDING,
    R_PREDECESSOR,
    R_SIZE,
    R_START,
    R_WHAT,
    W_NEXT,
    W_OPERATION,
    W_SIZE,
    WHAT_BOUND,
    WHAT_INDEX,
    WHAT_TILE,
)


@compiled
def take_room(m: Words, words: int) -> int:
    """Room for a row; that it is there has been looked after (`H_MARGIN`)."""
    place = m[H_FREE]
    m[H_FREE] = place + words
    return place


@compiled
def take_lines(m: Words, words: int) -> int:
    """Room for a row that begins with a cache line."""
    place = (m[H_FREE] + LINE - 1) // LINE * LINE
    m[H_FREE] = place + words
    return place


@compiled
def add_record(
    m: Words, start: int, predecessor: int, by_issue: int, tile: int, index: int, bound: int
) -> int:
    """See `isa.timing.critical.Records.add`."""
    record = take_room(m, R_SIZE)
    m[record + R_START] = start
    m[record + R_PREDECESSOR] = predecessor
    m[record + R_WHAT] = ((tile + 1) << WHAT_TILE) | (index << WHAT_INDEX) | (bound << WHAT_BOUND) | by_issue
    return record


@compiled
def resume_record(m: Words, record: int, start: int, predecessor: int) -> int:
    """See `isa.timing.critical.Records.resume`."""
    resumed = take_room(m, R_SIZE)
    m[resumed + R_START] = start
    m[resumed + R_PREDECESSOR] = predecessor
    m[resumed + R_WHAT] = m[record + R_WHAT] & ~1
    return resumed


@compiled
def note_end(m: Words, end: int, record: int) -> None:
    """Something ends; the step does not end before."""
    if end > m[H_END]:
        m[H_END] = end
        m[H_LAST] = record


@compiled
def new_operation(m: Words) -> int:
    """A row for an operation."""
    operation = m[H_OPS]
    if operation:
        m[H_OPS] = m[operation + O_NEXT]
        return operation
    return take_lines(m, O_SIZE)


@compiled
def free_operation(m: Words, operation: int) -> None:
    """Give the row of an operation back."""
    m[operation + O_NEXT] = m[H_OPS]
    m[H_OPS] = operation


@compiled
def new_flights(m: Words, operation: int) -> int:
    """The flights of an operation, of whose ends nothing is known."""
    flights = m[H_FLIGHTS]
    if flights:
        m[H_FLIGHTS] = m[flights]
    else:
        flights = take_lines(m, F_ROW)
    m[flights + F_DONE] = m[flights + F_CELLS + F_DONE] = m[flights + F_PORT + F_DONE] = PENDING
    m[flights + F_REFERENCES] = 1
    m[flights + F_OPERATION] = operation
    return flights


@compiled
def release(m: Words, flights: int) -> None:
    """One less knows of an operation's flights."""
    m[flights + F_REFERENCES] -= 1
    if m[flights + F_REFERENCES] == 0:
        if m[flights + F_OPERATION]:
            free_operation(m, m[flights + F_OPERATION])
        m[flights] = m[H_FLIGHTS]
        m[H_FLIGHTS] = flights


@compiled
def add_waiter(m: Words, flight: int, operation: int) -> None:
    """An operation waits for the flight, behind those that do already. The first needs no row."""
    if m[flight + F_DONE] == PENDING:
        m[flight + F_DONE] = ~operation
        m[flight + F_RECORD] = 0
        return
    waiter, latest = m[H_WAITERS], m[flight + F_RECORD]
    if waiter:
        m[H_WAITERS] = m[waiter + W_NEXT]
    else:
        waiter = take_room(m, W_SIZE)
    m[waiter + W_OPERATION] = operation
    if latest:
        m[waiter + W_NEXT] = m[latest + W_NEXT]
        m[latest + W_NEXT] = waiter
    else:
        m[waiter + W_NEXT] = waiter
    m[flight + F_RECORD] = waiter


@compiled
def free_waiters(m: Words, first: int, latest: int) -> None:
    """Give all waiters of a circle back."""
    m[latest + W_NEXT] = m[H_WAITERS]
    m[H_WAITERS] = first
