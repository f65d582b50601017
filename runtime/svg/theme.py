"""Colours and type of drawings, as a stylesheet: every colour has a shade for light and one for dark ground."""

from __future__ import annotations

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif'

# Categories: (on light ground, on dark ground). White, or black in the dark, is readable on each (4.5 to 1 or more).
COLOURS = (
    ("#2866c4", "#74abff"),  # blue
    ("#bd5610", "#ff9f5a"),  # orange
    ("#5f6b7a", "#9aa8b8"),  # slate
    ("#0f766b", "#4cc9b8"),  # teal
    ("#97388a", "#e18bd0"),  # plum
    ("#8c6b00", "#e6c34a"),  # gold
    ("#3f7d22", "#94d06c"),  # green
    ("#b83344", "#ff8592"),  # red
    ("#5a4bbd", "#a99cff"),  # violet
    ("#805236", "#cf9d7c"),  # brown
    ("#1b7599", "#7bd0ee"),  # sky
    ("#68761a", "#c9d65c"),  # olive
)
_PLAIN = {  # what else is drawn: property, light, dark
    "ground": ("fill", "#ffffff", "#14181f"),
    "ink": ("fill", "#1c2430", "#e7ebf1"),
    "muted": ("fill", "#5a6676", "#a3afbf"),
    "grid": ("stroke", "#dfe4ea", "#2f3845"),
    "axis": ("stroke", "#8894a3", "#6d7a8c"),
    "rest": ("fill", "#aeb8c4", "#55616f"),
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
