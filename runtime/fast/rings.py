"""Rings of rows in the state arena: what waits in a window, and the numbers of what has started from one.

A ring is four words in the row that it belongs to. It gets twice the room when it is full; the room that it leaves
is lost, and less than it has then.
"""

from __future__ import annotations

from .arena import take_lines
from .jit import Words, compiled
from .layout import RING_COUNT, RING_FIRST, RING_PLACE, RING_SLOTS

FIRST_SLOTS = 8  # a power of two, as all numbers of slots


@compiled
def row_at(m: Words, ring: int, number: int, words: int) -> int:
    """Where the row with a number lies; rows are numbered from the beginning of the step."""
    return m[ring + RING_PLACE] + words * (number & (m[ring + RING_SLOTS] - 1))


@compiled
def enlarge_ring(m: Words, ring: int, words: int) -> None:
    """Move a ring to twice the room."""
    slots, first = max(2 * m[ring + RING_SLOTS], FIRST_SLOTS), m[ring + RING_FIRST]
    place = take_lines(m, words * slots)
    for number in range(first, first + m[ring + RING_COUNT]):
        row, new = row_at(m, ring, number, words), place + words * (number & (slots - 1))
        for word in range(words):
            m[new + word] = m[row + word]
    m[ring + RING_PLACE] = place
    m[ring + RING_SLOTS] = slots


@compiled
def new_row(m: Words, ring: int, words: int) -> int:
    """A row behind the others."""
    if m[ring + RING_COUNT] == m[ring + RING_SLOTS]:
        enlarge_ring(m, ring, words)
    number = m[ring + RING_FIRST] + m[ring + RING_COUNT]
    m[ring + RING_COUNT] += 1
    return row_at(m, ring, number, words)


@compiled
def drop_row(m: Words, ring: int) -> None:
    """The oldest row is none any more."""
    m[ring + RING_FIRST] += 1
    m[ring + RING_COUNT] -= 1
