"""Horizontal bars: each of one or several segments, with a label before and a value behind it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .elements import document, element, group, line, rect, text, tooltip
from .scales import Linear, number
from .theme import colour

WIDTH = 720
_ROW, _THICK, _TOP, _CHARACTER = 24, 15, 30, 7.2
_LONGEST = 30  # characters of a label; the tooltip has all


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a bar: from the end of the one before it, or for a negative value to the left of zero."""

    value: float
    colour: int
    hint: str


@dataclass(frozen=True, slots=True)
class Bar:
    """`href` makes the label a link (`#energy-arrays`)."""

    label: str
    segments: tuple[Segment, ...]
    value: str
    href: str | None = None


@dataclass(frozen=True, slots=True)
class BarPlot:
    """Bars one below the other on one linear axis that holds zero. `title` says in words what there is to see."""

    title: str
    bars: tuple[Bar, ...]
    unit: str = ""
    low: float | None = None
    high: float | None = None

    @property
    def height(self) -> int:
        """User units."""
        return _TOP + _ROW * len(self.bars) + 6

    def svg(self) -> str:
        """As a file of its own, under its title."""
        body = (text(14, 20, self.title, class_="head"), group(*self._body(), transform="translate(0 24)"))
        return document(WIDTH, self.height + 24, body, self.title)

    def _scale(self) -> Linear:
        ups = [sum(s.value for s in bar.segments if s.value > 0) for bar in self.bars]
        downs = [sum(s.value for s in bar.segments if s.value < 0) for bar in self.bars]
        low = min([0.0, *downs]) if self.low is None else self.low
        high = max([0.0, *ups]) if self.high is None else self.high
        left = 18 + _CHARACTER * max((len(_cut(bar.label)) for bar in self.bars), default=0)
        right = WIDTH - 14 - _CHARACTER * max((len(bar.value) for bar in self.bars), default=0)
        return Linear(low, high if high > low else low + 1, left, right)

    def _body(self) -> Iterator[str]:
        scale, bottom = self._scale(), self.height - 6
        for tick in scale.ticks():
            yield line(scale(tick), _TOP - 8, scale(tick), bottom, "axis" if tick == 0 else "grid")
            yield text(
                scale(tick),
                _TOP - 14,
                f"{number(tick)} {self.unit}".strip(),
                anchor="middle",
                class_="small muted",
            )
        for index, bar in enumerate(self.bars):
            yield from _drawn(bar, _TOP + _ROW * index, scale)


def _drawn(bar: Bar, y: float, scale: Linear) -> Iterator[str]:
    """A bar with its words."""
    shown = text(scale.start - 8, y + 12, _cut(bar.label), anchor="end")
    named = element("g", tooltip(bar.label), shown)
    yield named if bar.href is None else element("a", named, href=bar.href)
    up = down = 0.0
    for segment in bar.segments:
        begin, up, down = _next(segment.value, up, down)
        places = sorted((scale(begin), scale(begin + segment.value)))
        yield rect(
            places[0], y, max(places[1] - places[0], 0.5 if segment.value else 0.0), _THICK,
            tooltip(segment.hint), class_=f"fill-{colour(segment.colour)}", rx=1.5,
        )  # fmt: skip
    yield text(scale(up) + 6, y + 12, bar.value, class_="muted")


def _next(value: float, up: float, down: float) -> tuple[float, float, float]:
    """Where a segment begins, and the ends to the right and to the left of zero behind it."""
    return (up, up + value, down) if value >= 0 else (down, up, down + value)


def _cut(label: str) -> str:
    return label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}…"
