"""How the energy of cells depends on data."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from isa.hardware import load_target
from isa.macro import Activity, Macro
from isa.quantities import Confidence, Quantity


def _share(value: float) -> Quantity:
    return Quantity(value=value, unit="1", source="a test", confidence=Confidence.ASSUMED)


def _with(reference: float, idle: float) -> Macro:
    activity = Activity(reference=_share(reference), idle_share=_share(idle))
    return load_target("tiny").macro.model_copy(update={"activity": activity})


def test_without_a_reference_energy_does_not_depend_on_data() -> None:
    macro = load_target("tiny").macro
    assert [macro.activity_factor(ones) for ones in (0.0, 0.25, 1.0)] == [1.0, 1.0, 1.0]


def test_energy_is_linear_through_the_reference() -> None:
    """A quarter of the pairs are both ones, and 40 % are spent without any: 0.4, 1, and 0.4 + 0.6 x 4 with all ones."""
    macro = _with(0.25, 0.4)
    assert [macro.activity_factor(ones) for ones in (0.0, 0.25, 1.0)] == pytest.approx([0.4, 1.0, 2.8])


@pytest.mark.parametrize(
    ("reference", "idle", "words"),
    [(0.0, 0.5, "reference must be greater than 0"), (0.5, 1.5, "above 1"), (2.0, 0.5, "above 1")],
)
def test_shares_are_checked(reference: float, idle: float, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Activity.model_validate(
            {"reference": _share(reference).model_dump(), "idle_share": _share(idle).model_dump()}
        )
