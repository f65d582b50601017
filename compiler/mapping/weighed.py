"""What the mapper's rules weighed, in numbers, for `--explain`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compiler.explain import Heading, Note
from isa.hardware import Hardware

from .grid import Cut, Cutter, Shape
from .parts import Geometry
from .rules import WIDEST, hub_cost
from .sections import Domain


def weighed(
    geometry: Geometry, cuts: Mapping[Shape, Cut | None], slots: Mapping[tuple[Domain, int], int]
) -> Iterator[Note]:
    """The cut of feed-forward sections against the plain one, and columns of hub tiles against fewer and more."""
    for text in dict.fromkeys(
        [
            *(_cut(geometry, shape, cut) for shape, cut in cuts.items() if cut is not None),
            *(_hub(geometry.hardware, width, cols) for (_, width), cols in slots.items()),
        ]
    ):
        yield Note(Heading.CHOICES, text)


def _cut(geometry: Geometry, shape: Shape, cut: Cut) -> str:
    cutter = Cutter(geometry, shape)
    plain = cutter.plain()
    said = (
        f"Feed-forward sections {shape.rows:,} -> {shape.inner:,} -> {shape.width:,}: {_form(cut, shape)}, by estimate "
        f"{_cost(cutter, cut)}"
    )
    if plain is None or plain == cut:
        return f"{said}; it is the plain cut too."
    return f"{said}; the plain cut, {_form(plain, shape)}, would take {_cost(cutter, plain)}."


def _form(cut: Cut, shape: Shape) -> str:
    tiles = f"on {cut.tiles(shape):,} tiles"
    if cut.is_fused:
        return f"both layers of {cut.columns} inner columns on one tile, {tiles}"
    last = f"the last in pieces of {cut.rows:,} x {cut.width:,}"
    return f"first layers in pieces of {cut.columns} columns, {last}, {tiles}"


def _cost(cutter: Cutter, cut: Cut) -> str:
    latency, row = cutter.cost(cut)
    return f"{latency:,.0f} cycles a row and {row:,.0f} for each row behind it"


def _hub(hardware: Hardware, width: int, cols: int) -> str:
    """The hub's columns a tile, against twice and half as many."""
    others = [other for other in (cols // 2, 2 * cols) if 4 <= other <= min(width, WIDEST)]
    against = " and ".join(f"{other} would take {hub_cost(width, other, hardware):,.0f}" for other in others)
    said = (
        f"Rows of {width:,} columns (residual sums, norms) are cut into {cols} columns a tile, "
        f"{-(-width // cols)} tiles: by estimate {hub_cost(width, cols, hardware):,.0f} cycles a stage"
    )
    return f"{said}; {against}." if against else f"{said}."
