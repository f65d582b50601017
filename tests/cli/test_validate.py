"""`cim validate`: published results beside predictions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.validation.judged import judged, summary
from benchmarks.validation.rows import Level, published
from tests.cli.conftest import Cim

MACROS = [row for row in published() if row.level is Level.MACRO]


def test_errors_assumptions_and_what_is_missing_are_printed(cim: Cim) -> None:
    done = cim("validate", "--level", "macro")
    assert done.code == 0
    assert "macro rows (limit 10%)" in done.out
    assert "+11.6%  holdout      explained" in done.out
    assert "assumed: mean data are half way: the publication does not say what they are" in done.out
    assert "missing: a model of gates" in done.out
    counts = summary(judged(MACROS))
    assert done.out.splitlines()[-1].startswith(f"{counts.run} rows run, {counts.holdout} of them holdout")


def test_rows_as_json(cim: Cim) -> None:
    told = cim("validate", "--row", "chih22-int4", "--json").data
    assert [row["id"] for row in told["rows"]] == [r.id for r in MACROS if r.id.startswith("chih22-int4")]
    for row in told["rows"]:
        assert row["error"] == pytest.approx(row["predicted"] / row["published"] - 1)
        assert row["verdict"] == "explained"
        assert row["publication"]["source"].startswith("Chih et al.")
    assert told["summary"]["holdout"] == told["summary"]["run"] == 3


def test_a_row_that_nobody_knows(cim: Cim) -> None:
    done = cim("validate", "--row", "chip22")
    assert done.code == 1
    assert "there is no row 'chip22'" in done.err


def test_it_fails_where_nothing_explains(cim: Cim, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = replace(next(row for row in MACROS if row.id == "chih22-int4-tops"), explanation="")
    monkeypatch.setattr("benchmarks.validation.rows.published", lambda: (bare,))
    done = cim("validate")
    assert done.code == 3
    assert "1 out; 0 not run" in done.out
