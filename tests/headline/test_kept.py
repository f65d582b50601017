"""Results that are kept in a file: they come back as they were, and are not run again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.headline import kept
from benchmarks.headline.bench import Job, done
from benchmarks.headline.cases import Cell, Scope, Way
from benchmarks.headline.compare import Line
from benchmarks.headline.kept import append_results, read_results
from benchmarks.headline.systems import Place
from isa.diagnostics import CimError
from isa.hardware import load_target
from runtime.cli import main

CELL = Cell("llama-tiny", 64, 1, 128)


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[Line]:
    job = Job(CELL, Place.ATTENTION, Way.HYBRID, (Scope.ATTENTION, Scope.WHOLE))
    return done(job, load_target("dcim3-hybrid"), tmp_path_factory.mktemp("programs"))


def test_lines_come_back_as_they_were(
    lines: list[Line], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, missing = tmp_path / "kept.jsonl", [Line(replace(CELL, batch=8), Scope.FFN, Way.CIM, "too large")]
    assert read_results(path) == {}
    append_results(path, "a", lines)
    append_results(path, "b", missing)
    expected = {(CELL, Way.HYBRID, "a"): tuple(lines), (missing[0].cell, Way.CIM, "b"): tuple(missing)}
    assert read_results(path) == expected
    monkeypatch.setattr(kept, "compiler_hash", lambda: "another")
    old = read_results(path)[CELL, Way.HYBRID, "a"]
    assert [line.is_old for line in old] == [True, True]
    assert [replace(line, is_old=False) for line in old] == lines


def test_what_is_kept_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "bench",
        "headline",
        "--model",
        "llama-tiny",
        "--context",
        "64",
        "--batch",
        "1",
        "--jobs",
        "1",
        "--brief",
    ]
    kept_in = ["--resume", str(tmp_path / "kept.jsonl")]
    assert main([*words, "--scope", "attention", "--way", "hybrid", *kept_in]) == 0
    assert main([*words, "--way", "hybrid", *kept_in]) == 0  # one scope more: run again
    first = capsys.readouterr().out
    monkeypatch.setattr("benchmarks.headline.bench.done", None)
    assert main([*words, "--way", "hybrid", *kept_in]) == 0
    assert capsys.readouterr().out in first


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text('{"lines": []}\n')
    with pytest.raises(CimError, match="no results of the matrix"):
        read_results(path)
    with pytest.raises(CimError, match="cannot write it"):
        append_results(tmp_path / "nowhere" / "kept.jsonl", "a", [])
