"""Kinds of fields of the statistics: what numbers may be, and which words there are.

Limits of numbers keep all that is computed of them finite; they are far from all that a run can cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import Enum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from isa.events import Bound, Category, Component
from isa.quantities import Confidence

_MOST = 10**60
_LEAST_RATE = 1e-3  # a second
_CLOSE = 1e-6  # relative: sums of numbers that are stored as exact parts, in any order


class Record(BaseModel):
    """A part of the statistics: its fields are all there, and no others; numbers are finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)


def _one_of(kind: type[Enum]) -> tuple[AfterValidator, WithJsonSchema]:
    """A text that is the value of a member."""
    words = [member.value for member in kind]

    def known(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text

    return AfterValidator(known), WithJsonSchema({"type": "string", "enum": words})


_bound, _category, _component, _confidence = map(_one_of, (Bound, Category, Component, Confidence))

Count = Annotated[int, Field(ge=0, le=_MOST)]
"""How many: from 0 on."""
Some = Annotated[int, Field(ge=1, le=_MOST)]
"""How many: from 1 on."""
Amount = Annotated[float, Field(ge=0, le=1e60)]
"""A quantity (joules, seconds, mm2, a share): from 0 on, finite."""
Frequency = Annotated[float, Field(ge=1e3, le=1e11)]
"""Hertz, as targets may have it."""
Ratio = Annotated[float, Field(ge=0, allow_inf_nan=True)]
"""What was measured over the least possible; infinite where that is nothing."""
Side = Annotated[int, Field(ge=1, le=1 << 20)]
"""Pieces along a side of a mesh."""
BoundName = Annotated[str, *_bound]
"""What a cycle of the critical path was spent on."""
CategoryName = Annotated[str, *_category]
"""dynamic, write or static."""
ComponentName = Annotated[str, *_component]
"""A part of the system."""
ConfidenceName = Annotated[str, *_confidence]
"""How sure a number is."""


def check_rates(rates: Iterable[float]) -> None:
    """Raise `ValueError` unless all are more than nothing (a second)."""
    if any(rate < _LEAST_RATE for rate in rates):
        raise ValueError(f"per_second of roofs must be {_LEAST_RATE:g} or more")


def check_sum(what: str, parts: Iterable[float], whole: float) -> None:
    """Raise `ValueError` unless the parts add up to the whole."""
    found = math.fsum(parts)
    if not math.isclose(found, whole, rel_tol=_CLOSE):
        raise ValueError(f"{what} must add up: {found:g} is not {whole:g}")


def check_time(cycles: int, latency_s: float, clock_hz: float) -> None:
    """Raise `ValueError` unless so many cycles take that time."""
    if not math.isclose(cycles / clock_hz, latency_s, rel_tol=_CLOSE):
        raise ValueError(f"latency_s must be cycles over clock_hz, {cycles / clock_hz:g}, not {latency_s:g}")
