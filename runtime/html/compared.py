"""Two runs beside each other: differences, ratios, and the constants that differ."""

from __future__ import annotations

from runtime.amounts import count
from runtime.comparison import Delta, changed_constants, constant_text, deltas, layer_deltas, per_token
from runtime.sinks.schema import Statistics

from .charts import CATEGORIES, Piece, bar, bar_row, figure, legend
from .tags import Cell, Row, amount, constant_anchor, details, link, number, section, table, tag, text


def compared(stats: Statistics, baseline: Statistics) -> str:
    """The section."""
    changed = changed_constants(stats, baseline)
    constants: list[Row] = [
        (None, (Cell(link(c.path, constant_anchor(c.path))), constant_text(c.new), constant_text(c.old)))
        for c in changed
    ]
    tail = (
        [
            tag("h3", text("Constants that differ")),
            table(("constant", "this", "baseline"), constants, caption="Constants that differ"),
        ]
        if constants
        else [tag("p", text("All constants of the targets are equal."))]
    )
    heads = ("layer", "this", "baseline", "difference", "ratio")
    layers: list[Row] = [
        (None, (d.name, *_cells(d))) for d in layer_deltas(stats, baseline) if d.new or d.old
    ]
    return section(
        "baseline",
        "Compared with the baseline",
        _beside(stats, baseline),
        _metrics(stats, baseline),
        details("Energy by layer, compared", table(heads, layers, caption="Energy by layer in both runs")),
        *tail,
        intro=f"The baseline is {baseline.program} on {baseline.target}: {count(baseline.steps, 'step')}, "
        f"{count(baseline.tokens, 'token')}. "
        "Bars show ratios: half of the width is 1, where nothing changed; they end at 2.",
    )


def _beside(stats: Statistics, baseline: Statistics) -> str:
    """The energy a token of both, as bars of one scale."""
    runs = {"this": stats, "baseline": baseline}
    most = max(per_token(run.energy_j.total, run) for run in runs.values())
    rows = []
    for name, run in runs.items():
        e = run.energy_j
        each = {"dynamic": e.dynamic, "write": e.write, "static": e.static}
        pieces = [
            Piece(per_token(j, run), CATEGORIES[c], f"{name}, {c}: {amount(per_token(j, run), 'J')} a token")
            for c, j in each.items()
        ]
        drawing = bar(pieces, most, "; ".join(piece.hint for piece in pieces))
        rows.append(bar_row(name, drawing, amount(per_token(e.total, run), "J")))
    return figure(tag("div", *rows), "Energy a token.", legend(CATEGORIES.items()))


def _metrics(stats: Statistics, baseline: Statistics) -> str:
    rows: list[Row] = []
    for delta in deltas(stats, baseline):
        name = Cell(text(delta.name), "inner" if delta.level else None)
        others = _cells(delta)
        rows.append((None, (name, Cell(_ratio_bar(delta), "drawn"), *others)))
    heads = ("", "", "this", "baseline", "difference", "ratio")
    return table(heads, rows, caption="This run and the baseline")


def _ratio_bar(delta: Delta) -> str:
    """A bar of the ratio, up to 2, with another colour for what is less than 1 and for what is more."""
    ratio = delta.ratio
    if ratio is None:
        return ""
    hint = f"{delta.name}: {delta.ratio_text}"
    same, more = (
        Piece(min(ratio, 1.0), 3 if ratio < 1 else 2, hint),
        Piece(min(max(ratio - 1.0, 0.0), 1.0), 1, hint),
    )
    return bar([same, more], 2.0, hint)


def _cells(delta: Delta) -> tuple[Cell, ...]:
    """Both values, what changed, the ratio."""

    def shown(value: float) -> Cell:
        return number(value, amount(value, delta.unit) if delta.unit else delta.text(value))

    return (
        shown(delta.new),
        shown(delta.old),
        number(delta.new - delta.old, delta.change.replace(" u", " µ")),
        number(delta.ratio or 0.0, delta.ratio_text),
    )
