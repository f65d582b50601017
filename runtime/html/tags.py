"""HTML as text: elements, tables, and what sections are made of. Text is escaped by `text` and in attributes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from runtime.amounts import si
from runtime.svg import escape

_VOID = frozenset({"br", "col", "input", "link", "meta"})
Attribute = str | float | bool | None


def text(content: str) -> str:
    """Text between tags."""
    return escape(content)


def tag(name: str, /, *children: str, **attributes: Attribute) -> str:
    """`<name attributes>children</name>`; children are markup. In names `_` stands for `-`, a last one is dropped.

    True is an attribute without a value; None and False leave it out.
    """
    given = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return f"<{name}{given}>" if name in _VOID else f"<{name}{given}>{''.join(children)}</{name}>"


def link(content: str, anchor: str) -> str:
    """A link to a place of the page."""
    return tag("a", text(content), href=f"#{anchor}")


def amount(value: float, unit: str) -> str:
    """A quantity as people write it: `21.5 µJ`."""
    return si(value, unit).replace(f" u{unit}", f" µ{unit}")


def constant_anchor(path: str) -> str:
    """The anchor of a constant's row."""
    return f"constant-{path}"


def line_anchor(key: str) -> str:
    """The anchor of an energy line's row."""
    return f"line-{key}"


def component_anchor(name: str) -> str:
    """The anchor of a component's row."""
    return f"component-{name}"


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table: markup, what it is sorted by if that is not its text, and a style of its own."""

    markup: str
    class_: str | None = None
    sort: float | str | None = None
    style: str | None = None


Row = tuple[str | None, Sequence[Cell | str]]  # its anchor, its cells (text where it is a str)


def table(
    heads: Sequence[str],
    rows: Iterable[Row],
    *,
    caption: str,
    last: Row | None = None,
    **attributes: Attribute,
) -> str:
    """A table in a box that scrolls by itself; the first cell of a row is its head, `last` the row of sums."""
    listed = list(rows)
    body = tag("tbody", *(_row(row) for row in listed))
    classes = [cell.class_ if isinstance(cell, Cell) else None for cell in listed[0][1]] if listed else []
    names = zip_longest(heads, classes)
    head = tag("thead", tag("tr", *(tag("th", text(name), scope="col", class_=c) for name, c in names)))
    foot = "" if last is None else tag("tfoot", _row(last))
    return tag(
        "div",
        tag("table", tag("caption", text(caption), class_="hidden"), head, body, foot, **attributes),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label=caption,
    )


def _row(row: Row) -> str:
    anchor, cells = row
    first, *others = (Cell(text(cell)) if isinstance(cell, str) else cell for cell in cells)
    head = tag("th", first.markup, scope="row", class_=first.class_, data_sort=_sort(first))
    return tag(
        "tr",
        head,
        *(
            tag("td", cell.markup, class_=cell.class_, style=cell.style, data_sort=_sort(cell))
            for cell in others
        ),
        id=anchor,
    )


def _sort(cell: Cell) -> str | None:
    return None if cell.sort is None else str(cell.sort)


def number(value: float, shown: str | None = None) -> Cell:
    """A cell flush right that sorts by its value."""
    return Cell(text(f"{value:,}" if shown is None else shown), "number", value)


def section(anchor: str, title: str, *children: str, intro: str = "") -> str:
    """A section of the page, under a heading."""
    lead = tag("p", text(intro), class_="intro") if intro else ""
    heading = tag("h2", text(title), id=f"{anchor}-title")
    return tag("section", heading, lead, *children, id=anchor, aria_labelledby=f"{anchor}-title")


def details(summary: str, *children: str) -> str:
    """What is shown when it is asked for."""
    return tag("details", tag("summary", text(summary)), *children)
