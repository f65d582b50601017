"""`cim bench headline` and `cim bench sensitivity` as commands, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.cli import main


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["bench", *arguments])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_headline_of_a_tiny_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = ("--model", "llama-tiny", "--context", "64", "--batch", "1")
    files = ("--keep", str(tmp_path / "kept"), "--output", str(tmp_path / "h.svg"))
    code, out, _ = _run(capsys, "headline", *cell, *files, "--jobs", "1", "--no-measure", "--json")
    assert code == 0
    found = json.loads(out)
    assert [(n["way"], n["scope"]) for n in found["lines"]] == [
        ("hybrid", "attention"),
        ("hybrid", "end-to-end"),
        ("hybrid+ffn", "attention"),
        ("hybrid+ffn", "attention+ffn"),
        ("all-cim", "attention"),
        ("all-cim", "attention+ffn"),
        ("all-cim", "end-to-end"),
    ]
    assert all(n["system"]["chips"] == 1 and n["system"]["mm2"] > 800 for n in found["lines"])
    assert (tmp_path / "h.svg").read_text().startswith("<svg")
    assert len(list((tmp_path / "kept").glob("*.cim"))) == 3


@pytest.mark.slow
def test_sensitivity_of_a_tiny_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = ("--model", "llama-tiny", "--context", "64")
    files = ("--keep", str(tmp_path), "--output", str(tmp_path / "t.svg"))
    code, out, _ = _run(capsys, "sensitivity", *cell, *files, "--jobs", "1", "--json")
    assert code == 0
    found = json.loads(out)
    assert (
        found["constants"][0]["constant"]["path"] == "macro.leakage"
    )  # from low-leakage to high-performance cells
    assert len(found["constants"]) > 40
    assert (tmp_path / "t.svg").read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("headline", "--model", "gpt5"), "there is no model 'gpt5' to compare"),
        (("sensitivity", "--model", "bert-base"), "there is no model 'bert-base' to compare"),
        (
            ("sensitivity", "--way", "hybrid", "--scope", "attention+ffn"),
            "hybrid has no scope 'attention+ffn'",
        ),
        (("headline", "--target", "nowhere"), "there is no target 'nowhere'"),
    ],
)
def test_wrong_questions_are_answered(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = _run(capsys, *arguments)
    assert code == 1
    assert not out
    assert message in err
