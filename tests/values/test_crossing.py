"""Steps with source segments: cross-attention against NumPy, cuts, sequences, and what a machine refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from isa.diagnostics import CimError
from isa.program import Limits, Program, Segment, segments_of
from isa.verifier import verify
from runtime.machine import Machine, check_segments
from runtime.segments import label, rows_of, source_segments_of
from tests.values.attention import attention_program
from tests.values.bench import same_bits, shuffled
from tests.values.crossing import (
    CHUNK,
    CONTEXT,
    SOURCE,
    WIDTH,
    crossing,
    crossing_of_two,
    crossing_that_tells,
)

F32 = NDArray[np.float32]
rng = np.random.default_rng(31)
KV = rng.standard_normal((SOURCE, 2 * WIDTH)).astype(np.float32)
OTHER = rng.standard_normal((SOURCE, 2 * WIDTH)).astype(np.float32)
Q = rng.standard_normal((CONTEXT, WIDTH)).astype(np.float32)


def _tokens(count: int, position: int, source: int, sequence: int = 0) -> tuple[Segment, ...]:
    cut = segments_of(count, position, CHUNK, last_only=False, sequence=sequence)
    return tuple(replace(segment, source=source) for segment in cut)


def _whole(machine: Machine, kv: F32, q: F32, sequence: int = 0) -> F32:
    """Source and tokens in one step."""
    sources = source_segments_of(len(kv), CHUNK, sequence=sequence)
    step = (*sources, *_tokens(len(q), 0, len(kv), sequence))
    outputs: F32 = machine.step(step, {"kv": kv, "q": q})["o"]
    return outputs


def _attention(q: F32, kv: F32) -> NDArray[np.float64]:
    """Attention to all rows, in float64."""
    k, v = (part.astype(np.float64) for part in np.split(kv, 2, axis=1))
    scores = q.astype(np.float64) @ k.T / np.sqrt(WIDTH)
    p = np.exp(scores - scores.max(1, keepdims=True))
    attended: NDArray[np.float64] = (p / p.sum(1, keepdims=True)) @ v
    return attended


@pytest.mark.parametrize(
    "program", [crossing(), crossing(ideal=True), crossing_of_two(), crossing_that_tells()]
)
def test_the_verifier_proves_the_programs(program: Program) -> None:
    verify(program)


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 20, SOURCE])
def test_ideal_arithmetic_is_softmax_attention(rows: int) -> None:
    got = _whole(Machine(crossing(ideal=True)), KV[:rows], Q)
    np.testing.assert_allclose(got, _attention(Q, KV[:rows]), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("rows", [1, 9, SOURCE])
def test_int8_is_right_within_its_steps(rows: int) -> None:
    got, expected = _whole(Machine(crossing()), KV[:rows], Q), _attention(Q, KV[:rows])
    assert np.abs(got - expected).max() < 0.04


@settings(max_examples=25)
@given(st.integers(1, SOURCE), st.lists(st.integers(1, CONTEXT - 1), max_size=8).map(sorted))
def test_the_source_goes_with_the_first_step_and_cuts_change_no_bit(rows: int, cuts: list[int]) -> None:
    whole, machine, start = _whole(Machine(crossing()), KV[:rows], Q), Machine(crossing()), 0
    got: list[F32] = []
    for stop in [*cuts, CONTEXT]:
        segments = _tokens(stop - start, start, rows)
        if segments and not got:
            sources = source_segments_of(rows, CHUNK)
            got.append(machine.step((*sources, *segments), {"kv": KV[:rows], "q": Q[start:stop]})["o"])
        elif segments:
            got.append(machine.step(segments, {"q": Q[start:stop]})["o"])
        start = stop
    assert same_bits(np.concatenate(got), whole)


@settings(max_examples=20)
@given(st.lists(st.integers(1, SOURCE - 1), min_size=1, max_size=6, unique=True).map(sorted))
def test_a_source_may_grow_from_step_to_step(cuts: list[int]) -> None:
    machine, start = Machine(crossing()), 0
    for stop in [*cuts, SOURCE]:
        sources = source_segments_of(stop - start, CHUNK, position=start)
        step = (*sources, *_tokens(1, 0, stop))
        got = machine.step(step, {"kv": KV[start:stop], "q": Q[:1]})["o"]
        assert same_bits(got, _whole(Machine(crossing()), KV[:stop], Q[:1]))
        start = stop


def test_sequences_have_sources_of_their_own() -> None:
    machine = Machine(crossing())
    step = (
        *source_segments_of(20, CHUNK, sequence=1),
        *source_segments_of(SOURCE, CHUNK),
        *_tokens(3, 0, SOURCE),
        *_tokens(2, 0, 20, sequence=1),
    )
    got = machine.step(step, {"kv": np.concatenate([OTHER[:20], KV]), "q": np.concatenate([Q[:3], Q[:2]])})
    assert same_bits(got["o"][:3], _whole(Machine(crossing()), KV, Q)[:3])
    assert same_bits(got["o"][3:], _whole(Machine(crossing()), OTHER[:20], Q)[:2])
    later = machine.step((*_tokens(1, 2, 20, 1), *_tokens(1, 3, SOURCE)), {"q": Q[[2, 3]]})["o"]
    assert same_bits(later[:1], _whole(Machine(crossing()), OTHER[:20], Q)[2:3])
    assert same_bits(later[1:], _whole(Machine(crossing()), KV, Q)[3:4])


def test_a_shorter_source_takes_the_place_of_a_longer_one() -> None:
    machine = Machine(crossing())
    _whole(machine, OTHER, Q)
    assert same_bits(_whole(machine, KV[:5], Q), _whole(Machine(crossing()), KV[:5], Q))


def test_segments_without_outputs_bring_none() -> None:
    step = (*source_segments_of(9, CHUNK), Segment(4, 0, 0, source=9), Segment(1, 4, 1, source=9))
    got = Machine(crossing()).step(step, {"kv": KV[:9], "q": Q[:5]})["o"]
    assert same_bits(got, _whole(Machine(crossing()), KV[:9], Q[:5])[4:])


@settings(max_examples=20)
@given(st.integers(1, SOURCE), st.integers(1, CONTEXT), st.integers(0, 2**32 - 1))
def test_heads_behind_a_hub_in_any_order_of_turns(rows: int, tokens: int, seed: int) -> None:
    both = Machine(crossing_of_two(), pick=shuffled(seed))
    got = _whole(both, np.hstack([KV, OTHER])[:rows], np.hstack([Q, Q[::-1]])[:tokens])
    for head, (kv, q) in enumerate([(KV, Q), (OTHER, Q[::-1])]):
        alone = _whole(Machine(crossing()), kv[:rows], np.ascontiguousarray(q[:tokens]))
        assert same_bits(np.ascontiguousarray(got[:, head * WIDTH : (head + 1) * WIDTH]), alone)


@settings(max_examples=20)
@given(st.integers(1, SOURCE), st.integers(1, CONTEXT), st.integers(0, 2**32 - 1))
def test_the_host_gets_all_rows_of_the_source(rows: int, tokens: int, seed: int) -> None:
    machine = Machine(crossing_that_tells(), pick=shuffled(seed))
    cut = tuple(replace(s, source=rows) for s in segments_of(tokens, 0, CHUNK))
    got = machine.step((*source_segments_of(rows, CHUNK), *cut), {"kv": KV[:rows], "q": Q[:tokens]})
    assert same_bits(got["kept"], 2 * KV[:rows])
    assert same_bits(got["o"], _whole(Machine(crossing(ideal=True)), KV[:rows], Q[:tokens])[-1:])
    later = machine.step((Segment(1, 0, 1, source=rows),), {"q": Q[:1]})
    assert (later["kept"].shape, later["o"].shape) == ((0, 2 * WIDTH), (1, WIDTH))


def test_rows_of_sources_come_back_in_the_order_of_their_segments() -> None:
    front = (*source_segments_of(20, CHUNK, sequence=1), *source_segments_of(3, CHUNK))
    inputs = {"kv": np.concatenate([OTHER[:20], KV[:3]]), "q": Q[:1]}
    got = Machine(crossing_that_tells()).step((*front, *_tokens(1, 0, 3)), inputs)
    assert same_bits(got["kept"], 2 * inputs["kv"])


# --------------------------------------------------------------------------------------------- what is refused

SRC = Segment(8, 0, 0, is_source=True)
ONE = Segment(1, 0, 1, source=8)


@pytest.mark.parametrize(
    ("segments", "code", "message"),
    [
        ((SRC,), "E0601", "1..16 segments, not 0"),
        ((ONE, SRC), "E0601", "segment 1 is of the source; source segments come before"),
        ((*[SRC] * 17, ONE), "E0601", "at most 16 source segments, not 17"),
        ((replace(SRC, tokens=9), ONE), "E0601", "source segment 0 has 9 tokens"),
        ((replace(SRC, position=4), ONE), "E0601", "source segment 0 crosses a multiple of 8"),
        ((SRC, replace(SRC, outputs=8), ONE), "E0601", "source segment 1 asks for 8 rows of output"),
        ((replace(SRC, sequence=2), ONE), "E0601", "source segment 0 is of sequence 2"),
        ((SRC, replace(ONE, source=7)), "E0601", "segment 0 looks at 7 source rows.*has 8"),
        ((replace(ONE, source=-1),), "E0601", "segment 0 looks at -1 source rows"),
        ((replace(SRC, position=24), ONE), "E0602", "source segment 0 has 32 source rows.*maximum is 24"),
        ((ONE, replace(ONE, source=25)), "E0602", "segment 1 has 25 source rows"),
        ((SRC, replace(ONE, position=32)), "E0602", "segment 0 ends at position 33"),
    ],
)
def test_source_segments_that_do_not_fit(segments: tuple[Segment, ...], code: str, message: str) -> None:
    with pytest.raises(CimError, match=message) as caught:
        Machine(crossing()).step(segments, {"kv": KV[:8], "q": Q[:1]})
    assert caught.value.diagnostics[0].code == code


def test_programs_without_a_source_refuse_source_segments() -> None:
    inputs = {"qkv": np.zeros((1, 48), np.float32)}
    with pytest.raises(CimError, match="the program looks at no source"):
        Machine(attention_program()).step((SRC, ONE), inputs)
    fed = replace(attention_program(), limits=Limits(32, 8, max_source=24))
    with pytest.raises(CimError, match="no input of the program has rows of a source"):
        Machine(fed).step((SRC, ONE), inputs)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"q": Q[:1]}, r"takes inputs \['kv', 'q'\], given are \['q'\]"),
        ({"q": Q[:1], "kv": KV[:7]}, r"'kv' is \[7, 32\], the step takes \[8, 32\]"),
        ({"q": Q[:2], "kv": KV[:8]}, r"'q' is \[2, 16\], the step takes \[1, 16\]"),
    ],
)
def test_source_rows_that_do_not_fit(inputs: dict[str, F32], message: str) -> None:
    with pytest.raises(CimError, match=message):
        Machine(crossing()).step((SRC, ONE), inputs)


def test_a_step_without_source_takes_no_source_rows() -> None:
    machine = Machine(crossing())
    with pytest.raises(CimError, match=r"'kv' is \[3, 32\], the step takes \[0, 32\]"):
        machine.step((ONE,), {"q": Q[:1], "kv": KV[:3]})
    assert machine.step((ONE,), {"q": Q[:1], "kv": KV[:0]})["o"].shape == (1, WIDTH)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    send   p3, [2048], r3, 32\n", "", "kept brought the host no message for source segment 0"),
        (
            "r3, 32\n  written",
            "r0, 32\n  written",
            "brings the host 0 words for source segment 0, 256 were expected",
        ),
        (
            "send   p3",
            "send p3, [2048], r3, 32\n    send   p3",
            "messages were sent that no one took, on kept",
        ),
    ],
)
def test_rows_of_the_source_that_the_host_does_not_expect(old: str, new: str, message: str) -> None:
    with pytest.raises(CimError, match=message):
        Machine(crossing_that_tells((old, new))).step((SRC, ONE), {"q": Q[:1], "kv": KV[:8]})


@given(st.integers(0, 60), st.integers(0, 20), st.integers(1, 9))
def test_sources_are_cut_as_the_machine_wants_them(rows: int, position: int, chunk: int) -> None:
    cut = source_segments_of(rows, chunk, position=position, sequence=1)
    assert rows_of(cut) == (0, rows)
    assert [s.position for s in cut] == list(np.cumsum([position, *(s.tokens for s in cut)]))[: len(cut)]
    token = Segment(1, 0, 1, sequence=1, source=position + rows if rows else 0)
    check_segments(Limits(100, chunk, 100, 2, max_source=100), (*cut, token))


def test_segments_are_called_as_the_program_numbers_them() -> None:
    step: Sequence[Segment] = (SRC, SRC, ONE, ONE)
    names = [label(step, current) for current in range(4)]
    assert names == ["source segment 0", "source segment 1", "segment 0", "segment 1"]
