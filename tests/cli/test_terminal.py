"""Names in models and files are text on the terminal, never commands to it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import onnx

from runtime.amounts import plain, table
from tests.cli.conftest import Cim

COMMAND = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def test_a_table_stays_a_table() -> None:
    text = table(("name", "count"), [("red \x1b[31m", "1"), ("two\nlines", "2")])
    assert text.splitlines()[2:] == ["red \ufffd[31m      1", "two lines      2"]


def test_lines_and_tabs_are_kept() -> None:
    assert plain("a\tb\nc\u202ed") == "a\tb\nc\ufffdd"


def test_names_do_not_reach_the_terminal_raw(cim: Cim, program: Path, tmp_path: Path) -> None:
    stats = tmp_path / "s.json"
    assert cim("run", program, "--timing-only", "--stats", stats).code == 0
    found = json.loads(stats.read_text())
    for place in found["places"]:
        place["part"] += "\x1b[31m\x07"
    found["program"] = found["constants"][0]["source"] = "\x1b]0;title\x07"
    stats.write_text(json.dumps(found))
    done = cim("report", stats, "--constants")
    assert done.code == 0
    assert "\ufffd[31m\ufffd" in done.out
    assert not COMMAND.search(done.out)


def test_names_of_files_do_not_reach_the_terminal_raw(cim: Cim) -> None:
    done = cim("report", "\x1b[31m.json")
    assert done.code == 1
    assert "\ufffd[31m.json" in done.err
    assert not COMMAND.search(done.err)


def test_a_listing_with_such_names_is_assembled_again(cim: Cim, model: Path, tmp_path: Path) -> None:
    path, program, text = (tmp_path / name for name in ("m.onnx", "m.cim", "m.cimasm"))
    found = onnx.load(model)
    for node in found.graph.node:
        node.name += "\x1b[31m"
    onnx.save(found, path)
    assert cim("compile", path, "-o", program, "--shapes-only").code == 0
    text.write_text(cim("dis", program, "--complete").out)
    assert "u001b" in text.read_text()
    assert cim("asm", text).code == 0
    assert cim("compile", path, "-o", text, "--emit", "asm", "--shapes-only").code == 0
    assert cim("asm", text).code == 0
