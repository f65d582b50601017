"""From the text of a role to a trace: its operations, and what each of them waits for.

What a tile does, and in which order, does not depend on when: registers come from parameters and facts of the step
alone. Nor does what an operation may have to wait for: accesses that it meets on the boards, the one before it at its
unit, a place in its queue. Tiles of one role with the same parameters and facts share a trace, and steps do.
"""

from __future__ import annotations

from .board import depend, hold_range, meet_range
from .implied import is_implied
from .jit import Items, Words, compiled
from .layout import (
    ACCESS_BASE,
    ACCESS_OFFSET,
    ACCESS_SIZE,
    ACCESS_STEP,
    ACCESS_WRITES,
    B_BUFFER,
    B_CELLS,
    B_CIM,
    B_DEPENDENCE_COUNT,
    B_DEPENDENCES,
    B_DMA,
    B_EXECUTED,
    B_GAP,
    B_OUT,
    B_PLACES,
    B_PORT_COUNT,
    B_PORTS,
    B_SEQUENCE,
    B_STRIPES,
    B_VECTOR,
    BARRIER,
    BQ_COUNT,
    BQ_FLIGHT,
    BQ_LATEST,
    BQ_NUMBERS,
    BQ_SIZE,
    C_ACCESS,
    C_ACCESSES,
    C_BASE,
    C_BOUND,
    C_HAS_PORT,
    C_INDEX,
    C_IS_RECEIVE,
    C_IS_WINDOWED,
    C_KIND,
    C_MEMORY,
    C_OFFSET,
    CIM,
    COPY,
    D_BYTES,
    D_MACROS,
    FLIGHT_CELLS,
    FLIGHT_DONE,
    FLIGHT_PORT,
    FLIGHTS,
    H_DEPTH,
    H_GRANULE,
    H_RANGES,
    H_REACH,
    I_BYTES,
    I_COUNTS,
    I_DURATIONS,
    I_GAP,
    I_HAS_PORT,
    I_HEAD,
    I_MOST,
    I_NEXT,
    I_OPERAND,
    I_RECEIVES,
    I_ROOM,
    I_SIZE,
    I_WHAT,
    I_WINDOWED,
    K_DURATIONS,
    K_NOOP,
    K_NUMBER,
    K_SPAN,
    K_USE,
    K_USES,
    MAX_RANGES,
    MEMORY,
    MESSAGE,
    MOST_GAP,
    MOST_GRANULES,
    RANGE_WORDS,
    SPAN_BYTES,
    SPAN_PITCH,
    SPAN_ROW,
    SPAN_SIZE,
    T_REGISTERS,
    USE_HIGH,
    USE_LOW,
    USE_SIZE,
    USE_WRITES,
    VECTOR,
    WHAT_BOUND,
    WHAT_INDEX,
)
from .table import find_cost

TRACED, UNKNOWN_COST, WRONG = range(3)
LARGEST = 1 << 40  # addresses beyond are left to the reference


@compiled
def operand_of(b: Words, k: Words, tracer: int, code: int) -> int:
    """An address outside, as far as it says which channels carry what; a port's number; -1 for odd addresses."""
    if k[code + C_KIND] < MEMORY:
        return 0
    operand, memory = b[tracer + T_REGISTERS + k[code + C_BASE]] + k[code + C_OFFSET], k[code + C_MEMORY]
    if not 0 <= operand < LARGEST:
        return -1
    return operand % b[tracer + B_STRIPES + memory - 1] if memory else operand


@compiled
def queue_of(b: Words, k: Words, tracer: int, code: int, operand: int) -> int:
    """The queue of the instruction's unit: the arrays, the vector unit, DMA, or a port; 0 if there is no such port."""
    kind = k[code + C_KIND]
    if kind == CIM:
        return tracer + B_CIM
    if kind == VECTOR:
        return tracer + B_VECTOR
    if kind in (COPY, MEMORY):
        return tracer + B_DMA
    return b[tracer + B_PORTS] + BQ_SIZE * operand if 0 <= operand < b[tracer + B_PORT_COUNT] else 0


@compiled
def find_ranges(b: Words, k: Words, tracer: int, code: int, cost: int) -> int:
    """Write down the granules that the operation accesses (`Machine._ranges`); how many, or -1 for odd addresses."""
    found, granule = 0, b[H_GRANULE]
    for number in range(k[code + C_ACCESSES]):
        access, span = code + C_ACCESS + ACCESS_SIZE * number, cost + K_SPAN + SPAN_SIZE * number
        size, pitch = k[span + SPAN_BYTES], k[span + SPAN_PITCH]
        if size == 0:
            continue
        start = b[tracer + T_REGISTERS + k[access + ACCESS_BASE]] + k[access + ACCESS_OFFSET]
        if not (0 <= start < LARGEST and size < LARGEST) or found == MAX_RANGES:
            return -1
        width = 0 if pitch % granule else (start % granule + k[span + SPAN_ROW] - 1) // granule + 1
        if width and max(width, pitch // granule) > MOST_GRANULES:
            return -1
        at = H_RANGES + RANGE_WORDS * found
        b[at] = start // granule
        b[at + 1] = (start + size - 1) // granule + 1
        b[at + 2] = k[access + ACCESS_WRITES]
        b[at + 3] = pitch // granule if width else 0
        b[at + 4] = width
        found += 1
    return found


@compiled
def take_buffer(b: Words, tracer: int, over: int, ranges: int) -> None:
    """Find what is in the way in the buffer, and take what the operation accesses."""
    board, sequence = b[tracer + B_BUFFER], b[tracer + B_SEQUENCE]
    flight, end = FLIGHTS * sequence + FLIGHT_DONE, H_RANGES + RANGE_WORDS * ranges
    for at in range(H_RANGES, end, RANGE_WORDS):
        meet_range(b, tracer, board, over, b[at], b[at + 1], b[at + 2], b[at + 3], b[at + 4])
    for at in range(H_RANGES, end, RANGE_WORDS):
        hold_range(b, board, sequence, flight, over, b[at], b[at + 1], b[at + 2], b[at + 3], b[at + 4])


@compiled
def take_arrays(b: Words, k: Words, tracer: int, over: int, cost: int) -> None:
    """The same for macro rows, which are free before the operation is over, and scales of arrays."""
    board, sequence = b[tracer + B_CELLS], b[tracer + B_SEQUENCE]
    end = cost + K_USE + USE_SIZE * k[cost + K_USES]
    for use in range(cost + K_USE, end, USE_SIZE):
        low, high, writes = k[use + USE_LOW], k[use + USE_HIGH], k[use + USE_WRITES]
        meet_range(b, tracer, board, over, low, high, writes, 0, 0)
    flight = FLIGHTS * sequence + (FLIGHT_CELLS if k[k[cost + K_DURATIONS] + D_MACROS] else FLIGHT_DONE)
    for use in range(cost + K_USE, end, USE_SIZE):
        low, high, writes = k[use + USE_LOW], k[use + USE_HIGH], k[use + USE_WRITES]
        hold_range(b, board, sequence, flight, over, low, high, writes, 0, 0)
        flight = FLIGHTS * sequence + FLIGHT_DONE


@compiled
def latest_number(b: Words, queue: int, back: int) -> int:
    """The number of the latest operation of a queue (1), of the one before (2), ...; up to as many as have room."""
    return b[b[queue + BQ_NUMBERS] + (b[queue + BQ_COUNT] - back) % b[H_DEPTH]]


@compiled
def take_unit(b: Words, t: Items, k: Words, tracer: int, queue: int, code: int, item: int) -> None:
    """Take a place in a queue in order: behind the one before it, and when there is room."""
    count, depth, sequence = b[queue + BQ_COUNT], b[H_DEPTH], b[tracer + B_SEQUENCE]
    if count:
        depend(b, tracer, FLIGHTS * latest_number(b, queue, 1) + b[queue + BQ_FLIGHT])
    if count >= depth:
        oldest = latest_number(b, queue, depth)
        t[item + I_ROOM] = sequence - oldest
        if k[code + C_IS_RECEIVE]:
            depend(b, tracer, FLIGHTS * oldest + FLIGHT_DONE)
    if count and k[code + C_KIND] == MESSAGE:
        t[b[queue + BQ_LATEST] + I_NEXT] = sequence - latest_number(b, queue, 1)
    b[b[queue + BQ_NUMBERS] + count % depth] = sequence
    b[queue + BQ_COUNT] = count + 1
    b[queue + BQ_LATEST] = item
    b[queue + BQ_FLIGHT] = FLIGHT_PORT if k[code + C_HAS_PORT] else FLIGHT_DONE


@compiled
def put_item(b: Words, t: Items, k: Words, tracer: int, code: int, cost: int, operand: int) -> int:
    """The row of an operation, without what it waits for."""
    kind, item, durations = k[code + C_KIND], b[tracer + B_OUT], k[cost + K_DURATIONS]
    head = kind | b[tracer + B_GAP] << I_GAP
    head |= I_RECEIVES if k[code + C_IS_RECEIVE] else 0
    head |= I_WINDOWED if k[code + C_IS_WINDOWED] else 0
    head |= I_HAS_PORT if k[code + C_HAS_PORT] else 0
    t[item + I_HEAD] = head
    t[item + I_COUNTS] = 0
    t[item + I_DURATIONS] = durations
    t[item + I_WHAT] = k[code + C_INDEX] << WHAT_INDEX | k[code + C_BOUND] << WHAT_BOUND
    t[item + I_OPERAND], t[item + I_BYTES] = operand, k[durations + D_BYTES]
    t[item + I_ROOM] = t[item + I_NEXT] = 0
    return item


@compiled
def put_dependences(b: Words, t: Items, k: Words, tracer: int, item: int) -> bool:
    """What an operation waits for is part of its row; False if that is too much."""
    count, first, sequence = b[tracer + B_DEPENDENCE_COUNT], b[tracer + B_DEPENDENCES], b[tracer + B_SEQUENCE]
    if count > I_MOST >> 2 or b[tracer + B_GAP] > MOST_GAP:
        return False
    kept = item + I_SIZE
    for at in range(first, first + count):
        if not is_implied(b, t, k, tracer, b[at]):
            t[kept] = FLIGHTS * (sequence - b[at] // FLIGHTS) + b[at] % FLIGHTS
            kept += 1
    t[item + I_COUNTS] = kept - item - I_SIZE
    b[b[tracer + B_PLACES] + sequence % b[H_REACH]] = item
    b[tracer + B_OUT] = kept
    b[tracer + B_GAP] = 0
    return True


@compiled
def advance(b: Words, k: Words, tracer: int, code: int, cost: int) -> None:
    """The instruction has been dispatched: count it, step its address registers."""
    b[b[tracer + B_EXECUTED] + k[cost + K_NUMBER]] += 1
    access, span = code + C_ACCESS, cost + K_SPAN
    for _ in range(k[code + C_ACCESSES]):
        if k[access + ACCESS_STEP]:
            b[tracer + T_REGISTERS + k[access + ACCESS_BASE]] += k[span + SPAN_BYTES]
        access += ACCESS_SIZE
        span += SPAN_SIZE


@compiled
def trace_operation(b: Words, t: Items, k: Words, tracer: int, code: int) -> int:
    """Put the operation of an instruction into the trace."""
    cost = find_cost(b, k, tracer, code)
    if cost == 0:
        return UNKNOWN_COST
    if k[cost + K_NOOP] and k[code + C_KIND] != BARRIER:
        advance(b, k, tracer, code, cost)
        b[tracer + B_GAP] += 1
        return TRACED
    operand, ranges = operand_of(b, k, tracer, code), find_ranges(b, k, tracer, code, cost)
    queue = queue_of(b, k, tracer, code, operand)
    if operand < 0 or queue == 0 or ranges < 0:
        return WRONG
    b[tracer + B_SEQUENCE] += 1
    b[tracer + B_DEPENDENCE_COUNT] = 0
    item = put_item(b, t, k, tracer, code, cost, operand)
    if k[code + C_KIND] != BARRIER:
        over = b[tracer + B_SEQUENCE] - b[H_REACH]
        take_buffer(b, tracer, over, ranges)
        if k[cost + K_USES]:
            take_arrays(b, k, tracer, over, cost)
        if not k[code + C_IS_WINDOWED]:
            take_unit(b, t, k, tracer, queue, code, item)
    advance(b, k, tracer, code, cost)
    return TRACED if put_dependences(b, t, k, tracer, item) else WRONG
