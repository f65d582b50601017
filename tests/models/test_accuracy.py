"""What numbers of few bits cost the trained model on held-out text, and that outlier channels need not cost more."""

from __future__ import annotations

import math
from argparse import Namespace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.accuracy import OUTLIER, Measured, Reference, bench, measured, referenced, variants, windows
from benchmarks.outliers import with_outliers
from isa.diagnostics import CimError
from models import PYTINY, path
from runtime.check.compare import change_error

SAMPLE, FEW = 16, 4  # windows of 511 predicted tokens
MODEL = path(PYTINY)


@cache
def _measured(name: str, count: int | None, model: Path = MODEL) -> Measured:
    (variant,) = (v for v in variants() if v.name == name)
    given = windows(count)
    return measured(model, "dcim22", given, _reference(count), variant)


@cache
def _reference(count: int | None) -> Reference:
    return referenced(MODEL, windows(count))


@pytest.mark.parametrize("name", [v.name for v in variants() if v.limit is not None])
def test_limits_on_a_sample(name: str) -> None:
    found = _measured(name, SAMPLE)
    assert found.tokens == SAMPLE * 511 and found.limit is not None
    assert -2 * found.error < found.change and found.change + 2 * found.error < found.limit
    assert 0 < found.error < 0.005


@pytest.mark.slow
@pytest.mark.parametrize("name", [v.name for v in variants() if v.limit is not None])
def test_limits_on_the_whole_text(name: str) -> None:
    found = _measured(name, None)
    assert found.tokens > 95_000 and found.limit is not None
    assert found.change + 4 * found.error < found.limit


def test_smoothing_takes_back_what_outliers_cost(tmp_path: Path) -> None:
    file = tmp_path / "outliers.onnx"
    onnx.save(with_outliers(onnx.load(path(PYTINY)), OUTLIER), file)
    given = windows(FEW)
    assert referenced(file, given).surprises == _reference(FEW).surprises, (
        "float values know nothing of outliers"
    )
    without, with_ = (_measured(n, FEW, file).change for n in ("outliers, not smoothed", "outliers"))
    assert with_ < 0.005 and without > 0.05


@pytest.mark.slow
def test_smoothing_helps_narrow_keys_and_values() -> None:
    plain, smooth = (_measured(name, 60) for name in ("KV4, not smoothed", "KV4"))
    assert smooth.change < plain.change < 0.03


def test_the_standard_error_is_that_of_paired_windows() -> None:
    random = np.random.default_rng(0)
    theirs = random.normal(500, 100, 50)
    ours = theirs + 5 + random.normal(0, 1, 50)
    error = change_error(ours.tolist(), theirs.tolist(), 50 * 500)
    assert error == pytest.approx(math.exp(0.01) * 1 / 500 / math.sqrt(50), rel=0.3)
    assert change_error([1.0], [2.0], 10) == 0


def test_the_benchmark_says_what_it_measured(tmp_path: Path) -> None:
    """The table, the same as JSON values, and the sweep as a drawing."""
    options = Namespace(only="W8*", windows=2, target="dcim22", jobs=1, output=tmp_path / "sweep.svg")
    report = bench(options, lambda _: None)
    assert report.good and "< 0.5 %: passed" in report.text
    assert isinstance(report.data, dict)
    (one,) = report.data["variants"]
    assert one["name"] == "W8 A8 KV8" and one["tokens"] == 2 * 511
    assert options.output.read_text().startswith("<svg")
    with pytest.raises(CimError, match="no variant"):
        bench(Namespace(**vars(options) | {"only": "nothing"}), lambda _: None)
