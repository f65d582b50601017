"""Operations start: the units of a tile (isa/timing/units.py), and posts to messages (runtime/timing/messages.py)."""

from __future__ import annotations

from .arena import add_record
from .flights import finish, push, resolve
from .jit import Words, compiled
from .layout import (
    C_BOUND,
    C_HAS_PORT,
    C_INDEX,
    C_IS_RECEIVE,
    C_KIND,
    CIM,
    COPY,
    E_EARLY,
    E_EARLY_LATEST,
    E_POST,
    E_SIZE,
    F_CELLS,
    F_PORT,
    H_BUSY_CIM,
    H_BUSY_DMA,
    H_BUSY_MACROS,
    H_BUSY_VECTOR,
    HOST,
    K_BUSY,
    K_DONE,
    K_MACROS,
    K_PORT,
    M_END_COUNT,
    M_ENDS,
    M_GATHERING,
    M_HAS_HOST,
    M_HOST_AT,
    M_HOST_COUNT,
    M_HOST_SIZE,
    M_HOST_SIZES,
    M_IS_BARRIER,
    M_LAST,
    M_NEEDED,
    M_NUMBER,
    M_POSTS,
    M_SERVED,
    MEMORY,
    O_CAUSE,
    O_CODE,
    O_COST,
    O_FLIGHTS,
    O_NEXT,
    O_OPERAND,
    O_SEQUENCE,
    O_START,
    O_STARTED,
    O_TILE,
    Q_END,
    Q_MEETING,
    T_CIM_UNTIL,
    T_INDEX,
    TRANSFER,
    TRANSMIT,
    VECTOR,
)

NO_SIZE = -1  # the host says nothing about a message's size


@compiled
def start_cim(m: Words, k: Words, operation: int) -> None:
    """The port is free before the macro rows are, and those before the results are there."""
    tile, cost = m[operation + O_TILE], m[operation + O_COST]
    start, record = m[operation + O_START], m[operation + O_STARTED]
    if k[m[operation + O_CODE] + C_HAS_PORT]:
        resolve(m, m[operation + O_FLIGHTS] + F_PORT, start + k[cost + K_PORT], record)
    if k[cost + K_MACROS]:
        resolve(m, m[operation + O_FLIGHTS] + F_CELLS, start + k[cost + K_BUSY], record)
    m[H_BUSY_MACROS] += k[cost + K_MACROS] * k[cost + K_BUSY]
    end = start + k[cost + K_DONE]
    m[H_BUSY_CIM] += max(0, end - max(start, m[tile + T_CIM_UNTIL]))
    m[tile + T_CIM_UNTIL] = max(m[tile + T_CIM_UNTIL], end)
    finish(m, operation, end, record)


@compiled
def start_vector(m: Words, k: Words, operation: int) -> None:
    """The vector unit is a pipeline: what comes next can enter it before the results are there."""
    cost, start, record = m[operation + O_COST], m[operation + O_START], m[operation + O_STARTED]
    m[H_BUSY_VECTOR] += k[cost + K_BUSY]
    if k[m[operation + O_CODE] + C_HAS_PORT]:
        resolve(m, m[operation + O_FLIGHTS] + F_PORT, start + k[cost + K_PORT], record)
    finish(m, operation, start + k[cost + K_DONE], record)


@compiled
def start_copy(m: Words, k: Words, operation: int) -> None:
    """The DMA engine copies within the buffer."""
    done = k[m[operation + O_COST] + K_DONE]
    m[H_BUSY_DMA] += done
    finish(m, operation, m[operation + O_START] + done, m[operation + O_STARTED])


# ------------------------------------------------------------------------------------------------- messages


@compiled
def put_post(m: Words, meeting: int, end: int, operation: int) -> None:
    """Someone has come to its next message, or to a later one."""
    place = m[meeting + M_ENDS] + E_SIZE * end
    if m[place + E_POST] == 0:
        m[place + E_POST] = operation
        m[meeting + M_POSTS] += 1
        return
    m[operation + O_NEXT] = 0
    if m[place + E_EARLY]:
        m[m[place + E_EARLY_LATEST] + O_NEXT] = operation
    else:
        m[place + E_EARLY] = operation
    m[place + E_EARLY_LATEST] = operation


@compiled
def is_complete(m: Words, meeting: int) -> bool:
    """Everyone has come, and the message before has left."""
    if not m[meeting + M_GATHERING] or m[meeting + M_POSTS] != m[meeting + M_NEEDED]:
        return False
    if not m[meeting + M_HAS_HOST] or m[meeting + M_IS_BARRIER]:
        return True
    return m[meeting + M_SERVED] < m[meeting + M_HOST_COUNT]


@compiled
def take_message(m: Words, meeting: int) -> int:
    """The next message is on its way: what the host says of its size; the operation at its first end."""
    size = NO_SIZE
    if m[meeting + M_HAS_HOST] and m[meeting + M_HOST_COUNT]:
        size = m[m[meeting + M_HOST_SIZES] + m[meeting + M_SERVED]]
    m[meeting + M_HOST_SIZE] = size
    m[meeting + M_SERVED] += 1
    m[meeting + M_GATHERING] = 0
    ends, last, first = m[meeting + M_ENDS], 0, 0
    for end in range(m[meeting + M_END_COUNT]):
        post = m[ends + E_SIZE * end + E_POST]
        if post:
            first = first if first else post
            last = post if last == 0 or m[post + O_START] > m[last + O_START] else last
    m[meeting + M_LAST] = last
    return first


@compiled
def meet(m: Words, meeting: int) -> None:
    """All have come to a message: it takes its turn."""
    first = take_message(m, meeting)
    is_from_tile = m[m[meeting + M_ENDS] + E_POST] != 0  # otherwise the host sends
    at = max(m[m[meeting + M_LAST] + O_START], m[meeting + M_HOST_AT])
    if is_from_tile:
        push(m, at, m[m[first + O_TILE] + T_INDEX], m[first + O_SEQUENCE], TRANSMIT, meeting)
    else:
        push(m, at, HOST, m[meeting + M_NUMBER], TRANSMIT, meeting)


@compiled
def post_message(m: Words, operation: int) -> None:
    """A tile has come to a message; if it is the last one, the message takes its turn."""
    queue = m[operation + O_OPERAND]
    meeting = m[queue + Q_MEETING]
    put_post(m, meeting, m[queue + Q_END], operation)
    if is_complete(m, meeting):
        meet(m, meeting)


# ------------------------------------------------------------------------------------------------- all of them


@compiled
def begin(m: Words, k: Words, operation: int) -> None:
    """Start an operation, now that it is known when."""
    code, tile = m[operation + O_CODE], m[operation + O_TILE]
    record = add_record(
        m,
        m[operation + O_START],
        m[operation + O_CAUSE] >> 1,
        m[operation + O_CAUSE] & 1,
        m[tile + T_INDEX],
        k[code + C_INDEX],
        k[code + C_BOUND],
    )
    m[operation + O_STARTED] = record
    if k[code + C_IS_RECEIVE]:  # the next one at its port can be posted
        resolve(m, m[operation + O_FLIGHTS] + F_PORT, m[operation + O_START], record)
    kind = k[code + C_KIND]
    if kind == CIM:
        start_cim(m, k, operation)
    elif kind == VECTOR:
        start_vector(m, k, operation)
    elif kind == COPY:
        start_copy(m, k, operation)
    elif kind == MEMORY:
        push(m, m[operation + O_START], m[tile + T_INDEX], m[operation + O_SEQUENCE], TRANSFER, operation)
    else:
        post_message(m, operation)
