"""Running `cim` in this process, and small models to run it on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from models.make import make
from runtime.cli import main


@dataclass(frozen=True, slots=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


Cim = Callable[..., Result]


@pytest.fixture
def cim(capsys: pytest.CaptureFixture[str]) -> Cim:
    """`cim("compile", model, ...)`: run the command; exit code, stdout and stderr."""

    def run(*words: object) -> Result:
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2-like decoder with random weights, 256 tokens, two layers."""
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    make("gpt2-tiny", path, seed=3)
    return path


@pytest.fixture(scope="session")
def program(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It, compiled."""
    path = tmp_path_factory.mktemp("program") / "tiny.cim"
    assert main(["compile", str(model), "-o", str(path), "--max-context", "64"]) == 0
    return path
