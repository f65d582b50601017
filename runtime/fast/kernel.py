"""The loop of a step: sequencers, late starts, and what takes its turn (`Machine.run`); and what Python calls."""

from __future__ import annotations

from isa.events import Bound
from isa.timing.critical import INDEX_OF

from .agenda import drop_first, push
from .arena import add_record, margin, note_end, set_stop
from .barriers import pass_barrier
from .dispatch import DISPATCHED, HELD, TOO_FAR, dispatch
from .flights import row_of
from .jit import Floats, Items, Words, compiled, entry, fetch, pointer
from .layout import (
    A_KIND,
    A_ORDER,
    A_TIE,
    A_TIME,
    A_WHAT,
    BARRIER,
    DONE,
    FAR,
    GROW,
    H_ARG,
    H_CURRENT,
    H_FIRST,
    H_FREE,
    H_HALTED,
    H_HEAP,
    H_HEAP_LEN,
    H_NODES,
    H_NOW,
    H_READY,
    H_STOP,
    H_TILE_COUNT,
    H_TILES,
    H_WAITING,
    HALT,
    HOST,
    HOST_HEARD,
    HOST_PART,
    HOST_TURN,
    I_HEAD,
    I_KIND,
    I_WHAT,
    LINE,
    M_ENDS,
    M_HAS_HOST,
    M_HOST_AT,
    M_HOST_COUNT,
    M_HOST_RECORD,
    M_POSTS,
    M_SERVED,
    M_SIZE,
    M_TELLS_HOST,
    NUMBER_BITS,
    O_READY,
    R_PREDECESSOR,
    R_START,
    R_WHAT,
    TILE_INDEX,
    TILE_ITEM,
    TILE_NEXT,
    TILE_NODES,
    TILE_RECORD,
    TILE_SIZE,
    TILE_TIME,
    TRANSFER,
    TRANSMIT,
    TROUBLE,
    TURN,
    WHAT_BOUND,
    WHAT_INDEX,
    WHAT_TILE,
)
from .memory import transfer
from .messages import transmit
from .units import is_complete, meet
from .windows import begin_late, take_turn

GOING_ON = -1
SEQUENCER_BOUND = INDEX_OF[Bound.SEQUENCER]


@compiled
def has_margin(m: Words) -> bool:
    """Whether the arena has room for whatever an operation or a turn makes."""
    return m[H_FREE] <= m[H_STOP]


@compiled
def halt(m: Words, tile: int, what: int) -> None:
    """The text of a tile has ended."""
    m[H_HALTED] += 1
    record = add_record(m, m[tile + TILE_TIME], m[tile + TILE_RECORD], m[tile + TILE_INDEX], what)
    note_end(m, m[tile + TILE_TIME], record)


@compiled
def run_tile(m: Words, t: Items, k: Words, tile: int) -> int:
    """Dispatch operations until a queue is full or a barrier is not over, or the trace ends."""
    while True:
        if not has_margin(m):
            return GROW
        item = m[tile + TILE_ITEM]
        kind = t[item + I_HEAD] & I_KIND
        if kind == HALT:
            halt(m, tile, t[item + I_WHAT])
            return GOING_ON
        outcome = pass_barrier(m, t, k, tile, item) if kind == BARRIER else dispatch(m, t, k, tile, item)
        if outcome == HELD:
            return GOING_ON
        if outcome != DISPATCHED:
            return FAR if outcome == TOO_FAR else TROUBLE


@compiled
def work_off(m: Words, t: Items, k: Words) -> int:
    """Let all tiles and operations go as far as they can."""
    if m[H_CURRENT]:
        status = go_on(m, t, k, m[H_CURRENT])
        if status != GOING_ON:
            return status
    while m[H_FIRST] or m[H_READY]:
        while m[H_READY]:
            if not has_margin(m):
                return GROW
            name = m[H_READY]
            m[H_READY] = m[row_of(m, name) + O_READY]
            begin_late(m, t, k, name)
        if m[H_FIRST]:
            tile = m[H_FIRST]
            m[H_FIRST] = m[tile + TILE_NEXT]
            status = go_on(m, t, k, tile)
            if status != GOING_ON:
                return status
    return GOING_ON


@compiled
def go_on(m: Words, t: Items, k: Words, tile: int) -> int:
    """Run a tile; if it is interrupted, it is the first to go on."""
    status = run_tile(m, t, k, tile)
    m[H_CURRENT] = 0 if status == GOING_ON else tile
    return status


@compiled
def fetch_next(m: Words) -> None:
    """Have what comes next on the agenda brought near."""
    first = m[H_HEAP]
    kind, what = m[first + A_TIE] & ((1 << A_KIND) - 1), m[first + A_WHAT]
    if m[H_HEAP_LEN] and kind in (TURN, TRANSMIT):
        fetch(m, what)
        fetch(m, what + LINE)
        if kind == TRANSMIT:
            fetch(m, what + 2 * LINE)
            fetch(m, m[what + M_ENDS])


@compiled
def serve(m: Words, f: Floats, t: Items, k: Words, rates: Floats) -> int:
    """Give the earliest on the agenda what it asks for."""
    first = m[H_HEAP]
    time, kind, what = m[first + A_TIME], m[first + A_TIE] & ((1 << A_KIND) - 1), m[first + A_WHAT]
    tile = m[H_TILES] + TILE_SIZE * ((m[first + A_ORDER] >> NUMBER_BITS) - 1)
    m[H_NOW] = time
    drop_first(m)
    fetch_next(m)
    if kind == TURN:
        take_turn(m, t, k, tile, what, time)
    elif kind == TRANSFER:
        transfer(m, t, k, rates, what)
    elif kind == TRANSMIT:
        if not transmit(m, f, t, k, rates, what):
            return TROUBLE
        return HOST_HEARD if m[what + M_TELLS_HOST] else GOING_ON
    else:
        m[H_ARG] = what
        return HOST_PART
    return GOING_ON


@entry
def room_needed(state: Words) -> int:
    """How many words must be free for whatever an operation or a turn makes."""
    return margin(pointer(state))


@entry
def run(state: Words, floats: Floats, items: Items, plan: Words, speeds: Floats) -> int:
    """Simulate until all is done, or something has to be looked after."""
    m, f, t = pointer(state), pointer(floats), pointer(items)
    k, rates = pointer(plan), pointer(speeds)
    set_stop(m)
    while True:
        status = work_off(m, t, k)
        if status != GOING_ON:
            return status
        if m[H_HEAP_LEN] == 0:
            return DONE if m[H_HALTED] == m[H_TILE_COUNT] and m[H_WAITING] == 0 else TROUBLE
        if not has_margin(m):
            return GROW
        status = serve(m, f, t, k, rates)
        if status != GOING_ON:
            return status


@entry
def are_left(state: Words, first: int, count: int) -> bool:
    """Whether an end waits for a message although all tiles have halted."""
    m = pointer(state)
    for meeting in range(first, first + count * M_SIZE, M_SIZE):
        if m[meeting + M_POSTS]:
            return True
        if m[meeting + M_HAS_HOST] and m[meeting + M_HOST_COUNT] != m[meeting + M_SERVED]:
            return True
    return False


@entry
def add_host_record(state: Words, start: int, predecessor: int, index: int, bound: int) -> int:
    """A part of the model has run on the host."""
    m = pointer(state)
    return add_record(m, start, predecessor, HOST, index << WHAT_INDEX | bound << WHAT_BOUND)


@entry
def note_host_end(state: Words, end: int, record: int) -> None:
    """A part of the model has ended; the step does not end before."""
    m = pointer(state)
    note_end(m, end, record)


@entry
def call_host(state: Words, time: int, number: int) -> None:
    """A part of the model takes its turn on the host."""
    m = pointer(state)
    push(m, time, HOST, number, HOST_TURN, number)


@entry
def open_host(state: Words, meeting: int, at: int, record: int) -> None:
    """The host has made its messages of a channel."""
    m = pointer(state)
    m[meeting + M_HOST_AT] = at
    m[meeting + M_HOST_RECORD] = record
    if m[meeting + M_HOST_COUNT] and is_complete(m, meeting):
        meet(m, meeting)


@entry
def walk_back(state: Words, plan: Words, end: int, last: int, by_bound: Words, by_node: Words) -> None:
    """The critical path (`Records.path`): cycles by reason, and by node; host parts are counted behind the nodes."""
    m, k = pointer(state), pointer(plan)
    parts = m[H_NODES]
    at, record = end, last
    while record >= 0:
        what = m[record + R_WHAT]
        tile, index = (what >> WHAT_TILE) - 1, what >> WHAT_INDEX & 0xFFFFFF
        node = parts + index if tile == HOST else k[m[m[H_TILES] + TILE_SIZE * tile + TILE_NODES] + index]
        start, before = m[record + R_START], m[record + R_PREDECESSOR]
        by_bound[what >> WHAT_BOUND & 0x7F] += at - start
        by_node[node] += at - start
        at = start
        if what & 1:
            issued_from = m[before + R_START] if before >= 0 else 0
            by_bound[SEQUENCER_BOUND] += at - issued_from
            by_node[node] += at - issued_from
            at = issued_from
        record = before
