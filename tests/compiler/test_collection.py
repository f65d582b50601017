"""Garbage is looked for less often while a model is compiled, and as before afterwards."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from compiler.collection import OBJECTS, rare_collection
from compiler.driver import compile_model
from compiler.pipeline import Compilation, CompileOptions, Moment, Pass, StopPipelineError
from isa.diagnostics import CimError
from isa.hardware import load_target
from models import PYTINY, path


@pytest.fixture
def thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@pytest.mark.usefixtures("thresholds")
def test_a_compilation_looks_for_cycles_less_often() -> None:
    seen = []

    def note(moment: Moment, step: Pass, c: Compilation) -> None:
        seen.append(gc.get_threshold())
        raise StopPipelineError

    gc.set_threshold(500, 7, 8)
    compile_model(path(PYTINY), CompileOptions(), load_target("dcim22"), note)
    assert seen == [(OBJECTS, 7, 8)]
    assert gc.get_threshold() == (500, 7, 8)
    with pytest.raises(CimError):
        compile_model("no such file", CompileOptions(), load_target("dcim22"))
    assert gc.get_threshold() == (500, 7, 8)


@pytest.mark.usefixtures("thresholds")
@pytest.mark.parametrize("youngest", [0, 2 * OBJECTS])
def test_what_is_rarer_or_off_stays_so(youngest: int) -> None:
    gc.set_threshold(youngest, 10, 10)
    with rare_collection():
        assert gc.get_threshold() == (youngest, 10, 10)
