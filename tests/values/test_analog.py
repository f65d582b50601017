"""Analog macros: both engines compute the same, and what they compute has the errors that were asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.mapping.systems import with_chips
from compiler.driver import compile_model
from compiler.pipeline import CompileOptions
from isa import instructions as t
from isa.diagnostics import CimError
from isa.hardware import load_target
from isa.instruction import Inst
from isa.operands import Reg
from isa.program import Program, Segment, segments_of
from models import PYTINY, path
from runtime.analog.arithmetic import conductances, draws
from runtime.analog.model import DEVIATION, SCALE_SHIFT, model_of
from runtime.analog.options import AnalogOptions
from runtime.machine import Machine
from runtime.numerics import I8, I32
from tests.values.bench import ONE, Bench
from tests.values.noisy import Cells
from tests.values.test_random import CODE, filled

CELLS = st.builds(
    Cells,
    bits=st.integers(2, 12),
    covered=st.sampled_from([None, 0.05, 0.3333, 1.0]),
    read_noise=st.sampled_from([0.0, 0.001, 0.02]),
    programming_error=st.sampled_from([0.0, 0.01, 0.3]),
    drift_s=st.sampled_from([None, 20.0, 1e6]),
    weight_slices=st.sampled_from([1, 2, 3, 4, 8]),
    input_slices=st.sampled_from([1, 2, 3, 4, 8]),
    pass_rows=st.sampled_from([None, 8, 32]),
    crossbar_weights=st.sampled_from([None, 2, 8]),
)
EXACT = Cells(bits=20, read_noise=0.0, programming_error=0.0, covered=None)
TARGETS_OWN = AnalogOptions()


def product(
    cells: Cells,
    x: I8,
    w: I8,
    *,
    row: int = 0,
    across: bool = False,
    written: bool = False,
    analog: AnalogOptions = TARGETS_OWN,
) -> I32:
    """x times an array of weights, or of rows that the program writes, on both engines (conftest.py)."""
    bench = Bench(cells.target())
    n, rows = len(x), len(w) - row if across else x.shape[1]
    many = rows if across else w.shape[1]
    src, dst, code = bench.put(x), bench.room(4 * n * many), list[Inst]()
    array = bench.kv(*w.shape) if written else bench.array(w)
    if written:
        scales = bench.put(np.ones(len(w), np.float32))
        code.append(t.Wrow(array, bench.put(w), scales, bench.reg(len(w)), Reg(0)))
    count, first, length = bench.reg(n), bench.reg(row), bench.reg(rows)
    if across:
        code.append(t.Mvmt(array, dst, src, count, first, length))
    else:
        code.append(t.Mvm(array, dst, src, count, first, rows))
    machine = Machine(bench.program(*code), analog=analog)
    machine.step(ONE, {})
    return machine.tiles[0].i32(dst, n, many).copy()


def codes(shape: tuple[int, ...], seed: int, most: int = 127) -> I8:
    """Random codes."""
    return np.random.default_rng(seed).integers(-most, most + 1, shape).astype(np.int8)


def exact(x: I8, w: I8, across: bool = False) -> NDArray[np.int64]:
    """The sums without errors."""
    return x.astype(np.int64) @ (w.T if across else w).astype(np.int64)


def error(cells: Cells, seed: int, **named: bool) -> float:
    """The relative error of sums over 128 rows."""
    x, w = codes((8, 128), seed), codes((128, 16), seed + 1)
    wanted = exact(x, w)
    return float(np.sqrt(((product(cells, x, w, **named) - wanted) ** 2).mean() / (wanted**2).mean()))


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(CELLS, st.integers(0, 99), st.booleans(), st.booleans(), st.integers(0, 3))
def test_engines_agree_on_all_cells(
    cells: Cells, seed: int, across: bool, written: bool, noise_seed: int
) -> None:
    own = np.random.default_rng(seed)
    rows, cols, row = int(own.integers(1, 150)), int(own.integers(1, 24)), int(own.integers(0, 20))
    w = own.integers(-128, 128, (row + rows, cols)).astype(np.int8)
    x = own.integers(-128, 128, (3, cols if across else rows)).astype(np.int8)
    options = AnalogOptions(seed=noise_seed)
    product(cells, x, w, row=row, across=across, written=written, analog=options)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(CELLS, CODE, st.integers(1, 3))
def test_random_work_on_analog_macros(cells: Cells, code: list[Inst], segments: int) -> None:
    with suppress(CimError):  # then both say the same
        filled(cells.target()).run(*code, segments=[Segment(1, at, 0) for at in range(segments)])


@settings(max_examples=20)
@given(
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([1, 2, 4, 8]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
def test_without_noise_and_with_all_bits_sums_are_exact(
    weights: int, inputs: int, across: bool, written: bool, seed: int
) -> None:
    cells = replace(EXACT, weight_slices=weights, input_slices=inputs, bits=24)
    w, x = codes((100, 16), seed), codes((3, 16 if across else 100), seed + 1)
    found = product(cells, x, w, across=across, written=written)
    assert found.tolist() == exact(x, w, across).tolist()


def test_ideal_sums_are_exact() -> None:
    x, w = codes((3, 100), 1), codes((100, 16), 2)
    found = product(Cells(drift_s=1e6), x, w, analog=AnalogOptions(is_ideal=True))
    assert found.tolist() == exact(x, w).tolist()


def test_a_seed_makes_the_same_errors_and_another_one_others() -> None:
    x, w = codes((3, 100), 1), codes((100, 16), 2)
    first, again, other = (product(Cells(), x, w, analog=AnalogOptions(seed=s)) for s in (5, 5, 6))
    assert first.tolist() == again.tolist()
    assert (first != other).mean() > 0.9


def test_vectors_are_alone() -> None:
    """A vector's sums do not depend on those that go with it, nor on zeros behind it."""
    x, w = codes((4, 100), 1), codes((128, 16), 2)
    together = product(Cells(), x, w)
    wider = np.concatenate([x, np.zeros((4, 28), np.int8)], axis=1)
    assert product(Cells(), x[2:3], w).tolist() == together[2:3].tolist()
    assert product(Cells(), wider, w).tolist() == together.tolist()


def test_nothing_driven_gives_nothing() -> None:
    assert not product(Cells(), np.zeros((2, 100), np.int8), codes((100, 16), 2)).any()


def test_equal_vectors_have_equal_noise_and_others_have_others() -> None:
    """Noise is of what is multiplied: without errors of cells, what vectors get is as independent as they are."""
    w = np.zeros((64, 16), np.int8)
    x = np.concatenate([codes((200, 64), 1), codes((1, 64), 1)])
    found = product(Cells(programming_error=0.0), x, w)
    assert found[0].tolist() == found[200].tolist()
    assert np.abs(np.corrcoef(found[:200].T)[np.triu_indices(16, 1)]).max() < 0.35


def _rising(make: Callable[[float], Cells], values: tuple[float, ...]) -> None:
    means = [np.mean([error(make(value), seed) for seed in range(4)]) for value in values]
    assert means == sorted(means)
    assert means[0] < means[-1] / 2


def test_more_bits_are_never_worse() -> None:
    quiet = Cells(read_noise=0.0, programming_error=0.0, covered=0.3)
    _rising(lambda bits: replace(quiet, bits=int(bits)), (10, 8, 7, 6, 5, 4))


def test_more_noise_is_never_better() -> None:
    quiet = Cells(bits=10, read_noise=0.0, programming_error=0.0)
    _rising(lambda noise: replace(quiet, read_noise=noise), (0.001, 0.002, 0.005, 0.02))
    _rising(lambda noise: replace(quiet, programming_error=noise), (0.005, 0.01, 0.02, 0.1))
    _rising(lambda time: replace(quiet, drift_s=time), (20.0, 1e3, 1e6, 1e9))


def test_draws_are_normal() -> None:
    found = draws(np.full(1, 12345, np.uint64), np.arange(200_000, dtype=np.uint64)) / DEVIATION
    assert abs(found.mean()) < 0.01
    assert found.std() == pytest.approx(1.0, rel=0.01)
    assert (found**4).mean() == pytest.approx(3.0, rel=0.07)  # 2.85 by the sum of eight
    assert (np.abs(found) > 2).mean() == pytest.approx(0.0455, rel=0.05)
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.01


def test_cells_have_the_errors_that_were_asked_for() -> None:
    cells = Cells(programming_error=0.03, weight_slices=1, input_slices=1)
    model = model_of(cells.target().macro, AnalogOptions())
    assert model is not None
    held = codes((256, 256), 3, most=100)
    off = conductances(held, 0, model.key(0, 0), model)[0] / (1 << model.fraction) - held
    assert off.std() == pytest.approx(0.03 * 127, rel=0.02)
    assert abs(off.mean()) < 0.03


def test_drift_follows_its_law_and_is_put_back() -> None:
    cells = Cells(programming_error=0.0, drift_s=2e5, weight_slices=1, input_slices=1)
    model = model_of(cells.target().macro, AnalogOptions())
    assert model is not None
    held = np.full((256, 256), 100, np.int8)
    factors = conductances(held, 0, model.key(0, 0), model)[0] / (100 << model.fraction)
    exponents = -np.log(factors) / math.log(1e4)  # 2e5 s, 20 s of them at first
    assert exponents.mean() == pytest.approx(0.05, rel=0.01)
    assert exponents.std() == pytest.approx(0.01, rel=0.02)
    assert model.gain / (1 << SCALE_SHIFT) * factors.mean() == pytest.approx(1.0, abs=0.01)
    later = model_of(cells.target().macro, AnalogOptions(drift_s=20.0))
    assert later is not None
    assert later.gain == 1 << SCALE_SHIFT


def test_tiles_arrays_and_rewritten_rows_have_errors_of_their_own() -> None:
    model = model_of(Cells().target().macro, AnalogOptions())
    assert model is not None
    held = codes((40, 16), 3)
    made = [conductances(held, 0, model.key(*place), model) for place in ((0, 0), (0, 1), (1, 0))]
    assert all((made[0] != other).mean() > 0.9 for other in made[1:])
    part = conductances(held[10:20], 10, model.key(0, 0), model)
    assert (part == made[0][:, 10:20]).all()


# ------------------------------------------------------------------------------------------------ the trained model


@cache
def compiled(kv: str = "auto", chips: int = 1) -> Program:
    """The trained model, two sequences, on ReRAM."""
    options = CompileOptions(max_context=64, batch=2, kv=kv)
    return compile_model(path(PYTINY), options, with_chips(load_target("isaac32"), chips)).require_program()


def logits(program: Program, cuts: list[list[Segment]], ids: NDArray[np.int32]) -> NDArray[np.float32]:
    """The logits of steps one after another, of tokens in the order in which they come."""
    machine, rows, at = Machine(program), [], 0
    for segments in cuts:
        count = sum(s.tokens for s in segments)
        rows.append(machine.step(segments, {"input_ids": ids[at : at + count, None]})["logits"])
        at += count
    return np.concatenate(rows)


@pytest.mark.slow
@pytest.mark.parametrize("kv", ["resident", "tiered", "streamed"])
def test_cutting_a_sequence_into_steps_changes_nothing(kv: str) -> None:
    program = compiled(kv)
    ids = np.random.default_rng(3).integers(32, 90, 23).astype(np.int32)
    chunk = program.limits.chunk
    whole = logits(program, [list(segments_of(23, 0, chunk, last_only=False))], ids)
    parts = [(7, 0), (1, 7), (9, 8), (6, 17)]
    cuts = [list(segments_of(n, at, chunk, last_only=False)) for n, at in parts]
    np.testing.assert_array_equal(logits(program, cuts, ids), whole)


@pytest.mark.slow
def test_rows_that_are_given_conduct_as_those_that_are_written() -> None:
    """Cells are filled behind the engines' backs, before and after they were used; both notice (conftest.py)."""
    program, random = compiled("resident"), np.random.default_rng(5)
    machine, ids = Machine(program), random.integers(32, 90, (1, 1)).astype(np.int32)
    made = []
    for _ in range(2):
        for layer in range(len(program.caches)):
            keys, values = random.standard_normal((2, 2, 6, 32)).astype(np.float32)
            machine.write_cache(layer, 0, keys, values)
        made.append(machine.step(segments_of(1, 6, program.limits.chunk), {"input_ids": ids})["logits"])
    assert (made[0] != made[1]).any()


@pytest.mark.slow
def test_sequences_that_share_steps_change_nothing() -> None:
    program = compiled()
    ids = np.random.default_rng(4).integers(32, 90, 10).astype(np.int32)
    chunk = program.limits.chunk

    def of(sequence: int) -> list[Segment]:
        return list(segments_of(5, 0, chunk, last_only=False, sequence=sequence))

    both = logits(program, [[*of(0), *of(1)]], ids)
    np.testing.assert_array_equal(logits(program, [of(1)], ids[5:]), both[5:])
