"""The published rows: well formed, honest about what they are used for, and what comes of each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.validation import macros
from benchmarks.validation.document import document
from benchmarks.validation.judged import Judged, Verdict, judged, summary
from benchmarks.validation.rows import Figure, Level, MacroSubject, Row, Use, described_macros, published
from isa.hardware import Hardware, load_target
from isa.macro import Macro
from isa.quantities import Model, Quantity
from isa.target_files import target_names

DOCUMENT = Path(__file__).parents[2] / "docs" / "validation.md"
IDS = {row.id: row for row in published()}

MACRO_VERDICTS = {
    "chih22-int4-tops": (Verdict.EXPLAINED, +0.116),
    "chih22-int4-tops-w": (Verdict.EXPLAINED, +0.111),
    "chih22-int4-tops-mm2": (Verdict.EXPLAINED, +0.112),
    "dong7-0.8V-mean": (Verdict.WITHIN, +0.045),
    "dong7-1.0V-0": (Verdict.WITHIN, +0.012),
    "dong7-1.0V-mean": (Verdict.EXPLAINED, -0.175),
    "neurram-4b-tops-w": (Verdict.EXPLAINED, -0.192),
    "neurram-4b-tops": (Verdict.EXPLAINED, -0.290),
    "hung22-1b-tops-w": (Verdict.WITHIN, +0.075),
    "xue22-4b-ns": (Verdict.EXPLAINED, -0.282),
    "liu28-headline": (Verdict.EXPLAINED, -0.953),
}
"""Holdout rows of macros: what came of them when they were first predicted."""


def rows_of(level: Level, *uses: Use) -> list[Row]:
    return [row for row in published() if row.level is level and (not uses or row.use in uses)]


def test_names_are_unique() -> None:
    assert len(IDS) == len(published())


@pytest.mark.parametrize("row", published(), ids=lambda row: row.id)
def test_a_row_runs_or_says_what_is_missing(row: Row) -> None:
    assert row.can_run is not bool(row.missing)
    assert row.value > 0
    assert row.use is Use.CALIBRATION or row.assumptions or row.missing


def test_macro_rows_are_what_the_macro_model_says(monkeypatch: pytest.MonkeyPatch) -> None:
    row = IDS["chih22-int8-tops"]
    assert isinstance(row.subject, MacroSubject)
    usual = macros.predict(row.subject, row.figure)
    plain = Macro.mvm_seconds
    monkeypatch.setattr(Macro, "mvm_seconds", lambda *args: 2 * plain(*args))
    assert macros.predict(row.subject, row.figure) == usual / 2


def test_a_macro_row_by_hand() -> None:
    subject = MacroSubject(target="dcim22", weight_bits=4, input_bits=4)
    macro = load_target("dcim22").macro
    assert macros.predict(subject, Figure.TOPS) == pytest.approx(2 * 256 * 64 / (17.9e-9 / 2) * 1e-12)
    assert macros.predict(subject, Figure.TOPS_PER_WATT) == pytest.approx(2 / (macro.mac_energy.value / 4))


def test_holdout_rows_of_macros() -> None:
    found = {j.row.id: j for j in judged(rows_of(Level.MACRO, Use.HOLDOUT)) if j.prediction}
    assert {name: j.verdict for name, j in found.items()} == {n: v for n, (v, _) in MACRO_VERDICTS.items()}
    for name, (_, error) in MACRO_VERDICTS.items():
        assert found[name].error == pytest.approx(error, abs=6e-4), name


def test_calibration_rows_of_macros_are_met_but_for_rounding() -> None:
    for one in judged(rows_of(Level.MACRO, Use.CALIBRATION)):
        assert one.verdict is Verdict.WITHIN, one.row.id
        assert abs(one.error or 0.0) < 0.005, one.row.id


def test_consistency_rows_of_macros_are_met_but_for_one() -> None:
    found = {one.row.id: one for one in judged(rows_of(Level.MACRO, Use.CONSISTENCY))}
    other = found.pop("fujiwara3-int12-tops-mm2")  # at a voltage whose energy is not published
    assert other.verdict is Verdict.EXPLAINED
    assert other.error == pytest.approx(-0.75, abs=0.01)
    for one in found.values():
        assert one.verdict is Verdict.WITHIN, one.row.id
        assert abs(one.error or 0.0) < 0.01, one.row.id


def test_explanations_belong_to_rows_that_are_out() -> None:
    for one in judged(row for row in rows_of(Level.MACRO) if row.can_run):
        assert bool(one.row.explanation) is (one.verdict is Verdict.EXPLAINED), one.row.id


def test_an_error_without_explanation_is_out() -> None:
    bare = replace(IDS["chih22-int4-tops"], explanation="")
    (one,) = judged([bare])
    assert one.verdict is Verdict.OUT
    assert summary([one]).out == 1


# ------------------------------------------------------------------------------------------- targets and their rows


def targets() -> list[Hardware]:
    return [load_target(name) for name in target_names()]


@pytest.mark.parametrize("target", targets(), ids=lambda target: target.name)
def test_targets_name_rows_that_calibrate(target: Hardware) -> None:
    for name in target.calibrated_by:
        assert name in IDS, f"{target.name} names {name}, which is no row"
        assert IDS[name].use is Use.CALIBRATION, name


@pytest.mark.parametrize("row", [r for r in published() if r.target], ids=lambda row: row.id)
def test_calibration_rows_are_named_by_their_targets(row: Row) -> None:
    named = row.id in load_target(row.target).calibrated_by
    assert named is (row.use is Use.CALIBRATION)


@pytest.mark.parametrize("target", [t for t in targets() if t.calibrated_by], ids=lambda target: target.name)
def test_rows_that_a_target_names_are_met_by_its_own_macro(target: Hardware) -> None:
    """Also by a target that is based on another and takes over its rows, or its macros for keys and values."""
    for row in [IDS[name] for name in target.calibrated_by]:
        if isinstance(row.subject, MacroSubject):
            taken = load_target(row.subject.target).macro
            if target.kv and target.kv.mvm_latency.si == taken.mvm_latency.si:
                assert target.kv.mac_energy.si == taken.mac_energy.si, row.id
                continue
            point = row.subject.target.partition("@")[2]
            own = replace(row.subject, target=f"{target.name}@{point}" if point else target.name)
            assert macros.predict(own, row.figure) == pytest.approx(row.value, rel=0.005), row.id


def quantities(model: Model) -> list[Quantity]:
    """All quantities below a table."""
    found = []
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, Quantity):
            found.append(value)
        elif isinstance(value, Model):
            found += quantities(value)
    return found


@pytest.mark.parametrize(
    "row", [r for r in published() if r.use is Use.HOLDOUT and r.can_run], ids=lambda r: r.id
)
def test_no_number_comes_from_a_holdout_row(row: Row) -> None:
    """Neither the value nor a text that names it with its unit stands in what predicts it."""
    subject = row.subject
    if isinstance(subject, MacroSubject) and subject.described:
        numbers = quantities(macros.described(subject.described))
    else:
        numbers = quantities(load_target(row.target))
    said = f"{row.value:g} {row.figure.value}"
    assert not [q for q in numbers if q.value == row.value and q.unit == row.figure.value]
    assert not [q.source for q in numbers if said in q.source]


def test_described_macros_are_used_and_well_formed() -> None:
    used = {r.subject.described for r in published() if isinstance(r.subject, MacroSubject)}
    assert set(described_macros()) == used - {""}
    for name in described_macros():
        assert macros.described(name).bytes > 0


# ----------------------------------------------------------------------------------------------------- the document


def lines_of(found: list[Judged]) -> list[str]:
    return [line for line in document(found).splitlines() if line.startswith(("| ", "- "))]


def test_the_document_is_up_to_date_about_macros() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for line in lines_of(list(judged(rows_of(Level.MACRO)))):
        assert line in text
