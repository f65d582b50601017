"""The published results: one row a figure, read from the TOML files in `published/`.

A row says what was published, where, how it is predicted, and what use was made of it: a *calibration* row sets a
number of a target or of a described macro, a *holdout* row sets none, and a *consistency* row is composed of other
numbers of the same publication, so that it checks how they are put together and nothing else. A row that cannot be
predicted says what is missing.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from isa.diagnostics import fail

FOLDER = Path(__file__).parent / "published"


class Level(Enum):
    """How much of a system a figure is about."""

    MACRO = "macro"
    CHIP = "chip"
    SYSTEM = "system"

    @property
    def limit(self) -> float:
        """The error, over the published value, that a row may have without an explanation."""
        return 0.10 if self is Level.MACRO else 0.25


class Use(Enum):
    """What use was made of a published value."""

    CALIBRATION = "calibration"
    HOLDOUT = "holdout"
    CONSISTENCY = "consistency"


class Figure(Enum):
    """What a value says, with its unit. An operation is a multiplication or an addition: a MAC is two."""

    TOPS = "TOPS"
    TOPS_PER_WATT = "TOPS/W"
    TOPS_PER_MM2 = "TOPS/mm2"
    DENSITY = "Mb/mm2"
    NANOSECONDS = "ns"
    SECONDS = "s"
    MILLISECONDS = "ms"
    TOKENS_PER_SECOND = "tok/s"
    RATIO = "x"
    JOULES_PER_TOKEN = "J/tok"
    MICROJOULES_PER_TOKEN = "uJ/tok"


@dataclass(frozen=True, slots=True)
class Publication:
    """Where values come from. `confidence`: `primary` (read in the publication, its abstract or its data),
    `repository` (transcribed by the authors of a model), `secondary` (a review, a community's measurement)."""

    source: str
    year: int
    confidence: str
    configuration: str


@dataclass(frozen=True, slots=True)
class MacroSubject:
    """One vector through a whole macro: of a target, or one described in `published/macros.toml`."""

    target: str = ""
    described: str = ""
    weight_bits: int = 8
    input_bits: int = 8
    phases: int = 1  # how often the steps of an input are gone through
    macros: int = 1  # that work side by side
    ones: float | None = None  # share of pairs of bits that are both one; None: that of the calibration


@dataclass(frozen=True, slots=True)
class PeakSubject:
    """A chip whose arrays all work all the time: a program that is verified and simulated."""

    target: str
    weight_bits: int = 8
    input_bits: int = 8
    phases: int = 1


@dataclass(frozen=True, slots=True)
class HostSubject:
    """A decoder that a host runs by itself: compiled with `--place host` and simulated, prompt and tokens."""

    target: str
    model: str
    prompt: int
    tokens: int


Subject = MacroSubject | PeakSubject | HostSubject

_SUBJECTS: Mapping[str, type[MacroSubject | PeakSubject | HostSubject]] = {
    "macro": MacroSubject,
    "peak": PeakSubject,
    "host": HostSubject,
}


@dataclass(frozen=True, slots=True)
class Row:
    """A published figure. `missing` is what it takes to predict it, where it cannot be; `explanation` is why the
    prediction is further from it than the limit of its level."""

    id: str
    level: Level
    use: Use
    what: str
    figure: Figure
    value: float
    publication: Publication
    subject: Subject | None = None
    assumptions: tuple[str, ...] = ()
    explanation: str = ""
    missing: str = ""

    @property
    def can_run(self) -> bool:
        """Whether there is something to predict it with."""
        return self.subject is not None

    @property
    def target(self) -> str:
        """The name of the target that it is predicted with; "" if there is none."""
        return "" if self.subject is None else self.subject.target


def _row(level: Level, values: dict[str, Any], publications: Mapping[str, Publication]) -> Row:
    subjects = [made(**values.pop(key)) for key, made in _SUBJECTS.items() if key in values]
    return Row(
        level=level,
        use=Use(values.pop("use")),
        figure=Figure(values.pop("figure")),
        publication=publications[values.pop("publication")],
        subject=subjects[0] if subjects else None,
        assumptions=tuple(values.pop("assumptions", ())),
        **values,
    )


@cache
def published() -> tuple[Row, ...]:
    """All rows, macros first, then chips, then systems; each in the order of its file."""
    rows: list[Row] = []
    for level in Level:
        values = tomllib.loads((FOLDER / f"{level.value}_rows.toml").read_text())
        publications = {name: Publication(**given) for name, given in values["publication"].items()}
        rows += [_row(level, dict(given), publications) for given in values["row"]]
    return tuple(rows)


@cache
def described_macros() -> Mapping[str, dict[str, Any]]:
    """The tables of `published/macros.toml`: macros of publications that no target is made of."""
    return tomllib.loads((FOLDER / "macros.toml").read_text())


def chosen(ids: Sequence[str] | None, level: str | None) -> tuple[Row, ...]:
    """The rows whose ids begin with one of `ids` (all, if there are none), of a level if one is named.

    Raises `CimError` E0001 for an id that no row has.
    """
    rows = published()
    for start in ids or ():
        if not any(row.id.startswith(start) for row in rows):
            close = get_close_matches(start, [row.id for row in rows], n=1)
            hint = f"did you mean {close[0]}?" if close else "`cim validate` lists them"
            raise fail("E0001", f"there is no row {start!r}", help=hint)
    return tuple(
        row
        for row in rows
        if (not ids or row.id.startswith(tuple(ids))) and (level is None or row.level.value == level)
    )
