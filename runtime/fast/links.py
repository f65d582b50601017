"""Links and when they carry what (`runtime.timing.network.Link`): stretches of time, a list by link, in order.

`f` is the state arena read as floats: where the spare bytes of stretches are.
"""

from __future__ import annotations

import math

from .arena import take_room
from .jit import Floats, Words, compiled
from .layout import (
    H_STRETCHES,
    L_BUSY,
    L_FIRST,
    L_LATEST,
    L_LEN,
    L_SHORT_FREE,
    L_SHORT_RECORD,
    NO_RECORD,
    S_AFTER,
    S_BEFORE,
    S_END,
    S_RECORD,
    S_SIZE,
    S_SPARE,
    S_START,
)

LONG = 16  # stretches of a link beyond which those in the past are forgotten
SMALLEST = (
    5e-10  # the least part of a cycle (the float above 5e-10) that rounding to 9 decimals does not lose
)


@compiled
def cycles_of(amount: float, rate: float) -> int:
    """Cycles that `amount` takes at `rate`: `isa.timing.rates.ceil_div`, without its rounding to decimals."""
    exact = amount / rate
    whole = math.floor(exact)
    return int(whole) + (1 if exact - whole >= SMALLEST else 0)


@compiled
def behind(f: Floats, stretch: int, size: int, width: float) -> int:
    """Cycles of a message right behind a stretch: it has what that leaves of its last cycle."""
    return max(cycles_of(size - f[stretch + S_SPARE], width), 1)


@compiled
def first_after(m: Words, link: int, time: int) -> int:
    """The first stretch that ends after a time; 0 if none does."""
    found, stretch = 0, m[link + L_LATEST]
    while stretch and m[stretch + S_END] > time:
        found = stretch
        stretch = m[stretch + S_BEFORE]
    return found


@compiled
def take_link(m: Words, f: Floats, link: int, ready: int, size: int, width: float) -> tuple[int, int, int]:
    """When a message that is here at `ready` begins, for how many cycles, and what held it up."""
    cycles = cycles_of(size, width)
    if cycles == 1:
        if m[link + L_SHORT_FREE] > ready:
            return m[link + L_SHORT_FREE], 1, m[link + L_SHORT_RECORD]
        return ready, 1, NO_RECORD
    at = first_after(m, link, ready)
    before = m[at + S_BEFORE] if at else m[link + L_LATEST]
    if before and m[before + S_END] == ready:
        cycles = behind(f, before, size, width)
    begin, blocker = ready, NO_RECORD
    while at and m[at + S_START] < begin + cycles:
        begin, blocker = m[at + S_END], m[at + S_RECORD]
        cycles = behind(f, at, size, width)
        at = m[at + S_AFTER]
    return begin, cycles, blocker


@compiled
def hold_link(
    m: Words, f: Floats, link: int, begin: int, cycles: int, size: int, record: int, width: float
) -> None:
    """A message that `record` decided is on the link as `take_link` has found."""
    m[link + L_BUSY] += cycles
    at, spare = first_after(m, link, begin), 0.0
    before = m[at + S_BEFORE] if at else m[link + L_LATEST]
    if cycles_of(size, width) == 1:
        m[link + L_SHORT_FREE] = begin + 1
        m[link + L_SHORT_RECORD] = record
        if at and m[at + S_START] <= begin:
            m[at + S_END] += 1
            join(m, f, link, at)
            return
    else:
        left = f[before + S_SPARE] if before and m[before + S_END] == begin else 0.0
        spare = left + cycles * width - size
    stretch = insert(m, link, before, at)
    m[stretch + S_START] = begin
    m[stretch + S_END] = begin + cycles
    m[stretch + S_RECORD] = record
    f[stretch + S_SPARE] = spare
    join(m, f, link, stretch)
    if before:
        join(m, f, link, before)


@compiled
def insert(m: Words, link: int, before: int, after: int) -> int:
    """A new stretch between two others of a link."""
    stretch = m[H_STRETCHES]
    if stretch:
        m[H_STRETCHES] = m[stretch + S_AFTER]
    else:
        stretch = take_room(m, S_SIZE)
    m[stretch + S_BEFORE] = before
    m[stretch + S_AFTER] = after
    m[before + S_AFTER if before else link + L_FIRST] = stretch
    m[after + S_BEFORE if after else link + L_LATEST] = stretch
    m[link + L_LEN] += 1
    return stretch


@compiled
def remove(m: Words, link: int, stretch: int) -> None:
    """Take a stretch out of its link."""
    before, after = m[stretch + S_BEFORE], m[stretch + S_AFTER]
    m[before + S_AFTER if before else link + L_FIRST] = after
    m[after + S_BEFORE if after else link + L_LATEST] = before
    m[stretch + S_AFTER] = m[H_STRETCHES]
    m[H_STRETCHES] = stretch
    m[link + L_LEN] -= 1


@compiled
def join(m: Words, f: Floats, link: int, stretch: int) -> None:
    """Make a stretch one with the next if they touch."""
    after = m[stretch + S_AFTER]
    if after and m[stretch + S_END] == m[after + S_START]:
        m[stretch + S_END] = m[after + S_END]
        m[stretch + S_RECORD] = m[after + S_RECORD]
        f[stretch + S_SPARE] = f[after + S_SPARE]
        remove(m, link, after)


@compiled
def forget(m: Words, link: int, now: int) -> None:
    """Nothing comes before `now` any more."""
    if m[link + L_LEN] <= LONG:
        return
    while m[link + L_FIRST] and m[m[link + L_FIRST] + S_END] <= now:
        remove(m, link, m[link + L_FIRST])
