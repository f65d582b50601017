"""What is accessed, and what a new access has to wait for (isa/timing/scoreboard.py).

A board is a table of chains: a range of granules (macro rows, scales) is in those of the blocks of 64 that it lies in,
by their number modulo `CHAINS`, the latest first; reads and writes have chains of their own. The reference has a list
for each block; where ends are equal, the first it comes to counts. The key of an entry says where that is: the first
block that both share, writes before reads.
"""

from __future__ import annotations

from .arena import add_waiter, release, take_lines
from .flights import hold_up
from .jit import Words, compiled
from .layout import (
    CHAIN_FIRST,
    CHAIN_LIMIT,
    CHAIN_SIZE,
    CHAINS,
    F_DONE,
    F_RECORD,
    H_SPARE,
    N_HIGH,
    N_LOW,
    N_NEXT,
    N_PITCH,
    N_SIZE,
    N_WHO,
    N_WIDTH,
    NO_RECORD,
    O_CELLS,
    O_REFERENCES,
    O_UNKNOWN,
    PENDING,
)

BLOCK = 6  # bits of the reference's blocks


@compiled
def chain_of(board: int, block: int, writes: int) -> int:
    """Where the chain of a block's reads or writes begins."""
    return board + CHAIN_SIZE * (2 * (block & (CHAINS - 1)) + writes)


@compiled
def last_block(low: int, high: int) -> int:
    """The last block of a range, or the one from which on it comes to the same chains again."""
    return min((high - 1) >> BLOCK, (low >> BLOCK) + CHAINS - 1)


@compiled
def are_apart(m: Words, entry: int, low: int, pitch: int, width: int) -> bool:
    """Whether two blocks of rows lie in different columns."""
    if not pitch or m[entry + N_PITCH] != pitch:
        return False
    between = m[entry + N_LOW] - low
    return between % pitch >= width and -between % pitch >= m[entry + N_WIDTH]


@compiled
def is_covered(m: Words, entry: int, low: int, high: int, pitch: int) -> bool:
    """Whether a write takes the place of an entry."""
    if pitch:
        is_same = m[entry + N_LOW] == low and m[entry + N_HIGH] == high
        return is_same and m[entry + N_PITCH] == pitch
    return low <= m[entry + N_LOW] and m[entry + N_HIGH] <= high


@compiled
def flight_of(who: int) -> int:
    """The flight that an entry says: an operation's own, or that of its macro rows."""
    return (who >> 2) + (O_CELLS if who & 2 else 0)


@compiled
def unlink(m: Words, place: int) -> None:
    """Take an entry out of a chain; `place` is what points to it."""
    entry = m[place]
    m[place] = m[entry + N_NEXT]
    m[entry + N_NEXT] = m[H_SPARE]
    m[H_SPARE] = entry
    release(m, m[entry + N_WHO] >> 2)


@compiled
def prune(m: Words, chain: int, time: int) -> None:
    """Take what is over by `time` out of a chain: nothing that is dispatched later can wait for it."""
    place, left = chain + CHAIN_FIRST, 0
    while m[place]:
        done = m[flight_of(m[m[place] + N_WHO]) + F_DONE]
        if done != PENDING and done <= time:
            unlink(m, place)
        else:
            left += 1
            place = m[place] + N_NEXT
    m[chain + CHAIN_LIMIT] = max(m[chain + CHAIN_LIMIT], 2 * left)


@compiled
def wait_for_entry(
    m: Words, entry: int, operation: int, key: int, latest: int, latest_key: int, record: int
) -> tuple[int, int, int]:
    """Wait for an entry: the latest end that is known, its key, and its record."""
    flight = flight_of(m[entry + N_WHO])
    done = m[flight + F_DONE]
    if done == PENDING:
        add_waiter(m, flight, operation)
        m[operation + O_UNKNOWN] += 1
    elif done > latest or (done == latest and key <= latest_key):
        return done, key, m[flight + F_RECORD]
    return latest, latest_key, record


@compiled
def wait_for_chain(
    m: Words,
    chain: int,
    block: int,
    operation: int,
    low: int,
    high: int,
    covers: bool,
    pitch: int,
    width: int,
    latest: int,
    latest_key: int,
    record: int,
) -> tuple[int, int, int, int]:
    """Wait for what an access meets in a chain; if it `covers`, it takes the place of what lies in it. The latest end
    that is known, its key and record, and how long the chain is."""
    place, length = chain + CHAIN_FIRST, 0
    entry = m[place]
    while entry:
        length += 1
        following = m[entry + N_NEXT]
        if m[entry + N_LOW] < high and low < m[entry + N_HIGH]:
            shared = max(low, m[entry + N_LOW]) >> BLOCK
            if (shared ^ block) & (CHAINS - 1) == 0 and not are_apart(m, entry, low, pitch, width):
                key = 2 * shared + 1 - (m[entry + N_WHO] & 1)
                latest, latest_key, record = wait_for_entry(
                    m, entry, operation, key, latest, latest_key, record
                )
            if covers and is_covered(m, entry, low, high, pitch):
                unlink(m, place)
                entry = following
                continue
        place = entry + N_NEXT
        entry = following
    return latest, latest_key, record, length


@compiled
def wait_for_range(
    m: Words, board: int, operation: int, time: int, low: int, high: int, writes: int, pitch: int, width: int
) -> None:
    """An operation waits for all on the board that it meets: reads for writes, writes for both."""
    latest, latest_key, record = PENDING, 0, NO_RECORD
    for block in range(low >> BLOCK, last_block(low, high) + 1):
        for kind in range(0 if writes else 1, 2):
            chain = chain_of(board, block, kind)
            if m[chain + CHAIN_FIRST] == 0:
                continue
            latest, latest_key, record, length = wait_for_chain(
                m, chain, block, operation, low, high, writes != 0, pitch, width, latest, latest_key, record
            )
            if length > m[chain + CHAIN_LIMIT]:
                prune(m, chain, time)
    if latest != PENDING:
        hold_up(m, operation, latest, record)


@compiled
def cover_own(m: Words, chain: int, operation: int, low: int, high: int, pitch: int) -> None:
    """A write takes the place of what it covers of its own operation's accesses: the first in a chain."""
    place = chain + CHAIN_FIRST
    while m[place] and m[m[place] + N_WHO] >> 2 == operation:
        if is_covered(m, m[place], low, high, pitch):
            unlink(m, place)
        else:
            place = m[place] + N_NEXT


@compiled
def new_entry(m: Words) -> int:
    """A row for an entry."""
    entry = m[H_SPARE]
    if entry:
        m[H_SPARE] = m[entry + N_NEXT]
        return entry
    return take_lines(m, N_SIZE)


@compiled
def hold_range(
    m: Words, board: int, who: int, low: int, high: int, writes: int, pitch: int, width: int
) -> None:
    """Put an access on the board."""
    for block in range(low >> BLOCK, last_block(low, high) + 1):
        if writes:
            cover_own(m, chain_of(board, block, 0), who >> 2, low, high, pitch)
            cover_own(m, chain_of(board, block, 1), who >> 2, low, high, pitch)
        entry, chain = new_entry(m), chain_of(board, block, writes)
        m[entry + N_LOW] = low
        m[entry + N_HIGH] = high
        m[entry + N_WHO] = who | writes
        m[entry + N_PITCH] = pitch
        m[entry + N_WIDTH] = width
        m[entry + N_NEXT] = m[chain + CHAIN_FIRST]
        m[chain + CHAIN_FIRST] = entry
        m[(who >> 2) + O_REFERENCES] += 1
