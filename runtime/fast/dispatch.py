"""The sequencer (isa/timing/machine.py): instructions are dispatched in order and take their places."""

from __future__ import annotations

from .arena import new_flights, new_operation, release
from .board import hold_range, wait_for_range
from .flights import wait_for
from .jit import Table, Words, compiled
from .layout import (
    ACCESS_BASE,
    ACCESS_OFFSET,
    ACCESS_SIZE,
    ACCESS_STEP,
    ACCESS_WRITES,
    C_ACCESS,
    C_ACCESSES,
    C_BASE,
    C_HAS_PORT,
    C_IS_RECEIVE,
    C_IS_WINDOWED,
    C_KIND,
    C_MEMORY,
    C_OFFSET,
    CIM,
    COPY,
    F_CELLS,
    F_DONE,
    F_PORT,
    F_REFERENCES,
    H_DEPTH,
    H_GRANULE,
    H_MOST,
    H_RANGES,
    H_WAITING,
    K_MACROS,
    K_NOOP,
    K_NUMBER,
    K_SPAN,
    K_USE,
    K_USES,
    LINE,
    MAX_RANGES,
    MEMORY,
    MESSAGE,
    MOST_GRANULES,
    NO_RECORD,
    O_CAUSE,
    O_CODE,
    O_COST,
    O_FLIGHTS,
    O_IS_READY,
    O_LATER,
    O_LATER_POSTED,
    O_OPERAND,
    O_QUEUE,
    O_SEQUENCE,
    O_START,
    O_STARTED,
    O_TILE,
    O_UNKNOWN,
    O_WINDOW,
    Q_BUSY,
    Q_ENTRIES,
    Q_FIRST,
    Q_LATEST,
    Q_POSTED,
    Q_POSTED_COUNT,
    Q_POSTED_LATEST,
    Q_SIZE,
    RANGE_WORDS,
    RING_COUNT,
    RING_FIRST,
    RING_SLOTS,
    SPAN_BYTES,
    SPAN_PITCH,
    SPAN_ROW,
    SPAN_SIZE,
    T_ALIVE,
    T_BUFFER,
    T_CELLS,
    T_CIM,
    T_DMA,
    T_GROUP,
    T_HELD,
    T_PORT_COUNT,
    T_PORTS,
    T_RECORD,
    T_REGISTERS,
    T_SEQUENCE,
    T_TIME,
    T_VECTOR,
    USE_HIGH,
    USE_LOW,
    USE_SIZE,
    USE_WRITES,
    VECTOR,
)
from .ports import first_use, matches
from .rings import drop_row, new_row, oldest_row
from .table import find_cost
from .units import begin
from .windows import append_pending, has_room_in_window, pick

DISPATCHED, HELD, UNKNOWN_COST, WRONG = range(4)
LARGEST = 1 << 40  # addresses beyond are left to the reference


@compiled
def operand_of(m: Words, k: Words, tile: int, code: int) -> int:
    """An address outside, or the queue of a port; 0 if that does not exist."""
    value = m[tile + T_REGISTERS + k[code + C_BASE]] + k[code + C_OFFSET]
    if k[code + C_MEMORY]:
        return value
    if k[code + C_KIND] < MESSAGE:
        return 0
    if not 0 <= value < m[tile + T_PORT_COUNT]:
        return 0
    return m[tile + T_PORTS] + Q_SIZE * value


@compiled
def queue_of(k: Words, tile: int, code: int, operand: int) -> int:
    """The queue of the instruction's unit: the arrays, the vector unit, DMA, or a port."""
    kind = k[code + C_KIND]
    if kind == CIM:
        return tile + T_CIM
    if kind == VECTOR:
        return tile + T_VECTOR
    return tile + T_DMA if kind in (COPY, MEMORY) else operand


@compiled
def is_over(m: Words, flight: int, time: int) -> bool:
    """Whether a flight is done by a time."""
    return 0 <= m[flight + F_DONE] <= time


@compiled
def forget_over(m: Words, tile: int, queue: int) -> None:
    """Let go of what nothing that is dispatched from now on can wait for: that makes no difference but of room."""
    time = m[tile + T_TIME]
    while m[queue + Q_ENTRIES] and is_over(m, m[m[queue + Q_FIRST] + O_FLIGHTS], time):
        drop_oldest(m, queue)
    while m[queue + Q_POSTED_COUNT] and is_over(m, m[m[queue + Q_POSTED] + O_FLIGHTS], time):
        drop_posted(m, queue)


@compiled
def drop_oldest(m: Words, queue: int) -> None:
    """The oldest entry of a queue is none any more."""
    oldest = m[queue + Q_FIRST]
    m[queue + Q_FIRST] = m[oldest + O_LATER]
    m[queue + Q_ENTRIES] -= 1
    release(m, m[oldest + O_FLIGHTS])


@compiled
def drop_posted(m: Words, queue: int) -> None:
    """The oldest receive of a port is no longer counted."""
    oldest = m[queue + Q_POSTED]
    m[queue + Q_POSTED] = m[oldest + O_LATER_POSTED]
    m[queue + Q_POSTED_COUNT] -= 1
    release(m, m[oldest + O_FLIGHTS])


@compiled
def has_room(m: Words, tile: int, queue: int) -> bool:
    """Wait until a queue in order has a place; False if it is not known yet when that will be."""
    forget_over(m, tile, queue)
    if m[queue + Q_ENTRIES] < m[H_DEPTH]:
        return True
    oldest = m[queue + Q_FIRST]
    if m[oldest + O_STARTED] == NO_RECORD:
        m[tile + T_HELD] = queue
        return False
    if m[oldest + O_START] > m[tile + T_TIME]:
        m[tile + T_TIME] = m[oldest + O_START]
        m[tile + T_RECORD] = m[oldest + O_STARTED]
    drop_oldest(m, queue)
    return True


@compiled
def retire(m: Words, tile: int) -> None:
    """Forget the oldest operations, as long as they are over: nothing that is dispatched from now on waits for them."""
    ring, time = tile + T_ALIVE, m[tile + T_TIME]
    while m[ring + RING_COUNT]:
        oldest = m[oldest_row(m, ring, 1)]
        if not is_over(m, oldest, time):
            return
        drop_row(m, ring)
        release(m, oldest)


@compiled
def make_operation(m: Words, tile: int, code: int, cost: int, operand: int, queue: int) -> int:
    """An operation that is dispatched now. Its number is one more than how many were before it on the tile."""
    retire(m, tile)
    operation = new_operation(m)
    flights = new_flights(m, operation)
    m[flights + F_REFERENCES] += 1
    m[new_row(m, tile + T_ALIVE, 1)] = flights
    m[operation + O_FLIGHTS] = flights
    m[operation + O_IS_READY] = 0
    m[H_MOST] = max(m[H_MOST], m[tile + T_ALIVE + RING_SLOTS])
    m[operation + O_START] = m[tile + T_TIME]
    m[operation + O_CAUSE] = 2 * m[tile + T_RECORD] + 1
    m[operation + O_STARTED] = NO_RECORD
    m[operation + O_UNKNOWN] = 0
    m[operation + O_TILE] = tile
    m[operation + O_CODE] = code
    m[operation + O_COST] = cost
    m[operation + O_OPERAND] = operand
    m[tile + T_SEQUENCE] += 1
    m[operation + O_SEQUENCE] = m[tile + T_SEQUENCE]
    m[operation + O_QUEUE] = queue
    m[operation + O_WINDOW] = 0
    return operation


@compiled
def advance(m: Words, k: Words, executed: Table, tile: int, code: int, cost: int) -> None:
    """The instruction has been dispatched: count it, step its address registers."""
    executed[m[tile + T_GROUP], k[cost + K_NUMBER]] += 1
    m[tile + T_TIME] += 1
    access, span = code + C_ACCESS, cost + K_SPAN
    for _ in range(k[code + C_ACCESSES]):
        if k[access + ACCESS_STEP]:
            m[tile + T_REGISTERS + k[access + ACCESS_BASE]] += k[span + SPAN_BYTES]
        access += ACCESS_SIZE
        span += SPAN_SIZE


@compiled
def find_ranges(m: Words, k: Words, tile: int, code: int, cost: int) -> int:
    """Write down the granules that the operation accesses (`Machine._ranges`); how many, or -1 for odd addresses."""
    found, granule = 0, m[H_GRANULE]
    for number in range(k[code + C_ACCESSES]):
        access, span = code + C_ACCESS + ACCESS_SIZE * number, cost + K_SPAN + SPAN_SIZE * number
        size, pitch = k[span + SPAN_BYTES], k[span + SPAN_PITCH]
        if size == 0:
            continue
        start = m[tile + T_REGISTERS + k[access + ACCESS_BASE]] + k[access + ACCESS_OFFSET]
        if not (0 <= start < LARGEST and size < LARGEST) or found == MAX_RANGES:
            return -1
        width = 0 if pitch % granule else (start % granule + k[span + SPAN_ROW] - 1) // granule + 1
        if width and max(width, pitch // granule) > MOST_GRANULES:
            return -1
        at = H_RANGES + RANGE_WORDS * found
        m[at] = start // granule
        m[at + 1] = (start + size - 1) // granule + 1
        m[at + 2] = k[access + ACCESS_WRITES]
        m[at + 3] = pitch // granule if width else 0
        m[at + 4] = width
        found += 1
    return found


@compiled
def take_buffer(m: Words, tile: int, operation: int, ranges: int) -> None:
    """Wait for what is in the way in the buffer, and take what the operation accesses."""
    board, over = m[tile + T_BUFFER], m[tile + T_ALIVE + RING_FIRST]
    sequence, flight = m[operation + O_SEQUENCE], m[operation + O_FLIGHTS]
    end = H_RANGES + RANGE_WORDS * ranges
    for at in range(H_RANGES, end, RANGE_WORDS):
        wait_for_range(m, board, operation, over, m[at], m[at + 1], m[at + 2], m[at + 3], m[at + 4])
    for at in range(H_RANGES, end, RANGE_WORDS):
        hold_range(m, board, sequence, flight, over, m[at], m[at + 1], m[at + 2], m[at + 3], m[at + 4])


@compiled
def take_arrays(m: Words, k: Words, tile: int, operation: int, cost: int) -> None:
    """The same for macro rows, which are free before the operation is over, and scales of arrays."""
    board, over = m[tile + T_CELLS], m[tile + T_ALIVE + RING_FIRST]
    end = cost + K_USE + USE_SIZE * k[cost + K_USES]
    for use in range(cost + K_USE, end, USE_SIZE):
        low, high, writes = k[use + USE_LOW], k[use + USE_HIGH], k[use + USE_WRITES]
        wait_for_range(m, board, operation, over, low, high, writes, 0, 0)
    sequence, flight = m[operation + O_SEQUENCE], m[operation + O_FLIGHTS]
    mine = flight + F_CELLS if k[cost + K_MACROS] else flight
    for use in range(cost + K_USE, end, USE_SIZE):
        low, high, writes = k[use + USE_LOW], k[use + USE_HIGH], k[use + USE_WRITES]
        hold_range(m, board, sequence, mine, over, low, high, writes, 0, 0)
        mine = flight


@compiled
def append(m: Words, first: int, latest: int, count: int, link: int, operation: int) -> None:
    """An operation is the latest of a chain, whose ends and length are kept at these places."""
    m[operation + link] = 0
    if m[count]:
        m[m[latest] + link] = operation
    else:
        m[first] = operation
    m[latest] = operation
    m[count] += 1


@compiled
def append_entry(m: Words, queue: int, operation: int) -> None:
    """An operation is the latest of its queue."""
    m[m[operation + O_FLIGHTS] + F_REFERENCES] += 1
    append(m, queue + Q_FIRST, queue + Q_LATEST, queue + Q_ENTRIES, O_LATER, operation)


@compiled
def wait_for_unit(m: Words, k: Words, queue: int, operation: int, code: int) -> None:
    """Take a place in a queue in order: behind the one before it."""
    before = m[queue + Q_BUSY]
    if before:
        wait_for(m, operation, before)
        release(m, before & -LINE)
    append_entry(m, queue, operation)
    flights = m[operation + O_FLIGHTS]
    m[queue + Q_BUSY] = flights + F_PORT if k[code + C_HAS_PORT] else flights
    m[flights + F_REFERENCES] += 1
    if k[code + C_IS_RECEIVE]:
        post_receive(m, queue, operation)


@compiled
def post_receive(m: Words, queue: int, operation: int) -> None:
    """A port has as many receives under way as it has room for in its queue."""
    if m[queue + Q_POSTED_COUNT] == m[H_DEPTH]:
        wait_for(m, operation, m[m[queue + Q_POSTED] + O_FLIGHTS])
        drop_posted(m, queue)
    m[m[operation + O_FLIGHTS] + F_REFERENCES] += 1
    latest = queue + Q_POSTED_LATEST
    append(m, queue + Q_POSTED, latest, queue + Q_POSTED_COUNT, O_LATER_POSTED, operation)


@compiled
def start_or_wait(m: Words, k: Words, queue: int, operation: int, code: int) -> None:
    """Start an operation that has been dispatched, or let it wait."""
    if m[operation + O_UNKNOWN]:
        m[H_WAITING] += 1
    elif k[code + C_IS_WINDOWED]:
        pick(m, k, queue)
    else:
        begin(m, k, operation)


@compiled
def dispatch(m: Words, k: Words, executed: Table, tile: int, code: int) -> int:
    """Hand an instruction to its unit, if that has room, and if its cost is known."""
    cost = find_cost(m, k, tile, code)
    if cost == 0:
        return UNKNOWN_COST
    if k[cost + K_NOOP]:
        advance(m, k, executed, tile, code, cost)
        return DISPATCHED
    operand = operand_of(m, k, tile, code)
    if k[code + C_KIND] == MESSAGE and not matches(m, operand, k[code + C_IS_RECEIVE]):
        return WRONG
    queue = queue_of(k, tile, code, operand)
    first_use(m, tile, queue, k[code + C_KIND], k[code + C_IS_RECEIVE])
    ranges = find_ranges(m, k, tile, code, cost)
    if ranges < 0:
        return WRONG
    is_windowed = k[code + C_IS_WINDOWED] != 0
    if not (has_room_in_window(m, tile, queue) if is_windowed else has_room(m, tile, queue)):
        return HELD
    operation = make_operation(m, tile, code, cost, operand, queue)
    take_buffer(m, tile, operation, ranges)
    if k[cost + K_USES]:
        take_arrays(m, k, tile, operation, cost)
    if is_windowed:
        append_pending(m, queue, operation)
    else:
        wait_for_unit(m, k, queue, operation, code)
    advance(m, k, executed, tile, code, cost)
    start_or_wait(m, k, queue, operation, code)
    return DISPATCHED
