"""Rows put into KV caches from outside, and taken out: as the chip would have appended them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from isa.diagnostics import CimError
from isa.program import Program, segments_of
from runtime.machine import Machine
from runtime.segments import source_segments_of
from tests.values import attention, crossing
from tests.values.bench import same_bits

F32 = NDArray[np.float32]
PROGRAM = attention.attention_program()
WIDTH, CHUNK, CONTEXT = attention.WIDTH, attention.CHUNK, attention.CONTEXT


def _rows(seed: int, count: int, columns: int) -> F32:
    """Rows of different magnitudes; some are zero."""
    rng = np.random.default_rng(seed)
    sizes = rng.choice(np.array([0, 1e-30, 1e-3, 1, 40], np.float32), (count, 1))
    rows: F32 = rng.standard_normal((count, columns)).astype(np.float32) * sizes
    return rows


def _arrays(machine: Machine) -> list[tuple[F32, F32]]:
    return [(array.cells, array.row_scales) for array in machine.tiles[0].arrays]


def _same(a: Machine, b: Machine) -> bool:
    pairs = zip(_arrays(a), _arrays(b), strict=True)
    return all(same_bits(x, y) for one, other in pairs for x, y in zip(one, other, strict=True))


def _heads(rows: F32) -> F32:
    """[tokens, d] as [1, tokens, d]."""
    return rows[None]


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, CONTEXT), st.integers(0, 1))
def test_writing_is_appending(seed: int, tokens: int, sequence: int) -> None:
    qkv = _rows(seed, tokens, 3 * WIDTH)
    appended, written = Machine(PROGRAM), Machine(PROGRAM)
    appended.step(segments_of(tokens, 0, CHUNK, sequence=sequence), {"qkv": qkv})
    _, keys, values = np.split(qkv, 3, axis=1)
    written.write_cache(0, sequence, _heads(keys), _heads(values))
    assert _same(appended, written)


@pytest.mark.parametrize("ideal", [False, True])
@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, crossing.SOURCE), sequence=st.integers(0, 1))
def test_writing_is_appending_of_a_source(ideal: bool, seed: int, rows: int, sequence: int) -> None:
    kv, program = _rows(seed, rows, 2 * crossing.WIDTH), crossing.crossing(ideal)
    appended, written = Machine(program), Machine(program)
    sources = source_segments_of(rows, crossing.CHUNK, sequence=sequence)
    tokens = tuple(replace(s, source=rows) for s in segments_of(1, 0, crossing.CHUNK, sequence=sequence))
    appended.step((*sources, *tokens), {"kv": kv, "q": np.ones((1, crossing.WIDTH), np.float32)})
    written.write_cache(0, sequence, *map(_heads, np.split(kv, 2, axis=1)))
    assert _same(appended, written)


def test_each_head_has_its_rows() -> None:
    program, rng = crossing.crossing_of_two(), np.random.default_rng(8)
    keys, values = (rng.standard_normal((2, 9, crossing.WIDTH)).astype(np.float32) for _ in range(2))
    appended, written = Machine(program), Machine(program)
    kv = np.hstack([keys[0], values[0], keys[1], values[1]])
    step = (*source_segments_of(9, crossing.CHUNK), replace(segments_of(1, 0, 8)[0], source=9))
    appended.step(step, {"kv": kv, "q": np.ones((1, 2 * crossing.WIDTH), np.float32)})
    written.write_cache(0, 0, keys, values)
    for one, other in zip(appended.read_cache(0, 0, 9), written.read_cache(0, 0, 9), strict=True):
        assert same_bits(one, other)
    assert not same_bits(*(written.read_cache(0, 0, 9)[0][[head]] for head in range(2)))


def test_a_machine_goes_on_from_a_cache() -> None:
    """A program may be given its past: the next token's output is that of a machine that made the past itself."""
    x = np.random.default_rng(3).standard_normal((20, 3 * WIDTH)).astype(np.float32)
    first, second = Machine(PROGRAM), Machine(PROGRAM)
    first.step(segments_of(19, 0, CHUNK), {"qkv": x[:19]})
    _, keys, values = np.split(x[:19], 3, axis=1)
    second.write_cache(0, 1, _heads(keys), _heads(values))
    last, other = segments_of(1, 19, CHUNK), segments_of(1, 19, CHUNK, sequence=1)
    assert same_bits(first.step(last, {"qkv": x[19:]})["o"], second.step(other, {"qkv": x[19:]})["o"])


@pytest.mark.parametrize(("program", "exact"), [(crossing.crossing(ideal=True), True), (PROGRAM, False)])
def test_what_is_read_is_what_was_written(program: Program, exact: bool) -> None:
    rng = np.random.default_rng(4)
    keys, values = (rng.standard_normal((1, 9, 16)).astype(np.float32) for _ in range(2))
    machine = Machine(program)
    machine.write_cache(0, 1, keys, values)
    got = machine.read_cache(0, 1, 9)
    for one, expected in zip(got, (keys, values), strict=True):
        steps = np.abs(expected).max(axis=2, keepdims=True) / 127
        assert one.dtype == np.float32
        assert (np.abs(one - expected) <= (0 if exact else 0.5001) * steps).all()
    assert not machine.read_cache(0, 0, 9)[0].any()
    again = Machine(program)
    again.write_cache(0, 1, *got)
    for one, expected in zip(again.read_cache(0, 1, 9), got, strict=True):
        # the same codes; scales an ulp off
        np.testing.assert_allclose(one, expected, rtol=0 if exact else 2e-7)


def test_reading_does_not_hand_out_the_array() -> None:
    machine = Machine(crossing.crossing(ideal=True))
    machine.write_cache(0, 0, np.ones((1, 2, 16)), np.ones((1, 2, 16)))
    machine.read_cache(0, 0, 2)[0][:] = 5
    assert (machine.read_cache(0, 0, 2)[0] == 1).all()


K = np.zeros((1, 2, WIDTH), np.float32)


@pytest.mark.parametrize(
    ("layer", "sequence", "keys", "values", "code", "message"),
    [
        (1, 0, K, K, "E0601", "there is no cache 1; the program has 1"),
        (0, 2, K, K, "E0601", "there is no sequence 2; the program has 2"),
        (0, 0, K[0], K, "E0601", r"keys of cache 0 are float32 \[2, 16\], it takes \[1, tokens, 16\]"),
        (0, 0, K, K[:, :, :3], "E0601", r"values of cache 0 are float32 \[1, 2, 3\]"),
        (0, 0, np.concatenate([K, K]), K, "E0601", r"keys of cache 0 are float32 \[2, 2, 16\]"),
        (0, 0, K.astype(object), K, "E0601", "keys of cache 0 are object"),
        (0, 0, K, K[:, :1], "E0601", "is given 2 keys and 1 values"),
        (
            0,
            0,
            np.zeros((1, 41, WIDTH)),
            np.zeros((1, 41, WIDTH)),
            "E0602",
            "room for 40 rows a sequence, not 41",
        ),
    ],
)
def test_rows_that_do_not_fit(
    layer: int, sequence: int, keys: F32, values: F32, code: str, message: str
) -> None:
    with pytest.raises(CimError, match=message) as caught:
        Machine(PROGRAM).write_cache(layer, sequence, keys, values)
    assert caught.value.diagnostics[0].code == code


@pytest.mark.parametrize(
    ("program", "tokens", "code", "help_text"),
    [
        (PROGRAM, -1, "E0601", None),
        (PROGRAM, 41, "E0602", "--max-context 41"),
        (crossing.crossing(), 25, "E0602", "--max-source 25"),
    ],
)
def test_rows_that_are_not_there(program: Program, tokens: int, code: str, help_text: str | None) -> None:
    with pytest.raises(CimError) as caught:
        Machine(program).read_cache(0, 0, tokens)
    problem = caught.value.diagnostics[0]
    assert problem.code == code
    assert help_text is None or help_text in (problem.help or "")
