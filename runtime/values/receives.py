"""Receives: messages that come later than a tile asks for them (runtime/engine/reference.py)."""

from __future__ import annotations

from . import layout as at
from .jit import compiled, copy_bytes, inlined
from .messages import end_of, take, taken
from .moves import mark_rows
from .operands import number, runs_length, runs_overlap, span_first, span_runs
from .state import State


@compiled
def pending(s: State, tile: int, which: int) -> int:
    """The place of a receive that waits."""
    return int(s.m[tile + at.V_PENDING] + at.P_SIZE * which)


@inlined
def run_receive(s: State, tile: int, code: int) -> int:
    """`recv`: address dst; numbers n, cols, pitch. It waits for its message."""
    inbox, count = end_of(s, tile, code, at.WAY_IN), s.m[tile + at.V_PENDING_COUNT]
    n, cols = number(s, tile, code, 0), number(s, tile, code, 1)
    rows, words, pitch = span_runs(s, tile, code, 0)
    if not inbox or rows < 0:
        return at.TROUBLE
    if count == s.m[tile + at.V_PENDING_ROOM]:
        s.m[at.H_FULL] = tile
        return at.MORE
    operand = code + at.U_ADDRESS
    address = s.m[tile + at.T_REGISTERS + s.k[operand + at.D_BASE]] + s.k[operand + at.D_OFFSET]
    first, length = span_first(s, tile, code, 0), runs_length(rows, words, pitch)
    if length and (address & 3 or first < 0 or first + length > s.m[tile + at.V_WORDS]):
        return at.TROUBLE
    row = pending(s, tile, count)
    s.p[row + at.P_INDEX] = s.k[code + at.C_INDEX]
    s.p[row + at.P_PORT] = s.k[code + at.U_PLACE] + s.m[tile + at.T_REGISTERS + s.k[code + at.U_PLACE_BASE]]
    s.p[row + at.P_INBOX], s.p[row + at.P_FIRST] = inbox, first
    s.p[row + at.P_ROWS], s.p[row + at.P_WORDS], s.p[row + at.P_PITCH] = rows, words, pitch
    s.p[row + at.P_N], s.p[row + at.P_COLS] = n, cols
    s.m[tile + at.V_PENDING_COUNT] = count + 1
    return at.DONE


@compiled
def is_next(s: State, tile: int, which: int) -> bool:
    """Whether the message of a receive has come: there is one, and no earlier receive waits for it."""
    inbox = s.p[pending(s, tile, which) + at.P_INBOX]
    if not s.m[inbox + at.I_NEXT]:
        return False
    is_first = True
    for other in range(which):
        is_first = is_first and s.p[pending(s, tile, other) + at.P_INBOX] != inbox
    return is_first


@compiled
def complete(s: State, tile: int, which: int) -> bool:
    """Put a message where its receive wants it, and forget that; False if it has another size."""
    row = pending(s, tile, which)
    inbox, rows, words = s.p[row + at.P_INBOX], s.p[row + at.P_ROWS], s.p[row + at.P_WORDS]
    if s.q[s.m[inbox + at.I_NEXT] + at.Q_SIZE] != rows * words:
        return False
    block, pitch = take(s, inbox), s.p[row + at.P_PITCH]
    place = s.m[tile + at.V_BUFFER] + s.p[row + at.P_FIRST]
    to, origin = s.i.ctypes.data + 4 * place, s.q.ctypes.data + 4 * (block + at.Q_WORDS)
    for line in range(rows):
        copy_bytes(to + 4 * line * pitch, origin + 4 * line * words, 4 * words)
    if words:
        mark_rows(s, place, rows, words, pitch)
    taken(s, inbox, block)
    last = s.m[tile + at.V_PENDING_COUNT] - 1
    for place in range(row, pending(s, tile, last)):
        s.p[place] = s.p[place + at.P_SIZE]
    s.m[tile + at.V_PENDING_COUNT] = last
    return True


@inlined
def settle(s: State, tile: int) -> bool:
    """Complete the receives whose messages have come; those of one port in order. False if one does not fit."""
    which = 0
    while which < s.m[tile + at.V_PENDING_COUNT]:
        if not is_next(s, tile, which):
            which += 1
        elif not complete(s, tile, which):
            return False
    return True


@inlined
def must_wait(s: State, tile: int, code: int) -> bool:
    """Whether an instruction touches words that a message is to fill."""
    for which in range(s.k[code + at.U_ADDRESS_COUNT]):
        rows, words, pitch = span_runs(s, tile, code, which)
        first = span_first(s, tile, code, which)
        for other in range(s.m[tile + at.V_PENDING_COUNT]):
            row = pending(s, tile, other)
            second, step = s.p[row + at.P_FIRST], s.p[row + at.P_PITCH]
            lines, others = s.p[row + at.P_ROWS], s.p[row + at.P_WORDS]
            if runs_overlap(first, rows, words, pitch, second, lines, others, step):
                return True
    return False
