"""What is shared takes its turn (isa/timing/agenda.py): a heap in the state arena; each entry has four below it.

Entries that come to the same time and order are served as they were pushed.
"""

from __future__ import annotations

from .arena import set_stop, take_lines
from .jit import Words, compiled
from .layout import (
    A_KIND,
    A_ORDER,
    A_SIZE,
    A_TIE,
    A_TIME,
    A_WHAT,
    H_HEAP,
    H_HEAP_CAP,
    H_HEAP_LEN,
    H_PUSHED,
    NUMBER_BITS,
)

BELOW = 4


@compiled
def enlarge_agenda(m: Words) -> None:
    """Move the agenda to twice the room."""
    length, old = m[H_HEAP_LEN], m[H_HEAP]
    m[H_HEAP_CAP] = 2 * m[H_HEAP_CAP]
    new = take_lines(m, A_SIZE * m[H_HEAP_CAP])
    for word in range(A_SIZE * length):
        m[new + word] = m[old + word]
    m[H_HEAP] = new
    set_stop(m)


@compiled
def put_entry(m: Words, entry: int, time: int, order: int, tie: int, what: int) -> None:
    """Write an entry down."""
    m[entry + A_TIME] = time
    m[entry + A_ORDER] = order
    m[entry + A_TIE] = tie
    m[entry + A_WHAT] = what


@compiled
def is_before(m: Words, entry: int, time: int, order: int, tie: int) -> bool:
    """Whether an entry of the agenda is served before another one."""
    if m[entry + A_TIME] != time:
        return m[entry + A_TIME] < time
    if m[entry + A_ORDER] != order:
        return m[entry + A_ORDER] < order
    return m[entry + A_TIE] < tie


@compiled
def move_entry(m: Words, to: int, entry: int) -> None:
    """Move an entry of the agenda."""
    put_entry(m, to, m[entry + A_TIME], m[entry + A_ORDER], m[entry + A_TIE], m[entry + A_WHAT])


@compiled
def push(m: Words, time: int, tile: int, sequence: int, kind: int, what: int) -> None:
    """Something shared is asked for: it takes its turn in the order (time, tile, sequence)."""
    if m[H_HEAP_LEN] == m[H_HEAP_CAP]:
        enlarge_agenda(m)
    heap, at = m[H_HEAP], m[H_HEAP_LEN]
    m[H_HEAP_LEN] = at + 1
    m[H_PUSHED] += 1
    order, tie = ((tile + 1) << NUMBER_BITS) | sequence, m[H_PUSHED] << A_KIND | kind
    while at:
        above = (at - 1) // BELOW
        if is_before(m, heap + above * A_SIZE, time, order, tie):
            break
        move_entry(m, heap + at * A_SIZE, heap + above * A_SIZE)
        at = above
    put_entry(m, heap + at * A_SIZE, time, order, tie, what)


@compiled
def drop_first(m: Words) -> None:
    """Take the earliest entry off the agenda."""
    heap, length = m[H_HEAP], m[H_HEAP_LEN] - 1
    m[H_HEAP_LEN] = length
    last = heap + length * A_SIZE
    time, order, tie = m[last + A_TIME], m[last + A_ORDER], m[last + A_TIE]
    at = 0
    while BELOW * at + 1 < length:
        first = BELOW * at + 1
        least = heap + first * A_SIZE
        for other in range(least + A_SIZE, heap + A_SIZE * min(first + BELOW, length), A_SIZE):
            if is_before(m, other, m[least + A_TIME], m[least + A_ORDER], m[least + A_TIE]):
                least = other
        if not is_before(m, least, time, order, tie):
            break
        move_entry(m, heap + at * A_SIZE, least)
        at = (least - heap) // A_SIZE
    put_entry(m, heap + at * A_SIZE, time, order, tie, m[last + A_WHAT])
