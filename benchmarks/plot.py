"""Line plots as SVG, written by hand: a few series over a number, with logarithmic axes."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.registry import Report
from isa.diagnostics import NamedPlace, fail
from runtime.report import table

WIDTH, HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 150, 44, 52
_COLOURS = ("#1b6ca8", "#c8553d", "#3d8c40", "#7b4ea3", "#8a6d3b", "#444444")


@dataclass(frozen=True, slots=True)
class Series:
    """Points (x, y), both greater than 0, in the order of x."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot with logarithmic axes. `ticks` are the marks of the x axis; those of the y axis are powers of ten."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    ticks: tuple[float, ...]

    def svg(self) -> str:
        """The plot as an SVG document."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'font-family="sans-serif" font-size="12">'
        )
        yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
        yield _text(_LEFT, 22, self.title, size=14)
        yield from self._axes()
        for index, series in enumerate(self.series):
            yield from self._line(index, series)
        yield "</svg>"

    # ------------------------------------------------------------------------------------------------- scales

    def _decades(self) -> range:
        values = [y for series in self.series for _, y in series.points]
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        return range(low, max(high, low + 1) + 1)

    def _x(self, x: float) -> float:
        low, high = math.log10(min(self.ticks)), math.log10(max(self.ticks))
        share = (math.log10(x) - low) / (high - low) if high > low else 0.5
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def _y(self, y: float) -> float:
        decades = self._decades()
        share = (math.log10(y) - decades[0]) / (decades[-1] - decades[0])
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)

    def _axes(self) -> Iterator[str]:
        right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
        for tick in self.ticks:
            x = self._x(tick)
            yield _rule(x, _TOP, x, bottom)
            yield _text(x, bottom + 16, f"{tick:,.0f}", anchor="middle")
        for power in self._decades():
            y = self._y(10.0**power)
            yield _rule(_LEFT, y, right, y)
            yield _text(
                _LEFT - 6, y + 4, f"{10**power:,}" if power >= 0 else f"{10.0**power:g}", anchor="end"
            )
        yield _text((_LEFT + right) / 2, HEIGHT - 12, self.x_label, anchor="middle")
        yield _text(_LEFT, _TOP - 6, self.y_label)

    def _line(self, index: int, series: Series) -> Iterator[str]:
        colour = _COLOURS[index % len(_COLOURS)]
        places = [(self._x(x), self._y(y)) for x, y in series.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
        yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places)
        legend = _TOP + 12 + 18 * index
        yield _rule(WIDTH - _RIGHT + 14, legend - 4, WIDTH - _RIGHT + 34, legend - 4, colour, 2)
        yield _text(WIDTH - _RIGHT + 40, legend, series.name)


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'


def _rule(x1: float, y1: float, x2: float, y2: float, colour: str = "#dddddd", width: int = 1) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{colour}" stroke-width="{width}"/>'
    )


def doublings(low: int, high: int) -> Sequence[int]:
    """low, 2 low, 4 low, ... up to high."""
    return [low << n for n in range((high // low).bit_length())]


def series_of(found: Mapping[str, Sequence[tuple[float, float]]]) -> tuple[Series, ...]:
    """The curves that have points."""
    return tuple(Series(name, tuple(points)) for name, points in found.items() if points)


def report_of(plot: Plot, options: Namespace) -> Report:
    """The curves as a table, as JSON values and, with `--output`, as an SVG."""
    xs = sorted({x for series in plot.series for x, _ in series.points})
    values = [dict(series.points) for series in plot.series]
    rows = [(f"{x:,.0f}", *(f"{v[x]:,.4g}" if x in v else "-" for v in values)) for x in xs]
    if options.output is not None:
        try:
            options.output.write_text(plot.svg(), encoding="utf-8")
        except OSError as error:
            place = NamedPlace(str(options.output))
            raise fail("E0003", f"cannot write it: {error.strerror}", place) from None
    data = {series.name: [list(point) for point in series.points] for series in plot.series}
    return Report(table((plot.x_label, *(series.name for series in plot.series)), rows), data)
