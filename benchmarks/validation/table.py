"""Judged rows as text, as JSON and as the table of docs/validation.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict

from .judged import Judged, Summary, Verdict, summary
from .rows import Level, Publication, Use

HEADS = ("row", "what", "published", "predicted", "error", "use", "verdict")
RIGHT = (2, 3, 4)
"""Columns of numbers."""


def _number(value: float, unit: str) -> str:
    return f"{value:,.4g} {unit}" if value < 1e4 else f"{value:,.0f} {unit}"


def cells(one: Judged) -> tuple[str, ...]:
    """A row of the table."""
    row, error = one.row, one.error
    found = "-" if one.prediction is None else _number(one.prediction.value, row.figure.value)
    return (
        row.id,
        row.what,
        _number(row.value, row.figure.value),
        found,
        "-" if error is None else f"{error:+.1%}",
        row.use.value,
        one.verdict.value,
    )


def of_level(found: Iterable[Judged], level: Level) -> list[Judged]:
    """The rows of a level that were run: holdout first, then consistency, then calibration."""
    uses = (Use.HOLDOUT, Use.CONSISTENCY, Use.CALIBRATION)
    ran = [j for j in found if j.row.level is level and j.prediction is not None]
    return sorted(ran, key=lambda j: uses.index(j.row.use))


def title(level: Level) -> str:
    """The heading of a level."""
    return f"{level.value} rows (limit {level.limit:.0%})"


def notes(one: Judged) -> list[str]:
    """What a row assumes, what else was found, why it is out of its limit, what it is lacking."""
    row = one.row
    return [
        *(f"assumed: {text}" for text in row.assumptions),
        *(f"found: {text}" for text in (one.prediction.notes if one.prediction else ())),
        *([f"why: {row.explanation}"] if one.verdict is Verdict.EXPLAINED else []),
        *([f"missing: {row.missing}"] if row.missing else []),
    ]


def sources(found: Iterable[Judged]) -> list[str]:
    """The publications, each with its rows."""
    rows: dict[Publication, list[str]] = {}
    for one in found:
        rows.setdefault(one.row.publication, []).append(one.row.id)
    return [f"{p.source} ({p.confidence}, {p.year}): {', '.join(ids)}" for p, ids in rows.items()]


def sentence(counts: Summary) -> str:
    """The last line."""
    return (
        f"{counts.run} rows run, {counts.holdout} of them holdout ({counts.holdout_within} within their limits): "
        f"{counts.within} within, {counts.explained} out and explained, {counts.out} out; {counts.not_run} not run"
    )


def text(found: Sequence[Judged]) -> str:
    """All that `cim validate` prints."""
    parts = []
    for level in Level:
        ran = of_level(found, level)
        if ran:
            parts.append(title(level) + "\n" + _columns([HEADS, *map(cells, ran)]))
    said = [(one.row.id, notes(one)) for one in found]
    parts.append("\n".join([f"{name}\n  " + "\n  ".join(lines) for name, lines in said if lines]))
    parts.append("sources\n  " + "\n  ".join(sources(found)))
    return "\n\n".join([part for part in parts if part] + [sentence(summary(found))])


def _columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(w) if at in RIGHT else cell.ljust(w)
            for at, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def record(one: Judged) -> dict[str, object]:
    """A row as JSON values."""
    row = one.row
    return {
        "id": row.id,
        "level": row.level.value,
        "use": row.use.value,
        "what": row.what,
        "unit": row.figure.value,
        "published": row.value,
        "predicted": one.prediction.value if one.prediction else None,
        "error": one.error,
        "limit": row.level.limit,
        "verdict": one.verdict.value,
        "target": row.target,
        "assumptions": list(row.assumptions),
        "found": list(one.prediction.notes) if one.prediction else [],
        "explanation": row.explanation,
        "missing": row.missing,
        "publication": asdict(row.publication),
    }


def data(found: Sequence[Judged]) -> dict[str, object]:
    """All of it as JSON values."""
    return {"rows": [record(one) for one in found], "summary": asdict(summary(found))}
