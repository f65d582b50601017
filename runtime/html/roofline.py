"""The roofline: what was achieved against what the chips in use could do, for each border that data crosses.

Operations are those of arrays (2 a multiply-accumulate). At a border (DRAM, global buffers, links between chips, host
link) the intensity is operations over the bytes that crossed it, and no run can do more than bandwidth times intensity
there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from runtime.sinks.schema import Roof, Statistics
from runtime.svg import Log, circle, element, inline, line, path, rect, text, tooltip
from runtime.svg.frame import Frame
from runtime.svg.theme import colour

from .charts import figure, legend, resource_colour
from .tags import Cell, Row, amount, constant_anchor, link, number, section, table, tag
from .tags import text as text_of

_WIDTH, _HEIGHT = 760, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 24, 22, 50
_UNIT = "OPS"
_REACH = 50  # how far to the left of the first ridge the axis goes, as a ratio


@dataclass(frozen=True, slots=True)
class Mark:
    """What a phase achieved at a border."""

    phase: str
    border: Roof
    intensity: float
    achieved: float
    ceiling: float


def roofline(stats: Statistics) -> str:
    """The section."""
    marks = list(_marks(stats))
    if not marks:
        return section(
            "roofline", "Roofline", intro="No array has worked, so there is nothing to set under a roof."
        )
    intro = (
        "Left of where a slanted line meets the roof, that border limits; right of it, arrays do. A batch or a longer "
        "prompt moves marks to the right and up; decode of one sequence reads every weight once, in place."
    )
    drawing = _drawing(stats.roofs, marks)
    caption = (
        f"Achieved operations a second over operations a byte, axes logarithmic. Marks: {_shape_words(marks)}"
    )
    colours = legend(
        (roof.name, resource_colour(roof.component)) for roof in stats.roofs if roof.kind == "bytes"
    )
    return section(
        "roofline",
        "Roofline",
        figure(drawing, caption, colours, class_="chart wide"),
        tag("h3", "Achieved"),
        _achieved(stats, marks),
        tag("h3", "Roofs"),
        _roofs(stats.roofs),
        intro=intro,
    )


def _marks(stats: Statistics) -> Iterator[Mark]:
    borders = {roof.component: roof for roof in stats.roofs if roof.kind == "bytes"}
    peak = _peak(stats.roofs)
    for work in stats.work:
        seconds, done = work.cycles / stats.clock_hz, work.operations.get("arrays", 0)
        for component, moved in work.moved_bytes.items():
            if component in borders and moved and done and seconds:
                intensity = done / moved
                ceiling = min(peak, borders[component].per_second * intensity)
                yield Mark(work.phase, borders[component], intensity, done / seconds, ceiling)


def _peak(roofs: list[Roof]) -> float:
    """The most operations a second of arrays, which marks are of; 0 without any."""
    return max((roof.per_second for roof in roofs if roof.component == "arrays"), default=0.0)


def _shapes(marks: list[Mark]) -> dict[str, int]:
    return {phase: n for n, phase in enumerate(dict.fromkeys(mark.phase for mark in marks))}


_SHAPE_NAMES = ("circle", "square", "diamond")


def _shape_words(marks: list[Mark]) -> str:
    return ", ".join(f"{phase} {_SHAPE_NAMES[n % 3]}" for phase, n in _shapes(marks).items()) + "."


def _drawing(roofs: list[Roof], marks: list[Mark]) -> str:
    flat = [roof for roof in roofs if roof.kind == "operations"]
    slanted = [roof for roof in roofs if roof.kind == "bytes"]
    peak = _peak(roofs)
    ridges = [peak / roof.per_second for roof in slanted]
    xs = [mark.intensity for mark in marks] + ridges + [min(ridges) / _REACH]
    x = Log(_decade(min(xs), -1), _decade(max(xs), 1), _LEFT, _WIDTH - _RIGHT)
    ys = [mark.achieved for mark in marks] + [roof.per_second for roof in flat]
    y = Log(_decade(min(ys), -1), _decade(max(ys), 1), _HEIGHT - _BOTTOM, _TOP, 6)
    frame = Frame(_LEFT, _TOP, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM)
    axes = frame.axes(x, y, "operations a byte", "operations a second", _rate_text)
    body = [*axes, *_slants(slanted, x, y, peak), *_flats(flat, x, y, slanted)]
    shapes = _shapes(marks)
    order = {roof.component: n for n, roof in enumerate(slanted)}
    body += [_mark(mark, shapes[mark.phase], 8 - 1.5 * order[mark.border.component], x, y) for mark in marks]
    words = "; ".join(f"{m.phase} at {m.border.name}: {amount(m.achieved, _UNIT)}" for m in marks)
    return inline(_WIDTH, _HEIGHT, body, f"Roofline. {words}")


def _decade(value: float, direction: int) -> float:
    return 10.0 ** (math.floor(math.log10(value)) if direction < 0 else math.ceil(math.log10(value) + 0.1))


def _rate_text(value: float) -> str:
    return amount(value, _UNIT).removesuffix(_UNIT)


def _flats(roofs: list[Roof], x: Log, y: Log, slanted: list[Roof]) -> Iterator[str]:
    """Roofs of operations, named at the right; each begins where the fastest border reaches it."""
    fastest = max((roof.per_second for roof in slanted), default=0.0)
    taken: list[float] = []
    for roof in sorted(roofs, key=lambda r: -r.per_second):
        start = x(max(x.low, roof.per_second / fastest)) if fastest else _LEFT
        at = y(roof.per_second)
        label = at - 6 if all(abs(at - other) > 16 for other in taken) else at + 15
        taken.append(at)
        shade = resource_colour(roof.component)
        dashes = "6 4" if roof.name != "all arrays" else None
        yield line(
            start, at, _WIDTH - _RIGHT, at, f"stroke-{colour(shade)}", stroke_width=2, stroke_dasharray=dashes
        )
        yield text(
            _WIDTH - _RIGHT,
            label,
            f"{roof.name}, {amount(roof.per_second, _UNIT)}",
            anchor="end",
            class_="small",
        )


def _slants(roofs: list[Roof], x: Log, y: Log, peak: float) -> Iterator[str]:
    """Roofs of bytes: lines of slope one up to the highest roof, named where they enter."""
    taken: list[float] = []
    for roof in sorted(roofs, key=lambda r: -r.per_second):
        begin = max(x.low, y.low / roof.per_second)
        end = min(peak / roof.per_second, x.high)
        if begin >= end:
            continue
        class_ = f"stroke-{colour(resource_colour(roof.component))}"
        a, b = (x(begin), y(begin * roof.per_second)), (x(end), y(end * roof.per_second))
        yield line(*a, *b, class_, stroke_width=2)
        yield _along(a, b, f"{roof.name}, {amount(roof.per_second, 'B/s')}", taken)


def _along(a: tuple[float, float], b: tuple[float, float], name: str, taken: list[float]) -> str:
    """A name above a line, further along it where another line runs close by."""
    near = sum(abs(a[1] - other) < 22 for other in taken)
    taken.append(a[1])
    angle = math.degrees(math.atan2(b[1] - a[1], b[0] - a[0]))
    turned = f"translate({a[0]:.1f} {a[1]:.1f}) rotate({angle:.2f})"
    return element("g", text(14 + 190 * near, -6, name, class_="small halo"), transform=turned)


def _mark(mark: Mark, shape: int, size: float, x: Log, y: Log) -> str:
    """A mark, with a thin line up to what limits it there; sizes differ by border, so that none hides another."""
    at, height, top = x(mark.intensity), y(mark.achieved), y(mark.ceiling)
    hint = tooltip(
        f"{mark.phase}, {mark.border.name}: {_ratio(mark.intensity)} operations a byte, "
        f"{amount(mark.achieved, _UNIT)}; at most {amount(mark.ceiling, _UNIT)}"
    )
    class_ = f"fill-{colour(resource_colour(mark.border.component))} mark"
    stem = line(at, height, at, top, "axis", stroke_dasharray="2 3")
    if shape % 3 == 0:
        return stem + circle(at, height, size, hint, class_=class_)
    if shape % 3 == 1:
        return stem + rect(at - size, height - size, 2 * size, 2 * size, hint, class_=class_)
    return stem + path(
        f"M{at - size:.1f} {height:.1f}l{size:.1f} -{size:.1f}l{size:.1f} {size:.1f}l-{size:.1f} {size:.1f}z",
        hint,
        class_=class_,
    )


def _ratio(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.4g}"


def _achieved(stats: Statistics, marks: list[Mark]) -> str:
    rows: list[Row] = [
        (
            None,
            (
                mark.phase,
                mark.border.name,
                number(mark.intensity, _ratio(mark.intensity)),
                number(mark.achieved, amount(mark.achieved, _UNIT)),
                number(mark.ceiling, amount(mark.ceiling, _UNIT)),
                number(mark.achieved / mark.ceiling, f"{100 * mark.achieved / mark.ceiling:.3g} %"),
            ),
        )
        for mark in marks
    ]
    rows += list(_vector(stats))
    heads = ("phase", "border", "operations a byte", "achieved", "at most", "of that")
    return table(heads, rows, caption="Achieved operations against their ceilings")


def _vector(stats: Statistics) -> Iterator[Row]:
    """Operations of vector units, which have a roof of their own and no border here."""
    for roof in stats.roofs:
        for work in stats.work if roof.component == "vector" else ():
            seconds = work.cycles / stats.clock_hz
            done = work.operations.get("vector", 0) / seconds if seconds else 0.0
            yield (
                None,
                (
                    work.phase,
                    "vector units",
                    Cell("", "number"),
                    number(done, amount(done, _UNIT)),
                    number(roof.per_second, amount(roof.per_second, _UNIT)),
                    number(done / roof.per_second, f"{100 * done / roof.per_second:.3g} %"),
                ),
            )


def _roofs(roofs: list[Roof]) -> str:
    """Each roof with the constants it is made of."""
    rows: list[Row] = [
        (
            None,
            (
                roof.name,
                number(
                    roof.per_second, amount(roof.per_second, _UNIT if roof.kind == "operations" else "B/s")
                ),
                Cell(text_of(roof.description), "words"),
                Cell(", ".join(link(path, constant_anchor(path)) for path in roof.constants), "constants"),
            ),
        )
        for roof in roofs
    ]
    return table(("roof", "at most", "what", "from"), rows, caption="Roofs and their constants")
