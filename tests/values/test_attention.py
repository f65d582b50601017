"""The attention role of attention.py against NumPy, and that no cut into steps or segments changes a bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from isa.diagnostics import CimError
from isa.program import Segment, segments_of
from runtime.machine import Machine
from tests.values.attention import CHUNK, CONTEXT, WIDTH, attention_program
from tests.values.bench import same_bits

F32 = NDArray[np.float32]
PROGRAM = attention_program()
X = np.random.default_rng(21).standard_normal((CONTEXT, 3 * WIDTH)).astype(np.float32)


def _run(machine: Machine, rows: F32, cuts: Sequence[int], sequence: int = 0) -> F32:
    """The rows given in steps that end at `cuts`."""
    start, outputs = 0, []
    for stop in [*cuts, len(rows)]:
        segments = segments_of(stop - start, start, CHUNK, last_only=False, sequence=sequence)
        if segments:
            outputs.append(machine.step(segments, {"qkv": rows[start:stop]})["o"])
        start = stop
    return np.concatenate(outputs)


def _attention(rows: F32) -> NDArray[np.float64]:
    """Causal attention in float64, not quantised."""
    q, k, v = (part.astype(np.float64) for part in np.split(rows, 3, axis=1))
    scores = q @ k.T / np.sqrt(WIDTH)
    scores[np.triu_indices(len(rows), 1)] = -np.inf
    p = np.exp(scores - scores.max(1, keepdims=True))
    return (p / p.sum(1, keepdims=True)) @ v


WHOLE = _run(Machine(PROGRAM), X, ())


def test_attention_is_right_within_int8() -> None:
    expected = _attention(X)
    assert np.abs(WHOLE - expected).max() < 0.05
    assert np.corrcoef(WHOLE.ravel(), expected.ravel())[0, 1] > 0.9995


@settings(max_examples=25)
@given(st.lists(st.integers(1, CONTEXT - 1), max_size=12).map(sorted))
def test_cutting_into_steps_changes_no_bit(cuts: list[int]) -> None:
    assert same_bits(_run(Machine(PROGRAM), X, cuts), WHOLE)


def test_token_by_token_is_the_same() -> None:
    assert same_bits(_run(Machine(PROGRAM), X, range(1, CONTEXT)), WHOLE)


def test_other_sequences_and_earlier_contents_do_not_show() -> None:
    machine = Machine(PROGRAM)
    other = X[::-1].copy() * np.float32(3)
    _run(machine, other, (5,))
    _run(machine, other, (), sequence=1)
    assert same_bits(_run(machine, X[:20], (3, 11), sequence=1), WHOLE[:20])
    assert same_bits(_run(machine, X, (17,)), WHOLE)


def test_sequences_share_a_step() -> None:
    machine = Machine(PROGRAM)
    machine.step((Segment(4, 0, 0, 0), Segment(6, 0, 0, 1)), {"qkv": np.concatenate([X[:4], X[:6]])})
    got = machine.step((Segment(1, 6, 1, 1), Segment(2, 4, 2, 0)), {"qkv": X[[6, 4, 5]]})["o"]
    assert same_bits(got, WHOLE[[6, 4, 5]])


def test_reset_forgets() -> None:
    machine = Machine(PROGRAM)
    _run(machine, X, ())
    assert machine.tiles[0].arrays[0].cells.any()
    machine.reset()
    assert not machine.tiles[0].arrays[0].cells.any()
    assert same_bits(_run(machine, X, (9,)), WHOLE)


@pytest.mark.parametrize(
    ("segments", "code", "message"),
    [
        ((), "E0601", "1..64 segments, not 0"),
        ((Segment(0, 0, 0),), "E0601", "has 0 tokens"),
        ((Segment(9, 0, 0),), "E0601", "has 9 tokens"),
        ((Segment(4, 6, 0),), "E0601", "crosses a multiple of 8"),
        ((Segment(4, 0, 2),), "E0601", "asks for 2 rows"),
        ((Segment(1, 0, 0, 2),), "E0601", "is of sequence 2"),
        ((Segment(1, 0, 0), Segment(1, 40, 1)), "E0602", "segment 1 ends at position 41"),
    ],
)
def test_segments_that_do_not_fit(segments: tuple[Segment, ...], code: str, message: str) -> None:
    with pytest.raises(CimError, match=message) as caught:
        Machine(PROGRAM).step(segments, {"qkv": X[:1]})
    assert caught.value.diagnostics[0].code == code


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "takes inputs"),
        ({"qkv": X[:1], "more": X[:1]}, "takes inputs"),
        ({"qkv": X[:2]}, r"is \[2, 48\], the step takes \[1, 48\]"),
        ({"qkv": X[:1, :5]}, r"is \[1, 5\]"),
    ],
)
def test_inputs_that_do_not_fit(inputs: dict[str, F32], message: str) -> None:
    with pytest.raises(CimError, match=message) as caught:
        Machine(PROGRAM).step((Segment(1, 0, 1),), inputs)
    assert caught.value.diagnostics[0].code == "E0601"
