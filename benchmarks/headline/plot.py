"""The matrix as a drawing: energy over latency, both over the ideal CPU's, with what was published beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from benchmarks.headline.baselines import AIM, H100, IDEAL, POSTER, SEED, machine, published
from benchmarks.headline.cases import Scope, Way
from benchmarks.headline.compare import Line
from benchmarks.headline.demand import demand
from runtime.svg import Frame, Log, circle, document, line, path, text, tooltip

WIDTH, HEIGHT = 860, 520
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 250, 50, 56
TITLE = "CIM over an ideal CPU: latency and energy of a token"


def plot_of(lines: Sequence[Line]) -> str:
    """The drawing as an SVG file. Cells that do not fit have no place in it."""
    shown = [line for line in lines if line.charge is not None]
    return document(WIDTH, HEIGHT, _body(shown), TITLE)


def _gpu(lines: Sequence[Line]) -> tuple[float, float]:
    """Latency and energy of attention on an H100, over the ideal CPU's: the same for all cells."""
    asked = demand(lines[0].cell, Scope.ATTENTION)
    ours, theirs = machine(H100), machine(IDEAL)
    return ours.seconds(asked) / theirs.seconds(asked), ours.joules(asked) / theirs.joules(asked)


def _scales(lines: Sequence[Line]) -> tuple[Log, Log]:
    known = [published(name) for name in (SEED, POSTER, AIM)]
    points = [(p.latency, p.energy) for p in known] + [
        (a.latency, a.energy) for a in (n.ideal for n in lines)
    ]
    points += [_gpu(lines)] if lines else []
    ends = []
    for values in zip(*points, strict=True):
        ends += [10.0 ** math.floor(math.log10(min(values))), 10.0 ** math.ceil(math.log10(max(values)))]
    return (
        Log(ends[0], ends[1], _LEFT, WIDTH - _RIGHT),
        Log(ends[2], ends[3], HEIGHT - _BOTTOM, _TOP),
    )


def _body(lines: Sequence[Line]) -> Iterator[str]:
    x, y = _scales(lines)
    yield text(_LEFT, 22, TITLE, class_="head")
    frame = Frame(_LEFT, _TOP, WIDTH - _RIGHT, HEIGHT - _BOTTOM)
    yield from frame.axes(x, y, "latency, CIM over ideal CPU", "energy, CIM over ideal CPU")
    yield from _limits(x, y)
    if lines:
        yield from _cross(*_gpu(lines), "H100, attention (TDP x time)", x, y, is_left=True)
    yield from _points(lines, x, y)


def _limits(x: Log, y: Log) -> Iterator[str]:
    """What was published, as crosses; inside the corner of the seed's, cells pass."""
    seed = published(SEED)
    corner = [(x.start, y(seed.energy)), (x(seed.latency), y(seed.energy)), (x(seed.latency), y.start)]
    for (x1, y1), (x2, y2) in pairwise(corner):
        yield line(x1, y1, x2, y2, "axis", stroke_dasharray="5 4")
    for name in (SEED, POSTER, AIM):
        known = published(name)
        label = f"{name}: {known.latency:g}, {known.energy:g}"
        yield from _cross(known.latency, known.energy, label, x, y, is_left=name == AIM)


def _cross(
    latency: float, energy: float, label: str, x: Log, y: Log, *, is_left: bool = False
) -> Iterator[str]:
    """A cross with its label beside it."""
    at, up = x(latency), y(energy)
    yield path(
        f"M{at - 5:.1f} {up - 5:.1f}l10 10m-10 0l10 -10", tooltip(label), class_="axis", stroke_width=2
    )
    side = (at - 9, "end") if is_left else (at + 9, "start")
    yield text(side[0], up + 4, label, anchor=side[1], class_="small muted")


def _points(lines: Sequence[Line], x: Log, y: Log) -> Iterator[str]:
    kinds = [(way, scope) for way in Way for scope in Scope]
    rows = 0
    for index, (way, scope) in enumerate(kinds):
        own = [n for n in lines if n.way is way and n.scope is scope]
        for found in own:
            against = found.ideal
            hint = f"{found.name}: {against.latency:.3g}, {against.energy:.3g} ({found.verdict})"
            yield circle(x(against.latency), y(against.energy), 5, tooltip(hint), class_=f"fill-{index}")
        if own:
            at, rows = _TOP + 14 + 20 * rows, rows + 1
            yield circle(WIDTH - _RIGHT + 20, at - 4, 5, class_=f"fill-{index}")
            yield text(WIDTH - _RIGHT + 32, at, f"{scope.value}, {way.value}")
