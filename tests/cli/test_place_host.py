"""`--place host` on the command line: what it costs, and where it is refused."""

from __future__ import annotations

from pathlib import Path

from models.make import make
from tests.cli.conftest import Cim

TARGET = "dcim22+gpu-a100"


def test_refusals(cim: Cim, tmp_path: Path) -> None:
    decoder, encoder = tmp_path / "d.onnx", tmp_path / "e.onnx"
    make("llama-tiny", decoder, seed=1)
    make("bert-base", encoder, layers=1, shapes_only=True)

    def refused(*words: object) -> str:
        done = cim("compile", *words, "-o", tmp_path / "x.cim", "--place", "host")
        assert done.code == 1
        assert "E0305" in done.err
        return done.err

    assert "with --shapes-only" in refused(decoder)
    assert "takes one sequence" in refused(decoder, "--shapes-only", "--batch", 2)
    assert "for plain decoders" in refused(encoder, "--shapes-only")


def test_the_command_line_says_what_it_costs(cim: Cim, tmp_path: Path) -> None:
    make("opt-6.7b", tmp_path / "opt.onnx", layers=1, shapes_only=True, half=True)
    words = ("--target", TARGET, "--place", "host", "--shapes-only", "--max-context", 512)
    assert cim("compile", tmp_path / "opt.onnx", "-o", tmp_path / "opt.cim", *words, "--explain").code == 0
    told = cim("run", tmp_path / "opt.cim", "--timing-only", "--tokens", 1, "--position", 400, "--json").data
    assert told["energy_j"]["by_component"]["host"] > 0
    assert told["cycles"] > 100_000
    assert cim("dis", tmp_path / "opt.cim").code == 0
    again = cim("run", tmp_path / "opt.cim", "--inputs", tmp_path / "none.npz")
    assert again.code == 1
