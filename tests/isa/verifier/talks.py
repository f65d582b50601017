"""Random conversations: tiles that do little but send, receive, multicast, reduce and meet at barriers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isa import instructions as t
from isa.instruction import DType
from isa.operands import PortRef, Special
from isa.program import (
    BarrierGroup,
    Channel,
    Direction,
    Endpoint,
    Limits,
    Port,
    Program,
    Reduce,
    Role,
    Segment,
    Stream,
    Tile,
)
from runtime.segments import source_segments_of

from .assembly import Item, Loop, at, flatten, tiny
from .choices import ONE, SEGMENT, SEGMENTS, TOKENS, Random

SLOTS = 6  # places in the buffer that messages come from and go to
SLOT_BYTES = 32  # two share a granule
CHUNK = 2
LIMITS = Limits(max_context=8, chunk=CHUNK, segments=3, max_source=4)


@dataclass(frozen=True)
class Meeting:
    """Who meets: senders and receivers of a channel, or (no receivers) members of a barrier."""

    sources: tuple[int, ...]
    dests: tuple[int, ...]


def _meeting(rnd: Random, tiles: int) -> Meeting:
    order = list(range(tiles))
    for number in range(tiles - 1):
        other = rnd.randint(number, tiles - 1)
        order[number], order[other] = order[other], order[number]
    if rnd.random() < 0.1:
        return Meeting(tuple(order[: rnd.randint(1, tiles)]), ())
    senders = rnd.choice([1, 1, 1, 2]) if tiles > 2 else 1
    receivers = rnd.choice([1, 1, 1, 2]) if tiles > senders + 1 else 1
    return Meeting(tuple(order[:senders]), tuple(order[senders : senders + receivers]))


def _swapped(rnd: Random, order: list[int], chance: float) -> list[int]:
    """The order with some neighbours exchanged."""
    order = list(order)
    for number in range(len(order) - 1):
        if rnd.random() < chance:
            order[number], order[number + 1] = order[number + 1], order[number]
    return order


def _place(rnd: Random) -> int:
    return 64 + SLOT_BYTES * rnd.randint(0, SLOTS - 1)


def _say(rnd: Random, meeting: Meeting, tile: int, port: int) -> list[Item]:
    """What a tile does at a meeting, and now and then some work beside it."""
    items: list[Item] = []
    if rnd.random() < 0.3:
        place = _place(rnd)
        items.append(t.Vrelu(at(_place(rnd)), at(place), ONE, 1))
    if not meeting.dests:
        return [*items, t.Barrier(PortRef(port))]
    kind = t.Send if tile in meeting.sources else t.Recv
    return [*items, kind(PortRef(port), at(_place(rnd)), TOKENS, 1)]


def _cuts(rnd: Random, count: int) -> tuple[int, int]:
    """Where meetings over the source end, and where those of a second loop over the tokens begin."""
    first = rnd.randint(0, count) if rnd.random() < 0.5 else 0
    return first, rnd.randint(first, count) if rnd.random() < 0.5 else count


def random_talk(rnd: Random) -> Program:
    """A program whose tiles meet in an order that may or may not work out."""
    tiles = rnd.randint(2, 4)
    meetings = [_meeting(rnd, tiles) for _ in range(rnd.randint(1, 5))]
    order = [rnd.randint(0, len(meetings) - 1) for _ in range(rnd.randint(1, 8))]
    cuts = _cuts(rnd, len(order))
    chance = rnd.choice([0.0, 0.1, 0.3])
    roles, ends = [], dict[tuple[int, int], int]()
    for tile in range(tiles):
        mine = [m for m, meeting in enumerate(meetings) if tile in (*meeting.sources, *meeting.dests)]
        ports = []
        for port, number in enumerate(mine):
            meeting = meetings[number]
            ends[number, tile] = port
            inward = Direction.IN if tile in meeting.dests else Direction.OUT
            ports.append(Port(f"m{number}", inward if meeting.dests else Direction.BARRIER))
        a, b = _cuts(rnd, len(order)) if rnd.random() < 0.1 else cuts
        loops = []
        for over, part in (("sources", order[:a]), ("tokens", order[a:b]), ("tokens", order[b:])):
            said = [number for number in _swapped(rnd, part, chance) if number in mine]
            loops.append((over, [item for n in said for item in _say(rnd, meetings[n], tile, mine.index(n))]))
        if rnd.random() < 0.05:
            loops.reverse()
        roles.append(_role(tile, loops, tuple(ports)))
    return Program(
        tiny(),
        LIMITS,
        tuple(roles),
        tuple(Tile(f"t{n}", f"role{n}", n, 0) for n in range(tiles)),
        tuple(
            Channel(
                f"m{number}",
                tuple(Endpoint(tile, ends[number, tile]) for tile in meeting.sources),
                tuple(Endpoint(tile, ends[number, tile]) for tile in meeting.dests),
                Reduce.SUM if len(meeting.sources) > 1 else Reduce.NONE,
            )
            for number, meeting in enumerate(meetings)
            if meeting.dests
        ),
        tuple(
            BarrierGroup(f"m{number}", tuple(Endpoint(tile, ends[number, tile]) for tile in meeting.sources))
            for number, meeting in enumerate(meetings)
            if not meeting.dests
        ),
        streams=(Stream("s", Direction.IN, DType.F32, 1, (), source=True),),  # nobody needs what it brings
        data={},
    )


def _role(tile: int, loops: list[tuple[str, list[Item]]], ports: tuple[Port, ...]) -> Role:
    code: list[Item] = [
        t.Li(ONE, 1),
        t.Vfill(at(0), ONE, (64 + SLOTS * SLOT_BYTES) // 4, 1.0),
    ]
    for over, items in loops:
        if items:
            of_source = over == "sources"
            select = t.Sseg(SEGMENT) if of_source else t.Seg(SEGMENT)
            code.append(t.Sys(SEGMENTS, Special.SOURCES if of_source else Special.SEGMENTS))
            body = [select, t.Sys(TOKENS, Special.TOKENS), *items]
            code.append(Loop(SEGMENT.index, SEGMENTS, body))
    return Role(f"role{tile}", tuple(flatten([*code, t.Halt()])), ports=ports)


STEP = (
    *source_segments_of(LIMITS.max_source, CHUNK),
    *(Segment(CHUNK, CHUNK * n, 0, source=LIMITS.max_source) for n in range(3)),
)
INPUTS: dict[str, NDArray[Any]] = {"s": np.ones((LIMITS.max_source, 1), np.float32)}
