"""Attention heads as programs: cross-attention, biases by distance, windows; their text and their values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.ir.mapping import Arithmetic
from compiler.ir.mapping_text import parse_mapping, print_mapping
from compiler.ir.mapping_verify import verify_mapping
from isa.disassembler import listing
from isa.verifier import verify
from runtime.machine import Machine

from .heads import GROUP, Head, expected, mapping, program, rows, run, token_cuts

TABLE = tuple(
    tuple(row) for row in np.random.default_rng(5).standard_normal((GROUP, 13)).astype(np.float32).tolist()
)
SLOPES = (0.5, 0.125)
CROSS = Head(cross=True, causal=False, source=40)
HEADS = {
    "cross": CROSS,
    "cross-one-block": replace(CROSS, source=16),
    "cross-softcap": replace(CROSS, softcap=2.0),
    "relative": Head(bias=TABLE),
    "relative-encoder": Head(bias=TABLE, causal=False, scale=1.0),
    "relative-window": Head(bias=TABLE, window=9, softcap=3.0),
    "slopes": Head(bias=SLOPES),
    "slopes-encoder": Head(bias=SLOPES, causal=False),
    "window-encoder": Head(causal=False, window=9),
    "plain": Head(),
    "cross-given": replace(CROSS, given=True),
}
FED = [name for name, head in HEADS.items() if not head.given]
TOKENS = 37


def _rows(head: Head, seed: int = 0) -> dict[str, np.ndarray]:
    return rows(head, TOKENS, min(head.source, 35), seed)


@pytest.mark.parametrize("name", HEADS)
def test_mappings_hang_together_and_read_back(name: str) -> None:
    made = mapping(HEADS[name])
    verify_mapping(made)
    assert parse_mapping(print_mapping(made)) == made


@pytest.mark.parametrize("arithmetic", Arithmetic)
@pytest.mark.parametrize("name", HEADS)
def test_programs_verify(name: str, arithmetic: Arithmetic) -> None:
    verify(program(replace(HEADS[name], arithmetic=arithmetic, sequences=2, source=2 * HEADS[name].source)))


@pytest.mark.parametrize("name", FED)
def test_ideal_arithmetic_equals_attention(name: str) -> None:
    head = HEADS[name]
    inputs = _rows(head)
    found = run(Machine(program(head)), head, inputs, [])
    np.testing.assert_allclose(found, expected(head, inputs), rtol=0, atol=4e-6)


@pytest.mark.parametrize("name", FED)
def test_int8_is_close_to_attention(name: str) -> None:
    head = replace(HEADS[name], arithmetic=Arithmetic.INT8)
    inputs = _rows(head)
    wanted = expected(head, inputs)
    found = run(Machine(program(head)), head, inputs, [])
    assert np.sqrt(np.mean((found - wanted) ** 2)) < 0.02 * np.std(wanted)


CUT = [name for name in FED if HEADS[name].causal or HEADS[name].cross]


@settings(max_examples=12)
@given(
    st.sampled_from(CUT),
    st.sampled_from(Arithmetic),
    st.lists(st.integers(1, TOKENS - 1), unique=True, max_size=6),
)
def test_cutting_into_steps_changes_no_bit(name: str, arithmetic: Arithmetic, cuts: list[int]) -> None:
    head = replace(HEADS[name], arithmetic=arithmetic)
    inputs = _rows(head)
    whole = run(Machine(program(head)), head, inputs, [])
    np.testing.assert_array_equal(run(Machine(program(head)), head, inputs, sorted(cuts)), whole)


@pytest.mark.parametrize("arithmetic", Arithmetic)
@pytest.mark.parametrize("name", FED)
def test_segment_length_changes_no_bit(name: str, arithmetic: Arithmetic) -> None:
    head = replace(HEADS[name], arithmetic=arithmetic)
    inputs = _rows(head)
    whole = run(Machine(program(head)), head, inputs, [])
    short = replace(head, chunk=2)
    np.testing.assert_array_equal(run(Machine(program(short)), short, inputs, []), whole)


@pytest.mark.parametrize("arithmetic", Arithmetic)
@pytest.mark.parametrize("name", FED)
def test_sequences_keep_apart(name: str, arithmetic: Arithmetic) -> None:
    head = replace(HEADS[name], arithmetic=arithmetic, sequences=3)
    machine = Machine(program(head))
    both = [_rows(head, seed) for seed in (1, 2)]
    for number, inputs in enumerate(both):
        alone = run(Machine(program(head)), head, inputs, [])
        np.testing.assert_array_equal(run(machine, head, inputs, [], sequence=2 - number), alone)


def _some_head(cross: bool, head: Head) -> Head:
    """A head that looks at a source cannot limit or weigh by distance."""
    return replace(head, cross=True, causal=False, window=0, bias=(), source=40) if cross else head


SOME_HEADS = st.builds(
    _some_head,
    st.booleans(),
    st.builds(
        Head,
        causal=st.booleans(),
        window=st.sampled_from([0, 1, 5, 100]),
        softcap=st.sampled_from([0.0, 2.0]),
        scale=st.sampled_from([1.0, 0.25]),
        bias=st.sampled_from([(), TABLE, SLOPES]),
        block=st.sampled_from([4, 16, 64]),
        sequences=st.integers(1, 2),
        chunk=st.sampled_from([1, 8]),
    ),
)


@settings(max_examples=20)
@given(SOME_HEADS, st.integers(1, TOKENS), st.integers(0, 40))
def test_any_head_equals_attention(head: Head, tokens: int, source: int) -> None:
    made = program(head)
    verify(made)
    inputs = rows(head, tokens, source)
    found = run(Machine(made), head, inputs, [], sequence=head.sequences - 1)
    wanted = expected(head, inputs) if source or not head.cross else np.zeros_like(found)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=4e-6)


@pytest.mark.parametrize("arithmetic", Arithmetic)
def test_no_rows_of_a_source_give_zeros(arithmetic: Arithmetic) -> None:
    head = replace(CROSS, arithmetic=arithmetic)
    machine = Machine(program(head))
    inputs = rows(head, 5, 0)
    found = machine.step(token_cuts(head, 0, 5, 0), inputs)["out"]
    np.testing.assert_array_equal(found, np.zeros_like(found))


@pytest.mark.parametrize("arithmetic", Arithmetic)
def test_rows_that_the_host_writes_are_as_good_as_appended_ones(arithmetic: Arithmetic) -> None:
    head = replace(CROSS, arithmetic=arithmetic, sequences=2)
    inputs = _rows(head)
    whole = run(Machine(program(head)), head, inputs, [], sequence=1)
    given = replace(head, given=True)
    machine = Machine(program(given))
    machine.write_cache(0, 1, inputs["k"][None], inputs["v"][None])
    np.testing.assert_array_equal(run(machine, given, inputs, [4, 30], sequence=1), whole)


def _role(head: Head) -> str:
    """The listing of the head's role."""
    text = listing(program(head))
    return text[text.index(".role") :]


def test_text_of_cross_attention(golden) -> None:  # type: ignore[no-untyped-def]
    head = replace(CROSS, arithmetic=Arithmetic.INT8, sequences=2)
    golden("attend/cross.mapping", print_mapping(mapping(head)))
    golden("attend/cross.cimasm", _role(head))


def test_text_of_a_bias_by_distance(golden) -> None:  # type: ignore[no-untyped-def]
    head = Head(bias=TABLE, scale=1.0, arithmetic=Arithmetic.INT8)
    golden("attend/relative.cimasm", _role(head))


def test_text_of_slopes(golden) -> None:  # type: ignore[no-untyped-def]
    head = Head(bias=SLOPES, causal=False, arithmetic=Arithmetic.INT8, context=16)
    golden("attend/slopes.cimasm", _role(head))
