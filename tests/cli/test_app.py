"""Dispatch, exit codes, streams: what holds for every command."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from isa.diagnostics import Diagnostic, FilePlace, fail
from runtime.cli import app, main
from runtime.cli.console import Console, columns
from runtime.cli.table import COMMANDS
from tests.house.source import ROOT


class Stub:
    """A command that does what the test wants."""

    def __init__(self, act: object) -> None:
        self.act = act

    def configure(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("word", nargs="?")

    def run(self, options: argparse.Namespace, console: Console) -> int:
        if isinstance(self.act, BaseException):
            raise self.act
        console.result("done")
        console.data({"done": True})
        return 0


def _cim(monkeypatch: pytest.MonkeyPatch, act: object, *words: str) -> int:
    monkeypatch.setattr("runtime.cli.table.Command.load", lambda self: Stub(act))
    return main(["explain", *words])


def test_every_command_of_the_design_is_there() -> None:
    names = {"compile", "asm", "dis", "verify", "run", "generate", "check", "ops", "targets", "passes", "isa"}
    assert {command.name for command in COMMANDS} == names | {"explain", "report", "bench", "validate"}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
def test_every_command_takes_json_and_explains_itself(
    command: object, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command.name, "--help"])  # type: ignore[attr-defined]
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "--json" in text
    assert "%(" not in text


def test_help_lists_the_commands_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    captured = capsys.readouterr()
    assert all(re.search(rf"^  {command.name} ", captured.out, re.M) for command in COMMANDS)
    assert captured.err == ""


def test_no_arguments_is_a_usage_error_with_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "commands:" in captured.err


@pytest.mark.parametrize(
    ("words", "said"),
    [(["complie"], "did you mean 'compile'"), (["explain", "--nope"], "--nope"), (["--nope"], "--nope")],
)
def test_wrong_usage_is_2(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


def test_a_users_mistake_is_1_with_diagnostics(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = FilePlace("a.cimasm", 3, 5, "mvm a300, x", 4)
    act = fail("E0103", "array a300 does not exist", place, "use a0..a15")
    assert _cim(monkeypatch, act) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[:3] == [
        "a.cimasm:3:5: error[E0103]: array a300 does not exist",
        "    3 | mvm a300, x",
        "      |     ^^^^",
    ]
    assert "help: use a0..a15" in captured.err


def test_diagnostics_as_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    act = fail("E0103", "array a300 does not exist", FilePlace("a.cimasm", 3, 5), "use a0..a15")
    assert _cim(monkeypatch, act, "--json") == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {
        "diagnostics": [
            {
                "code": "E0103",
                "message": "array a300 does not exist",
                "place": "a.cimasm:3:5",
                "help": "use a0..a15",
                "notes": [],
            }
        ]
    }


def test_a_defect_is_70_with_a_way_to_reproduce_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert _cim(monkeypatch, KeyError("lost"), "it's") == 70
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert "internal error: KeyError" in captured.err
    assert """to reproduce: cim explain 'it'"'"'s'""" in captured.err
    (saved,) = tmp_path.glob("cim-defect-*.txt")
    assert str(saved) in captured.err
    assert "Traceback (most recent call last)" in saved.read_text()


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _cim(monkeypatch, KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_json_replaces_the_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _cim(monkeypatch, None, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"done": True}
    assert _cim(monkeypatch, None) == 0
    assert capsys.readouterr().out == "done\n"


def test_a_reader_that_leaves_is_no_error() -> None:
    script = f"{sys.executable} -m runtime.cli explain | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("code")


class Terminal:
    """A stream that says it is a terminal."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("no_color", "painted"), [("", True), ("1", False)])
def test_colour_only_where_wanted(monkeypatch: pytest.MonkeyPatch, no_color: str, painted: bool) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    Console(err=terminal).diagnostics([Diagnostic("E0001", "gone", help="look")])  # type: ignore[arg-type]
    assert ("\x1b[" in terminal.text) is painted


def test_progress_only_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    terminal = Terminal()
    console = Console(err=terminal)  # type: ignore[arg-type]
    with console.activity("compiling"):
        pass
    assert terminal.text == ""
    monkeypatch.setattr("runtime.cli.console.PATIENCE_S", 0.0)
    with console.activity("compiling") as activity:
        activity.note = "place"
        deadline = time.perf_counter() + 5
        while "compiling: place" not in terminal.text and time.perf_counter() < deadline:
            time.sleep(0.01)
    assert "compiling: place (" in terminal.text
    assert terminal.text.endswith("\r\x1b[K")


def test_columns_line_up() -> None:
    assert (
        columns(("name", "n"), [("a", "1"), ("bcdef", "10")], right=(1,)) == "name    n\na       1\nbcdef  10"
    )


def test_main_is_what_the_script_calls() -> None:
    assert app.run(["explain", "E0103"]) == 0
