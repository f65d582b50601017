"""Statistics to make pages of, and a browser to open them in."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from models.make import make
from runtime.cli import main
from runtime.sinks.schema import Statistics
from runtime.sinks.statistics import read_statistics

from .browser import Page, browser, find_browser


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small decoder."""
    path = tmp_path_factory.mktemp("model") / "m.onnx"
    make("gpt2-tiny", path, seed=3)
    return path


@pytest.fixture(scope="session")
def run_stats(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Statistics:
    """A prompt of nine tokens on one chip."""
    return measured(model, tmp_path_factory.mktemp("chip"), (), ("--segments", "9@0"))


def measured(model: Path, folder: Path, compiled: Sequence[str], run: Sequence[str]) -> Statistics:
    """The statistics of a run, compiled and run with these options."""
    program, stats = folder / "m.cim", folder / "s.json"
    assert main(["compile", str(model), "-o", str(program), "--max-context", "64", *compiled]) == 0
    assert main(["run", str(program), "--timing-only", "--stats", str(stats), *run]) == 0
    return read_statistics(stats)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A tab of a real browser; skips where there is none that starts."""
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium here: install one, or say where it is with CIM_BROWSER")
    try:
        subprocess.run([program, "--version"], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"{program} does not start: {error}")
    with browser(program, tmp_path_factory.mktemp("profile")) as page:
        yield page
