"""Quantities and tables as people read them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
"""Characters that are commands to a terminal, or no text; tabs and ends of lines are none of them."""

_PREFIXES = (
    (1e18, "E"),
    (1e15, "P"),
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
    (1e-3, "m"),
    (1e-6, "u"),
    (1e-9, "n"),
)


def si(value: float, unit: str) -> str:
    """A quantity with a prefix and four digits: `2.124 uJ`."""
    if value == 0:
        return f"0 {unit}"
    scale, prefix = next(((s, p) for s, p in _PREFIXES if abs(value) >= s), (1e-12, "p"))
    return f"{value / scale:.4g} {prefix}{unit}"


def share(part: float, whole: float) -> str:
    """A part of a whole in percent."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def duration(seconds: float) -> str:
    """A time in the largest unit of which it has one or more."""
    for name, size in (("years", 31_557_600), ("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= size:
            return f"{seconds / size:,.3g} {name}"
    return f"{seconds:.3g} seconds"


def count(number: int, noun: str) -> str:
    """`1 step`, `2 steps`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def plain(content: str) -> str:
    """A text whose names of nodes or files cannot command the terminal: such characters become \ufffd."""
    return _CONTROL.sub("\ufffd", content)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A plain table: the first column flush left, the others flush right."""
    lines = [tuple(" ".join(plain(cell).splitlines()) for cell in row) for row in (heads, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]

    def text(line: Sequence[str]) -> str:
        first = line[0].ljust(widths[0])
        return "  ".join((first, *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)))).rstrip()

    return "\n".join([text(lines[0]), "  ".join("-" * w for w in widths), *map(text, lines[1:])])
