"""Which rows of a KV cache in memory are surely stored before they are loaded (E0404).

Of a cache with rows in memory (`KvCache.rows`), of which the last `hot` are in arrays alone: if in every pass over the
segments a role stores

    max(min(position + tokens - hot, tokens), 0) rows from row sequence * R + e on, e = max(position - hot, 0),

of each plane of its region, R being the rows of a sequence there (with `hot` 0: `tokens` rows from position on), then,
if the segments of a sequence come in order and without gaps, rows 0..e of the sequence are there when a segment's pass
begins, and those as well once they are stored. What is loaded must lie within that. A load may come before the store in
the text: what it is allowed then is what earlier segments have stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from isa.instruction import Mode
from isa.interface import memory_planes
from isa.operands import Special
from isa.program import Program

from .appends import in_every_pass, is_in_its_pass
from .arithmetic import maximum, minimum
from .poly import Poly
from .segments import FACTS, Over

if TYPE_CHECKING:
    from .context import Context
    from .state import State


@dataclass(frozen=True, slots=True)
class StoredPlane:
    """A plane in a chip's DRAM: its bytes, those of a row, rows a sequence has, how many of the last are not there."""

    start: int
    end: int
    row_bytes: int
    rows: int
    hot: int


Planes = Mapping[int, tuple[StoredPlane, ...]]


def stored_planes(program: Program) -> Planes:
    """The planes of the caches in memory, by the tile whose they are."""
    found: dict[int, tuple[StoredPlane, ...]] = {}
    for cache in program.caches:
        for head in cache.heads if cache.rows else ():
            specs = program.role(program.tiles[head.tile].role).arrays
            keys, total = specs[head.keys], cache.rows * program.limits.sequences
            base = program.memory[head.memory].offset
            planes = memory_planes(total, keys.cols, specs[head.values].cols, keys.dtype)
            found[head.tile] = found.get(head.tile, ()) + tuple(
                StoredPlane(
                    base + p.offset, base + p.offset + total * p.row_bytes, p.row_bytes, cache.rows, cache.hot
                )
                for p in planes
            )
    return found


@dataclass(frozen=True, slots=True)
class Reached:
    """Rows of one plane of every tile that an instruction reaches: the plane's number, the first row, how many."""

    number: int
    plane: StoredPlane
    row: Poly
    rows: Poly


@dataclass(slots=True)
class Stored:
    """What the text has stored so far, by plane, and the loads that rely on a store behind them."""

    done: dict[int, int] = field(default_factory=dict)  # plane -> part of the text in which rows were stored
    relied: dict[int, int] = field(default_factory=dict)  # plane -> instruction that loads before that

    def access(
        self,
        ctx: Context,
        index: int,
        state: State,
        mode: Mode,
        extent: Poly,
        addresses: list[tuple[int, Poly]],
    ) -> None:
        """Memory is read or written: `extent` bytes at an address of DRAM for each tile (by its number)."""
        for reached in set(_reached(ctx, extent, addresses)):
            if mode is not Mode.READ:
                self._store(ctx, state, reached)
            else:
                self._load(ctx, index, state, reached)

    def finish(self, ctx: Context) -> None:
        """The text has ended: report loads of rows that no pass stores."""
        for number, index in self.relied.items():
            if number not in self.done:
                message = "loads rows of a KV cache that are not surely stored"
                hint = "store each segment's rows, or those that leave the arrays, in every pass over the segments"
                ctx.find(index, "E0404", message, hint=hint)

    def _store(self, ctx: Context, state: State, reached: Reached) -> None:
        if not in_every_pass(ctx, state, Over.TOKENS):
            return
        begin, count = _newly_stored(ctx, state, reached.plane)
        if reached.row == _sequence_row(ctx, state, reached.plane) + begin and reached.rows == count:
            self.done.setdefault(reached.number, ctx.appends.part)

    def _load(self, ctx: Context, index: int, state: State, reached: Reached) -> None:
        bounds = ctx.bounds(state)
        if bounds.at_most(reached.rows, 0):
            return
        if is_in_its_pass(ctx, state, Over.TOKENS):
            begin, count = _newly_stored(ctx, state, reached.plane)
            row = reached.row - _sequence_row(ctx, state, reached.plane)
            is_stored = self.done.get(reached.number) == ctx.appends.part
            limits = [begin, begin + count] if is_stored else [begin]
            end = row + reached.rows
            if bounds.at_least(row, 0) and any(bounds.at_most(end - limit, 0) for limit in limits):
                self.relied.setdefault(reached.number, index)
                return
            notes = (f"loaded: {ctx.text(reached.rows)} rows from {ctx.text(row)} on of the sequence",)
        else:
            notes = ("it does so outside of a pass over the segments",)
        message = "loads rows of a KV cache that are not surely stored"
        ctx.find(index, "E0404", message, reached.row, reached.rows, notes=notes)


def _reached(ctx: Context, extent: Poly, addresses: list[tuple[int, Poly]]) -> list[Reached]:
    """The planes that the addresses lie in, and which of their rows; whole planes where that cannot be said."""
    found = []
    for tile, address in addresses:
        planes = ctx.job.planes.get(tile, ())
        number = next((n for n, p in enumerate(planes) if p.start <= address.const < p.end), -1)
        if number < 0:
            continue
        plane = planes[number]
        distance, size = address.plus(-plane.start), plane.row_bytes
        if distance.divisible_by(size) and extent.divisible_by(size):
            row, rows = distance.over(size), extent.over(size)
        else:
            row, rows = Poly(), Poly((plane.end - plane.start) // size)
        shape = StoredPlane(0, plane.end - plane.start, size, plane.rows, plane.hot)
        found.append(Reached(number, shape, row, rows))
    return found


def _fact(ctx: Context, state: State, what: Special) -> Poly:
    return ctx.values.steps.fact(FACTS[Over.TOKENS][what], state.segment.index)


def _sequence_row(ctx: Context, state: State, plane: StoredPlane) -> Poly:
    """The first row of the current segment's sequence."""
    return _fact(ctx, state, Special.SEQUENCE).times(plane.rows)


def _newly_stored(ctx: Context, state: State, plane: StoredPlane) -> tuple[Poly, Poly]:
    """The rows of its sequence that a segment is to store: the first, and how many."""
    position, tokens = _fact(ctx, state, Special.POSITION), _fact(ctx, state, Special.TOKENS)
    if not plane.hot:
        return position, tokens
    values, bounds = ctx.values, ctx.bounds(state)
    begin = maximum(values, bounds, position.plus(-plane.hot), Poly())
    count = minimum(values, bounds, (position + tokens).plus(-plane.hot), tokens)
    return begin, maximum(values, bounds, count, Poly())
