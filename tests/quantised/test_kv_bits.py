"""Keys and values of fewer than 8 bits: what lies in the arrays, both engines, steps cut anywhere."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from compiler.driver import compile_model
from compiler.ir.evaluate import evaluate
from compiler.pipeline import Compilation, CompileOptions, Smoothing
from isa.assembler import assemble
from isa.diagnostics import CimError
from isa.disassembler import listing
from isa.events import Event
from isa.instructions import Quant, Quantl
from isa.program import ArrayKind, Program, segments_of
from runtime.machine import Machine
from runtime.timing import Simulator
from runtime.values import EngineKind
from tests.compiler.building import run, tiny
from tests.quantised.making import plain

IDS = np.random.default_rng(5).integers(0, 60, 24)
FORMS = [("llama", "auto"), ("llama", "streamed"), ("llama", "tiered"), ("gpt2", "auto"), ("opt", "auto")]
"""gpt2 and opt make a head's queries, keys and values by one array, llama turns them by their positions first."""


@cache
def compilation(family: str, bits: int, kv: str = "auto", smooth: Smoothing = Smoothing.AUTO) -> Compilation:
    options = CompileOptions(max_context=32, kv_bits=bits, kv=kv, smooth=smooth)
    return compile_model(plain(family), options, tiny(10))


def program(family: str, bits: int, kv: str = "auto") -> Program:
    return compilation(family, bits, kv).require_program()


@pytest.mark.parametrize(("family", "kv"), FORMS)
def test_engines_and_cuts_agree_to_the_bit(family: str, kv: str) -> None:
    p = program(family, 4, kv)
    whole, fast, cut = Machine(p), Machine(p, engine=EngineKind.FAST), Machine(p)
    expected = run(whole, IDS)
    assert run(fast, IDS).tobytes() == expected.tobytes()
    parts = [run(cut, IDS[start:stop], start) for start, stop in ((0, 5), (5, 6), (6, 17), (17, 24))]
    assert np.concatenate(parts).tobytes() == expected.tobytes()
    assert fast.engine is EngineKind.FAST


@pytest.mark.parametrize(("family", "kv"), FORMS)
@pytest.mark.parametrize("bits", [2, 4])
def test_codes_have_so_many_bits(family: str, kv: str, bits: int) -> None:
    p = program(family, bits, kv)
    machine, most = Machine(p), 2 ** (bits - 1) - 1
    run(machine, IDS)
    arrays = [a for tile in machine.tiles for a in tile.arrays if a.spec.kind is ArrayKind.KV]
    assert {a.spec.bits for a in arrays} == {bits}
    assert {most} <= {np.abs(a.cells).max() for a in arrays} <= {0, most}, "a ring may be all that is used"
    kinds = {type(i) for role in p.roles for i in role.code}
    assert {Quant, Quantl} <= kinds, "activations keep their 8 bits"
    text = listing(p, source=False, complete=True)
    assert f"bits {bits}" in text and assemble(text, target=p.target).roles == p.roles


def test_rows_from_outside_are_rounded_as_the_chip_rounds_them() -> None:
    rows = np.random.default_rng(0).standard_normal((2, 4, 7, 16)).astype(np.float32)
    for kv in ("auto", "streamed"):
        machine = Machine(compilation("llama", 4, kv, Smoothing.NONE).require_program())
        heads, _, width = machine.read_cache(0, 0, 0)[0].shape
        given = rows[:, :heads, :, :width]
        machine.write_cache(0, 0, given[0], given[1])
        for side, back in zip(given, machine.read_cache(0, 0, 7), strict=True):
            step = np.abs(side).max(axis=2, keepdims=True) / 7
            assert np.abs(back - side).max() <= step.max() / 2 * 1.0001
            np.testing.assert_allclose(back / step, np.rint(back / step), atol=1e-4)


def test_rows_that_were_rounded_stay_as_they_are() -> None:
    """Channels of keys that are evened out are so before they are rounded: what is read back is rounded already."""
    rows = np.random.default_rng(0).standard_normal((2, 4, 7, 16)).astype(np.float32)
    machine = Machine(program("llama", 4))
    heads, _, width = machine.read_cache(0, 0, 0)[0].shape
    given = rows[:, :heads, :, :width]
    machine.write_cache(0, 0, given[0], given[1])
    first = [side.copy() for side in machine.read_cache(0, 0, 7)]
    machine.write_cache(0, 0, *first)
    for once, twice in zip(first, machine.read_cache(0, 0, 7), strict=True):
        np.testing.assert_allclose(twice, once, rtol=1e-5)


def test_fewer_bits_are_less_exact() -> None:
    expected = evaluate(compilation("llama", 8).require_graph(), IDS)
    errors = [float(np.std(run(Machine(program("llama", bits)), IDS) - expected)) for bits in (8, 6, 4, 2)]
    assert errors == sorted(errors) and errors[0] < 0.3 * errors[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (CompileOptions(weights="float32", kv_bits=4), "not rounded"),
        (CompileOptions(group=32), "one scale a column"),
        (CompileOptions(weights="int4", group=30), "whole words"),
        (CompileOptions(weights="int4", group=4), "8 rows or more"),
    ],
)
def test_what_does_not_go_together_is_refused(options: CompileOptions, message: str) -> None:
    with pytest.raises(CimError, match=message) as caught:
        compile_model(plain("llama"), options, tiny(8))
    assert caught.value.diagnostics[0].code == "E0305"


@pytest.mark.parametrize("group", [0, 32])
def test_groups_are_as_asked_for(group: int) -> None:
    options = CompileOptions(max_context=32, weights="int4", group=group)
    p = compile_model(plain("llama"), options, tiny(10)).require_program()
    weights = [a for role in p.roles for a in role.arrays if a.kind is ArrayKind.WEIGHT]
    assert {a.bits for a in weights} == {4}
    assert max(a.block for a in weights) == group


@pytest.mark.parametrize("family", ["gpt2", "opt"])
def test_columns_of_a_head_are_quantised_once(family: str) -> None:
    """Of one array for queries, keys and values, in segments of one row: as much work as with 8 bits for all."""
    options = CompileOptions(max_context=32, kv_bits=4, chunk=1)
    narrow, full, longer = (
        compile_model(plain(family), each, tiny(10)).require_program()
        for each in (options, replace(options, kv_bits=8), replace(options, chunk=2))
    )
    assert any(array.name == "w_joined" for role in narrow.roles for array in role.arrays)
    work = [Simulator(p).step(segments_of(1, 20, 1)) for p in (narrow, full)]
    for event in (Event.VECTOR_ALU, Event.VECTOR_SFU):
        assert work[0].count(event) == work[1].count(event)
    np.testing.assert_array_equal(run(Machine(narrow), IDS), run(Machine(longer), IDS))
