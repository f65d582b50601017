"""Operations start: the units of a tile (isa/timing/units.py), and posts to messages (runtime/timing/messages.py)."""

from __future__ import annotations

from .agenda import push
from .arena import add_record
from .flights import NUMBER, finish, free_cells, free_port, name_of, row_of
from .jit import Items, Words, compiled
from .layout import (
    CIM,
    COPY,
    D_BUSY,
    D_DONE,
    D_MACROS,
    D_PORT,
    E_BYTES,
    E_EARLY,
    E_POST,
    E_SIZE,
    E_START,
    E_STARTED,
    H_BUSY_CIM,
    H_BUSY_DMA,
    H_BUSY_MACROS,
    H_BUSY_VECTOR,
    HOST,
    I_BYTES,
    I_DURATIONS,
    I_HAS_PORT,
    I_HEAD,
    I_KIND,
    I_OPERAND,
    I_RECEIVES,
    I_WHAT,
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
    NUMBER_BITS,
    O_CAUSE,
    O_CELLS,
    O_ITEM,
    O_START,
    PORT_END,
    PORT_MEETING,
    PORT_SIZE,
    TILE_CIM_UNTIL,
    TILE_INDEX,
    TILE_PORTS,
    TRANSFER,
    TRANSMIT,
    VECTOR,
)

NO_SIZE = -1  # the host says nothing about a message's size


@compiled
def start_cim(m: Words, t: Items, k: Words, tile: int, number: int, operation: int) -> None:
    """The port is free before the macro rows are, and those before the results are there."""
    item, start, record = m[operation + O_ITEM], m[operation + O_START], m[operation + O_CAUSE]
    cost = t[item + I_DURATIONS]
    if t[item + I_HEAD] & I_HAS_PORT:
        free_port(m, t, tile, number, operation, start + k[cost + D_PORT], record)
    if k[cost + D_MACROS]:
        free_cells(m, t, tile, number, operation, start + k[cost + D_BUSY])
    m[H_BUSY_MACROS] += k[cost + D_MACROS] * k[cost + D_BUSY]
    end = start + k[cost + D_DONE]
    m[H_BUSY_CIM] += max(0, end - max(start, m[tile + TILE_CIM_UNTIL]))
    m[tile + TILE_CIM_UNTIL] = max(m[tile + TILE_CIM_UNTIL], end)
    finish(m, t, tile, number, operation, end, record)


@compiled
def start_vector(m: Words, t: Items, k: Words, tile: int, number: int, operation: int) -> None:
    """The vector unit is a pipeline: what comes next can enter it before the results are there."""
    item, start, record = m[operation + O_ITEM], m[operation + O_START], m[operation + O_CAUSE]
    cost = t[item + I_DURATIONS]
    m[H_BUSY_VECTOR] += k[cost + D_BUSY]
    if t[item + I_HEAD] & I_HAS_PORT:
        free_port(m, t, tile, number, operation, start + k[cost + D_PORT], record)
    finish(m, t, tile, number, operation, start + k[cost + D_DONE], record)


@compiled
def start_copy(m: Words, t: Items, k: Words, tile: int, number: int, operation: int) -> None:
    """The DMA engine copies within the buffer."""
    done = k[t[m[operation + O_ITEM] + I_DURATIONS] + D_DONE]
    m[H_BUSY_DMA] += done
    finish(m, t, tile, number, operation, m[operation + O_START] + done, m[operation + O_CAUSE])


# ------------------------------------------------------------------------------------------------- messages


@compiled
def fill_end(m: Words, t: Items, end: int, name: int) -> None:
    """An operation has come to the next message of an end."""
    operation = row_of(m, name)
    m[end + E_POST] = name
    m[end + E_START] = m[operation + O_START]
    m[end + E_STARTED] = m[operation + O_CAUSE]
    m[end + E_BYTES] = t[m[operation + O_ITEM] + I_BYTES]


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
    end, last, first = m[meeting + M_ENDS], 0, 0
    for _ in range(m[meeting + M_END_COUNT]):
        if m[end + E_POST]:
            first = first if first else m[end + E_POST]
            last = end if last == 0 or m[end + E_START] > m[last + E_START] else last
        end += E_SIZE
    m[meeting + M_LAST] = last
    return first


@compiled
def meet(m: Words, meeting: int) -> None:
    """All have come to a message: it takes its turn."""
    first = take_message(m, meeting)
    is_from_tile = m[m[meeting + M_ENDS] + E_POST] != 0  # otherwise the host sends
    at = max(m[m[meeting + M_LAST] + E_START], m[meeting + M_HOST_AT])
    if is_from_tile:
        push(m, at, first >> NUMBER_BITS, first & NUMBER, TRANSMIT, meeting)
    else:
        push(m, at, HOST, m[meeting + M_NUMBER], TRANSMIT, meeting)


@compiled
def post_message(m: Words, t: Items, tile: int, number: int, operation: int) -> None:
    """A tile has come to a message, or to a later one; if it is the last to come, the message takes its turn."""
    port = m[tile + TILE_PORTS] + PORT_SIZE * t[m[operation + O_ITEM] + I_OPERAND]
    meeting = m[port + PORT_MEETING]
    end = m[port + PORT_END]
    if m[end + E_POST]:
        m[end + E_EARLY] += 1
    else:
        fill_end(m, t, end, name_of(m, tile, number))
        m[meeting + M_POSTS] += 1
    if is_complete(m, meeting):
        meet(m, meeting)


# ------------------------------------------------------------------------------------------------- all of them


@compiled
def begin(m: Words, t: Items, k: Words, tile: int, number: int, operation: int) -> None:
    """Start an operation, now that it is known when."""
    item, cause = m[operation + O_ITEM], m[operation + O_CAUSE]
    head, start = t[item + I_HEAD], m[operation + O_START]
    record = add_record(m, start, cause >> 1, m[tile + TILE_INDEX], t[item + I_WHAT] | cause & 1)
    m[operation + O_CAUSE] = record
    m[operation + O_CELLS] = 0
    if head & I_RECEIVES:  # the next one at its port can be posted
        free_port(m, t, tile, number, operation, start, record)
    kind = head & I_KIND
    if kind == VECTOR:
        start_vector(m, t, k, tile, number, operation)
    elif kind == CIM:
        start_cim(m, t, k, tile, number, operation)
    elif kind == COPY:
        start_copy(m, t, k, tile, number, operation)
    elif kind == MEMORY:
        push(m, start, m[tile + TILE_INDEX], number, TRANSFER, name_of(m, tile, number))
    else:
        post_message(m, t, tile, number, operation)
