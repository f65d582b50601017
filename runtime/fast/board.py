"""What is accessed, and what a new access has to wait for (isa/timing/scoreboard.py).

A board is a table of lists: a range of granules (macro rows, scales) is in those of the blocks of 64 that it lies in,
by their number modulo `LISTS`, the latest last; reads and writes have lists of their own. The reference has a list
for each block; where ends are equal, the first it comes to counts. The key of an entry says where that is: the first
block that both share, writes before reads.

What an access has to wait for does not depend on time, but for what is over by then: an entry is kept until as many
operations have come behind it as may be under way at once (`H_REACH`).
"""

from __future__ import annotations

from .arena import take_lines
from .jit import Words, compiled
from .layout import (
    B_DEPENDENCE_COUNT,
    B_DEPENDENCES,
    B_FOUND,
    B_FOUND_COUNT,
    H_MOST,
    LIST_COUNTS,
    LIST_PLACE,
    LIST_ROOM,
    LIST_SIZE,
    LISTS,
    MOST_DEPENDENCES,
    MOST_GRANULES,
    N_FLIGHT,
    N_HIGH,
    N_LOW,
    N_SIZE,
    N_WHEN,
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
def are_apart(b: Words, entry: int, low: int, pitch: int, width: int) -> bool:
    """Whether two blocks of rows lie in different columns."""
    if not pitch or b[entry + N_WHEN] >> WHEN_PITCH & MOST_GRANULES != pitch:
        return False
    between = b[entry + N_LOW] - low
    return between % pitch >= width and -between % pitch >= b[entry + N_WHEN] & MOST_GRANULES


@compiled
def is_covered(b: Words, entry: int, low: int, high: int, pitch: int) -> bool:
    """Whether a write takes the place of an entry."""
    if pitch:
        is_same = b[entry + N_LOW] == low and b[entry + N_HIGH] == high
        return is_same and b[entry + N_WHEN] >> WHEN_PITCH & MOST_GRANULES == pitch
    return low <= b[entry + N_LOW] and b[entry + N_HIGH] <= high


@compiled
def copy_entry(b: Words, place: int, entry: int) -> None:
    """Put an entry elsewhere, too."""
    for word in range(N_SIZE):
        b[place + word] = b[entry + word]


@compiled
def set_count(b: Words, entries: int, left: int) -> None:
    """A list ends before the place `left`."""
    room = b[entries + LIST_COUNTS] >> LIST_ROOM
    b[entries + LIST_COUNTS] = room << LIST_ROOM | (left - b[entries + LIST_PLACE]) // N_SIZE


@compiled
def find(b: Words, tracer: int, key: int, flight: int) -> None:
    """Write down a flight that an access meets, behind those with the same key or smaller ones."""
    at = b[tracer + B_FOUND_COUNT]
    if at == MOST_DEPENDENCES:
        b[tracer + B_DEPENDENCE_COUNT] = MOST_DEPENDENCES
        return
    b[tracer + B_FOUND_COUNT] = at + 1
    row = b[tracer + B_FOUND] + 2 * at
    while at and b[row - 2] > key:
        b[row] = b[row - 2]
        b[row + 1] = b[row - 1]
        row -= 2
        at -= 1
    b[row] = key
    b[row + 1] = flight


@compiled
def depend(b: Words, tracer: int, flight: int) -> None:
    """The operation at hand waits for a flight, if it does not already."""
    first, count = b[tracer + B_DEPENDENCES], b[tracer + B_DEPENDENCE_COUNT]
    for at in range(first, first + count):
        if b[at] == flight:
            return
    if count < MOST_DEPENDENCES:
        b[first + count] = flight
        b[tracer + B_DEPENDENCE_COUNT] = count + 1


@compiled
def meet_list(
    b: Words,
    tracer: int,
    entries: int,
    block: int,
    is_read: int,
    over: int,
    low: int,
    high: int,
    covers: bool,
    pitch: int,
    width: int,
) -> None:
    """Find what an access meets in a list; if it `covers`, it takes the place of what lies in it."""
    left = b[entries + LIST_PLACE]
    for entry in range(left, left + N_SIZE * (b[entries + LIST_COUNTS] & COUNT), N_SIZE):
        if b[entry + N_WHEN] >> WHEN_SEQUENCE <= over:
            continue
        if b[entry + N_LOW] < high and low < b[entry + N_HIGH]:
            shared = max(low, b[entry + N_LOW]) >> BLOCK
            if (shared ^ block) & (LISTS - 1) == 0 and not are_apart(b, entry, low, pitch, width):
                find(b, tracer, 2 * shared + is_read, b[entry + N_FLIGHT])
            if covers and is_covered(b, entry, low, high, pitch):
                continue
        if left != entry:
            copy_entry(b, left, entry)
        left += N_SIZE
    set_count(b, entries, left)


@compiled
def meet_range(
    b: Words, tracer: int, board: int, over: int, low: int, high: int, writes: int, pitch: int, width: int
) -> None:
    """The operation at hand waits for all on the board that it meets: reads for writes, writes for both."""
    b[tracer + B_FOUND_COUNT] = 0
    for block in range(low >> BLOCK, last_block(low, high) + 1):
        for kind in range(0 if writes else 1, 2):
            entries = list_of(board, block, kind)
            if b[entries + LIST_COUNTS] & COUNT:
                covers = writes != 0
                meet_list(b, tracer, entries, block, 1 - kind, over, low, high, covers, pitch, width)
    first = b[tracer + B_FOUND]
    for row in range(first, first + 2 * b[tracer + B_FOUND_COUNT], 2):
        depend(b, tracer, b[row + 1])


@compiled
def cover_own(b: Words, entries: int, sequence: int, low: int, high: int, pitch: int) -> None:
    """A write takes the place of what it covers of its own operation's accesses: the last in a list."""
    first = b[entries + LIST_PLACE]
    end = first + N_SIZE * (b[entries + LIST_COUNTS] & COUNT)
    entry = end
    while entry > first and b[entry - N_SIZE + N_WHEN] >> WHEN_SEQUENCE == sequence:
        entry -= N_SIZE
    left = entry
    while entry < end:
        if not is_covered(b, entry, low, high, pitch):
            copy_entry(b, left, entry)
            left += N_SIZE
        entry += N_SIZE
    set_count(b, entries, left)


@compiled
def make_room(b: Words, entries: int, over: int) -> None:
    """See to it that a list has room for one more: leave out what is over, or take a piece twice as large."""
    place, count = b[entries + LIST_PLACE], b[entries + LIST_COUNTS] & COUNT
    left = place
    for entry in range(place, place + N_SIZE * count, N_SIZE):
        if b[entry + N_WHEN] >> WHEN_SEQUENCE > over:
            copy_entry(b, left, entry)
            left += N_SIZE
    set_count(b, entries, left)
    kept = (left - place) // N_SIZE
    if 2 * kept <= count and count:
        return
    room = max(2 * count, FIRST_ROOM)
    new = take_lines(b, N_SIZE * room)
    for word in range(N_SIZE * kept):
        b[new + word] = b[place + word]
    b[entries + LIST_PLACE] = new
    b[entries + LIST_COUNTS] = room << LIST_ROOM | kept
    b[H_MOST] = max(b[H_MOST], N_SIZE * room)


@compiled
def hold_range(
    b: Words,
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
            cover_own(b, list_of(board, block, 0), sequence, low, high, pitch)
            cover_own(b, list_of(board, block, 1), sequence, low, high, pitch)
        entries = list_of(board, block, writes)
        counts = b[entries + LIST_COUNTS]
        if counts & COUNT == counts >> LIST_ROOM:
            make_room(b, entries, over)
        count = b[entries + LIST_COUNTS] & COUNT
        b[entries + LIST_COUNTS] += 1
        entry = b[entries + LIST_PLACE] + N_SIZE * count
        b[entry + N_LOW] = low
        b[entry + N_HIGH] = high
        b[entry + N_FLIGHT] = flight
        b[entry + N_WHEN] = when
