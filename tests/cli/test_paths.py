"""Files that a command names: it does not overwrite what it reads, nor write two things to one file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Cim

MODEL, PROGRAM, STATS, OTHER = "m.onnx", "p.cim", "s.json", "o.json"
USAGE = 2

CASES: dict[str, tuple[str, ...]] = {
    "report page over statistics": ("report", STATS, "--html", STATS),
    "report page over baseline": ("report", STATS, "--baseline", OTHER, "--html", OTHER),
    "report another name of it": ("report", STATS, "--html", f"./x/../{STATS}"),
    "report empty page": ("report", STATS, "--html", ""),
    "report empty baseline": ("report", STATS, "--baseline", ""),
    "report page and json": ("report", STATS, "--html", "-", "--json"),
    "report page and constants": ("report", STATS, "--html", "-", "--constants"),
    "run stats and trace": ("run", PROGRAM, "--timing-only", "--stats", "new", "--trace", "new"),
    "run stats over program": ("run", PROGRAM, "--timing-only", "--stats", PROGRAM),
    "run stats to stdout": ("run", PROGRAM, "--timing-only", "--stats", "-"),
    "run empty stats": ("run", PROGRAM, "--timing-only", "--stats", ""),
    "run outputs over inputs": ("run", PROGRAM, "--inputs", OTHER, "--outputs", OTHER),
    "generate stats over program": ("generate", PROGRAM, "--prompt", "x", "--stats", PROGRAM),
    "compile over model": ("compile", MODEL, "-o", MODEL),
    "compile to nothing": ("compile", MODEL, "-o", ""),
    "asm over text": ("asm", OTHER, "-o", OTHER),
    "bench over baseline": ("bench", "mapping", "--baseline", OTHER, "--resume", OTHER),
}


@pytest.mark.parametrize("words", CASES.values(), ids=CASES)
def test_files_are_not_overwritten(
    cim: Cim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()
    for name in (MODEL, PROGRAM, STATS, OTHER):
        (tmp_path / name).write_text(name)
    done = cim(*words)
    assert done.code == USAGE
    assert f"cim {words[0]}: error: " in done.err
    found = {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()}
    assert found == {name: name for name in (MODEL, PROGRAM, STATS, OTHER)}
