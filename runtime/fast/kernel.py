"""The loop of a step: sequencers, late starts, and what takes its turn (`Machine.run`); and what Python calls."""

from __future__ import annotations

from isa.events import Bound
from isa.timing.critical import INDEX_OF

from .arena import add_record, note_end, release, resume_record
from .dispatch import (
    DISPATCHED,
    HELD,
    UNKNOWN_COST,
    WRONG,
    advance,
    dispatch,
    make_operation,
    operand_of,
)
from .flights import drop_first, push
from .jit import Floats, Table, Words, compiled, entry
from .layout import (
    A_KIND,
    A_TIME,
    A_WHAT,
    BARRIER,
    C_INDEX,
    C_KIND,
    C_SIZE,
    DONE,
    F_DONE,
    F_RECORD,
    F_REFERENCES,
    FIRST_UNIT,
    GROW,
    H_ARG,
    H_CURRENT,
    H_FIRST,
    H_FREE,
    H_HALTED,
    H_HEAP,
    H_HEAP_CAP,
    H_HEAP_LEN,
    H_MARGIN,
    H_MOST,
    H_NODES,
    H_NOW,
    H_READY,
    H_TILE_COUNT,
    H_TILES,
    H_WAITING,
    HOST,
    HOST_HEARD,
    HOST_PART,
    HOST_TURN,
    LISTS,
    M_HAS_HOST,
    M_HOST_AT,
    M_HOST_COUNT,
    M_HOST_RECORD,
    M_IS_BARRIER,
    M_POSTS,
    M_SERVED,
    M_SIZE,
    M_TELLS_HOST,
    MAX_RANGES,
    MAX_USES,
    MISS,
    O_FLIGHTS,
    O_NEXT,
    O_UNKNOWN,
    Q_MEETING,
    R_PREDECESSOR,
    R_START,
    R_WHAT,
    T_BARRIER,
    T_CODE,
    T_INDEX,
    T_ISSUED,
    T_LOOPS_LEN,
    T_NEXT,
    T_NODES,
    T_PC,
    T_RECORD,
    T_SIZE,
    T_TIME,
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
from .ports import wait_for_all
from .scalars import HALTED, next_pass, run_scalar
from .table import find_cost
from .units import begin, is_complete, meet
from .windows import begin_late, take_turn

GOING_ON = -1
SEQUENCER_BOUND = INDEX_OF[Bound.SEQUENCER]


@entry
def margin(m: Words) -> int:
    """How many words an instruction or a turn takes at most: an access may be in all lists of a board, each of which
    may take twice its room, or (as the first have room for no more) four times."""
    lists = 4 * LISTS * (MAX_RANGES + MAX_USES)
    return m[H_MARGIN] + 16 * m[H_HEAP_CAP] + lists * m[H_MOST]


@compiled
def has_margin(m: Words) -> bool:
    """Whether the arena has room for whatever an instruction or a turn makes."""
    return m[H_FREE] + margin(m) <= m.size


@compiled
def halt(m: Words, tile: int, index: int) -> int:
    """The text of a tile has ended."""
    m[H_HALTED] += 1
    record = add_record(m, m[tile + T_TIME], m[tile + T_RECORD], 1, m[tile + T_INDEX], index, SEQUENCER_BOUND)
    note_end(m, m[tile + T_TIME], record)
    return GOING_ON


@compiled
def come_to_barrier(m: Words, k: Words, tile: int, code: int, cost: int) -> bool:
    """Wait until all earlier operations of the tile are done, then for the others. False for the reference."""
    queue = operand_of(m, k, tile, code)
    if queue == 0 or m[queue + Q_MEETING] == 0 or not m[m[queue + Q_MEETING] + M_IS_BARRIER]:
        return False
    operation = make_operation(m, tile, code, cost, queue, 0)
    m[tile + T_BARRIER] = operation
    m[m[operation + O_FLIGHTS] + F_REFERENCES] += 1
    if not wait_for_all(m, tile, operation):
        return False
    if m[operation + O_UNKNOWN]:
        m[H_WAITING] += 1
    else:
        begin(m, k, operation)
    return True


@compiled
def leave_barrier(m: Words, k: Words, executed: Table, tile: int, code: int, cost: int) -> None:
    """The barrier is over: go on."""
    operation = m[tile + T_BARRIER]
    flights = m[operation + O_FLIGHTS]
    done, record = m[flights + F_DONE], m[flights + F_RECORD]
    m[tile + T_RECORD] = resume_record(m, record, done, record)
    m[tile + T_BARRIER] = 0
    m[tile + T_TIME] = done - 1
    release(m, flights)
    advance(m, k, executed, tile, code, cost)


@compiled
def dispatch_any(m: Words, k: Words, executed: Table, tile: int, code: int) -> int:
    """Dispatch an instruction; `GOING_ON` if the tile has to wait before it can go on, `DISPATCHED`, or trouble."""
    if k[code + C_KIND] != BARRIER:
        return dispatch(m, k, executed, tile, code)
    cost = find_cost(m, k, tile, code)
    if cost == 0:
        return UNKNOWN_COST
    if m[tile + T_BARRIER]:
        leave_barrier(m, k, executed, tile, code, cost)
        return DISPATCHED
    return HELD if come_to_barrier(m, k, tile, code, cost) else WRONG


@compiled
def run_tile(m: Words, k: Words, executed: Table, tile: int, is_resumed: bool) -> int:
    """Dispatch instructions until a queue is full or a barrier is not over, or the text ends."""
    pc, issued = m[tile + T_PC], m[tile + T_ISSUED]
    while True:
        if m[tile + T_LOOPS_LEN] and not is_resumed:
            pc = next_pass(m, tile, pc)
        is_resumed = False
        code = m[tile + T_CODE] + C_SIZE * pc
        if k[code + C_KIND] < FIRST_UNIT:
            pc = run_scalar(m, k, tile, code)
            m[tile + T_TIME] += 1
            if pc < 0:
                m[issued + k[code + C_INDEX]] += 1
                return halt(m, tile, k[code + C_INDEX]) if pc == HALTED else TROUBLE
        else:
            m[tile + T_PC] = pc
            if not has_margin(m):
                return GROW
            outcome = dispatch_any(m, k, executed, tile, code)
            if outcome != DISPATCHED:
                m[H_ARG] = code
                return status_of(outcome)
            pc += 1
        m[issued + k[code + C_INDEX]] += 1


@compiled
def status_of(outcome: int) -> int:
    """Why the kernel returns, or that it goes on, when an instruction was not dispatched."""
    if outcome == HELD:
        return GOING_ON
    return MISS if outcome == UNKNOWN_COST else TROUBLE


@compiled
def work_off(m: Words, k: Words, executed: Table) -> int:
    """Let all tiles and operations go as far as they can."""
    if m[H_CURRENT]:
        status = go_on(m, k, executed, m[H_CURRENT], True)
        if status != GOING_ON:
            return status
    while m[H_FIRST] or m[H_READY]:
        while m[H_READY]:
            if not has_margin(m):
                return GROW
            operation = m[H_READY]
            m[H_READY] = m[operation + O_NEXT]
            begin_late(m, k, operation)
        if m[H_FIRST]:
            tile = m[H_FIRST]
            m[H_FIRST] = m[tile + T_NEXT]
            status = go_on(m, k, executed, tile, False)
            if status != GOING_ON:
                return status
    return GOING_ON


@compiled
def go_on(m: Words, k: Words, executed: Table, tile: int, is_resumed: bool) -> int:
    """Run a tile; if it is interrupted, it is the first to go on."""
    status = run_tile(m, k, executed, tile, is_resumed)
    m[H_CURRENT] = 0 if status == GOING_ON else tile
    return status


@compiled
def serve(m: Words, f: Floats, k: Words, rates: Floats) -> int:
    """Give the earliest on the agenda what it asks for."""
    entry_place = m[H_HEAP]
    time, kind, what = m[entry_place + A_TIME], m[entry_place + A_KIND], m[entry_place + A_WHAT]
    m[H_NOW] = time
    drop_first(m)
    if kind == TURN:
        take_turn(m, k, what, time)
    elif kind == TRANSFER:
        transfer(m, k, rates, what)
    elif kind == TRANSMIT:
        if not transmit(m, f, k, rates, what):
            return TROUBLE
        return HOST_HEARD if m[what + M_TELLS_HOST] else GOING_ON
    else:
        m[H_ARG] = what
        return HOST_PART
    return GOING_ON


@entry
def run(m: Words, f: Floats, k: Words, rates: Floats, executed: Table) -> int:
    """Simulate until all is done, or something has to be looked after."""
    while True:
        status = work_off(m, k, executed)
        if status != GOING_ON:
            return status
        if m[H_HEAP_LEN] == 0:
            return DONE if m[H_HALTED] == m[H_TILE_COUNT] and m[H_WAITING] == 0 else TROUBLE
        if not has_margin(m):
            return GROW
        status = serve(m, f, k, rates)
        if status != GOING_ON:
            return status


@entry
def are_left(m: Words, first: int, count: int) -> bool:
    """Whether an end waits for a message although all tiles have halted."""
    for meeting in range(first, first + count * M_SIZE, M_SIZE):
        if m[meeting + M_POSTS]:
            return True
        if m[meeting + M_HAS_HOST] and m[meeting + M_HOST_COUNT] != m[meeting + M_SERVED]:
            return True
    return False


@entry
def add_host_record(m: Words, start: int, predecessor: int, index: int, bound: int) -> int:
    """A part of the model has run on the host."""
    return add_record(m, start, predecessor, 0, HOST, index, bound)


@entry
def note_host_end(m: Words, end: int, record: int) -> None:
    """A part of the model has ended; the step does not end before."""
    note_end(m, end, record)


@entry
def call_host(m: Words, time: int, number: int) -> None:
    """A part of the model takes its turn on the host."""
    push(m, time, HOST, number, HOST_TURN, number)


@entry
def open_host(m: Words, meeting: int, at: int, record: int) -> None:
    """The host has made its messages of a channel."""
    m[meeting + M_HOST_AT] = at
    m[meeting + M_HOST_RECORD] = record
    if m[meeting + M_HOST_COUNT] and is_complete(m, meeting):
        meet(m, meeting)


@entry
def walk_back(m: Words, k: Words, end: int, last: int, by_bound: Words, by_node: Words) -> None:
    """The critical path (`Records.path`): cycles by reason, and by node; host parts are counted behind the nodes."""
    parts = m[H_NODES]
    at, record = end, last
    while record >= 0:
        what = m[record + R_WHAT]
        tile, index = (what >> WHAT_TILE) - 1, what >> WHAT_INDEX & 0xFFFFFF
        node = parts + index if tile == HOST else k[m[m[H_TILES] + T_SIZE * tile + T_NODES] + index]
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
