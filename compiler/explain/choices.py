"""Choices that sizes decide, each with the number that decided it and what the alternative would take."""

from __future__ import annotations

import math
from collections.abc import Iterator

from compiler.capacity import capacity_of
from isa.bound import bound
from isa.bound.points import standard_steps
from isa.bound.step import segment_bytes
from isa.interface import KvPolicy
from isa.program import ArrayKind, Program, Segment

from .note import Heading, Note
from .words import several, share, size


def choices_of(program: Program) -> Iterator[Note]:
    """Weights in arrays or streamed, the cache in arrays or streamed, and how many chips a layer needs."""
    if not program.workload:
        return
    kinds = {array.kind for role in program.roles for array in role.arrays}
    _, segments = standard_steps(program)[0]
    if ArrayKind.WEIGHT in kinds and ArrayKind.STREAM not in kinds and program.workload.weights:
        yield _note("Weights stay in the arrays.", program.workload.weight_bytes, program, segments)
    resident = [c for c in program.caches if c.policy is KvPolicy.RESIDENT]
    if resident and len(resident) == len(program.caches):
        last = {segment.sequence: segment for segment in segments}
        read = sum(segment_bytes(program.workload, segment) for segment in last.values())
        yield _note("Keys and values stay in the arrays.", read, program, segments)
    yield from _split(program)


def _note(chosen: str, loaded: int, program: Program, segments: tuple[Segment, ...]) -> Note:
    """A choice against streaming so many bytes in each step."""
    target = program.target
    chips = target.tiles // target.tiles_per_chip
    rate = target.dram.bandwidth.si * target.dram.channels.value * chips
    cycles = loaded / rate * target.clock.si
    least = bound(target, program.workload, segments)
    against = "" if least is None else f"; the step's bound is {least.cycles:,} cycles"
    return Note(
        Heading.CHOICES,
        f"{chosen} Streamed, a token's step would load {size(loaded)}: {cycles:,.0f} cycles or more at the "
        f"{rate / 1e9:,.0f} GB/s that the DRAM of {several(chips, 'chip')} has{against}.",
    )


def _split(program: Program) -> Iterator[Note]:
    """How much of a chip a layer takes."""
    target, work = program.target, program.workload
    layers = sum(section.attention is not None for section in work.sections())
    chips = target.tiles // target.tiles_per_chip
    if chips == 1 or not layers:
        return
    room = capacity_of(target, target.tiles_per_chip)
    inner = sum(p.rows * p.cols for s in work.sections() if not s.is_result for p in s.on_chip) // layers
    cache = work.kv_row_bytes * program.limits.max_context * program.step_limits.sequences // layers
    cache *= all(c.policy is KvPolicy.RESIDENT and not c.ring for c in program.caches)
    taken = room.fills(inner, cache)
    if not room.holds(inner, cache):
        verdict = (
            f"a layer takes {math.ceil(taken)} chips at least, so its columns and heads are split over chips"
        )
    else:
        verdict = f"up to {math.floor(1 / taken) if taken else layers} layers would fit a chip"
    cells = f"{room.weights:,} cells ({share(float(taken), 1)})"
    if not room.is_shared:
        cells = (
            f"{room.weights:,} cells for weights ({share(inner, room.weights)}) and {room.written:,} for keys and "
            f"values ({share(cache, room.written)})"
        )
    yield Note(
        Heading.CHOICES,
        f"A layer has {inner:,} weights and {cache:,} bytes of resident cache, the arrays of a chip {cells}: "
        f"{verdict}. Layers follow each other, since no weight or cached row then ever moves; only rows of activations "
        "cross from one chip to the next.",
    )
