"""Results that are kept in a file: they come back as they were, and are not run again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.headline import kept
from benchmarks.headline.bench import Job, done
from benchmarks.headline.cases import Cell, Scope, Way
from benchmarks.headline.compare import Line
from benchmarks.headline.kept import append_results, numbers_hash, read_results
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
    hybrid, whole = load_target("dcim3-hybrid"), load_target("dcim3-system")
    append_results(path, hybrid, lines)
    append_results(path, whole, missing)
    names = numbers_hash(hybrid), numbers_hash(whole)
    expected = {
        (CELL, Way.HYBRID, names[0]): tuple(lines),
        (missing[0].cell, Way.CIM, names[1]): tuple(missing),
    }
    assert read_results(path) == expected
    monkeypatch.setattr(kept, "compiler_hash", lambda: "another")
    old = read_results(path)[CELL, Way.HYBRID, names[0]]
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
    assert main([*words, *kept_in, "--only-kept"]) == 0  # the other ways are not there, and are not run
    assert "all-cim:" not in capsys.readouterr().out


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text('{"lines": []}\n')
    with pytest.raises(CimError, match="no results of the matrix"):
        read_results(path)
    with pytest.raises(CimError, match="cannot write it"):
        append_results(tmp_path / "nowhere" / "kept.jsonl", load_target("tiny"), [])


def test_results_hold_for_the_same_numbers() -> None:
    target = load_target("dcim3-hybrid")
    told = target.clock.model_copy(update={"source": "in other words"})
    faster = target.clock.model_copy(update={"value": 2.0})
    assert numbers_hash(target.model_copy(update={"clock": told})) == numbers_hash(target)
    assert numbers_hash(target.model_copy(update={"clock": faster})) != numbers_hash(target)
