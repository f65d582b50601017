"""Elements of SVG as text. Coordinates are user units, text is escaped here and nowhere else.

Colours are classes of the theme (`fill-0`, `stroke-0`, `muted`, `grid`), so that one drawing is readable on light
and on dark ground, alone (`document`) and inside a page (`inline`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape as _escape

from .theme import stylesheet

Attribute = str | float | None
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")  # what XML cannot hold


def escape(content: str) -> str:
    """Text for XML and HTML, inside elements and quoted attributes."""
    return _escape(_CONTROL.sub("\ufffd", content))


def _value(value: str | float) -> str:
    """Coordinates with at most two decimals, text escaped."""
    if isinstance(value, str):
        return escape(value)
    return f"{value:.2f}".rstrip("0").rstrip(".")


def element(name: str, *children: str, **attributes: Attribute) -> str:
    """`<name attributes>children</name>`; in names of attributes `_` stands for `-` and a last one is dropped.

    Attributes that are None are left out. Children are elements, not text: see `text` and `tooltip`.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{given}>{''.join(children)}</{name}>" if children else f"<{name}{given}/>"


def text(
    x: float,
    y: float,
    content: str,
    *,
    anchor: str | None = None,
    class_: str | None = None,
    size: int | None = None,
) -> str:
    """A line of text from (x, y) on; `anchor` is start, middle or end."""
    return element("text", escape(content), x=x, y=y, text_anchor=anchor, class_=class_, font_size=size)


def tooltip(content: str) -> str:
    """What a pointer that rests on the parent shows, and a screen reader says."""
    return f"<title>{escape(content)}</title>"


def line(x1: float, y1: float, x2: float, y2: float, class_: str = "grid", **attributes: Attribute) -> str:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_, **attributes)


def rect(
    x: float,
    y: float,
    width: float,
    height: float,
    *children: str,
    class_: str | None = None,
    **attributes: Attribute,
) -> str:
    """A rectangle."""
    return element("rect", *children, x=x, y=y, width=width, height=height, class_=class_, **attributes)


def circle(
    x: float, y: float, radius: float, *children: str, class_: str | None = None, **attributes: Attribute
) -> str:
    """A circle."""
    return element("circle", *children, cx=x, cy=y, r=radius, class_=class_, **attributes)


def polyline(points: Iterable[tuple[float, float]], class_: str, **attributes: Attribute) -> str:
    """Straight lines from point to point."""
    return element(
        "polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=class_, **attributes
    )


def path(commands: str, *children: str, class_: str | None = None, **attributes: Attribute) -> str:
    """A path."""
    return element("path", *children, d=commands, class_=class_, **attributes)


def group(*children: str, **attributes: Attribute) -> str:
    """Several elements as one."""
    return element("g", *children, **attributes)


def inline(width: float, height: float, body: Iterable[str], label: str, class_: str = "plot") -> str:
    """A drawing for a page that has the theme's stylesheet. `label` says in words what there is to see."""
    return element(
        "svg",
        tooltip(label),
        *body,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=label,
        class_=class_,
    )


def document(width: float, height: float, body: Iterable[str], label: str) -> str:
    """A drawing as a file of its own, with its stylesheet and a ground."""
    return (
        element(
            "svg",
            tooltip(label),
            f"<style>{stylesheet()}</style>",
            rect(0, 0, width, height, class_="ground"),
            *body,
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"0 0 {width:g} {height:g}",
            role="img",
            class_="plot",
        )
        + "\n"
    )
