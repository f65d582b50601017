"""Whole programs: right ones are accepted and run, wrong ones are refused with these words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from isa.assembler import assemble_file
from isa.diagnostics import CODES, CimError
from isa.instruction import DType
from isa.program import Direction, Limits, Program, Segment
from isa.verifier import findings, verify
from runtime.machine import Machine
from runtime.paging import PagePool
from runtime.segments import source_segments_of
from runtime.timing import simulate

FOLDER = Path(__file__).parents[2] / "golden" / "verifier"
GOOD = sorted(path.stem for path in FOLDER.glob("good-*.cimasm"))
BAD = sorted(path.stem for path in FOLDER.glob("bad-*.cimasm"))


def program(name: str) -> Program:
    """A program of the golden folder."""
    return assemble_file(FOLDER / f"{name}.cimasm")


def steps(limits: Limits, *, with_source: bool) -> list[tuple[Segment, ...]]:
    """Steps at the borders of what is allowed: without a source, with all of one, with what an earlier step wrote."""
    chunk, most, last = limits.chunk, limits.max_source, limits.max_context - 1
    block, sequence = last // chunk * chunk, limits.sequences - 1
    sources = source_segments_of(most, chunk, sequence=sequence) if with_source else ()
    return [
        (Segment(1, 0, 1), Segment(chunk, chunk, 0)),
        (*sources, Segment(last - block + 1, block, last - block + 1, sequence, source=most)),
        (Segment(1, last, 0), Segment(1, chunk - 1, 1, sequence, source=most), Segment(2, chunk, 2)),
    ]


def inputs_of(good: Program, step: tuple[Segment, ...]) -> dict[str, NDArray[Any]]:
    """Ones for each input stream."""
    inputs = {}
    for stream in good.streams:
        if stream.direction is Direction.IN:
            tokens = sum(segment.tokens for segment in step if segment.is_source == stream.source)
            dtype = np.int32 if stream.dtype is DType.I32 else np.float32
            inputs[stream.name] = np.ones((tokens, stream.columns), dtype)
    return inputs


def test_the_folder_is_found() -> None:
    assert len(GOOD) >= 3
    assert len(BAD) >= 9


@pytest.mark.parametrize("name", GOOD)
def test_accepted_programs_run(name: str) -> None:
    good = program(name)
    verify(good, name=name)
    machine, pool = Machine(good), PagePool(good.limits)
    for step in steps(good.limits, with_source=any(stream.source for stream in good.streams)):
        if pool.is_paged:
            step = tuple(pool.placed(step))
            for segment in step:  # whatever was before position
                machine.pages.give(segment.sequence, segment.pages)
        machine.step(step, inputs_of(good, step))
        assert simulate(good, step).cycles > 0


@pytest.mark.parametrize("name", BAD)
def test_findings(name: str, golden: Callable[[str, str], None]) -> None:
    found = findings(program(name), name=name)
    golden(f"verifier/{name}.txt", "\n".join(d.render() for d in found) + "\n")


@pytest.mark.parametrize("name", BAD)
def test_verify_raises_all_findings(name: str) -> None:
    bad = program(name)
    with pytest.raises(CimError) as error:
        verify(bad)
    assert error.value.diagnostics == findings(bad)


def test_every_code_has_a_golden_program() -> None:
    texts = "".join((FOLDER / f"{name}.txt").read_text() for name in BAD)
    declared = {code for code in CODES if code.startswith("E04")}
    assert _codes(texts) <= declared
    missing = declared - _codes(texts)
    assert missing == {
        "E0410"
    }  # malformed programs are no assembly text: tests/isa/verifier/test_structure.py


def _codes(text: str) -> set[str]:
    return {part[:5] for part in text.split("error[")[1:]}
