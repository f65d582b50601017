"""Colours and type of drawings, as a stylesheet: every colour has a shade for light and one for dark ground."""

from __future__ import annotations

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif'

# Categories, told apart by people with any colour vision in this order; (on light ground, on dark ground).
COLOURS = (
    ("#2f6fcf", "#6ea8ff"),  # blue
    ("#d5691e", "#ff9f5a"),  # orange
    ("#6f7c8c", "#93a1b2"),  # slate
    ("#12877a", "#4cc9b8"),  # teal
    ("#a03f8d", "#e18bd0"),  # plum
    ("#b08a00", "#e6c34a"),  # gold
    ("#4c8f2c", "#94d06c"),  # green
    ("#c23b4b", "#ff8592"),  # red
    ("#6152c4", "#a99cff"),  # violet
    ("#8a5a3c", "#cf9d7c"),  # brown
    ("#2596be", "#7bd0ee"),  # sky
    ("#7f8f1d", "#c9d65c"),  # olive
)
_PLAIN = {  # what else is drawn: property, light, dark
    "ground": ("fill", "#ffffff", "#14181f"),
    "ink": ("fill", "#1c2430", "#e7ebf1"),
    "muted": ("fill", "#5a6676", "#a3afbf"),
    "grid": ("stroke", "#dfe4ea", "#2f3845"),
    "axis": ("stroke", "#8894a3", "#6d7a8c"),
    "empty": ("fill", "#e8ecf1", "#262e3a"),
}


def _rules(shade: int, scope: str) -> str:
    numbered = "".join(
        f"{scope}.fill-{n}{{fill:{pair[shade]}}}{scope}.stroke-{n}{{stroke:{pair[shade]};fill:none}}"
        for n, pair in enumerate(COLOURS)
    )
    plain = "".join(f"{scope}.{name}{{{rule[0]}:{rule[1 + shade]}}}" for name, rule in _PLAIN.items())
    return f"{scope}text{{fill:{_PLAIN['ink'][1 + shade]}}}{numbered}{plain}"


def stylesheet() -> str:
    """The rules for drawings: light, and dark where the reader's system asks for it; printed in light."""
    return (
        f".plot text{{font-family:{FONT};font-size:12px}}.plot .small{{font-size:11px}}.plot .head{{font-size:14px;"
        f"font-weight:600}}.plot line{{stroke-width:1}}.plot polyline{{stroke-width:2;stroke-linejoin:round}}"
        f"{_rules(0, '.plot ')}@media screen and (prefers-color-scheme:dark){{{_rules(1, '.plot ')}}}"
    )


def colour(index: int) -> int:
    """The number of the colour of a category: they repeat after the last."""
    return index % len(COLOURS)
