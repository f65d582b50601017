"""Where the energy went: by component, by layer, and line by line with the constants behind each."""

from __future__ import annotations

from runtime.amounts import share
from runtime.comparison import constant_text
from runtime.groups import by_component, grouped, layer_of, part_of
from runtime.report import behind, is_assumed
from runtime.sinks.schema import ConstantRecord, EnergyLine, Statistics

from .charts import CATEGORIES, REST, Column, Piece, bar, columns, figure, legend
from .matrix import matrix
from .tags import (
    Cell,
    Row,
    amount,
    component_anchor,
    constant_anchor,
    details,
    line_anchor,
    link,
    number,
    section,
    table,
    tag,
    text,
)

_OUTSIDE = 4  # parts outside of layers that are shown by name
_SHADES = (3, 2, 5, 8, 10, 11)
_HEADS = ("energy", "share", *CATEGORIES)
_INTRO = (
    "Nothing is added twice and nothing is left over: the lines below add up to the total, by component and by layer. "
    "Each line is a count times constants of the target; follow a constant to its value and source."
)
_OF_DATA = (
    " Activity is what measured data make of the energy of a multiply-accumulate, in the mean over the line."
)


def energy(stats: Statistics) -> str:
    """The section."""
    return section(
        "energy",
        "Energy",
        legend(CATEGORIES.items()),
        tag("h3", text("By component")),
        _components(stats),
        tag("h3", text("By layer")),
        *_layers(stats),
        tag("h3", text("Line by line")),
        _lines(stats),
        intro=_INTRO + _OF_DATA * any(line.activity is not None for line in stats.energy_lines),
    )


def _pieces(name: str, by: dict[str, float]) -> list[Piece]:
    return [
        Piece(joules, CATEGORIES[category], f"{name}, {category}: {amount(joules, 'J')}")
        for category, joules in by.items()
    ]


def _spread_row(
    anchor: str | None, head: Cell | str, name: str, by: dict[str, float], most: float, total: float
) -> Row:
    """A row with a stacked bar, the sum, its share, and the categories."""
    joules = sum(by.values())
    label = f"{name}: {amount(joules, 'J')}, {share(joules, total)}"
    cells = [head, Cell(bar(_pieces(name, by), most, label), "drawn"), *_numbers(by, total)]
    return anchor, cells


def _numbers(by: dict[str, float], total: float) -> list[Cell]:
    joules = sum(by.values())
    return [
        number(joules, amount(joules, "J")),
        number(joules, share(joules, total)),
        *(number(by[category], amount(by[category], "J")) for category in CATEGORIES),
    ]


def _sums(stats: Statistics) -> dict[str, float]:
    e = stats.energy_j
    return {"dynamic": e.dynamic, "write": e.write, "static": e.static}


def _components(stats: Statistics) -> str:
    found, total = by_component(stats), stats.energy_j.total
    most = max((sum(by.values()) for by in found.values()), default=0.0)
    rows = [_spread_row(component_anchor(name), name, name, by, most, total) for name, by in found.items()]
    last: Row = (None, ("total", "", *_numbers(_sums(stats), total)))
    return table(("component", "", *_HEADS), rows, caption="Energy by component", last=last)


def _layers(stats: Statistics) -> list[str]:
    """Columns for the numbered layers; a table of them and of all else; a table by part."""
    groups = {name: by for name, by, _ in grouped(stats, layer_of)}
    numbers = sorted({p.layer for p in stats.places if p.layer is not None})
    drawn = [
        Column(str(n), tuple(_pieces(f"layer {n}", groups[f"layer {n}"])))
        for n in numbers
        if f"layer {n}" in groups
    ]
    chart = columns(drawn, "J", "Energy of each layer: dynamic, write and static, stacked")
    caption = (
        "Layers of the model, each with the static energy of the tiles that hold its work. What belongs to no layer, "
        "and memories and links that stand by (static), are in the table."
    )
    outside = [name for name in groups if not name.startswith("layer ")]
    found = [_whole(groups, outside, stats.energy_j.total)] + ([figure(chart, caption)] if drawn else [])
    shown = [f"layer {n}" for n in numbers if f"layer {n}" in groups] + outside
    found.append(details(f"By layer, as a table of {len(shown)} rows", _group_table(stats, "layer", shown)))
    found.append(details("By part: the same part of all layers is one", _group_table(stats, "part", None)))
    found.append(details("By part and component", matrix(stats)))
    return found


def _whole(groups: dict[str, dict[str, float]], outside: list[str], total: float) -> str:
    """All layers together beside what is of none: the largest few, then the rest as one."""
    sums = {name: sum(by.values()) for name, by in groups.items()}
    named = {"all layers": sum(joules for name, joules in sums.items() if name not in outside)}
    named |= {name: sums[name] for name in outside[:_OUTSIDE]}
    named["others"] = sum(sums[name] for name in outside[_OUTSIDE:])
    shades = {name: REST if name == "others" else n for n, name in zip(_SHADES, named, strict=False)}
    pieces = [
        Piece(joules, shades[name], f"{name}: {amount(joules, 'J')}, {share(joules, total)}")
        for name, joules in named.items()
        if joules
    ]
    words = "; ".join(piece.hint for piece in pieces)
    names = legend([(name, shades[name]) for name, joules in named.items() if joules])
    return figure(bar(pieces, total, words, height=22), f"{words}.", names)


def _group_table(stats: Statistics, head: str, order: list[str] | None) -> str:
    listed = grouped(stats, layer_of if head == "layer" else part_of)
    groups = {name: (by, cycles) for name, by, cycles in listed}
    total = stats.energy_j.total
    most = max((sum(by.values()) for by, _ in groups.values()), default=0.0)
    rows: list[Row] = []
    for name in groups if order is None else order:
        by, cycles = groups[name]
        anchor, cells = _spread_row(None, name, name, by, most, total)
        rows.append((anchor, [*cells, number(cycles, share(cycles, stats.cycles))]))
    last: Row = (None, ("total", "", *_numbers(_sums(stats), total), number(stats.cycles, "100.0 %")))
    heads = (head, "", *_HEADS, "of the critical path")
    return table(heads, rows, caption=f"Energy by {head}", last=last)


def _lines(stats: Statistics) -> str:
    """Each line with its count and its constants, which are links."""
    known = {constant.path: constant for constant in stats.constants}
    total = stats.energy_j.total
    most = max((line.joules for line in stats.energy_lines), default=0.0)
    rows = [_line(line, known, most, total) for line in stats.energy_lines]
    last: Row = (
        None,
        ("total", "", "", number(total, amount(total, "J")), number(total, share(total, total)), ""),
    )
    heads = ("line", "", "count", "energy", "share", "times these constants")
    return table(heads, rows, caption="Lines of energy with their constants", last=last, class_="lines")


def _line(line: EnergyLine, known: dict[str, ConstantRecord], most: float, total: float) -> Row:
    hint = f"{line.key}: {amount(line.joules, 'J')}"
    head = tag("span", text(line.key), class_="key") + tag(
        "span",
        text(f"{line.description}; "),
        link(line.component, component_anchor(line.component)),
        class_="note",
    )
    return (
        line_anchor(line.key),
        (
            Cell(head),
            Cell(bar([Piece(line.joules, CATEGORIES.get(line.category, 0), hint)], most, hint), "drawn"),
            Cell(text(f"{line.count:,}") + tag("span", text(line.unit), class_="note"), "number", line.count),
            number(line.joules, amount(line.joules, "J")),
            number(line.joules, share(line.joules, total)),
            Cell(" ×\u00a0".join(_factors(line, known)), "constants"),
        ),
    )


def _factors(line: EnergyLine, known: dict[str, ConstantRecord]) -> list[str]:
    found = []
    for path in line.constants:
        constant = known.get(path)
        mark = tag("span", "assumed", class_="badge assumed") if is_assumed(constant) else ""
        value = tag("span", text(constant_text(constant)), class_="note inline")
        found.append(tag("span", link(path, constant_anchor(path)), " ", value, mark, class_="factor"))
    if line.category == "static":
        found.append(tag("span", text("time"), class_="factor"))
    if line.activity is not None:
        of_data = link("activity", constant_anchor(behind(line)[-1])), text(f" {line.activity:.4g}")
        found.append(tag("span", *of_data, class_="factor"))
    return found
