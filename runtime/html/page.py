"""The page: its head with style and script, its sections in order."""

from __future__ import annotations

from pathlib import Path

from runtime.sinks.schema import Statistics
from runtime.svg import stylesheet

from .assumptions import assumptions
from .binding import binding
from .compared import compared
from .energy import energy
from .mapping import mapping
from .occupancy import occupancy
from .roofline import roofline
from .summary import head, summary
from .tags import link, tag, text

_STYLE, _SCRIPT = (Path(__file__).with_name(name) for name in ("page.css", "page.js"))
_CONTENTS = {
    "summary": "Summary",
    "baseline": "Baseline",
    "bound": "Bound",
    "energy": "Energy",
    "occupancy": "Occupancy",
    "roofline": "Roofline",
    "mapping": "Mapping",
    "assumptions": "Assumptions",
}
# Nothing is fetched, whatever a name in the file may look like.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def page(stats: Statistics, baseline: Statistics | None = None) -> str:
    """The whole document, from statistics alone."""
    shown = {key: name for key, name in _CONTENTS.items() if key != "baseline" or baseline is not None}
    body = tag(
        "body",
        tag("a", "Skip to the figures", href="#summary", class_="skip"),
        tag("nav", *(link(name, key) for key, name in shown.items()), aria_label="Sections"),
        tag(
            "main",
            head(stats),
            summary(stats),
            *([] if baseline is None else [compared(stats, baseline)]),
            binding(stats),
            energy(stats),
            occupancy(stats),
            roofline(stats),
            mapping(stats),
            assumptions(stats),
        ),
        _foot(stats),
        tag("script", _SCRIPT.read_text(encoding="utf-8")),
    )
    return f"<!DOCTYPE html>\n{tag('html', _head(stats), body, lang='en')}\n"


def _head(stats: Statistics) -> str:
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("link", rel="icon", href="data:,"),
        tag("title", text(f"{stats.program} on {stats.target} - cim report")),
        tag("style", stylesheet() + _STYLE.read_text(encoding="utf-8")),
    )


def _foot(stats: Statistics) -> str:
    words = (
        f"Made by cim report from statistics (version {stats.version}) of {stats.program}, target {stats.target} with "
        f"hash {stats.target_hash}. Simulated figures, not measurements of a chip; the assumptions are listed above."
    )
    return tag("footer", tag("p", text(words)))
