"""`cim compile`, `asm`, `dis`, `verify`: programs and their texts, files and standard streams."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from isa.binary import read_program
from runtime.cli.summary import program_facts, program_summary
from tests.cli.conftest import Cim
from tests.compiler.building import Choices, program_of, tiny
from tests.compiler.graphs import decoder
from tests.house.source import ROOT

SHORT = ("--max-context", 64)


def test_compile_writes_a_program_and_says_what_it_is(cim: Cim, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.cim"
    done = cim("compile", model, "-o", out, "--max-context", 64, "--batch", 2)
    assert done.code == 0
    assert all(line.startswith("compiling ") for line in done.err.splitlines())  # progress, on a slow machine
    program = read_program(out)
    assert (program.step_limits.max_context, program.step_limits.sequences) == (64, 2)
    assert f"{program.tile_count} of 64 tiles" in done.out
    assert "verified" in done.out
    assert [path.name for path in tmp_path.iterdir()] == ["out.cim"]


def test_compile_as_json(cim: Cim, model: Path) -> None:
    done = cim("compile", model, *SHORT, "--json", "--explain")
    assert done.code == 0
    assert done.data["verified"] is True
    assert done.data["target"] == "dcim22"
    assert done.data["tiles"] <= done.data["tiles_available"]
    assert done.data["notes"]
    assert set(done.data["seconds_by_pass"]) >= {"import-model", "place-blocks", "verify-program"}


def test_explain_prints_the_notes(cim: Cim, model: Path) -> None:
    without, notes = (
        cim("compile", model, *SHORT),
        cim("compile", model, *SHORT, "--explain", "--json").data["notes"],
    )
    shown = cim("compile", model, *SHORT, "--explain").out
    lines = {line.strip() for line in shown.splitlines()}
    assert {
        "What the model needs",
        "What lies where",
        "Why",
        "What binds",
        "Room",
        "What would help most",
    } <= lines
    assert {note["heading"] for note in notes} <= lines
    words = " ".join(shown.split())
    assert all(note["text"] in words for note in notes)
    assert not any(note["text"] in " ".join(without.out.split()) for note in notes)


@pytest.mark.parametrize(
    ("level", "mark"), [("graph", "attention"), ("mapping", "map_tile("), ("asm", ".role ")]
)
def test_emit_puts_the_level_on_stdout_and_the_talk_on_stderr(
    cim: Cim, model: Path, level: str, mark: str
) -> None:
    done = cim("compile", model, *SHORT, "--emit", level)
    assert done.code == 0
    assert mark in done.out
    assert "verified" not in done.out
    assert "verified" in done.err


def test_emitted_assembly_is_the_program(cim: Cim, model: Path, program: Path, tmp_path: Path) -> None:
    text, out = tmp_path / "out.cimasm", tmp_path / "out.cim"
    assert cim("compile", model, *SHORT, "--emit", "asm", "-o", text).code == 0
    assert cim("asm", text, "-o", out).code == 0
    again, first = read_program(out), read_program(program)
    assert (again.roles, again.tiles, again.channels) == (first.roles, first.tiles, first.channels)
    assert (again.streams, again.memory, again.tensors) == (first.streams, first.memory, first.tensors)
    assert again.data is None  # a text carries no weights


def test_stop_after_and_dump_dir(cim: Cim, model: Path, tmp_path: Path) -> None:
    done = cim(
        "compile", model, "--stop-after", "place-blocks", "--dump-dir", tmp_path / "dump", "--time-passes"
    )
    assert done.code == 0
    assert "stopped before a program was made" in done.out
    names = sorted(path.name for path in (tmp_path / "dump").iterdir())
    assert names[0] == "01-import-model.txt"
    assert names[-1].endswith("-place-blocks.txt")
    assert [int(name[:2]) for name in names] == list(range(1, len(names) + 1))
    timed = re.findall(r"^([a-z-]+) +[\d,.]+ ms$", done.err, re.M)
    assert [name[3:-4] for name in names] == timed[:-1]
    assert timed[-1] == "total"


def test_print_after_goes_to_stderr(cim: Cim, model: Path) -> None:
    done = cim("compile", model, "--print-after", "legalise", "--stop-after", "legalise")
    assert "; after legalise" in done.err
    assert "; after" not in done.out


def test_an_unknown_pass_is_refused_before_anything_runs(cim: Cim) -> None:
    assert "there is no pass 'all'" in cim("compile", "missing.onnx", "--stop-after", "all").err
    done = cim("compile", "missing.onnx", "--stop-after", "legalize")
    assert done.code == 1
    assert "error[E0004]: there is no pass 'legalize'" in done.err
    assert "legalise" in done.err


def test_shapes_only_has_no_weights(cim: Cim, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "shapes.cim"
    done = cim("compile", model, *SHORT, "-o", out, "--shapes-only")
    assert done.code == 0
    assert "no weights" in done.out
    assert read_program(out).data is None
    ids = tmp_path / "in.npz"
    import numpy as np

    np.savez(ids, input_ids=np.array([1, 2, 3]))
    assert "error[E0603]" in cim("run", out, "--inputs", ids).err
    assert cim("run", out, "--timing-only", "--tokens", 2, "--position", 5).code == 0


def test_verify(cim: Cim, program: Path) -> None:
    done = cim("verify", program)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("verified:")
    assert cim("verify", program, "--json").data["verified"] is True


def test_dis_shows_one_role_or_all(cim: Cim, program: Path) -> None:
    roles = cim("dis", program, "--json").data["roles"]
    name = next(iter(roles))
    alone = cim("dis", program, "--role", name).out
    assert f".role {name}" in alone
    assert alone.count(".role ") == 1
    assert cim("dis", program).out.count(".role ") == len(roles)
    assert cim("dis", program, "--role", name, "--complete").code == 2
    wrong = cim("dis", program, "--role", "nobody")
    assert wrong.code == 1
    assert "error[E0105]" in wrong.err


def test_dis_names_onnx_nodes_only_when_asked(cim: Cim, program: Path) -> None:
    assert "/transformer/" in cim("dis", program, "--source").out
    assert "/transformer/" not in cim("dis", program).out


def test_standard_streams(model: Path, tmp_path: Path) -> None:
    """A model from standard input, a program to standard output and on into the next command."""
    cim, out = f"{sys.executable} -m runtime.cli", tmp_path / "out.cim"
    compiling = f"{cim} compile - --max-context 64 -o - < {model}"
    line = f"{compiling} | {cim} dis - --complete | {cim} asm - -o {out}"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert read_program(out).tiles


def test_output_into_a_missing_folder(cim: Cim, model: Path, tmp_path: Path) -> None:
    done = cim("compile", model, *SHORT, "-o", tmp_path / "missing" / "out.cim")
    assert done.code == 1
    assert "error[E0003]" in done.err
    assert "help:" in done.err


def test_copies_of_keys_and_values_are_named() -> None:
    copied, alone = (program_of(decoder(), tiny(14), Choices(64, ways=1, copies=copies)) for copies in (2, 1))
    facts = program_facts(copied)
    assert facts["kv_copy_bytes"] == program_facts(alone)["kv_bytes"] == facts["kv_bytes"] / 2
    assert "of them copies: query heads that share rows are on 2 tiles)" in program_summary(copied)
    assert program_facts(alone)["kv_copy_bytes"] == 0
    assert "copies" not in program_summary(alone)
