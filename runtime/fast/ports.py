"""Ports of a tile in the order of their first use, and barriers (`Machine._barrier`)."""

from __future__ import annotations

from .board import COUNT
from .flights import hold_up, wait_for
from .jit import Words, compiled
from .layout import (
    BOARD_SIZE,
    F_DONE,
    H_WINDOW,
    LIST_COUNTS,
    LIST_PLACE,
    LIST_SIZE,
    M_IS_BARRIER,
    M_SOURCES,
    MESSAGE,
    N_FLIGHT,
    N_SIZE,
    N_WHEN,
    O_FLIGHTS,
    O_LATER,
    O_LATER_POSTED,
    O_START,
    PENDING_OPERATION,
    PENDING_WORDS,
    Q_END,
    Q_FIRST,
    Q_MEETING,
    Q_NEXT,
    Q_PENDING,
    Q_POSTED,
    Q_STARTED,
    Q_USED,
    RING_COUNT,
    RING_FIRST,
    STARTED_DONE,
    STARTED_RECORD,
    STARTED_WORDS,
    T_ALIVE,
    T_BUFFER,
    T_CELLS,
    T_CIM,
    T_DMA,
    T_RECVS,
    T_RECVS_LATEST,
    T_SENDS,
    T_SENDS_LATEST,
    T_VECTOR,
    WHEN_SEQUENCE,
)
from .rings import row_at


@compiled
def matches(m: Words, queue: int, is_receive: int) -> bool:
    """Whether a port has a channel, and its end is one for sending, or for receiving."""
    if queue == 0 or m[queue + Q_MEETING] == 0:
        return False
    meeting = m[queue + Q_MEETING]
    is_dest = m[queue + Q_END] >= m[meeting + M_SOURCES]
    return not m[meeting + M_IS_BARRIER] and is_dest == (is_receive != 0)


@compiled
def first_use(m: Words, tile: int, queue: int, kind: int, is_receive: int) -> None:
    """Remember in which order ports are used."""
    if kind != MESSAGE or m[queue + Q_USED]:
        return
    m[queue + Q_USED] = 1
    first, latest = (T_RECVS, T_RECVS_LATEST) if is_receive else (T_SENDS, T_SENDS_LATEST)
    if m[tile + first]:
        m[m[tile + latest] + Q_NEXT] = queue
    else:
        m[tile + first] = queue
    m[tile + latest] = queue


@compiled
def wait_for_queue(m: Words, operation: int, queue: int) -> None:
    """Wait for all of a queue in order that is not known to be over."""
    for first, later in ((Q_FIRST, O_LATER), (Q_POSTED, O_LATER_POSTED)):
        other = m[queue + first]
        while other:
            wait_for(m, operation, m[other + O_FLIGHTS])
            other = m[other + later]


@compiled
def wait_for_window(m: Words, operation: int, queue: int) -> None:
    """Wait for all of a queue with a window that is not known to be over."""
    started, pending = queue + Q_STARTED, queue + Q_PENDING
    for number in range(m[started + RING_FIRST], m[started + RING_FIRST] + m[started + RING_COUNT]):
        row = row_at(m, started, number, STARTED_WORDS)
        hold_up(m, operation, m[row + STARTED_DONE], m[row + STARTED_RECORD])
    for number in range(m[pending + RING_FIRST], m[pending + RING_FIRST] + m[pending + RING_COUNT]):
        other = m[row_at(m, pending, number, PENDING_WORDS) + PENDING_OPERATION]
        wait_for(m, operation, m[other + O_FLIGHTS])


@compiled
def wait_for_board(m: Words, operation: int, board: int, over: int) -> bool:
    """Wait for all that is on a board; False if what is known there ends after all that is in queues: then which of
    several counts depends on the order of the reference's blocks."""
    is_plain = True
    for entries in range(board, board + BOARD_SIZE, LIST_SIZE):
        first = m[entries + LIST_PLACE]
        for entry in range(first, first + N_SIZE * (m[entries + LIST_COUNTS] & COUNT), N_SIZE):
            if m[entry + N_WHEN] >> WHEN_SEQUENCE <= over:
                continue
            flight = m[entry + N_FLIGHT]
            if m[flight + F_DONE] < 0:
                wait_for(m, operation, flight)
            elif m[flight + F_DONE] > m[operation + O_START]:
                is_plain = False
    return is_plain


@compiled
def wait_for_all(m: Words, tile: int, operation: int) -> bool:
    """Wait for everything that the tile has dispatched (`TileState.outstanding`); False as `wait_for_board`."""
    for queue in (tile + T_CIM, tile + T_VECTOR):
        if m[H_WINDOW] > 1:
            wait_for_window(m, operation, queue)
        else:
            wait_for_queue(m, operation, queue)
    wait_for_queue(m, operation, tile + T_DMA)
    for first in (T_SENDS, T_RECVS):
        queue = m[tile + first]
        while queue:
            wait_for_queue(m, operation, queue)
            queue = m[queue + Q_NEXT]
    over = m[tile + T_ALIVE + RING_FIRST]
    is_plain = wait_for_board(m, operation, m[tile + T_BUFFER], over)
    return is_plain and wait_for_board(m, operation, m[tile + T_CELLS], over)
