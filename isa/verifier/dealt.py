"""Caches whose heads are dealt over several arrays in blocks: which rows an array has of a sequence.

Block b of sequence s, of N blocks each, has number g = s * N + b; it lies in the array of way g mod W, in slot
g div W, which is rows (g div W) * B... of that array, B being the rows of a block; with pages (`paged`), in slot
page(b) of the array of way (s xor b) mod W, W being a power of two. So with the tile's way w, rows
from slot * B on are those from ((slot * W + w) - s * N) * B on of the sequence, as far as the block goes.

A segment lies within a block. If in every pass a tile appends `tokens` rows where that block is its own and none where
it is not, at (g div W) * B + position mod B, then of the rows that a sequence has had, each lies where it belongs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from isa.operands import Special

from .arithmetic import bit_xor, divide, minimum, modulo
from .paged import row_of_sequence
from .poly import Poly, symbol_poly
from .segments import FACTS, Over
from .symbols import Op

if TYPE_CHECKING:
    from .context import Context
    from .state import State


@dataclass(frozen=True, slots=True)
class Cached:
    """An array of a cache: of which list it has rows; over how many arrays a head is dealt, in blocks of how many rows,
    how many of them a sequence; and of each tile with the role which of these arrays it has (-1: not known); whether
    sequences share it in pages."""

    over: Over
    ways: int
    block: int
    blocks: int
    numbers: dict[int, int]
    paged: bool = False


def is_dealt_append(ctx: Context, state: State, cached: Cached, row: Poly, rows: Poly) -> bool:
    """Whether rows that are written are those of the current segment if its block is the tile's own, else none."""
    way = _way(ctx, cached)
    if way is None or cached.block % ctx.values.limits.chunk:
        return False
    values, bounds = ctx.values, ctx.bounds(state)
    block, ways = Poly(cached.block), Poly(cached.ways)
    tokens, position = _fact(ctx, state, Special.TOKENS), _fact(ctx, state, Special.POSITION)
    within = divide(values, bounds, position, block)
    if cached.paged:
        number = bit_xor(values, bounds, _fact(ctx, state, Special.SEQUENCE), within)
        slot = values.steps.page(state.segment.index, within)
    else:
        number = _first_number(ctx, state, cached) + within
        slot = divide(values, bounds, number, ways)
    other = bit_xor(values, bounds, modulo(values, bounds, number, ways), way)
    other = minimum(values, bounds, other, Poly(1))  # 0 where the block is the tile's own, else 1
    expected = slot.times(cached.block) + position - within.times(cached.block)
    return row == expected and rows == tokens - tokens * other


def dealt_window(ctx: Context, state: State, cached: Cached, row: Poly, rows: Poly, limit: Poly) -> bool:
    """Whether a window of rows lies within one block, and all of them among the first `limit` of the sequence."""
    bounds, way = ctx.bounds(state), _way(ctx, cached)
    if bounds.at_most(rows, 0):
        return True
    if way is None or not row.divisible_by(cached.block):
        return False
    rows = _if_any(ctx, rows)
    if cached.paged:
        start = row_of_sequence(ctx, state, row, rows)
        if start is None or not _is_own(ctx, state, cached, start, way):
            return False
    else:
        number = row.over(cached.block).times(cached.ways) + way
        start = (number - _first_number(ctx, state, cached)).times(cached.block)
    in_block = bounds.at_most(rows, cached.block)
    return in_block and bounds.at_least(start, 0) and bounds.at_most(start + rows - limit, 0)


def _is_own(ctx: Context, state: State, cached: Cached, start: Poly, way: Poly) -> bool:
    """Whether the page of the sequence that begins at row `start` is one of the tile's."""
    values, bounds, ways = ctx.values, ctx.bounds(state), Poly(cached.ways)
    if not start.divisible_by(cached.block):
        return False
    turned = modulo(values, bounds, _fact(ctx, state, Special.SEQUENCE), ways)
    return modulo(values, bounds, start.over(cached.block), ways) == bit_xor(values, bounds, turned, way)


def _if_any(ctx: Context, rows: Poly) -> Poly:
    """x of max(x, 0): what the count is wherever it is not 0."""
    if len(rows.terms) != 1 or rows.const:
        return rows
    mono, coefficient = rows.terms[0]
    symbol = ctx.table.symbols[mono[0]]
    if len(mono) != 1 or coefficient != 1 or symbol.op is not Op.MAX or Poly() not in symbol.args:
        return rows
    return next(arg for arg in symbol.args if arg != Poly())


def _first_number(ctx: Context, state: State, cached: Cached) -> Poly:
    """The number of the first block of the current segment's sequence."""
    return _fact(ctx, state, Special.SEQUENCE).times(cached.blocks)


def _fact(ctx: Context, state: State, what: Special) -> Poly:
    assert state.segment.over is not None
    return ctx.values.steps.fact(FACTS[state.segment.over][what], state.segment.index)


def _way(ctx: Context, cached: Cached) -> Poly | None:
    """The way of the tile: a number, or the parameter that has it in every tile; None if it is not known."""
    column = tuple(cached.numbers.get(tile, -1) for tile in ctx.job.tiles)
    if min(column) < 0:
        return None
    if len(set(column)) == 1:
        return Poly(column[0])
    return next((symbol_poly(s) for s, values in ctx.param_values.items() if values == column), None)
