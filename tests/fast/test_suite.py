"""The fast engine of time on the mapping suite at reduced size: systems, policies, windows, pages, batches, streams."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.mapping.bench import files_of
from benchmarks.mapping.cases import Phase, Setup, System, ablation
from benchmarks.mapping.measure import compiled, work_of
from benchmarks.mapping.systems import hardware_for
from isa.program import Segment, segments_of

from .test_equal import assert_equal

_PROMPT, _SEQUENCES = 3, 4
_SETUPS = [
    *ablation(),
    *(Setup(setup.model, 128, 2, System.HYBRID) for setup in list(ablation())[:1]),
]


def step_of(setup: Setup, phase: Phase, chunk: int) -> list[Segment]:
    """A token of a few sequences, or a few tokens of each, behind contexts of different lengths."""
    tokens = 1 if phase is Phase.DECODE else _PROMPT
    last = setup.length - tokens
    cuts = [
        segments_of(tokens, last - 37 * sequence, chunk, sequence=sequence)
        for sequence in range(min(setup.batch, _SEQUENCES))
    ]
    return [segment for cut in cuts for segment in cut]


@pytest.mark.parametrize("setup", _SETUPS, ids=lambda setup: setup.name.replace(" ", "-"))
def test_the_suite_at_reduced_size(setup: Setup, tmp_path: Path) -> None:
    ((_, model),) = files_of([setup.model], tmp_path)
    hardware = hardware_for(setup.system, work_of(model), setup.context, setup.batch)
    program = compiled(setup, model, hardware)
    assert_equal(program, *(step_of(setup, phase, program.limits.chunk) for phase in setup.phases))
