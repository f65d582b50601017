"""Messages between tiles (runtime/engine/network.py): blocks of words in an arena of their own, in queues of channels.

A message is kept once, however many tiles are to get it; each receiver's end knows its next one.
"""

from __future__ import annotations

from . import functions as fn
from . import layout as at
from .jit import compiled, copy_bytes
from .moves import rows_written, span_of
from .operands import is_size, number, place_of
from .state import State

_FIRST_SIZE = 3  # log2 of the words of the smallest block


@compiled
def wake(s: State, tile: int) -> None:
    """A tile can go on, unless it has finished or is known to be ready; the host (0) is not one."""
    if not tile or s.m[tile + at.V_FINISHED]:
        return
    number = s.m[tile + at.V_NUMBER]
    if not s.m[s.m[at.H_READY] + number]:
        s.m[s.m[at.H_READY] + number] = 1
        s.m[at.H_READY_COUNT] += 1
        s.m[at.H_READY_FIRST] = min(s.m[at.H_READY_FIRST], number)


@compiled
def new_block(s: State, words: int) -> int:
    """A block for a message of so many words; 0 if the arena has no room."""
    size = _FIRST_SIZE
    while (1 << size) < words + at.Q_WORDS:
        size += 1
    block = s.m[at.H_FREE + size]
    if block:
        s.m[at.H_FREE + size] = s.q[block + at.Q_NEXT]
    else:
        block = s.m[at.H_USED]
        if block + (1 << size) > s.q.size:
            return 0
        s.m[at.H_USED] += 1 << size
    s.q[block + at.Q_NEXT], s.q[block + at.Q_SIZE], s.q[block + at.Q_ROOM] = 0, words, size
    return int(block)


@compiled
def forget(s: State, block: int) -> None:
    """Nobody needs a message any more."""
    size = at.H_FREE + s.q[block + at.Q_ROOM]
    s.q[block + at.Q_NEXT] = s.m[size]
    s.m[size] = block


@compiled
def deliver(s: State, channel: int, block: int) -> None:
    """Put a message into the queues of all receivers."""
    count, inboxes, last = (
        s.m[channel + at.X_INBOX_COUNT],
        s.m[channel + at.X_INBOXES],
        s.m[channel + at.X_LAST],
    )
    if not count:
        forget(s, block)
        return
    s.q[block + at.Q_NEXT], s.q[block + at.Q_LEFT] = 0, count
    if last:
        s.q[last + at.Q_NEXT] = block
    s.m[channel + at.X_LAST] = block
    for inbox in range(inboxes, inboxes + count * at.I_SIZE, at.I_SIZE):
        if not s.m[inbox + at.I_NEXT]:
            s.m[inbox + at.I_NEXT] = block
        wake(s, s.m[inbox + at.I_TILE])


@compiled
def combine(s: State, to: int, other: int, reduce: int) -> None:
    """Combine a message with another, in its own words."""
    words = s.q[to + at.Q_SIZE]
    a = s.qf[to + at.Q_WORDS : to + at.Q_WORDS + words]
    b = s.qf[other + at.Q_WORDS : other + at.Q_WORDS + words]
    if reduce == at.REDUCE_MAX:
        for j in range(words):
            a[j] = fn.larger(a[j], b[j])
    else:
        for j in range(words):
            a[j] = a[j] + b[j]


@compiled
def reduced(s: State, channel: int) -> int:
    """The first messages of all sources combined, neighbours first; an odd last one waits a level."""
    sources, count = s.m[channel + at.X_SOURCES], s.m[channel + at.X_SOURCE_COUNT]
    level = s.m[channel + at.X_LEVEL : channel + at.X_LEVEL + count]
    for which in range(count):
        source = sources + which * at.S_SIZE
        block = s.m[source + at.S_FIRST]
        level[which] = block
        s.m[source + at.S_FIRST] = s.q[block + at.Q_NEXT]
    while count > 1:
        pairs = count // 2
        for pair in range(pairs):
            combine(s, level[2 * pair], level[2 * pair + 1], s.m[channel + at.X_REDUCE])
            forget(s, level[2 * pair + 1])
            level[pair] = level[2 * pair]
        if count % 2:
            level[pairs] = level[count - 1]
        count = pairs + count % 2
    return int(level[0])


@compiled
def fits(s: State, source: int, words: int) -> bool:
    """Whether a message of a source has as many words as those that it is to be combined with, if it is now."""
    channel = s.m[source + at.S_CHANNEL]
    if s.m[source + at.S_FIRST]:
        return True
    first, count = s.m[channel + at.X_SOURCES], s.m[channel + at.X_SOURCE_COUNT]
    is_equal = True
    for other in range(first, first + count * at.S_SIZE, at.S_SIZE):
        if other != source:
            block = s.m[other + at.S_FIRST]
            if not block:
                return True
            is_equal = is_equal and s.q[block + at.Q_SIZE] == words
    return is_equal


@compiled
def put(s: State, source: int, block: int) -> None:
    """Take a message from a source; deliver what is complete."""
    channel = s.m[source + at.S_CHANNEL]
    if s.m[channel + at.X_SOURCE_COUNT] == 1:
        deliver(s, channel, block)
        return
    if s.m[source + at.S_FIRST]:
        s.q[s.m[source + at.S_LAST] + at.Q_NEXT] = block
    else:
        s.m[source + at.S_FIRST] = block
    s.m[source + at.S_LAST] = block
    first, count = s.m[channel + at.X_SOURCES], s.m[channel + at.X_SOURCE_COUNT]
    for other in range(first, first + count * at.S_SIZE, at.S_SIZE):
        if not s.m[other + at.S_FIRST]:
            return
    deliver(s, channel, reduced(s, channel))


@compiled
def take(s: State, inbox: int) -> int:
    """The next message of a receiver, which is no longer its next; `taken` when its words have been copied."""
    block = s.m[inbox + at.I_NEXT]
    s.m[inbox + at.I_NEXT] = s.q[block + at.Q_NEXT]
    return int(block)


@compiled
def taken(s: State, inbox: int, block: int) -> None:
    """A receiver has its message."""
    s.q[block + at.Q_LEFT] -= 1
    if not s.q[block + at.Q_LEFT]:
        channel = s.m[inbox + at.I_CHANNEL]
        if s.m[channel + at.X_LAST] == block:
            s.m[channel + at.X_LAST] = 0
        forget(s, block)


# --------------------------------------------------------------------------------------------------- instructions


@compiled
def end_of(s: State, tile: int, code: int, way: int) -> int:
    """The source, inbox or barrier at the port that an instruction means; 0 if there is none of this kind."""
    which = s.k[code + at.U_PLACE] + s.m[tile + at.T_REGISTERS + s.k[code + at.U_PLACE_BASE]]
    if not 0 <= which < s.m[tile + at.V_PORT_COUNT]:
        return 0
    port = s.m[tile + at.V_PORTS] + at.PORT_SIZE * which
    return s.k[port + at.PORT_END] if s.k[port + at.PORT_WAY] == way else 0


@compiled
def run_send(s: State, tile: int, code: int) -> int:
    """`send`: address src; numbers n, cols, pitch."""
    n, cols, pitch = number(s, tile, code, 0), number(s, tile, code, 1), number(s, tile, code, 2)
    end = end_of(s, tile, code, at.WAY_OUT)
    if not end or not is_size(n, cols):
        return at.TROUBLE
    x = place_of(s, tile, code, 0, span_of(n, cols, pitch)) if n and cols else 0
    if x < 0 or (n and cols and not rows_written(s, x, n, cols, pitch)) or not fits(s, end, n * cols):
        return at.TROUBLE
    block = new_block(s, n * cols)
    if not block:
        return at.GROW
    to, origin = s.q.ctypes.data + 4 * (block + at.Q_WORDS), s.i.ctypes.data + 4 * x
    step = 4 * (pitch if pitch else cols)
    for row in range(n):
        copy_bytes(to + 4 * row * cols, origin + row * step, 4 * cols)
    put(s, end, block)
    return at.DONE


@compiled
def run_barrier(s: State, tile: int, code: int) -> int:
    """`barrier`: the tile waits until all have come."""
    barrier = end_of(s, tile, code, at.WAY_BARRIER)
    if not barrier:
        return at.TROUBLE
    s.m[tile + at.V_BARRIER], s.m[tile + at.V_AWAITED] = barrier, s.m[barrier + at.B_OPENED] + 1
    s.m[barrier + at.B_ARRIVED] += 1
    count = s.m[barrier + at.B_COUNT]
    if s.m[barrier + at.B_ARRIVED] == count:
        s.m[barrier + at.B_ARRIVED] = 0
        s.m[barrier + at.B_OPENED] += 1
        for member in range(count):
            wake(s, s.m[s.m[barrier + at.B_MEMBERS] + member])
    return at.DONE
