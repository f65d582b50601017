"""The sweep over analog macros, made small."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks import analog
from isa.diagnostics import CimError


def _options(output: Path | None, over: str = "adc-bits", target: str = "hermes14-system") -> Namespace:
    return Namespace(over=over, target=[target], prompts=1, output=output)


@pytest.mark.slow
def test_more_bits_predict_better_and_the_best_range_is_no_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label, _ = analog.AXES["adc-bits"]
    monkeypatch.setitem(analog.AXES, "adc-bits", (label, (4.0, 8.0)))  # type: ignore[arg-type]
    report = analog.bench(_options(tmp_path / "bits.svg"), lambda text: None)
    assert isinstance(report.data, dict)
    plain, tuned = (
        [point["perplexity"] for point in report.data["curves"][name]]
        for name in ("hermes14", "hermes14, tuned")
    )
    assert plain[0] > 2 * plain[1]
    assert all(best <= given for best, given in zip(tuned, plain, strict=True))
    assert "hermes14, tuned" in (tmp_path / "bits.svg").read_text()
    assert "hermes14-system with exact sums" in report.text


@pytest.mark.parametrize(("over", "target"), [("adc-bits", "dcim22"), ("drift", "isaac32")])
def test_what_a_target_does_not_have_is_refused(over: str, target: str) -> None:
    with pytest.raises(CimError, match="analog macros"):
        analog.bench(_options(None, over, target), lambda text: None)
