"""Energy by part of the model and component of the hardware: where each kind of work spends what it spends."""

from __future__ import annotations

from runtime.groups import by_component, part_of
from runtime.nodes import NodeName
from runtime.sinks.schema import Statistics

from .tags import Cell, Row, amount, number, table, text

_PARTS = 20  # rows; the rest is one


def matrix(stats: Statistics) -> str:
    """Parts down, components across; the darker a cell, the more energy."""
    parts: dict[str, dict[str, float]] = {}
    for place in stats.places:
        row = parts.setdefault(part_of(NodeName(place.layer, place.part)), {})
        _merge(row, place.by_component)
    ordered = sorted(parts, key=lambda name: -sum(parts[name].values()))
    rest: dict[str, float] = {}
    for name in ordered[_PARTS:]:
        _merge(rest, parts[name])
    shown = {name: parts[name] for name in ordered[:_PARTS]} | (
        {f"{len(ordered) - _PARTS} more": rest} if rest else {}
    )
    components = list(by_component(stats))
    most = max((joules for row in shown.values() for joules in row.values()), default=0.0)
    rows = [_row(name, row, components, most) for name, row in shown.items()]
    sums = {name: joules for name, joules in stats.energy_j.by_component.items() if name in components}
    heads = ("part", *components, "all")
    return table(
        heads,
        rows,
        caption="Energy by part and component",
        last=_row("total", sums, components, 0.0),
        class_="matrix",
    )


def _merge(into: dict[str, float], added: dict[str, float]) -> None:
    for name, joules in added.items():
        into[name] = into.get(name, 0.0) + joules


def _row(name: str, joules: dict[str, float], components: list[str], most: float) -> Row:
    whole = sum(joules.values())
    cells = [_heat(joules.get(component, 0.0), most) for component in components]
    return None, (name, *cells, number(whole, amount(whole, "J")))


def _heat(joules: float, most: float) -> Cell:
    """A number on ground that is the darker the more it is."""
    style = f"--heat:{100 * joules / most:.1f}%" if most and joules else None
    return Cell(text(amount(joules, "J") if joules else "·"), "number", joules, style)
