"""The compiled loop of the engine of values: tiles run by turns, each until it waits.

Of those that can go on the first runs, in the order of the program: what comes early in a model goes through all
segments of a step before what comes later begins, and a tile's weights stay in the cache meanwhile.
"""

from __future__ import annotations

from runtime.fast.scalars import HALTED, TRAPPED, next_pass, run_scalar

from . import layout as at
from .dispatch import RECV, SEND, execute
from .jit import copy_bytes, entry, inlined
from .messages import fits, new_block, put, take, taken, wake
from .operands import step_addresses
from .receives import must_wait, settle
from .state import I32, State

FINISHED, WAITS = -1, -2  # what a tile says beside what instructions do


@inlined
def may_go_on(s: State, tile: int, is_news: bool) -> int:
    """Whether a tile's next instruction may be looked at: `DONE`, or `WAITS`, `FINISHED`, `TROUBLE`.

    `is_news`: messages may have come, or there is another receive, since this was asked last.
    """
    if s.m[tile + at.V_PENDING_COUNT]:
        if is_news and not settle(s, tile):
            return at.TROUBLE
        if s.m[tile + at.V_HALTED] and s.m[tile + at.V_PENDING_COUNT]:
            return WAITS
    barrier = s.m[tile + at.V_BARRIER]
    if barrier:
        if s.m[barrier + at.B_OPENED] < s.m[tile + at.V_AWAITED]:
            return WAITS
        s.m[tile + at.V_BARRIER] = 0
    return FINISHED if s.m[tile + at.V_HALTED] else at.DONE


@inlined
def run_unit(s: State, tile: int, code: int) -> int:
    """Run an instruction of a unit."""
    if s.m[tile + at.V_PENDING_COUNT] and must_wait(s, tile, code):
        return WAITS
    status = execute(s, tile, code)
    if status == at.DONE:
        if s.k[code + at.U_IS_STEPPED]:
            step_addresses(s, tile, code)
        s.m[tile + at.T_PC] = next_pass(s.m, tile, s.m[tile + at.T_PC] + 1)
    return status


@inlined
def run_sequencer(s: State, tile: int, code: int) -> int:
    """Run a scalar instruction."""
    following = run_scalar(s.m, s.k, tile, code)
    if following == TRAPPED:
        return at.TROUBLE
    if following == HALTED:
        s.m[tile + at.V_HALTED] = 1
        following = s.m[tile + at.T_PC] + 1
    s.m[tile + at.T_PC] = next_pass(s.m, tile, following)
    return at.DONE


@inlined
def run_tile(s: State, tile: int) -> int:
    """Run a tile until it waits or has finished, or something is needed."""
    is_news = True
    while True:
        status = may_go_on(s, tile, is_news)
        if status != at.DONE:
            return status
        s.m[tile + at.V_INDEX] = s.m[tile + at.T_PC]
        code = s.m[tile + at.T_CODE] + at.U_SIZE * s.m[tile + at.T_PC]
        kind = s.k[code + at.C_KIND]
        is_news = kind in (SEND, RECV)  # a tile may send to itself
        if kind >= at.FIRST_UNIT:
            status = run_unit(s, tile, code)
        else:
            status = run_sequencer(s, tile, code) if kind != at.END_OF_TEXT else at.TROUBLE
        if status != at.DONE:
            return status


@entry
def run(s: State) -> int:
    """Run tiles until all have finished (`DONE`), or none can go on (`HOST_TURN`), or something is needed."""
    while s.m[at.H_READY_COUNT]:
        number = s.m[at.H_READY_FIRST]
        while not s.m[s.m[at.H_READY] + number]:
            number += 1
        tile = s.m[at.H_TILES] + at.V_SIZE * number
        s.m[s.m[at.H_READY] + number] = 0
        s.m[at.H_READY_FIRST] = number
        s.m[at.H_READY_COUNT] -= 1
        status = run_tile(s, tile)
        if status == FINISHED and not s.m[tile + at.V_FINISHED]:  # it may have been woken before it finished
            s.m[tile + at.V_FINISHED] = 1
            s.m[at.H_UNFINISHED] -= 1
        elif status >= 0:
            wake(s, tile)
            s.m[at.H_CURRENT] = number
            return status
    return at.HOST_TURN if s.m[at.H_UNFINISHED] else at.DONE


# --------------------------------------------------------------------------------------------------- for the host


@entry
def post(s: State, source: int, words: I32) -> int:
    """Send a message of the host's: `DONE`, `GROW`, or `TROUBLE` if it does not fit others that it is added to."""
    if not fits(s, source, words.size):
        return at.TROUBLE
    block = new_block(s, words.size)
    if not block:
        return at.GROW
    copy_bytes(s.q.ctypes.data + 4 * (block + at.Q_WORDS), words.ctypes.data, 4 * words.size)
    put(s, source, block)
    return at.DONE


@entry
def waiting(s: State, inbox: int) -> int:
    """How many messages a receiver has not taken."""
    count, block = 0, s.m[inbox + at.I_NEXT]
    while block:
        count, block = count + 1, s.q[block + at.Q_NEXT]
    return count


@entry
def fetch(s: State, inbox: int, words: I32) -> None:
    """Take the next message, whose words there is room for."""
    block = take(s, inbox)
    copy_bytes(words.ctypes.data, s.q.ctypes.data + 4 * (block + at.Q_WORDS), 4 * words.size)
    taken(s, inbox, block)
