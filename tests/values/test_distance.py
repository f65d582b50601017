"""Biases by distance: the instructions against their formulas, and attention with them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from isa import instructions as t
from isa.diagnostics import CimError
from isa.operands import Reg
from isa.program import Program, segments_of
from runtime.machine import Machine
from tests.values.attention import (
    BIASED_BY_SLOPE,
    CHUNK,
    CONTEXT,
    WIDTH,
    attention_program,
    biased_by_table,
)
from tests.values.bench import Bench, same_bits

F32 = NDArray[np.float32]
REACH = 5
TABLE = np.random.default_rng(5).standard_normal(2 * REACH + 1).astype(np.float32)
SLOPE = np.array([0.3], np.float32)
X = np.random.default_rng(6).standard_normal((CONTEXT, 3 * WIDTH)).astype(np.float32)
BY_TABLE = attention_program(biased_by_table(2 * REACH + 1), TABLE)
BY_SLOPE = attention_program(BIASED_BY_SLOPE, SLOPE)


# ------------------------------------------------------------------------------------------ the instructions


def _table_formula(src: F32, table: F32, first: int, group: int) -> F32:
    """The definition of `vrel`, element by element."""
    out, reach = src.copy(), table.shape[1] // 2
    for i in range(src.shape[0]):
        for j in range(src.shape[1]):
            distance = min(max(first + j - i // group, -reach), reach)
            out[i, j] = np.float32(src[i, j] + table[i % group, reach + distance])
    return out


def _slope_formula(src: F32, slopes: F32, first: int, group: int) -> F32:
    """The definition of `vslope`, element by element: the product is rounded before the sum."""
    out = src.copy()
    for i in range(src.shape[0]):
        for j in range(src.shape[1]):
            product = np.float32(slopes[i % group] * np.float32(first + j - i // group))
            out[i, j] = np.float32(src[i, j] + product)
    return out


_SHAPES = st.tuples(st.integers(0, 9), st.integers(0, 11), st.integers(1, 4), st.integers(-300, 300))


@settings(max_examples=60)
@given(_SHAPES, st.integers(0, 8), st.integers(0, 2**32 - 1), st.booleans())
def test_vrel_is_its_formula(shape: tuple[int, int, int, int], reach: int, seed: int, in_place: bool) -> None:
    n, cols, group, first = shape
    rng = np.random.default_rng(seed)
    src = rng.standard_normal((n, cols)).astype(np.float32)
    table = rng.standard_normal((group, 2 * reach + 1)).astype(np.float32)
    bench = Bench()
    at = bench.put(src)
    dst = at if in_place else bench.room(src.nbytes)
    inst = t.Vrel(
        dst, at, bench.put(table), bench.reg(n), bench.reg(cols), bench.reg(first), group, table.size
    )
    assert same_bits(bench.run(inst).f32(dst, n, cols), _table_formula(src, table, first, group))


@settings(max_examples=60)
@given(_SHAPES, st.integers(0, 2**32 - 1), st.booleans())
def test_vslope_is_its_formula(shape: tuple[int, int, int, int], seed: int, in_place: bool) -> None:
    n, cols, group, first = shape
    rng = np.random.default_rng(seed)
    src = rng.standard_normal((n, cols)).astype(np.float32)
    slopes = rng.standard_normal(group).astype(np.float32)
    bench = Bench()
    at = bench.put(src)
    dst = at if in_place else bench.room(src.nbytes)
    inst = t.Vslope(dst, at, bench.put(slopes), bench.reg(n), bench.reg(cols), bench.reg(first), group)
    assert same_bits(bench.run(inst).f32(dst, n, cols), _slope_formula(src, slopes, first, group))


def test_a_product_is_rounded_before_it_is_added() -> None:
    """A case where a fused multiply-add would give other bits."""
    slope, first = np.float32(1) + np.float32(2**-12), 1 + 2**12
    bench = Bench()
    src = bench.put(np.full((1, 1), -slope * np.float32(first), np.float32))
    inst = t.Vslope(src, src, bench.put(np.array([slope])), bench.reg(1), 1, bench.reg(first), 1)
    assert bench.run(inst).f32(src, 1, 1)[0, 0] == 0
    assert float(slope) * first != float(slope * np.float32(first))


@pytest.mark.parametrize(
    ("group", "entries", "message"),
    [
        (0, 3, "groups of 0"),
        (2, 7, "a table of 7 entries is not 2 rows"),
        (2, 8, "a table of 8 entries is not 2 rows of an odd number"),
    ],
)
def test_tables_that_do_not_fit(group: int, entries: int, message: str) -> None:
    bench = Bench()
    at = bench.put(np.zeros((2, 2), np.float32))
    inst = t.Vrel(at, at, at, bench.reg(2), 2, Reg(0), group, entries)
    with pytest.raises(CimError, match=message) as caught:
        bench.run(inst)
    assert caught.value.diagnostics[0].code == "E0604"


# --------------------------------------------------------------------------------------------- attention with them


def _run(program: Program, cuts: list[int]) -> F32:
    machine, start, rows = Machine(program), 0, []
    for stop in [*cuts, CONTEXT]:
        segments = segments_of(stop - start, start, CHUNK, last_only=False)
        if segments:
            rows.append(machine.step(segments, {"qkv": X[start:stop]})["o"])
        start = stop
    return np.concatenate(rows)


def _attention(bias: NDArray[np.float64]) -> NDArray[np.float64]:
    """Causal attention in float64, not quantised, with `bias` [tokens, tokens] added to the scores."""
    q, k, v = (part.astype(np.float64) for part in np.split(X, 3, axis=1))
    scores = q @ k.T / np.sqrt(WIDTH) + bias
    scores[np.triu_indices(CONTEXT, 1)] = -np.inf
    p = np.exp(scores - scores.max(1, keepdims=True))
    attended: NDArray[np.float64] = (p / p.sum(1, keepdims=True)) @ v
    return attended


DISTANCES = np.arange(CONTEXT)[None, :] - np.arange(CONTEXT)[:, None]
WHOLE = {"table": _run(BY_TABLE, []), "slope": _run(BY_SLOPE, [])}


def test_attention_with_a_table_is_right_within_int8() -> None:
    bias = TABLE.astype(np.float64)[REACH + DISTANCES.clip(-REACH, REACH)]
    assert np.abs(WHOLE["table"] - _attention(bias)).max() < 0.06


def test_attention_with_a_slope_is_right_within_int8() -> None:
    assert np.abs(WHOLE["slope"] - _attention(float(SLOPE[0]) * DISTANCES)).max() < 0.06


@settings(max_examples=15)
@given(st.lists(st.integers(1, CONTEXT - 1), max_size=12).map(sorted))
def test_cutting_into_steps_changes_no_bit(cuts: list[int]) -> None:
    assert same_bits(_run(BY_TABLE, cuts), WHOLE["table"])
    assert same_bits(_run(BY_SLOPE, cuts), WHOLE["slope"])
