"""Files that a command names: it does not overwrite what it reads, nor write two things to one file."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from runtime.sinks.files import whole_file
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


def test_a_name_that_is_too_long(cim: Cim, program: Path) -> None:
    done = cim("run", program, "--timing-only", "--stats", "n" * 5_000)
    assert done.code == 1
    assert "error[E0003]" in done.err


def test_links_in_circles(cim: Cim, program: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(link)
    assert cim("report", link).code == 1
    assert cim("run", program, "--timing-only", "--stats", link).code in (0, 1)


def test_a_device_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe, found = tmp_path / "pipe", list[str]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    with whole_file(pipe) as file:
        file.write("all of it")
    reader.join(10)
    assert found == ["all of it"]
    assert pipe.is_fifo()


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with pytest.raises(KeyError), whole_file(path) as file:
        file.write("half of it")
        raise KeyError
    assert list(tmp_path.iterdir()) == []
