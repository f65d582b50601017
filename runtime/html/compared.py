"""Two runs beside each other: differences, ratios, and the constants that differ."""

from __future__ import annotations

from runtime.comparison import (
    Delta,
    changed_constants,
    changed_options,
    constant_text,
    deltas,
    is_sampled,
    layer_deltas,
    other_model,
    per_token,
    run_text,
)
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
    return section(
        "baseline",
        "Compared with the baseline",
        _beside(stats, baseline),
        _metrics(stats, baseline),
        _layers(stats, baseline),
        *_options(stats, baseline),
        *tail,
        intro=f"The baseline is {baseline.program} on {baseline.target}: {run_text(baseline)}. "
        f"This run: {run_text(stats)}. {other_model(stats, baseline)} "
        "Bars show ratios: half of the width is 1, where nothing changed; they end at 2.",
    )


def _layers(stats: Statistics, baseline: Statistics) -> str:
    each = " a token" * is_sampled(stats, baseline)
    heads = ("layer", "this", "baseline", "difference", "ratio")
    rows: list[Row] = [(None, (d.name, *_cells(d))) for d in layer_deltas(stats, baseline) if d.new or d.old]
    found = table(heads, rows, caption=f"Energy{each} by layer in both runs")
    return details(f"Energy{each} by layer, compared", found)


def _options(stats: Statistics, baseline: Statistics) -> list[str]:
    """The compiler's options that differ."""
    rows: list[Row] = [(None, found) for found in changed_options(stats, baseline)]
    if not rows:
        return []
    words = "Compiler options that differ"
    return [tag("h3", text(words)), table(("option", "this", "baseline"), rows, caption=words)]


def _beside(stats: Statistics, baseline: Statistics) -> str:
    """The energy a token of both, as bars of one scale: of what was simulated, which alone is known by category."""
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
    simulated = " of the simulated steps" * is_sampled(stats, baseline)
    return figure(tag("div", *rows), f"Energy a token{simulated}.", legend(CATEGORIES.items()))


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
