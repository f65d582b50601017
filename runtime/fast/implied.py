"""What need not be waited for, because something else that is waited for ends later.

If an operation waits for the end of B, and B waits for a flight of A, then that flight ends when B starts or before. If
B takes any time, its end is later, and it is B's that decides: leaving A out changes neither times nor reasons.
"""

from __future__ import annotations

from .jit import Items, Words, compiled
from .layout import (
    B_DEPENDENCE_COUNT,
    B_DEPENDENCES,
    B_PLACES,
    BARRIER,
    D_BUSY,
    D_DONE,
    FLIGHT_DONE,
    FLIGHTS,
    H_REACH,
    I_BYTES,
    I_COUNTS,
    I_DURATIONS,
    I_HEAD,
    I_KIND,
    I_MOST,
    I_SIZE,
    MEMORY,
    MESSAGE,
)


@compiled
def row_of(b: Words, tracer: int, number: int) -> int:
    """Where the row of one of the latest operations is."""
    return b[b[tracer + B_PLACES] + number % b[H_REACH]]


@compiled
def takes_time(t: Items, k: Words, item: int) -> bool:
    """Whether an operation always ends later than it starts."""
    kind = t[item + I_HEAD] & I_KIND
    if kind == MESSAGE:
        return t[item + I_BYTES] > 0
    if kind == BARRIER:
        return False
    return k[t[item + I_DURATIONS] + (D_BUSY if kind == MEMORY else D_DONE)] > 0


@compiled
def waits_for(t: Items, item: int, number: int, flight: int) -> bool:
    """Whether an operation waits for a flight."""
    wanted, found = FLIGHTS * (number - flight // FLIGHTS) + flight % FLIGHTS, False
    for at in range(item + I_SIZE, item + I_SIZE + (t[item + I_COUNTS] & I_MOST)):
        found |= t[at] == wanted
    return found


@compiled
def ends_before(b: Words, t: Items, tracer: int, number: int, flight: int) -> bool:
    """Whether a flight has ended when an operation starts, because that waits for it, or for one that does."""
    item, first = row_of(b, tracer, number), flight // FLIGHTS
    if waits_for(t, item, number, flight):
        return True
    for at in range(item + I_SIZE, item + I_SIZE + (t[item + I_COUNTS] & I_MOST)):
        other = number - t[at] // FLIGHTS
        is_between = t[at] % FLIGHTS == FLIGHT_DONE and first < other and number - other < b[H_REACH]
        if is_between and waits_for(t, row_of(b, tracer, other), other, flight):
            return True
    return False


@compiled
def is_implied(b: Words, t: Items, k: Words, tracer: int, flight: int) -> bool:
    """Whether the operation at hand waits for something that ends later than a flight."""
    first = b[tracer + B_DEPENDENCES]
    for at in range(first, first + b[tracer + B_DEPENDENCE_COUNT]):
        other = b[at] // FLIGHTS
        is_later = b[at] % FLIGHTS == FLIGHT_DONE and other > flight // FLIGHTS
        if (
            is_later
            and takes_time(t, k, row_of(b, tracer, other))
            and ends_before(b, t, tracer, other, flight)
        ):
            return True
    return False
