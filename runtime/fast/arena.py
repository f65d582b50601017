"""Room at the end of an arena, and records of why something happened when it did, in the state arena."""

from __future__ import annotations

from .jit import Words, compiled
from .layout import (
    H_END,
    H_FREE,
    H_HEAP_CAP,
    H_LAST,
    H_LIMIT,
    H_MARGIN,
    H_MOST,
    H_STOP,
    LINE,
    R_PREDECESSOR,
    R_SIZE,
    R_START,
    R_WHAT,
    WHAT_TILE,
)


@compiled
def margin(m: Words) -> int:
    """How many words an operation or a turn takes at most: a ring or the agenda may take twice its room, or (as the
    first have room for no more) more often."""
    return m[H_MARGIN] + 16 * m[H_HEAP_CAP] + 4 * m[H_MOST]


@compiled
def set_stop(m: Words) -> None:
    """Say how far the arena may be full before something small begins: after each change of the margin."""
    m[H_STOP] = m[H_LIMIT] - margin(m)


@compiled
def take_room(m: Words, words: int) -> int:
    """Room for a row; that it is there has been looked after (`H_MARGIN`)."""
    place = m[H_FREE]
    m[H_FREE] = place + words
    return place


@compiled
def take_lines(m: Words, words: int) -> int:
    """Room for a row that begins with a cache line."""
    place = (m[H_FREE] + LINE - 1) // LINE * LINE
    m[H_FREE] = place + words
    return place


@compiled
def add_record(m: Words, start: int, predecessor: int, tile: int, what: int) -> int:
    """See `isa.timing.critical.Records.add`; `what` has the instruction, the reason, and whether it was by issuing."""
    record = take_room(m, R_SIZE)
    m[record + R_START] = start
    m[record + R_PREDECESSOR] = predecessor
    m[record + R_WHAT] = ((tile + 1) << WHAT_TILE) | what
    return record


@compiled
def resume_record(m: Words, record: int, start: int, predecessor: int) -> int:
    """See `isa.timing.critical.Records.resume`."""
    resumed = take_room(m, R_SIZE)
    m[resumed + R_START] = start
    m[resumed + R_PREDECESSOR] = predecessor
    m[resumed + R_WHAT] = m[record + R_WHAT] & ~1
    return resumed


@compiled
def note_end(m: Words, end: int, record: int) -> None:
    """Something ends; the step does not end before."""
    if end > m[H_END]:
        m[H_END] = end
        m[H_LAST] = record
