"""Which bytes of the tile buffer are surely written.

A fact is a *span*: `rows` rows of `width` bytes, `pitch` bytes apart, all of them polynomials (but the pitch). What
was written stays written, so facts are only ever added; where two paths meet, those stay that hold on both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .bounds import Bounds
from .poly import Poly

ONE = Poly(1)


@dataclass(frozen=True, slots=True)
class Span:
    """`rows` rows of `width` bytes, `pitch` bytes apart, from `start`. A dense span is one row."""

    start: Poly
    width: Poly
    rows: Poly = ONE
    pitch: int = 0

    @property
    def end(self) -> Poly:
        """One past the last byte, if there is at least one row."""
        return self.start + self.width + (self.rows - ONE).times(self.pitch)

    def polys(self) -> tuple[Poly, Poly, Poly]:
        """All values in it."""
        return self.start, self.width, self.rows


def dense(start: Poly, length: Poly) -> Span:
    """`length` bytes from `start` on."""
    return Span(start, length)


def pitched(start: Poly, rows: Poly, width: Poly, pitch: int) -> Span:
    """Rows of `width` bytes, `pitch` bytes apart (0: dense)."""
    if rows == ONE:
        return dense(start, width)
    if pitch == 0 or width == Poly(pitch):
        return dense(start, rows * width)
    return Span(start, width, rows, pitch)


class Facts:
    """The spans that are surely written."""

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self.spans = dict.fromkeys(spans)  # ordered, and fast to look up

    def copy(self) -> Facts:
        """A separate set of the same facts."""
        return Facts(self.spans)

    def add(self, bounds: Bounds, span: Span) -> None:
        """Note that a span was written; columns of the same rows grow together."""
        while True:
            if span.pitch and not span.width.terms and span.width.const >= span.pitch:
                span = dense(span.start, span.rows.times(span.pitch))
            if not span.pitch or span in self.spans:
                break
            partner = next(
                (other for other in self.spans if _same_rows(span, other) and _beside(bounds, span, other)),
                None,
            )
            if partner is None:
                break
            del self.spans[partner]
            span = _united(bounds, span, partner)
        self.spans[span] = None

    def covers(self, bounds: Bounds, span: Span) -> bool:
        """Whether every byte of the span is surely written."""
        if span in self.spans or bounds.at_most(span.width, 0) or bounds.at_most(span.rows, 0):
            return True
        if span.pitch and any(
            fact.pitch == span.pitch and _holds_rows(bounds, fact, span) for fact in self.spans
        ):
            return True
        if not span.pitch and any(fact.pitch and _holds_piece(bounds, fact, span) for fact in self.spans):
            return True
        return self._covers_range(bounds, span.start, span.end)

    def near(self, bounds: Bounds, span: Span) -> list[Span]:
        """The facts that may have bytes in common with a span, the latest first."""
        low, high = bounds.lower(span.start), bounds.upper(span.end)
        return [
            fact
            for fact in reversed(self.spans)
            if bounds.lower(fact.start) < high and low < bounds.upper(fact.end)
        ]

    def _covers_range(self, bounds: Bounds, start: Poly, end: Poly) -> bool:
        reached = start
        left = [fact for fact in reversed(self.spans) if not fact.pitch]
        while True:
            for fact in left:
                if not bounds.at_most(fact.start - reached, 0):
                    continue
                if bounds.at_least(fact.end - end, 0):
                    return True
                if fact.end != reached and bounds.at_least(fact.end - reached, 0):
                    reached = fact.end
                    left.remove(fact)
                    break
            else:
                return False


def _same_rows(a: Span, b: Span) -> bool:
    return a.pitch == b.pitch and a.rows == b.rows


def _beside(bounds: Bounds, a: Span, b: Span) -> bool:
    """Whether two spans of the same rows are next to each other or overlap in every row."""
    distance = b.start - a.start
    return bounds.at_most(distance - a.width, 0) and bounds.at_least(distance + b.width, 0)


def _united(bounds: Bounds, a: Span, b: Span) -> Span:
    """Both of two spans that lie beside each other (or the part of them that is proven)."""
    distance = b.start - a.start
    if not bounds.at_least(distance, 0):
        a, b, distance = b, a, distance.times(-1)
    if not bounds.at_least(distance, 0):
        return a
    longer = distance + b.width
    width = longer if bounds.at_least(longer - a.width, 0) else a.width
    return Span(a.start, width, a.rows, a.pitch)


def _holds_rows(bounds: Bounds, fact: Span, span: Span) -> bool:
    """Whether the span's rows are parts of the fact's rows (both have the same pitch)."""
    distance = span.start - fact.start
    if distance.terms:
        return False
    row, column = divmod(distance.const, fact.pitch)
    return (
        row >= 0
        and bounds.at_most(span.width.plus(column) - fact.width, 0)
        and bounds.at_most(span.rows.plus(row) - fact.rows, 0)
    )


def _holds_piece(bounds: Bounds, fact: Span, piece: Span) -> bool:
    """Whether a dense piece lies within one row of the fact."""
    return _holds_rows(bounds, fact, Span(piece.start, piece.width, ONE, fact.pitch))


def meet(a: Facts, a_bounds: Bounds, b: Facts, b_bounds: Bounds) -> Facts:
    """What holds on both of two paths."""
    if a.spans.keys() == b.spans.keys():
        return a.copy()
    both = [span for span in a.spans if span in b.spans or b.covers(b_bounds, span)]
    both += [span for span in b.spans if span not in a.spans and a.covers(a_bounds, span)]
    return Facts(both)


@dataclass(frozen=True, slots=True)
class LoopExit:
    """A loop that has ended: its level, its counter's symbol, its trip count, and whether it surely ran."""

    level: int
    counter: int
    count: Poly
    ran: bool


def after_loop(before: Facts, body_end: Facts, loop: LoopExit, bounds: Bounds) -> Facts:
    """What is written after a loop, from what is written before it and at the end of any iteration."""
    facts = before.copy()
    for span in body_end.spans:
        if span in before.spans:
            continue
        left = _outside(span, loop, bounds)
        if left is not None:
            facts.add(bounds, left)
    return facts


def _outside(span: Span, loop: LoopExit, bounds: Bounds) -> Span | None:
    """What all iterations together have written, if this is what each writes."""
    level = bounds.table.level
    if max(map(level, span.polys())) < loop.level:
        return span if loop.ran else None
    parts = span.start.split(loop.counter)
    if (
        parts is None
        or max(level(span.width), level(span.rows), level(parts[0]), level(parts[1])) >= loop.level
    ):
        return None
    step, start = parts
    if not bounds.at_least(step, 1):
        return None
    return _sweep(span, start, step, loop.count, bounds)


def _sweep(span: Span, start: Poly, step: Poly, count: Poly, bounds: Bounds) -> Span | None:
    """The union of a span moved by `step` bytes `count` times."""
    if span.pitch and step == span.rows.times(span.pitch):
        return Span(start, span.width, span.rows * count, span.pitch)
    if bounds.at_most(step - span.width, 0):  # no gap in a row
        return Span(start, step * count, span.rows, span.pitch)
    if not span.pitch and not step.terms:
        return Span(start, span.width, count, step.const)
    return None
