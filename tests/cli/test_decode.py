"""`cim run --timing-only --decode`: many steps, some of them simulated; what Ctrl-C leaves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import models
from runtime.cli.interrupts import interruptible
from runtime.sinks.statistics import read_statistics
from tests.cli.conftest import Cim
from tests.house.source import ROOT


@pytest.fixture(scope="module")
def pytiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model, compiled."""
    from runtime.cli import main

    path = tmp_path_factory.mktemp("pytiny") / "pytiny.cim"
    assert main(["compile", str(models.path(models.PYTINY)), "-o", str(path), "--max-context", "512"]) == 0
    return path


def test_every_step_is_in_the_statistics(cim: Cim, program: Path, tmp_path: Path) -> None:
    stats = tmp_path / "s.json"
    done = cim("run", program, "--timing-only", "--decode", 12, "--position", 20, "--stats", stats)
    assert done.code == 0, done.err
    assert "12 steps, 1 sequence from position 20 on: 12 simulated, 0 interpolated" in done.out
    decode = read_statistics(stats).decode
    assert decode is not None and not decode.interrupted
    for number in (0, 11):
        alone = cim("run", program, "--timing-only", "--position", 20 + number, "--json").data
        assert alone["cycles"] == decode.steps[number].cycles
        assert alone["energy_j"]["total"] == pytest.approx(decode.steps[number].energy_j, rel=1e-12)
    assert cim("report", stats).out.startswith(done.out.partition("simulated by")[0])


def test_a_sample_of_the_shipped_model(cim: Cim, pytiny: Path) -> None:
    words = ("run", pytiny, "--timing-only", "--decode", 60, "--position", 300)
    done = cim(*words, "--every", 20)
    assert "60 steps, 1 sequence from position 300 on: 4 simulated, 56 interpolated between" in done.out
    assert "4 steps, 4 tokens (what was simulated; so are all counts, cycles and joules below)" in done.out
    part, whole = cim(*words, "--every", 20, "--json").data, cim(*words, "--json").data
    kinds = [step["simulated"] for step in part["decode"]["steps"]]
    assert [number for number, simulated in enumerate(kinds) if simulated] == [0, 20, 40, 59]
    for name in ("cycles", "energy_j"):
        assert part["decode"][name] == pytest.approx(whole["decode"][name], rel=0.02)
    assert (part["steps"], whole["steps"]) == (4, 60)


def test_processes_side_by_side_find_the_same(cim: Cim, pytiny: Path) -> None:
    words = ("run", pytiny, "--timing-only", "--decode", 40, "--position", 100, "--json")
    alone, shared = cim(*words).data, cim(*words, "--jobs", 2).data
    assert len(alone["decode"]["steps"]) == 40
    for kept in (alone, shared):
        kept.pop("wall_s", None)
    assert shared == alone


def test_sequences_go_on_from_where_each_is(cim: Cim, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "batch.cim"
    sizes = ("--max-context", 200, "--target", "tiny", "--batch", 2, "--kv-tokens", 256)
    assert cim("compile", model, "-o", out, *sizes).code == 0
    words = ("run", out, "--timing-only", "--decode", 3)
    each = cim(*words, "--segments", "1@150,1@7", "--json").data["decode"]
    assert (each["positions"], each["tokens"]) == ([150, 7], 6)
    alone = cim("run", out, "--timing-only", "--segments", "1@152,1@9", "--json").data
    assert each["steps"][2]["cycles"] == alone["cycles"]
    assert "2 sequences from positions 7 to 150 on" in cim(*words, "--segments", "1@150,1@7").out
    assert cim(*words, "--position", 30, "--json").data["decode"]["positions"] == [30, 30]
    assert "E0607" in cim(*words, "--position", 190).err


def test_what_does_not_fit_is_said_before_the_run(cim: Cim, program: Path, tmp_path: Path) -> None:
    words = ("run", program, "--timing-only", "--decode", 10)
    beyond = cim(*words, "--position", 60)
    assert beyond.code == 1
    assert (
        "error[E0602]: 10 steps from position 60 on end at 70; the program's maximum context is 64"
        in beyond.err
    )
    assert "--decode 4" in beyond.err
    nowhere = cim(*words, "--stats", tmp_path / "none" / "s.json")
    assert nowhere.code == 1 and "E0003" in nowhere.err
    for wrong in (("--tokens", 2), ("--segments", "2@0"), ("--trace", "t.json"), ("--every", 0)):
        assert cim(*words, *wrong).code == 2
    for alone in ("--every", "--jobs"):
        assert cim("run", program, "--timing-only", alone, 2).code == 2
    assert cim("run", program, "--inputs", "in.npz", "--decode", 2).code == 2


def test_ctrl_c_leaves_what_was_done(pytiny: Path, tmp_path: Path) -> None:
    stats = tmp_path / "s.json"
    words = ("--timing-only", "--timing", "reference", "--decode", "512", "--stats", str(stats), "--json")
    process = subprocess.Popen(
        [sys.executable, "-m", "runtime.cli", "run", str(pytiny), *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stderr is not None
    while "simulating 512 decode steps" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "of 512 steps are done" in err
    decode = read_statistics(stats).decode
    assert decode is not None and decode.interrupted and decode.asked == 512
    assert 1 <= len(decode.steps) == decode.simulated < 512
    assert json.loads(out)["decode"] == decode.model_dump(mode="json")
    assert [path.name for path in tmp_path.iterdir()] == ["s.json"]


def test_a_second_ctrl_c_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), interruptible(lambda: said.append("ends soon")) as interrupt:
            assert not interrupt.is_asked
            signal.raise_signal(signal.SIGINT)
            assert interrupt.is_asked and said == ["ends soon"]
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with interruptible(lambda: None) as ignoring:
            signal.raise_signal(signal.SIGINT)
        assert not ignoring.is_asked
    finally:
        signal.signal(signal.SIGINT, before)
