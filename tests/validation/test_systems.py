"""Decoders on hosts alone: how tokens are summed up, and what came of the rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.validation import systems
from benchmarks.validation.document import document
from benchmarks.validation.judged import Verdict, judged, summary
from benchmarks.validation.rows import Figure, HostSubject, Level, published

DOCUMENT = Path(__file__).parents[2] / "docs" / "validation.md"

VERDICTS = {
    "cent-a100-llama-2-7b": (Verdict.WITHIN, -0.219),
    "nemo-a100-llama-2-7b": (Verdict.EXPLAINED, -0.252),
    "nemo-h100-llama-2-7b": (Verdict.WITHIN, -0.217),
    "llamacpp-epyc-llama-3-70b": (Verdict.WITHIN, +0.080),
}


def test_tokens_between_samples_are_interpolated(monkeypatch: pytest.MonkeyPatch) -> None:
    program = systems.program_of("dcim22+gpu-a100", "llama-tiny", 256)
    monkeypatch.setattr(systems, "APART", 1)
    each = systems.decode_seconds(program, 10, 50)
    monkeypatch.setattr(systems, "APART", 16)
    assert systems.decode_seconds(program, 10, 50) == pytest.approx(each, rel=1e-4)
    assert systems.decode_seconds(program, 10, 1) < each


def test_a_request_is_its_prompt_and_its_further_tokens() -> None:
    subject = HostSubject("dcim22+gpu-a100", "llama-tiny", 32, 20)
    seconds, notes = systems.predict(subject, Figure.SECONDS)
    milliseconds, _ = systems.predict(subject, Figure.MILLISECONDS)
    rate, _ = systems.predict(subject, Figure.TOKENS_PER_SECOND)
    assert milliseconds == pytest.approx(1e3 * seconds)
    assert 19 / rate < seconds
    assert "ms for the prompt" in notes[0]


@pytest.mark.slow
def test_all_rows_and_the_document() -> None:
    found = list(judged(published()))
    ran = {j.row.id: j for j in found if j.row.level is Level.SYSTEM and j.prediction}
    assert {name: j.verdict for name, j in ran.items()} == {name: v for name, (v, _) in VERDICTS.items()}
    for name, (_, error) in VERDICTS.items():
        assert ran[name].error == pytest.approx(error, abs=0.003), name
    counts = summary(found)
    assert counts.run >= 10
    assert counts.holdout >= 4
    assert counts.out == 0
    assert DOCUMENT.read_text(encoding="utf-8") == document(found)
