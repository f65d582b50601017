"""Running the text of a role for its trace (`trace`), and turning around who waits for whom (`link`)."""

from __future__ import annotations

from isa.timing.memory import INTERLEAVE_BYTES

from .arena import take_room
from .jit import Items, Words, compiled, entry, pointer
from .layout import (
    B_FIRST,
    B_GAP,
    B_ISSUED,
    B_LIMIT,
    B_OUT,
    B_SEQUENCE,
    C_INDEX,
    C_KIND,
    C_SIZE,
    D_MEMORY,
    DONE,
    FIRST_UNIT,
    FLIGHTS,
    GROW,
    H_ARG,
    H_FREE,
    H_LIMIT,
    H_MOST,
    HALT,
    I_COUNTS,
    I_DURATIONS,
    I_GAP,
    I_HEAD,
    I_KIND,
    I_MOST,
    I_OPERAND,
    I_SIZE,
    I_WAITERS,
    I_WHAT,
    LISTS,
    MAX_RANGES,
    MAX_USES,
    MEMORY,
    MISS,
    MOST_GAP,
    T_CODE,
    T_LOOPS_LEN,
    T_PC,
    TROUBLE,
    WHAT_BOUND,
    WHAT_INDEX,
)
from .scalars import HALTED, next_pass, run_scalar
from .tracing import TRACED, UNKNOWN_COST, trace_operation

SMALL = 4096  # words that anything small makes


@compiled
def margin(b: Words) -> int:
    """How many words an instruction takes at most: an access may be in all lists of a board, each of which may take
    twice its room, or (as the first have room for no more) four times."""
    return SMALL + 4 * LISTS * (MAX_RANGES + MAX_USES) * b[H_MOST]


@compiled
def has_room(b: Words, tracer: int) -> bool:
    """Whether there is room for whatever an instruction makes."""
    return b[H_FREE] + margin(b) <= b[H_LIMIT] and b[tracer + B_OUT] + I_SIZE + I_MOST <= b[tracer + B_LIMIT]


@compiled
def put_halt(b: Words, t: Items, tracer: int, index: int, bound: int) -> bool:
    """The end of a trace. False if it comes too late."""
    item = b[tracer + B_OUT]
    for word in range(I_SIZE):
        t[item + word] = 0
    t[item + I_HEAD] = HALT | b[tracer + B_GAP] << I_GAP
    t[item + I_WHAT] = index << WHAT_INDEX | bound << WHAT_BOUND | 1
    b[tracer + B_OUT] = item + I_SIZE
    return b[tracer + B_GAP] <= MOST_GAP


@entry
def room_needed(arena: Words) -> int:
    """How many words must be free for whatever an instruction makes."""
    return margin(pointer(arena))


@entry
def trace(arena: Words, items: Items, plan: Words, tracer: int, bound: int) -> int:
    """Run the text until it ends (`DONE`), or room or a cost is missing; `TROUBLE` is for the reference. `bound` is the
    sequencer's number among reasons."""
    b, t, k = pointer(arena), pointer(items), pointer(plan)
    pc, issued = b[tracer + T_PC], b[tracer + B_ISSUED]
    while True:
        if not has_room(b, tracer):
            b[tracer + T_PC] = pc
            return GROW
        if pc < 0:  # an instruction whose cost was missing
            at = ~pc
        else:
            at = next_pass(b, tracer, pc) if b[tracer + T_LOOPS_LEN] else pc
        code = b[tracer + T_CODE] + C_SIZE * at
        if k[code + C_KIND] < FIRST_UNIT:
            pc = run_scalar(b, k, tracer, code)
            b[tracer + B_GAP] += 1
        else:
            outcome, pc = trace_operation(b, t, k, tracer, code), at + 1
            if outcome == UNKNOWN_COST:
                b[tracer + T_PC], b[H_ARG] = ~at, code
                return MISS
            if outcome != TRACED:
                return TROUBLE
        b[issued + k[code + C_INDEX]] += 1
        if pc < 0:
            is_over = pc == HALTED and put_halt(b, t, tracer, k[code + C_INDEX], bound)
            return DONE if is_over else TROUBLE


@compiled
def count_waiters(b: Words, t: Items, tracer: int, places: int) -> bool:
    """Count who waits for each operation; False if they are too many."""
    item = b[tracer + B_FIRST]
    for number in range(1, b[tracer + B_SEQUENCE] + 1):
        b[places + number] = item
        count = t[item + I_COUNTS] & I_MOST
        for at in range(item + I_SIZE, item + I_SIZE + count):
            other = b[places + number - t[at] // FLIGHTS]
            if t[other + I_COUNTS] >> I_WAITERS == I_MOST:
                return False
            t[other + I_COUNTS] += 1 << I_WAITERS
        item += I_SIZE + count
    b[places + b[tracer + B_SEQUENCE] + 1] = item
    return True


@compiled
def spread(b: Words, t: Items, tracer: int, places: int) -> None:
    """Make room behind each operation for those that wait for it, from the last to the first."""
    operations, more = b[tracer + B_SEQUENCE], 0
    for number in range(1, operations + 1):
        more += t[b[places + number] + I_COUNTS] >> I_WAITERS
    b[tracer + B_OUT] += more
    for number in range(operations + 1, 0, -1):
        item = b[places + number]
        counts = t[item + I_COUNTS]
        more -= counts >> I_WAITERS
        for word in range(I_SIZE + (counts & I_MOST) - 1, -1, -1):
            t[item + more + word] = t[item + word]
        b[places + number] = item + more


@compiled
def put_waiters(b: Words, t: Items, tracer: int, places: int, counts: int) -> None:
    """Behind each operation are those that wait for it, in the order of dispatch."""
    for number in range(1, b[tracer + B_SEQUENCE] + 1):
        item = b[places + number]
        b[counts + number] = 0
        for at in range(item + I_SIZE, item + I_SIZE + (t[item + I_COUNTS] & I_MOST)):
            before = number - t[at] // FLIGHTS
            other = b[places + before]
            t[other + I_SIZE + (t[other + I_COUNTS] & I_MOST) + b[counts + before]] = t[at]
            b[counts + before] += 1


@entry
def link(arena: Words, items: Items, tracer: int) -> int:
    """Turn around who waits for whom in a trace that has ended. `DONE`, or `GROW`, or `TROUBLE`."""
    b, t = pointer(arena), pointer(items)
    operations = b[tracer + B_SEQUENCE]
    if (
        b[H_FREE] + 2 * operations + SMALL > b[H_LIMIT]
        or 2 * b[tracer + B_OUT] - b[tracer + B_FIRST] > b[tracer + B_LIMIT]
    ):
        return GROW
    kept = b[H_FREE]
    places, counts = take_room(b, operations + 2), take_room(b, operations + 2)
    is_right = count_waiters(b, t, tracer, places)
    if is_right:
        spread(b, t, tracer, places)
        put_waiters(b, t, tracer, places, counts)
    b[H_FREE] = kept
    return DONE if is_right else TROUBLE


@entry
def turn_back(items: Items, plan: Words, turns: Words) -> None:
    """Let the transfers of a trace begin as if the first one of each memory began in its first channel. `turns` has
    the bytes of a stripe of DRAM and of global buffers, and gets how many bytes behind that these begin (-1: there are
    none)."""
    t, k, by = pointer(items), pointer(plan), pointer(turns)
    item, by[2], by[3] = 0, -1, -1
    while t[item + I_HEAD] & I_KIND != HALT:
        if t[item + I_HEAD] & I_KIND == MEMORY:
            which = k[t[item + I_DURATIONS] + D_MEMORY] - 1
            if by[2 + which] < 0:
                by[2 + which] = t[item + I_OPERAND] // INTERLEAVE_BYTES * INTERLEAVE_BYTES
            t[item + I_OPERAND] = (t[item + I_OPERAND] - by[2 + which] + by[which]) % by[which]
        counts = t[item + I_COUNTS]
        item += I_SIZE + (counts & I_MOST) + (counts >> I_WAITERS)
