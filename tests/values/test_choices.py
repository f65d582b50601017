"""Every choice of the compiler gives the values of the reference form: to the bit, or within a stated tolerance.

The table of which is which is in `choices.py`, and in docs/equality.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import models
from compiler.ir.graph import Attention, Graph
from compiler.ir.mapping import Arithmetic
from compiler.optimisations import Optimisation
from compiler.passes import GRAPH_PIPELINE
from compiler.pipeline import Compilation, CompileOptions, run_pipeline
from isa.hardware import load_target
from isa.program import Program, segments_of
from isa.verifier import verify
from models.make import make
from runtime.machine import Machine
from runtime.paging import PagePool
from tests.compiler.building import Choices, program_of, reference

from .choices import (
    CHOICES,
    COMBINING,
    DEEP,
    DEFAULT,
    ELSEWHERE,
    LEFT_OUT,
    NEED_BIASES,
    REFERENCE,
    TOLERANCE,
    TOLERANCE_DEEP,
    TOLERANCE_INT8,
    Agreement,
    Choice,
    combinations,
    table,
    target,
)

CUTS = ((0, 29), (29, 30), (30, 40))
"""Steps: a prompt, a token, some more."""

SHORT = ((0, 17), (17, 18), (18, 20))
"""Steps of a short text, of more than a block."""

INT8_ERROR = 0.03
"""Largest error of int8 over the largest logit, against the model's own arithmetic."""

Rows = NDArray[np.float32]
Cuts = tuple[tuple[int, int], ...]


def canonical(path: Path) -> Graph:
    """The canonical graph of a model file."""
    return run_pipeline(
        GRAPH_PIPELINE, Compilation(path, CompileOptions(), load_target("dcim22"))
    ).require_graph()


@pytest.fixture(scope="module")
def pytiny() -> Graph:
    return canonical(models.path(models.PYTINY))


@pytest.fixture(scope="module")
def windowed(pytiny: Graph) -> Graph:
    """The trained model, its attention limited to a window."""
    nodes = [
        replace(n, op=replace(n.op, window=20)) if isinstance(n.op, Attention) else n for n in pytiny.nodes
    ]
    return replace(pytiny, nodes=tuple(nodes))


def texts(count: int, cuts: Cuts = CUTS) -> list[NDArray[np.int64]]:
    """Tokens of `count` sequences: bytes of the held-out text."""
    held_out, length = models.path(models.HELD_OUT).read_bytes(), cuts[-1][1]
    return [np.frombuffer(held_out, np.uint8, length, 100 * at).astype(np.int64) for at in range(count)]


def run(program: Program, ids: list[NDArray[np.int64]], steps: Cuts = CUTS) -> Rows:
    """Logits of every token of all sequences, [sequences, tokens, vocabulary]; all sequences in each step."""
    machine, pool = Machine(program), PagePool(program.limits)
    parts = []
    for start, end in steps:
        cuts = [
            segments_of(end - start, start, program.limits.chunk, last_only=False, sequence=at)
            for at in range(len(ids))
        ]
        segments = list(chain(*cuts))
        if pool.is_paged:
            segments = pool.placed(segments)
        tokens = np.concatenate([text[start:end] for text in ids]).astype(np.int32)[:, None]
        rows = machine.step(segments, {"input_ids": tokens})["logits"]
        parts.append(rows.reshape(len(ids), end - start, -1))
    return np.concatenate(parts, axis=1)


def distance(found: Rows, expected: Rows) -> float:
    """The largest difference over the largest magnitude."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.fixture(scope="module")
def expected(pytiny: Graph) -> Callable[[Arithmetic, Choices], Rows]:
    """Logits of three sequences, one at a time, of the program of some choices."""

    @cache
    def of(arithmetic: Arithmetic, choices: Choices) -> Rows:
        program = program_of(pytiny, target(), replace(choices, arithmetic=arithmetic))
        return np.concatenate([run(program, [text]) for text in texts(3)])

    return of


def check_choice(graph: Graph, choice: Choice, arithmetic: Arithmetic, base: Rows) -> None:
    """The program of a choice is another one than the reference form, and agrees with it as stated."""
    choices = replace(choice.of(REFERENCE), arithmetic=arithmetic)
    program = program_of(graph, target(), choices)
    verify(program)
    found = run(program, texts(choices.sequences))
    limits = TOLERANCE_INT8 if arithmetic is Arithmetic.INT8 else TOLERANCE
    assert distance(found, base[: len(found)]) <= limits[choice.agreement]


def check_left_out(graph: Graph, optimisation: Optimisation, arithmetic: Arithmetic) -> None:
    """A program without an optimisation is another one, and agrees with the one with it as stated."""
    choice = LEFT_OUT[optimisation]
    choices = replace(choice.of(DEFAULT), arithmetic=arithmetic)
    programs = [
        program_of(graph, target(), replace(choices, without=choices.without.union(without)))
        for without in ((), (optimisation,))
    ]
    made = [(program.roles, program.tiles, program.limits) for program in programs]
    assert arithmetic is not Arithmetic.INT8 or made[0] != made[1]
    verify(programs[1])
    found, base = (run(program, texts(choices.sequences)) for program in programs)
    limits = TOLERANCE_INT8 if arithmetic is Arithmetic.INT8 else TOLERANCE
    assert distance(found, base) <= limits[choice.agreement]


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.name)
def test_a_choice_agrees_with_the_reference_form(
    choice: Choice, pytiny: Graph, expected: Callable[[Arithmetic, Choices], Rows]
) -> None:
    check_choice(pytiny, choice, Arithmetic.INT8, expected(Arithmetic.INT8, REFERENCE))


@pytest.mark.parametrize("optimisation", [o for o in LEFT_OUT if o not in NEED_BIASES], ids=lambda o: o.value)
def test_without_an_optimisation_values_agree(
    optimisation: Optimisation, pytiny: Graph, windowed: Graph
) -> None:
    has_window = optimisation in (Optimisation.SKIP_WINDOW, Optimisation.RING)
    check_left_out(windowed if has_window else pytiny, optimisation, Arithmetic.INT8)


@pytest.mark.parametrize("base", [REFERENCE, DEFAULT], ids=["reference", "default"])
def test_the_forms_compute_what_the_model_means(
    base: Choices, pytiny: Graph, expected: Callable[[Arithmetic, Choices], Rows]
) -> None:
    meant = np.stack([reference(pytiny, text) for text in texts(3)])
    found = expected(Arithmetic.INT8, base)
    assert distance(found, meant) <= INT8_ERROR
    assert np.mean(found.argmax(-1) == meant.argmax(-1)) >= 0.95


def test_every_optimisation_has_an_agreement() -> None:
    assert {*LEFT_OUT, *ELSEWHERE, *COMBINING} == set(Optimisation)
    assert {*ELSEWHERE.values()} <= {choice.name for choice in CHOICES}


def test_the_page_has_the_table() -> None:
    assert table() in Path("docs/equality.md").read_text()


# ------------------------------------------------------------------------------------------------------- slow


@pytest.mark.slow
@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.name)
def test_a_choice_agrees_in_ideal_arithmetic(
    choice: Choice, pytiny: Graph, expected: Callable[[Arithmetic, Choices], Rows]
) -> None:
    check_choice(pytiny, choice, Arithmetic.FLOAT32, expected(Arithmetic.FLOAT32, REFERENCE))


@pytest.mark.slow
@pytest.mark.parametrize("optimisation", [o for o in LEFT_OUT if o not in NEED_BIASES], ids=lambda o: o.value)
def test_without_an_optimisation_ideal_values_agree(
    optimisation: Optimisation, pytiny: Graph, windowed: Graph
) -> None:
    has_window = optimisation in (Optimisation.SKIP_WINDOW, Optimisation.RING)
    check_left_out(windowed if has_window else pytiny, optimisation, Arithmetic.FLOAT32)


@pytest.mark.slow
@pytest.mark.parametrize("choices", list(combinations()), ids=str)
def test_every_combination_computes_what_the_model_means(choices: Choices, pytiny: Graph) -> None:
    program = program_of(pytiny, target(), choices)
    ids = texts(choices.sequences)
    meant = np.stack([reference(pytiny, text) for text in ids])
    limit = INT8_ERROR if choices.arithmetic is Arithmetic.INT8 else max(TOLERANCE.values())
    assert distance(run(program, ids), meant) <= limit


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    path = tmp_path_factory.mktemp("gpt2") / "gpt2.onnx"
    make("gpt2", path, seed=5)
    return canonical(path)


@pytest.fixture(scope="module")
def deep(gpt2: Graph) -> Rows:
    return run(program_of(gpt2, target(4), REFERENCE), texts(1, SHORT), SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("choice", [c for c in CHOICES if c.name in DEEP], ids=lambda choice: choice.name)
def test_a_choice_agrees_with_the_reference_form_of_gpt2(choice: Choice, gpt2: Graph, deep: Rows) -> None:
    choices = choice.of(REFERENCE)
    found = run(program_of(gpt2, target(4), choices), texts(choices.sequences, SHORT), SHORT)
    limit = 0.0 if choice.agreement is Agreement.BIT else TOLERANCE_DEEP
    assert distance(found[:1], deep) <= limit
