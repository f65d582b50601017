"""What is accessed, and what a new access has to wait for (isa/timing/scoreboard.py).

A board is a table of lists: a range of granules (macro rows, scales) is in those of the blocks of 64 that it lies in,
by their number modulo `LISTS`, the latest last; reads and writes have lists of their own. The reference has a list
for each block; where ends are equal, the first it comes to counts. The key of an entry says where that is: the first
block that both share, writes before reads.

A list is one piece, so that it is read as fast as memory allows; whether an entry's operation is over says its number
in the tile, without a look at it (`T_ALIVE`). What is over is left out whenever a list is gone through.
"""

from __future__ import annotations

from .arena import add_waiter, take_lines
from .flights import hold_up
from .jit import Words, compiled
from .layout import (
    F_DONE,
    F_RECORD,
    H_MOST,
    LIST_COUNTS,
    LIST_PLACE,
    LIST_ROOM,
    LIST_SIZE,
    LISTS,
    MOST_GRANULES,
    N_FLIGHT,
    N_HIGH,
    N_LOW,
    N_SIZE,
    N_WHEN,
    NO_RECORD,
    O_UNKNOWN,
    PENDING,
    WHEN_PITCH,
    WHEN_SEQUENCE,
)

BLOCK = 6  # bits of the reference's blocks
FIRST_ROOM = 4  # entries
COUNT = (1 << LIST_ROOM) - 1


@compiled
def list_of(board: int, block: int, writes: int) -> int:
    """Where the list of a block's reads or writes is told."""
    return board + LIST_SIZE * (2 * (block & (LISTS - 1)) + writes)


@compiled
def last_block(low: int, high: int) -> int:
    """The last block of a range, or the one from which on it comes to the same lists again."""
    return min((high - 1) >> BLOCK, (low >> BLOCK) + LISTS - 1)


@compiled
def are_apart(m: Words, entry: int, low: int, pitch: int, width: int) -> bool:
    """Whether two blocks of rows lie in different columns."""
    if not pitch or m[entry + N_WHEN] >> WHEN_PITCH & MOST_GRANULES != pitch:
        return False
    between = m[entry + N_LOW] - low
    return between % pitch >= width and -between % pitch >= m[entry + N_WHEN] & MOST_GRANULES


@compiled
def is_covered(m: Words, entry: int, low: int, high: int, pitch: int) -> bool:
    """Whether a write takes the place of an entry."""
    if pitch:
        is_same = m[entry + N_LOW] == low and m[entry + N_HIGH] == high
        return is_same and m[entry + N_WHEN] >> WHEN_PITCH & MOST_GRANULES == pitch
    return low <= m[entry + N_LOW] and m[entry + N_HIGH] <= high


@compiled
def copy_entry(m: Words, place: int, entry: int) -> None:
    """Put an entry elsewhere, too."""
    for word in range(N_SIZE):
        m[place + word] = m[entry + word]


@compiled
def set_count(m: Words, entries: int, left: int) -> None:
    """A list ends before the place `left`."""
    room = m[entries + LIST_COUNTS] >> LIST_ROOM
    m[entries + LIST_COUNTS] = room << LIST_ROOM | (left - m[entries + LIST_PLACE]) // N_SIZE


@compiled
def wait_for_entry(
    m: Words, entry: int, operation: int, key: int, latest: int, latest_key: int, record: int
) -> tuple[int, int, int]:
    """Wait for an entry: the latest end that is known, its key, and its record."""
    flight = m[entry + N_FLIGHT]
    done = m[flight + F_DONE]
    if done < 0:
        add_waiter(m, flight, operation)
        m[operation + O_UNKNOWN] += 1
    elif done > latest or (done == latest and key < latest_key):
        return done, key, m[flight + F_RECORD]
    return latest, latest_key, record


@compiled
def wait_for_list(
    m: Words,
    entries: int,
    block: int,
    is_read: int,
    operation: int,
    over: int,
    low: int,
    high: int,
    covers: bool,
    pitch: int,
    width: int,
    latest: int,
    latest_key: int,
    record: int,
) -> tuple[int, int, int]:
    """Wait for what an access meets in a list; if it `covers`, it takes the place of what lies in it. The latest end
    that is known, its key and record."""
    left = m[entries + LIST_PLACE]
    for entry in range(left, left + N_SIZE * (m[entries + LIST_COUNTS] & COUNT), N_SIZE):
        if m[entry + N_WHEN] >> WHEN_SEQUENCE <= over:
            continue
        if m[entry + N_LOW] < high and low < m[entry + N_HIGH]:
            shared = max(low, m[entry + N_LOW]) >> BLOCK
            if (shared ^ block) & (LISTS - 1) == 0 and not are_apart(m, entry, low, pitch, width):
                key = 2 * shared + is_read
                latest, latest_key, record = wait_for_entry(
                    m, entry, operation, key, latest, latest_key, record
                )
            if covers and is_covered(m, entry, low, high, pitch):
                continue
        if left != entry:
            copy_entry(m, left, entry)
        left += N_SIZE
    set_count(m, entries, left)
    return latest, latest_key, record


@compiled
def wait_for_range(
    m: Words, board: int, operation: int, over: int, low: int, high: int, writes: int, pitch: int, width: int
) -> None:
    """An operation waits for all on the board that it meets: reads for writes, writes for both. Operations up to number
    `over` are over."""
    latest, latest_key, record = PENDING, 0, NO_RECORD
    for block in range(low >> BLOCK, last_block(low, high) + 1):
        for kind in range(0 if writes else 1, 2):
            entries = list_of(board, block, kind)
            if m[entries + LIST_COUNTS] & COUNT:
                latest, latest_key, record = wait_for_list(
                    *(m, entries, block, 1 - kind, operation, over, low, high, writes != 0, pitch, width),
                    *(latest, latest_key, record),
                )
    if latest != PENDING:
        hold_up(m, operation, latest, record)


@compiled
def cover_own(m: Words, entries: int, sequence: int, low: int, high: int, pitch: int) -> None:
    """A write takes the place of what it covers of its own operation's accesses: the last in a list."""
    first = m[entries + LIST_PLACE]
    end = first + N_SIZE * (m[entries + LIST_COUNTS] & COUNT)
    entry = end
    while entry > first and m[entry - N_SIZE + N_WHEN] >> WHEN_SEQUENCE == sequence:
        entry -= N_SIZE
    left = entry
    while entry < end:
        if not is_covered(m, entry, low, high, pitch):
            copy_entry(m, left, entry)
            left += N_SIZE
        entry += N_SIZE
    set_count(m, entries, left)


@compiled
def make_room(m: Words, entries: int, over: int) -> None:
    """See to it that a list has room for one more: leave out what is over, or take a piece twice as large."""
    place, count = m[entries + LIST_PLACE], m[entries + LIST_COUNTS] & COUNT
    left = place
    for entry in range(place, place + N_SIZE * count, N_SIZE):
        if m[entry + N_WHEN] >> WHEN_SEQUENCE > over:
            copy_entry(m, left, entry)
            left += N_SIZE
    set_count(m, entries, left)
    kept = (left - place) // N_SIZE
    if 2 * kept <= count and count:
        return
    room = max(2 * count, FIRST_ROOM)
    new = take_lines(m, N_SIZE * room)
    for word in range(N_SIZE * kept):
        m[new + word] = m[place + word]
    m[entries + LIST_PLACE] = new
    m[entries + LIST_COUNTS] = room << LIST_ROOM | kept
    m[H_MOST] = max(m[H_MOST], N_SIZE * room)


@compiled
def hold_range(
    m: Words,
    board: int,
    sequence: int,
    flight: int,
    over: int,
    low: int,
    high: int,
    writes: int,
    pitch: int,
    width: int,
) -> None:
    """Put an access of an operation with this number on the board, until a flight is over."""
    when = sequence << WHEN_SEQUENCE | pitch << WHEN_PITCH | width
    for block in range(low >> BLOCK, last_block(low, high) + 1):
        if writes:
            cover_own(m, list_of(board, block, 0), sequence, low, high, pitch)
            cover_own(m, list_of(board, block, 1), sequence, low, high, pitch)
        entries = list_of(board, block, writes)
        counts = m[entries + LIST_COUNTS]
        if counts & COUNT == counts >> LIST_ROOM:
            make_room(m, entries, over)
        count = m[entries + LIST_COUNTS] & COUNT
        m[entries + LIST_COUNTS] += 1
        entry = m[entries + LIST_PLACE] + N_SIZE * count
        m[entry + N_LOW] = low
        m[entry + N_HIGH] = high
        m[entry + N_FLIGHT] = flight
        m[entry + N_WHEN] = when
