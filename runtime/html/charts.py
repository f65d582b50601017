"""Drawings that fit any width: bars and columns whose places are shares of the width, so that text keeps its size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from runtime.svg import Linear, element, group, rect, text, tooltip
from runtime.svg.theme import colour

from .tags import amount, tag
from .tags import text as words

CATEGORIES = {"dynamic": 0, "write": 1, "static": 2}
_RESOURCES = {
    "cim": 0,
    "arrays": 0,
    "macros": 0,
    "host_link": 1,
    "sequencer": 2,
    "sequencers": 2,
    "vector": 3,
    "dram": 4,
    "network": 5,
    "links": 5,
    "gbuf": 6,
    "host": 7,
    "chip_links": 8,
    "dma": 9,
    "buffers": 10,
    "adders": 11,
}
CONFIDENCES = {"silicon": 6, "repository": 0, "derived": 5, "assumed": 7}
REST = -1  # the colour of what is of no category


def resource_colour(name: str) -> int:
    """The colour of a resource or component, the same all over the page; unknown ones share what is left."""
    return _RESOURCES.get(name, 11)


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a bar: how long it is (in the bar's unit), its colour (None: empty ground, or REST), and its words."""

    value: float
    colour: int | None
    hint: str


def bar(pieces: Iterable[Piece], whole: float, label: str, height: int = 14) -> str:
    """Pieces side by side, `whole` being the full width."""
    x, drawn = 0.0, []
    for piece in pieces:
        width = 100 * piece.value / whole if whole else 0.0
        if width > 0:
            drawn.append(_share_rect(x, width, 0, height, piece.hint, _class(piece.colour)))
        x += width
    ground = rect(0, 0, 0, height, class_="empty faint", style="width:100%")
    return element(
        "svg", ground, *drawn, class_="plot bar", width="100%", height=height, role="img", aria_label=label
    )


def _class(shade: int | None) -> str:
    return "empty" if shade is None else "rest" if shade == REST else f"fill-{colour(shade)}"


def _share_rect(x: float, width: float, y: float, height: float, hint: str, class_: str) -> str:
    return element(
        "rect",
        tooltip(hint),
        x=f"{x:.3f}%",
        width=f"{max(width, 0.15):.3f}%",
        y=y,
        height=max(height, 0.5),
        class_=class_,
    )


def legend(entries: Iterable[tuple[str, int | None]]) -> str:
    """What the colours mean."""
    items = (
        tag(
            "li",
            element(
                "svg",
                rect(0, 0, 11, 11, class_=_class(c), rx=2),
                class_="plot swatch",
                width=11,
                height=11,
                aria_hidden="true",
            ),
            words(name),
        )
        for name, c in entries
    )
    return tag("ul", *items, class_="legend")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a chart: its name under the axis, its pieces from below, and its words."""

    name: str
    pieces: tuple[Piece, ...]


_PLOT_TOP, _PLOT_HEIGHT, _AXIS = 12, 190, 22
_WIDEST = 96  # pixels of a column


def columns(found: Sequence[Column], unit: str, label: str) -> str:
    """Stacked columns side by side over the full width, with a few marks of the axis behind them."""
    most = max((sum(p.value for p in c.pieces) for c in found), default=0.0) or 1.0
    scale = Linear(0.0, most, _PLOT_TOP + _PLOT_HEIGHT, _PLOT_TOP, 4)
    body = [*_marks(scale), *(_stack(n, c, len(found), scale) for n, c in enumerate(found))]
    every = max(1, -(-len(found) // 16))
    body += [
        text_at((n + 0.5) / len(found), _PLOT_TOP + _PLOT_HEIGHT + 16, c.name)
        for n, c in enumerate(found)
        if n % every == 0
    ]
    height = _PLOT_TOP + _PLOT_HEIGHT + _AXIS
    chart = element(
        "svg",
        tooltip(label),
        *body,
        class_="plot columns",
        width="100%",
        height=height,
        role="img",
        aria_label=label,
        style=f"max-width:{_WIDEST * len(found)}px",
    )
    axis = element(
        "svg", *_numbers(scale, unit), class_="plot axis-numbers", width=58, height=height, aria_hidden="true"
    )
    return tag("div", axis, chart, class_="with-axis")


def _marks(scale: Linear) -> Iterator[str]:
    for tick in scale.ticks():
        y = scale(tick)
        yield element("line", x1="0%", x2="100%", y1=y, y2=y, class_="axis" if tick == 0 else "grid")


def _numbers(scale: Linear, unit: str) -> Iterator[str]:
    for tick in scale.ticks():
        yield text(
            52, scale(tick) + 4, amount(tick, unit) if tick else "0", anchor="end", class_="small muted"
        )


def _stack(index: int, column: Column, count: int, scale: Linear) -> str:
    width = 100 / count
    y, drawn = 0.0, []
    for piece in column.pieces:
        if piece.value > 0:
            top = scale(y + piece.value)
            class_ = f"fill-{colour(piece.colour or 0)}"
            drawn.append(
                _share_rect((index + 0.12) * width, 0.76 * width, top, scale(y) - top, piece.hint, class_)
            )
        y += piece.value
    return group(*drawn)


def text_at(share: float, y: float, content: str) -> str:
    """Text centred at a share of the width."""
    return element(
        "text", words(content), x=f"{100 * share:.3f}%", y=y, text_anchor="middle", class_="small muted"
    )


def bar_row(name: str, drawing: str, value: str) -> str:
    """A bar between its name and its value."""
    return tag(
        "div",
        tag("span", words(name), class_="name"),
        drawing,
        tag("span", words(value), class_="value"),
        class_="bar-row",
    )


def figure(drawing: str, caption: str, *more: str, class_: str = "chart") -> str:
    """A drawing with its caption, in a box that scrolls by itself if it has a least width."""
    return tag("figure", tag("div", drawing, class_=class_), *more, tag("figcaption", words(caption)))
