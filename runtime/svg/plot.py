"""Line plots: a few series over a number."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from .elements import circle, document, inline, line, polyline, text, tooltip
from .frame import Frame
from .scales import Linear, Log, Scale, number
from .theme import colour

WIDTH, HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 150, 44, 52
_MARGIN = 24  # to the right, where there is no legend
_POINTS = 64  # more of them are a line alone


@dataclass(frozen=True, slots=True)
class Series:
    """Points (x, y) in the order of x."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """`ticks` are its marks and, with the values, its ends; without, round numbers are chosen."""

    label: str
    ticks: tuple[float, ...] = ()
    is_log: bool = True

    def scale(self, values: list[float], start: float, end: float) -> Scale:
        """From numbers to coordinates. Raises ValueError where a logarithm is asked of what is not above 0."""
        low, high = min([*values, *self.ticks]), max([*values, *self.ticks])
        if not self.is_log:
            low = min(low, 0.0) if low > 0 and low < high / 2 else low
            return _Marked(Linear(low, high, start, end), self.ticks)
        if low <= 0:
            raise ValueError(f"{self.label}: {low} is not on a logarithmic axis")
        if not self.ticks:
            low, high = 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))
            high = high if high > low else 10 * low
        return _Marked(Log(low, high, start, end), self.ticks)


@dataclass(frozen=True, slots=True)
class _Marked:
    """A scale with ticks of its own, if there are any."""

    scale: Scale
    own: tuple[float, ...]

    def __call__(self, value: float) -> float:
        return self.scale(value)

    def ticks(self) -> list[float]:
        return list(self.own) or self.scale.ticks()


@dataclass(frozen=True, slots=True)
class Plot:
    """A line plot with a legend; points carry their numbers as tooltips."""

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]

    def svg(self) -> str:
        """The plot as a file of its own."""
        return document(WIDTH, HEIGHT, self._body(), self.title)

    def inline(self) -> str:
        """The plot as a part of a page."""
        return inline(WIDTH, HEIGHT, self._body(), self.title)

    def _body(self) -> Iterator[str]:
        x = self.x.scale([x for s in self.series for x, _ in s.points], _LEFT, self._end)
        y = self.y.scale([y for s in self.series for _, y in s.points], HEIGHT - _BOTTOM, _TOP)
        yield text(_LEFT, 22, self.title, class_="head")
        yield from Frame(_LEFT, _TOP, self._end, HEIGHT - _BOTTOM).axes(x, y, self.x.label, self.y.label)
        for index, series in enumerate(self.series):
            yield from _drawn(index, series, x, y)
            if len(self.series) > 1:
                yield from _named(index, series)

    @property
    def _end(self) -> float:
        """Where the x axis ends: a legend of several series is to its right."""
        return WIDTH - (_RIGHT if len(self.series) > 1 else _MARGIN)


def _drawn(index: int, series: Series, x: Scale, y: Scale) -> Iterator[str]:
    """The line and its points."""
    stroke, fill = f"stroke-{colour(index)}", f"fill-{colour(index)}"
    yield polyline([(x(a), y(b)) for a, b in series.points], stroke)
    for a, b in series.points if len(series.points) <= _POINTS else ():
        yield circle(x(a), y(b), 3, tooltip(f"{series.name}: {number(a)}, {b:,.4g}"), class_=fill)


def _named(index: int, series: Series) -> Iterator[str]:
    """A line of the legend."""
    stroke, at = f"stroke-{colour(index)}", _TOP + 12 + 18 * index
    yield line(WIDTH - _RIGHT + 14, at - 4, WIDTH - _RIGHT + 34, at - 4, stroke, stroke_width=2)
    yield text(WIDTH - _RIGHT + 40, at, series.name)
