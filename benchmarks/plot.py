"""Curves that benchmarks measure, as table, JSON and SVG."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence

from benchmarks.registry import Report
from runtime.amounts import table
from runtime.sinks.files import whole_file
from runtime.svg import Axis, Plot, Series


def doublings(low: int, high: int) -> Sequence[int]:
    """low, 2 low, 4 low, ... up to high."""
    return [low << n for n in range((high // low).bit_length())]


def plot_of(title: str, x: str, y: str, series: Sequence[Series], ticks: Sequence[float]) -> Plot:
    """Curves with logarithmic axes, that of x marked at `ticks`."""
    return Plot(title, Axis(x, tuple(ticks)), Axis(y), tuple(series))


def series_of(found: Mapping[str, Sequence[tuple[float, float]]]) -> tuple[Series, ...]:
    """The curves that have points."""
    return tuple(Series(name, tuple(points)) for name, points in found.items() if points)


def report_of(plot: Plot, options: Namespace) -> Report:
    """The curves as a table, as JSON values and, with `--output`, as an SVG. Raises `CimError` E0003."""
    xs = sorted({x for series in plot.series for x, _ in series.points})
    values = [dict(series.points) for series in plot.series]
    rows = [(f"{x:,.10g}", *(f"{v[x]:,.4g}" if x in v else "-" for v in values)) for x in xs]
    if options.output is not None:
        with whole_file(options.output) as file:
            file.write(plot.svg())
    data = {series.name: [list(point) for point in series.points] for series in plot.series}
    return Report(table((plot.x.label, *(series.name for series in plot.series)), rows), data)
