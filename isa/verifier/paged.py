"""Caches that sequences share in pages: which rows of an array are those of a sequence.

With pages of P rows, row r of a sequence is row page(r div P) * P + r mod P of the array. What `page` gives is the same
throughout a step; that it is the same in later steps, and that pages of different sequences differ, is the host's part
(runtime/paging.py checks it).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .arithmetic import divide
from .poly import Poly

if TYPE_CHECKING:
    from .context import Context
    from .state import State


def page_shift(ctx: Context, state: State, row: Poly) -> Poly:
    """How far row `row` of the current segment's sequence lies behind row `row` of the array."""
    size = ctx.values.limits.page_rows
    number = divide(ctx.values, ctx.bounds(state), row, Poly(size))
    return (ctx.values.steps.page(state.segment.index, number) - number).times(size)


def row_of_sequence(ctx: Context, state: State, row: Poly, rows: Poly) -> Poly | None:
    """The row of the current segment's sequence that is `row` of the array.

    None unless `rows` rows from there on are one page's.
    """
    steps, bounds, size = ctx.values.steps, ctx.bounds(state), ctx.values.limits.page_rows
    number = steps.page_at(row, state.segment.index)
    if number is None:
        return None
    within = row - steps.page(state.segment.index, number).times(size)
    is_one = bounds.at_least(within, 0) and bounds.at_most(within + rows, size)
    return within + number.times(size) if is_one else None


def paged_window(ctx: Context, state: State, row: Poly, rows: Poly, limit: Poly) -> bool:
    """Whether a window of rows lies within one page, and all of them among the first `limit` of the sequence."""
    bounds = ctx.bounds(state)
    if bounds.at_most(rows, 0):
        return True
    start = row_of_sequence(ctx, state, row, rows)
    return start is not None and bounds.at_least(start, 0) and bounds.at_most(start + rows - limit, 0)
