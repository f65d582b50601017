"""In which order the segments of several sequences go through a step.

One sequence after another, the outputs of the first leave for the host while the next goes through. But where a KV head
is dealt over more tiles than a sequence has blocks, only some of these tiles work for one sequence. Then so many
sequences take turns, segment by segment, that all of them do. What is computed does not depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from isa.hardware import Hardware
from isa.program import Direction, Program, Stream

ROWS = 64
"""Sequences take turns only if what their outputs wait for each other at the end is no longer than so many rows take
through an array."""

Item = TypeVar("Item")


def turns_of(program: Program) -> int:
    """How many sequences of a program should take turns; 1 for one after another. Those of its copies always do."""
    limits, target = program.limits, program.target
    if limits.pages:
        return 1
    spread = max((cache.ways // cache.blocks for cache in program.caches if cache.blocks), default=1)
    row = row_cycles(target, program.streams)
    wait = ROWS * target.mvm_cycles
    most = 1 + int(wait / row) if row else limits.sequences
    return max(min(spread, most, limits.sequences), 1) * len(program.corners)


def row_cycles(target: Hardware, streams: Sequence[Stream]) -> float:
    """Cycles that the host's link needs for the outputs of a token."""
    size = sum(
        stream.columns * stream.dtype.bytes
        for stream in streams
        if stream.direction is Direction.OUT and stream.parts and not stream.source
    )
    return size / target.bytes_per_cycle(target.host_link.bandwidth)


def in_turns(each: Sequence[Sequence[Item]], turns: int) -> list[Item]:
    """The items of each sequence, `turns` sequences at a time: the first of each, then the second of each, ..."""
    ordered: list[Item] = []
    for first in range(0, len(each), turns):
        group = each[first : first + turns]
        for number in range(max(map(len, group), default=0)):
            ordered += [items[number] for items in group if number < len(items)]
    return ordered
