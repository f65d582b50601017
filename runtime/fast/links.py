"""Links and when they carry what (`runtime.timing.links`): stretches of time, a list by lane, in order.

`f` is the state arena read as floats: where the spare bytes of stretches are.
"""

from __future__ import annotations

import math

from .arena import resume_record, take_lines
from .jit import Floats, Words, compiled
from .layout import (
    H_STRETCHES,
    L_ALL,
    L_BUSY,
    L_SHORT,
    LANE_FIRST,
    LANE_LATEST,
    LANE_OWN,
    NO_RECORD,
    S_AFTER,
    S_BEFORE,
    S_END,
    S_NEAR,
    S_RECORD,
    S_SIZE,
    S_SPARE,
    S_START,
    S_UNUSED,
)

SMALLEST = 5e-10
"""The least part of a cycle (the float above 5e-10) that rounding to 9 decimals does not lose."""


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
def before_of(m: Words, stretch: int) -> int:
    """The stretch in front of another; 0 if there is none."""
    return m[stretch + S_NEAR] >> S_BEFORE


@compiled
def after_of(m: Words, stretch: int) -> int:
    """The stretch behind another; 0 if there is none."""
    return m[stretch + S_NEAR] & S_AFTER


@compiled
def first_after(m: Words, lane: int, time: int) -> int:
    """The first stretch of a lane that ends after a time; 0 if none does."""
    found, stretch = 0, m[lane + LANE_LATEST]
    while stretch and m[stretch + S_END] > time:
        found = stretch
        stretch = before_of(m, stretch)
    return found


@compiled
def last_before(m: Words, lane: int, at: int) -> int:
    """The stretch in front of another, or the last one of the lane (`at` 0); 0 if there is none."""
    return before_of(m, at) if at else m[lane + LANE_LATEST]


@compiled
def take_link(
    m: Words, f: Floats, link: int, ready: int, size: int, cycles: int, width: float
) -> tuple[int, int, int]:
    """When a message that is here at `ready` begins, for how many cycles, and what held it up."""
    if cycles == 1:
        at = first_after(m, link + L_SHORT, ready)
        if at and m[at + S_START] <= ready:
            return m[at + S_END], 1, m[at + S_RECORD]
        return ready, 1, NO_RECORD
    at = first_after(m, link + L_ALL, ready)
    before = last_before(m, link + L_ALL, at)
    if before and m[before + S_END] == ready:
        cycles = behind(f, before, size, width)
    begin, blocker = ready, NO_RECORD
    while at and m[at + S_START] < begin + cycles:
        begin, blocker = m[at + S_END], m[at + S_RECORD]
        cycles = behind(f, at, size, width)
        at = after_of(m, at)
    return begin, cycles, blocker


@compiled
def hold_link(
    m: Words,
    f: Floats,
    link: int,
    begin: int,
    cycles: int,
    size: int,
    is_short: bool,
    record: int,
    width: float,
) -> None:
    """A message that `record` decided is on the link as `take_link` has found."""
    m[link + L_BUSY] += cycles
    lane = link + L_ALL
    at = first_after(m, lane, begin)
    if is_short:
        put(m, f, link + L_SHORT, begin, 1, 0.0, record)
        if at and m[at + S_START] <= begin:
            m[at + S_END] += 1
            join(m, f, lane, at)
        else:
            put(m, f, lane, begin, 1, 0.0, record)
    else:
        before = last_before(m, lane, at)
        left = f[before + S_SPARE] if before and m[before + S_END] == begin else 0.0
        put(m, f, lane, begin, cycles, left + cycles * width - size, record)


@compiled
def append(
    m: Words, f: Floats, lane: int, now: int, begin: int, cycles: int, spare: float, record: int
) -> None:
    """Take so many cycles of a lane that is free from `begin` on (`put`, where nothing comes behind)."""
    if m[lane + LANE_FIRST] != m[lane + LANE_LATEST]:
        forget_lane(m, lane, now)
    latest = m[lane + LANE_LATEST]
    if latest == 0 or (m[latest + S_END] != begin and m[latest + S_END] >= now):
        latest = insert(m, lane, latest, 0)
        m[latest + S_START] = begin
    elif m[latest + S_END] != begin:  # it is over, and alone
        m[latest + S_START] = begin
    m[latest + S_END] = begin + cycles
    m[latest + S_RECORD] = record
    f[latest + S_SPARE] = spare


@compiled
def append_both(
    m: Words, f: Floats, link: int, now: int, ready: int, size: int, cycles: int, width: float, record: int
) -> int:
    """A message goes over a link that nothing is on from `ready` on: for how many cycles."""
    lane = link + L_ALL
    if cycles == 1:
        append(m, f, link + L_SHORT, now, ready, 1, 0.0, record)
        append(m, f, lane, now, ready, 1, 0.0, record)
    else:
        latest, left = m[lane + LANE_LATEST], 0.0
        if latest and m[latest + S_END] == ready:
            left = f[latest + S_SPARE]
            cycles = behind(f, latest, size, width)
        append(m, f, lane, now, ready, cycles, left + cycles * width - size, record)
    m[link + L_BUSY] += cycles
    return cycles


@compiled
def carry(
    m: Words,
    f: Floats,
    link: int,
    now: int,
    ready: int,
    size: int,
    cycles: int,
    width: float,
    record: int,
    mine: int,
) -> tuple[int, int, int]:
    """A message of `record`, which began at `now`, comes to a link, because of `mine`: when it begins to go over it,
    for how many cycles, and what decides that."""
    latest = m[link + L_ALL + LANE_LATEST]
    if latest == 0 or m[latest + S_END] <= ready:
        return ready, append_both(m, f, link, now, ready, size, cycles, width, mine), mine
    forget(m, link, now)
    begin, occupied, blocker = take_link(m, f, link, ready, size, cycles, width)
    if blocker != NO_RECORD:
        mine = resume_record(m, record, begin, blocker)
    hold_link(m, f, link, begin, occupied, size, cycles == 1, mine, width)
    return begin, occupied, mine


@compiled
def put(m: Words, f: Floats, lane: int, begin: int, cycles: int, spare: float, record: int) -> None:
    """Take so many free cycles of a lane."""
    at = first_after(m, lane, begin)
    before = last_before(m, lane, at)
    stretch = insert(m, lane, before, at)
    m[stretch + S_START] = begin
    m[stretch + S_END] = begin + cycles
    m[stretch + S_RECORD] = record
    f[stretch + S_SPARE] = spare
    join(m, f, lane, stretch)
    if before:
        join(m, f, lane, before)


@compiled
def set_neighbours(m: Words, lane: int, before: int, after: int) -> None:
    """Two stretches of a lane are next to each other; 0 is none."""
    if before:
        m[before + S_NEAR] = m[before + S_NEAR] & ~S_AFTER | after
    else:
        m[lane + LANE_FIRST] = after
    if after:
        m[after + S_NEAR] = m[after + S_NEAR] & S_AFTER | before << S_BEFORE
    else:
        m[lane + LANE_LATEST] = before


@compiled
def insert(m: Words, lane: int, before: int, after: int) -> int:
    """A new stretch between two others of a lane: the lane's own, if that is free."""
    stretch = lane + LANE_OWN
    if m[stretch + S_START] != S_UNUSED:
        stretch = m[H_STRETCHES]
        if stretch:
            m[H_STRETCHES] = m[stretch + S_NEAR]
        else:
            stretch = take_lines(m, S_SIZE)
    set_neighbours(m, lane, before, stretch)
    set_neighbours(m, lane, stretch, after)
    return stretch


@compiled
def remove(m: Words, lane: int, stretch: int) -> None:
    """Take a stretch out of its lane."""
    set_neighbours(m, lane, before_of(m, stretch), after_of(m, stretch))
    if stretch == lane + LANE_OWN:
        m[stretch + S_START] = S_UNUSED
    else:
        m[stretch + S_NEAR] = m[H_STRETCHES]
        m[H_STRETCHES] = stretch


@compiled
def join(m: Words, f: Floats, lane: int, stretch: int) -> None:
    """Make a stretch one with the next if they touch."""
    after = after_of(m, stretch)
    if after and m[stretch + S_END] == m[after + S_START]:
        m[stretch + S_END] = m[after + S_END]
        m[stretch + S_RECORD] = m[after + S_RECORD]
        f[stretch + S_SPARE] = f[after + S_SPARE]
        remove(m, lane, after)


@compiled
def forget_lane(m: Words, lane: int, now: int) -> None:
    """Nothing comes before `now` any more. What ends just then can still be followed."""
    while m[lane + LANE_FIRST] and m[m[lane + LANE_FIRST] + S_END] < now:
        remove(m, lane, m[lane + LANE_FIRST])


@compiled
def forget(m: Words, link: int, now: int) -> None:
    """Nothing comes before `now` any more."""
    forget_lane(m, link + L_ALL, now)
    forget_lane(m, link + L_SHORT, now)
