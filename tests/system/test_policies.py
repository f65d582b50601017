"""`--kv auto` is never much slower than the best of the policies, and goes by layers where not all of them fit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from benchmarks.mapping.measure import streams_weights
from compiler.backend.build import build_program
from compiler.driver import compile_model
from compiler.ir.mapping import Arithmetic
from compiler.passes.place_blocks import PlaceBlocks
from compiler.pipeline import Compilation, CompileOptions
from isa.diagnostics import CimError
from isa.hardware import Hardware, load_target
from isa.interface import KvPolicy
from isa.program import Origin, Program, segments_of
from isa.verifier import verify
from runtime.fast import Timing, timer_of
from runtime.machine import Machine
from tests.compiler.building import Choices, program_of, reference, run, tiny, with_quantity
from tests.compiler.graphs import Shape, decoder

WORSE = 1.05
"""How much slower than the best of the policies `auto` may be, in the geometric mean of a decode and a prefill."""


@dataclass(frozen=True)
class Case:
    """A target, a shape, a context and a batch."""

    hardware: Hardware
    shape: Shape
    context: int
    batch: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A small target on which not all keys and values may fit, and a small decoder."""
    chips = draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (2, 2)]))
    hardware = tiny(draw(st.sampled_from([3, 4, 6, 7]))).with_chips(*chips)
    hardware = with_quantity(hardware, "tile", "macros", draw(st.sampled_from([8, 16, 32])))
    hardware = with_quantity(hardware, "dram", "bandwidth", draw(st.sampled_from([2, 25.6, 200])))
    heads, dim = draw(st.sampled_from([2, 4])), draw(st.sampled_from([16, 32]))
    kv_heads, layers = draw(st.sampled_from([1, 2, heads])), draw(st.integers(1, 4))
    shape = Shape(heads * dim, layers, heads, kv_heads, 2 * heads * dim)
    return Case(hardware, shape, draw(st.sampled_from([64, 256, 1024])), draw(st.sampled_from([1, 1, 4])))


def compilation(case: Case, kv: str) -> Compilation:
    """What `cim compile --shapes-only --kv` begins with."""
    options = CompileOptions(max_context=case.context, batch=case.batch, kv=kv, place="all")
    return Compilation(Path("sketch.onnx"), options, case.hardware, decoder(case.shape))


def compiled(case: Case, kv: str) -> Program | None:
    """The program, as `cim compile --shapes-only --kv` would make it; None if it does not fit."""
    c = compilation(case, kv)
    try:
        PlaceBlocks().run(c)
    except CimError:
        return None
    return build_program(c.require_mapping(), case.hardware, Origin(), shapes_only=True)


def cycles(program: Program, case: Case) -> float:
    """Geometric mean of a decode of all sequences at the full context and a prefill of the last tokens, by token."""
    limits, context = program.limits, case.context
    tokens = min(32, context // 2, max(limits.segments - 1, 1) * limits.chunk)
    decode = [s for q in range(case.batch) for s in segments_of(1, context - 1, limits.chunk, sequence=q)]
    prefill = segments_of(tokens, context - tokens, limits.chunk)
    taken = (timer_of(program, [step], Timing.FAST).step(step).cycles for step in (decode, prefill))
    return math.sqrt(math.prod(taken) / tokens)


def check(case: Case) -> None:
    """Auto is about as fast as the best policy that fits."""
    programs = {kv: compiled(case, kv) for kv in ("auto", *(policy.value for policy in KvPolicy))}
    found = {kv: cycles(program, case) for kv, program in programs.items() if program is not None}
    assume(found)
    assert found["auto"] <= WORSE * min(found.values())


@settings(max_examples=2)
@given(cases())
def test_auto_is_as_fast_as_the_best_policy(case: Case) -> None:
    check(case)


def test_a_better_policy_is_kept_by_a_search_that_goes_on() -> None:
    """By rule, weights would be streamed; with keys and values in memory they need not be."""
    hardware = with_quantity(tiny(3).with_chips(2, 1), "tile", "macros", 8)
    case = Case(hardware, Shape(width=32, layers=3, heads=2, kv_heads=1, inner=64), context=64, batch=4)
    auto = compiled(case, "auto")
    assert auto is not None and {cache.policy for cache in auto.caches} == {KvPolicy.STREAMED}
    assert not streams_weights(auto)
    c = compilation(case, "auto")
    PlaceBlocks().run(c)
    (said,) = (note.text for note in c.notes if note.text.startswith("KV cache"))
    assert "streamed from DRAM" in said and said.endswith("(predicted to be fastest).")


@pytest.mark.parametrize(("context", "batch"), [(16384, 1), (4096, 4)])
def test_what_the_rules_keep_in_arrays_stays_there(context: int, batch: int) -> None:
    """Of a short form of the model there is room for more tiles a head than all of it has."""
    path = Path(__file__).parents[2] / "models/pytiny.onnx"
    found = {}
    for kv in ("auto", "resident"):
        options = CompileOptions(max_context=context, batch=batch, kv=kv, place="all", shapes_only=True)
        program = compile_model(path, options, load_target("dcim22")).require_program()
        found[kv] = cycles(program, Case(program.target, Shape(), context, batch))
    assert found["auto"] <= WORSE * found["resident"]


@pytest.mark.slow
@settings(max_examples=60)
@given(cases())
def test_auto_is_as_fast_as_the_best_policy_in_many_cases(case: Case) -> None:
    check(case)


def test_layers_stay_in_arrays_while_there_is_room() -> None:
    """Where the rows of some layers fit, these are resident, and the others come from memory: the same values."""
    graph = decoder(Shape(width=64, layers=4, heads=2, kv_heads=2, inner=128))
    hardware = with_quantity(tiny(7), "tile", "macros", 16)
    choices = Choices(context=768, arithmetic=Arithmetic.FLOAT32)
    program = program_of(graph, hardware, choices)
    verify(program)
    policies = {cache.policy for cache in program.caches}
    assert KvPolicy.RESIDENT in policies and len(policies) == 2
    ids = np.arange(90) * 7 % 96
    machine = Machine(program)
    found = np.concatenate(
        [run(machine, ids[start:end], start) for start, end in ((0, 70), (70, 71), (71, 90))]
    )
    expected = reference(graph, ids)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
