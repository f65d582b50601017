"""Rows with their predictions, and what is to be said of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from . import macros
from .rows import MacroSubject, PeakSubject, Row, Use


class Verdict(Enum):
    """What came of a row."""

    WITHIN = "within"
    EXPLAINED = "explained"
    OUT = "OUT"
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class Prediction:
    """A predicted value, in the unit of the row's figure; what else is worth saying of how it came about."""

    value: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """A row beside its prediction, None where it cannot be run."""

    row: Row
    prediction: Prediction | None

    @property
    def error(self) -> float | None:
        """Signed, over the published value."""
        return None if self.prediction is None else self.prediction.value / self.row.value - 1.0

    @property
    def verdict(self) -> Verdict:
        """Within the limit of its level; or not, with or without an explanation; or not run."""
        if self.error is None:
            return Verdict.NOT_RUN
        if abs(self.error) <= self.row.level.limit:
            return Verdict.WITHIN
        return Verdict.EXPLAINED if self.row.explanation else Verdict.OUT


def predicted(row: Row) -> Prediction | None:
    """What the project says of a row; None where it cannot be run."""
    subject = row.subject
    if subject is None:
        return None
    if isinstance(subject, MacroSubject):
        return Prediction(macros.predict(subject, row.figure))
    from . import peak, systems  # the compiler and the simulator

    if isinstance(subject, PeakSubject):
        return Prediction(*peak.predict(subject, row.figure))
    return Prediction(*systems.predict(subject, row.figure))


def judged(rows: Iterable[Row], say: Callable[[str], None] = lambda _: None) -> Iterator[Judged]:
    """The rows with their predictions; `say` hears which one is at work."""
    for row in rows:
        say(row.id)
        yield Judged(row, predicted(row))


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts over judged rows."""

    run: int
    within: int
    explained: int
    out: int
    not_run: int
    holdout: int
    holdout_within: int


def summary(found: Iterable[Judged]) -> Summary:
    """Counts; `holdout` are those of them that ran."""
    listed = list(found)
    held = [j for j in listed if j.row.use is Use.HOLDOUT and j.prediction is not None]

    def count(verdict: Verdict) -> int:
        return sum(j.verdict is verdict for j in listed)

    return Summary(
        run=sum(j.prediction is not None for j in listed),
        within=count(Verdict.WITHIN),
        explained=count(Verdict.EXPLAINED),
        out=count(Verdict.OUT),
        not_run=count(Verdict.NOT_RUN),
        holdout=len(held),
        holdout_within=sum(j.verdict is Verdict.WITHIN for j in held),
    )
