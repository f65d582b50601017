"""Compiled programs compute what the graph means."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.ir.mapping import Arithmetic
from compiler.optimisations import Optimisation
from isa.program import Program, segments_of
from isa.verifier import verify
from runtime.machine import Machine

from .building import Choices, program_of, reference, run, tiny
from .graphs import Shape, decoder

LENGTH = 100
SHAPES = {
    "llama": Shape(),
    "gpt": Shape(bias=True, kv_heads=4),
    "head-norm": Shape(head_norm=True),
    "window": Shape(window=40, softcap=5.0),
    "encoder": Shape(causal=False, bias=True, kv_heads=4),
    "encoder-groups": Shape(causal=False),
    "spread": Shape(width=320, layers=1, heads=4, kv_heads=4, inner=256, vocabulary=64),
}
IDS = np.random.default_rng(1).integers(0, 64, LENGTH)


@pytest.mark.parametrize("hub_width", [1024, 32])
@pytest.mark.parametrize("name", SHAPES)
def test_ideal_arithmetic_equals_the_reference(name: str, hub_width: int) -> None:
    graph = decoder(SHAPES[name])
    program = program_of(graph, tiny(14), Choices(128, Arithmetic.FLOAT32, hub_width))
    expected = reference(graph, IDS)
    np.testing.assert_allclose(run(Machine(program), IDS), expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("hub_width", [1024, 32])
@pytest.mark.parametrize("arithmetic", Arithmetic)
@pytest.mark.parametrize("name", SHAPES)
def test_programs_verify(name: str, arithmetic: Arithmetic, hub_width: int) -> None:
    verify(program_of(decoder(SHAPES[name]), tiny(14), Choices(128, arithmetic, hub_width)))


@pytest.mark.parametrize("hub_width", [1024, 32])
@pytest.mark.parametrize("name", SHAPES)
def test_int8_is_close_to_the_reference(name: str, hub_width: int) -> None:
    graph = decoder(SHAPES[name])
    machine = Machine(program_of(graph, tiny(14), Choices(128, hub_width=hub_width)))
    logits, expected = run(machine, IDS), reference(graph, IDS)
    error = np.sqrt(np.mean((logits - expected) ** 2)) / np.std(expected)
    assert error < 0.03
    assert np.mean(logits.argmax(1) == expected.argmax(1)) >= 0.94


@pytest.mark.parametrize("arithmetic", Arithmetic)
@pytest.mark.parametrize("name", SHAPES)
def test_without_any_optimisation_values_are_right(name: str, arithmetic: Arithmetic) -> None:
    graph = decoder(SHAPES[name])
    choices = Choices(128, arithmetic, 0, without=frozenset(Optimisation))
    logits, expected = run(Machine(program_of(graph, tiny(14), choices)), IDS), reference(graph, IDS)
    error = np.sqrt(np.mean((logits - expected) ** 2)) / np.std(expected)
    assert error < (0.03 if arithmetic is Arithmetic.INT8 else 1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt"])
def test_a_norm_quantised_at_once_is_as_close(name: str) -> None:
    graph = decoder(SHAPES[name])
    expected = reference(graph, IDS)
    errors, templates = [], []
    for without in (frozenset[Optimisation](), frozenset({Optimisation.NORM_EXCHANGE})):
        program = program_of(graph, tiny(14), Choices(128, hub_width=32, without=without))
        templates.append([role.code for role in program.roles])
        errors.append(np.sqrt(np.mean((run(Machine(program), IDS) - expected) ** 2)))
    assert templates[0] != templates[1]
    assert errors[0] < 1.3 * errors[1]


def test_segment_length_changes_no_bit() -> None:
    graph = decoder()
    long, short = (program_of(graph, tiny(), Choices(chunk=chunk)) for chunk in (16, 2))
    assert (long.limits.chunk, short.limits.chunk) == (16, 2)
    np.testing.assert_array_equal(run(Machine(long), IDS), run(Machine(short), IDS))


@pytest.fixture(scope="module")
def program() -> Program:
    return program_of(decoder(Shape(layers=1)), tiny())


@settings(max_examples=25)
@given(st.lists(st.integers(1, LENGTH - 1), max_size=12, unique=True))
def test_cutting_a_sequence_into_steps_changes_no_bit(program: Program, cuts: list[int]) -> None:
    whole = run(Machine(program), IDS)
    machine = Machine(program)
    borders = [0, *sorted(cuts), LENGTH]
    parts = [run(machine, IDS[a:b], a) for a, b in itertools.pairwise(borders)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_sequences_do_not_see_each_other() -> None:
    program = program_of(decoder(Shape(layers=1)), tiny(), Choices(sequences=2))
    other = IDS[::-1].copy()
    alone = [run(Machine(program), ids) for ids in (IDS, other)]
    machine = Machine(program)
    together: list[list[np.ndarray]] = [[], []]
    for start in range(0, LENGTH, 10):
        for sequence, ids in enumerate((IDS, other)):
            together[sequence].append(run(machine, ids[start : start + 10], start, sequence))
    for parts, expected in zip(together, alone, strict=True):
        np.testing.assert_array_equal(np.concatenate(parts), expected)


@pytest.mark.parametrize("causal", [True, False])
def test_sequences_share_a_step(causal: bool) -> None:
    graph = decoder(Shape(causal=causal))
    program = program_of(graph, tiny(14), Choices(128, Arithmetic.FLOAT32, sequences=2))
    verify(program)
    chunk, both = program.limits.chunk, (IDS[:40], IDS[50:75])
    cuts = [segments_of(len(ids), 0, chunk, last_only=False, sequence=at) for at, ids in enumerate(both)]
    ids = np.concatenate(both).astype(np.int32)[:, None]
    found = Machine(program).step([*cuts[0], *cuts[1]], {"input_ids": ids})["logits"]
    expected = np.concatenate([reference(graph, ids) for ids in both])
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())
