"""Every constant of the target, with its source: what can be doubted, and how much of the energy rests on it."""

from __future__ import annotations

from runtime.amounts import share
from runtime.comparison import constant_text
from runtime.report import behind
from runtime.sinks.schema import ConstantRecord, Statistics

from .charts import CONFIDENCES, Piece, bar, figure, legend
from .tags import Cell, Row, amount, constant_anchor, line_anchor, link, section, table, tag, text

_MEANINGS = {
    "silicon": "measured on a chip, read in the publication",
    "repository": "read in the source or data of a published model",
    "derived": "computed from such numbers; the source says how",
    "assumed": "an engineering assumption; sweep it",
}
_ORDER = tuple(CONFIDENCES)  # the surest first


def assumptions(stats: Statistics) -> str:
    """The section."""
    return section(
        "assumptions",
        "Assumptions",
        _rests(stats),
        _controls(stats),
        _constants(stats),
        intro="All constants of the target. Those behind energy name their lines; the others set time, sizes and area.",
    )


def worst(stats: Statistics) -> dict[str, float]:
    """Joules by the least sure of the constants behind each line."""
    known = {constant.path: constant.confidence for constant in stats.constants}
    found = dict.fromkeys(_ORDER, 0.0)
    for line in stats.energy_lines:
        levels = [known.get(path, "assumed") for path in behind(line)]
        found[max(levels, key=lambda level: _ORDER.index(level) if level in _ORDER else len(_ORDER))] += (
            line.joules
        )
    return found


def _rests(stats: Statistics) -> str:
    """How much of the energy rests on what kind of number."""
    found, total = worst(stats), stats.energy_j.total
    pieces = [
        Piece(joules, CONFIDENCES[level], f"{level}: {amount(joules, 'J')}, {share(joules, total)}")
        for level, joules in found.items()
    ]
    drawing = bar(pieces, total, "; ".join(piece.hint for piece in pieces), height=22)
    words = "; ".join(f"{level} {share(joules, total)}" for level, joules in found.items() if joules)
    return figure(
        drawing,
        f"Energy by the least sure constant behind each line: {words}.",
        legend([(f"{level}: {_MEANINGS[level]}", shade) for level, shade in CONFIDENCES.items()]),
    )


def _controls(stats: Statistics) -> str:
    """The filter; without scripts all rows are there."""
    levels = ("all", *_ORDER, "behind energy")
    choices = (tag("option", text(level), value=level) for level in levels)
    return tag(
        "form",
        tag(
            "label",
            text("Find "),
            tag("input", type="search", id="filter", autocomplete="off", placeholder="name or source"),
        ),
        tag("label", text("Show "), tag("select", *choices, id="confidence")),
        tag("output", text(f"{len(stats.constants)} constants"), id="shown"),
        class_="controls",
        role="search",
    )


def _constants(stats: Statistics) -> str:
    lines: dict[str, list[str]] = {}
    for line in stats.energy_lines:
        for path in behind(line):
            lines.setdefault(path, []).append(line.key)
    rows = [_constant(constant, lines.get(constant.path, [])) for constant in stats.constants]
    heads = ("constant", "value", "confidence", "year", "source", "energy lines")
    return table(heads, rows, caption="Constants of the target", id="constants", class_="sortable")


def _constant(constant: ConstantRecord, lines: list[str]) -> Row:
    badge = tag("span", text(constant.confidence), class_=f"badge {constant.confidence}")
    return (
        constant_anchor(constant.path),
        (
            Cell(tag("code", text(constant.path))),
            Cell(text(constant_text(constant)), "number", constant.value),
            Cell(
                badge,
                sort=_ORDER.index(constant.confidence) if constant.confidence in _ORDER else len(_ORDER),
            ),
            Cell(text(str(constant.year or "")), "number", constant.year or 0),
            Cell(text(constant.source), "source"),
            Cell(", ".join(link(key, line_anchor(key)) for key in lines), "constants"),
        ),
    )
