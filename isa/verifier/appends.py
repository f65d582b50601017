"""Which rows of a KV cache are surely appended (E0404).

Of the arrays in `Program.caches`: if each segment of a list has its rows appended at sequence * R + position, R being
the array's rows over the sequences, then behind that, in the pass of the same segment, rows 0..position + tokens of the
sequence are there; in a later pass, all that it has after this step. Earlier steps have appended what is before. In a
program that takes no rows of a source, the host fills the caches of one.

Where a sequence can be longer than R, its rows are a ring: appended at position mod R, so that as many of the ring's
first rows are there as the sequence has, R at most. That what lies there is the row that was meant is not proven.

Of a head that is dealt over several arrays in blocks, see `dealt`; of sequences that share arrays in pages, `paged`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from isa.interface import KvPolicy
from isa.operands import Special
from isa.program import Program

from .arithmetic import modulo
from .bounds import Bounds
from .dealt import Cached, dealt_window, is_dealt_append
from .paged import page_shift, paged_window
from .poly import Poly
from .segments import FACTS, Over
from .symbols import Op

if TYPE_CHECKING:
    from .context import Context
    from .state import State


def cached_arrays(program: Program) -> dict[tuple[str, int], Cached]:
    """The arrays of the program's caches, by role and number: of which list they have rows, and how heads are dealt."""
    found: dict[tuple[str, int], Cached] = {}
    for cache in program.caches:
        if cache.policy is KvPolicy.STREAMED:
            continue  # its arrays hold no rows from step to step
        over, form = Over.SOURCE if cache.cross else Over.TOKENS, (cache.ways, cache.block, cache.blocks)
        for at, head in enumerate(cache.heads):
            role = program.tiles[head.tile].role
            for array in (head.keys, head.values):
                new = Cached(over, *form, {}, program.limits.is_paged(cache))
                cached = found.setdefault((role, array), new)
                cached.numbers[head.tile] = at % max(cache.ways, 1)
                if (cached.over, cached.ways, cached.block, cached.blocks) != (over, *form):
                    cached.numbers[head.tile] = -1  # one text for two kinds of caches: nothing is proven
    return found


@dataclass(slots=True)
class Appends:
    """What the text has appended so far. `part` counts loops over segments and what lies between them."""

    part: int = 0
    done: dict[int, int] = field(default_factory=dict)  # array -> the part in which its rows were appended
    # array -> rows written elsewhere: row, count
    others: dict[int, tuple[Poly, Poly]] = field(default_factory=dict)

    def begin_part(self) -> None:
        """A loop over segments begins or ends."""
        self.part += 1

    def append(self, ctx: Context, state: State, array: int, row: Poly, rows: Poly) -> None:
        """Rows are written: note whether they are those of the current segment, in every pass."""
        cached = ctx.job.caches.get((ctx.job.role.name, array))
        if cached is None or not ctx.recording:
            return
        if in_every_pass(ctx, state, cached.over) and _are_the_segment_s(
            ctx, state, cached, array, row, rows
        ):
            self.done.setdefault(array, self.part)
        else:
            self.others[array] = row, rows

    def check(self, ctx: Context, index: int, state: State, array: int, row: Poly, rows: Poly) -> None:
        """Report rows that are used and were not surely appended."""
        cached = ctx.job.caches.get((ctx.job.role.name, array))
        if cached is None or not ctx.recording:
            return
        over, bounds, spec = cached.over, ctx.bounds(state), ctx.job.role.arrays[array]
        limit, have = self._limit(ctx, state, over, array), "none"
        if limit is not None and cached.ways > 1:
            if dealt_window(ctx, state, cached, row, rows, limit):
                return
            have = f"of the first {ctx.text(limit)} rows those in this tile's blocks of {cached.block}"
        elif limit is not None and cached.paged:
            if paged_window(ctx, state, row, rows, limit):
                return
            have = f"{ctx.text(limit)} rows"
        elif limit is not None:
            at, own = row - _base(ctx, state, array), _rows(ctx, array)
            if _lies_within(bounds, at, rows, limit) and bounds.at_most(at + rows, own):
                return
            have = f"{ctx.text(limit)} rows from {ctx.text(_base(ctx, state, array))} on"
        message = f"uses rows of array {spec.name} that are not surely appended"
        notes = [f"used: {ctx.text(rows)} rows from {ctx.text(row)} on; surely appended: {have}"]
        if array in self.others:
            at, count = self.others[array]
            notes.append(
                f"not the rows of each {over.text}: {ctx.text(count)} written from {ctx.text(at)} on"
            )
        hint = f"append `tokens` rows at {_place(ctx, cached, array)} in each pass over {over.text}s"
        ctx.find(index, "E0404", message, row, rows, hint=hint, notes=tuple(notes))

    def _limit(self, ctx: Context, state: State, over: Over, array: int) -> Poly | None:
        """How many rows of the current segment's sequence are surely there."""
        steps, current, part = ctx.values.steps, state.segment, self.done.get(array)
        if over is Over.SOURCE and current.over is Over.TOKENS and not _takes_source(ctx.job.program):
            return steps.fact(Op.SOURCE, current.index)
        if part is None or current.over is None or (over is Over.TOKENS and current.over is Over.SOURCE):
            return None
        facts = FACTS[current.over]
        if part == self.part and not is_in_its_pass(ctx, state, over):
            return None
        # one segment alone ends where its sequence does
        if part == self.part and ctx.job.program.limits.segments > 1:
            position, tokens = facts[Special.POSITION], facts[Special.TOKENS]
            return steps.fact(position, current.index) + steps.fact(tokens, current.index)
        return steps.fact(facts[Special.SOURCE if over is Over.SOURCE else Special.END], current.index)


def _takes_source(program: Program) -> bool:
    """Whether there are steps with source segments; without, the host fills the caches of a source."""
    return any(stream.source for stream in program.streams)


def in_every_pass(ctx: Context, state: State, over: Over) -> bool:
    """Whether what happens here happens for each segment of the list."""
    if any(ctx.branches) or ctx.maybe_halted or len(ctx.loops) > 1:
        return False
    return is_in_its_pass(ctx, state, over)


def is_in_its_pass(ctx: Context, state: State, over: Over) -> bool:
    """Whether the current segment is the one that a loop over the list is at, or the only one."""
    if state.segment.over is not over:
        return False
    if not ctx.loops:
        return ctx.values.steps.count(over) == Poly(1) and state.segment.index == Poly()
    return ctx.loops[0] is over and ctx.values.steps.is_counter(over, state.segment.index)


def _are_the_segment_s(ctx: Context, state: State, cached: Cached, array: int, row: Poly, rows: Poly) -> bool:
    assert state.segment.over is not None
    if cached.ways > 1:
        return is_dealt_append(ctx, state, cached, row, rows)
    facts, index = FACTS[state.segment.over], state.segment.index
    position = ctx.values.steps.fact(facts[Special.POSITION], index)
    tokens = ctx.values.steps.fact(facts[Special.TOKENS], index)
    if cached.paged:
        return row == page_shift(ctx, state, position) + position and rows == tokens
    place = modulo(ctx.values, ctx.bounds(state), position, Poly(_rows(ctx, array)))
    return row == _base(ctx, state, array) + place and rows == tokens


def _base(ctx: Context, state: State, array: int) -> Poly:
    """The first row of the current segment's sequence."""
    assert state.segment.over is not None
    sequence = FACTS[state.segment.over][Special.SEQUENCE]
    return ctx.values.steps.fact(sequence, state.segment.index).times(_rows(ctx, array))


def _place(ctx: Context, cached: Cached, array: int) -> str:
    """Where the rows of a segment go, in words."""
    if not cached.paged:
        return f"sequence * {_rows(ctx, array)} + position"
    size = ctx.job.program.limits.page_rows
    return f"page(position div {size}) * {size} + position mod {size}"


def _rows(ctx: Context, array: int) -> int:
    """Rows of an array that a sequence has."""
    return ctx.job.role.arrays[array].rows // ctx.job.program.limits.sequences


def _lies_within(bounds: Bounds, row: Poly, rows: Poly, limit: Poly) -> bool:
    if bounds.at_most(rows, 0):
        return True
    return bounds.at_least(row, 0) and bounds.at_most(row + rows - limit, 0)
