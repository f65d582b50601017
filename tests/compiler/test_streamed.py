"""Keys and values in DRAM: streamed and tiered caches give what resident ones give, to the bit."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.explain import Note
from compiler.ir.mapping import Arithmetic
from compiler.mapping.mapper import MapOptions
from compiler.mapping.policies import KvChoice
from compiler.mapping.problem import Problem
from compiler.mapping.settle import settle
from compiler.optimisations import Optimisation
from isa.asm_print import code_lines, program_text
from isa.assembler import assemble
from isa.diagnostics import CimError
from isa.hardware import Hardware
from isa.instruction import Inst
from isa.instructions import Store
from isa.interface import KvPolicy
from isa.program import Limits, Program, segments_of
from isa.verifier import findings, verify
from runtime.machine import Machine
from runtime.timing import Simulator

from .building import ONE_TILE, Choices, mapping_of, program_of, reference, run, tiny, with_quantity
from .graphs import Shape, decoder

LENGTH = 230
IDS = np.random.default_rng(7).integers(0, 64, LENGTH)
SHAPES = {
    "groups": Shape(layers=1),
    "heads": Shape(layers=1, kv_heads=4, bias=True),
    "window": Shape(layers=1, window=70, softcap=5.0),
    "spread": Shape(width=320, layers=1, heads=5, kv_heads=5, inner=256, vocabulary=64),
}
POLICIES = {
    "streamed": KvChoice(KvPolicy.STREAMED),
    "tiered": KvChoice(KvPolicy.TIERED, 64),
    "tiered-128": KvChoice(KvPolicy.TIERED, 128),
}
RESIDENT = KvChoice(KvPolicy.RESIDENT)
PLAIN = Choices()


def _program(
    shape: Shape, kv: KvChoice, hardware: Hardware | None = None, choices: Choices = PLAIN
) -> Program:
    choices = replace(choices, kv=kv, without=choices.without | ONE_TILE, stream=False)
    return program_of(decoder(shape), hardware or tiny(14), choices)


@pytest.mark.parametrize("arithmetic", Arithmetic)
@pytest.mark.parametrize("name", SHAPES)
def test_where_rows_lie_changes_no_bit(name: str, arithmetic: Arithmetic) -> None:
    choices = Choices(arithmetic=arithmetic)
    resident = run(Machine(_program(SHAPES[name], RESIDENT, choices=choices)), IDS)
    for kv in POLICIES.values():
        program = _program(SHAPES[name], kv, choices=choices)
        verify(program)
        assert {cache.policy for cache in program.caches} == {kv.policy}
        np.testing.assert_array_equal(run(Machine(program), IDS), resident)


@pytest.mark.parametrize("kv", POLICIES)
def test_it_computes_what_the_graph_means(kv: str) -> None:
    program = _program(Shape(), POLICIES[kv], choices=Choices(arithmetic=Arithmetic.FLOAT32))
    expected = reference(decoder(Shape()), IDS)
    np.testing.assert_allclose(run(Machine(program), IDS), expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("kv", POLICIES)
def test_optimisations_change_no_bit(kv: str) -> None:
    shape, plain = SHAPES["window"], frozenset({Optimisation.PREFETCH_KV, Optimisation.SKIP_WINDOW})
    program = _program(shape, POLICIES[kv], choices=Choices(without=plain))
    verify(program)
    ours = run(Machine(_program(shape, POLICIES[kv])), IDS)
    np.testing.assert_array_equal(run(Machine(program), IDS), ours)


@pytest.fixture(scope="module", params=["streamed", "tiered"])
def program(request: pytest.FixtureRequest) -> Program:
    return _program(SHAPES["groups"], POLICIES[request.param], choices=Choices(sequences=2))


@settings(max_examples=6)
@given(st.lists(st.integers(1, LENGTH - 1), max_size=9, unique=True))
def test_cutting_a_sequence_into_steps_changes_no_bit(program: Program, cuts: list[int]) -> None:
    whole, machine = run(Machine(program), IDS), Machine(program)
    parts = [run(machine, IDS[a:b], a, 1) for a, b in itertools.pairwise([0, *sorted(cuts), LENGTH])]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_sequences_do_not_see_each_other(program: Program) -> None:
    verify(program)
    other = IDS[::-1].copy()
    alone = [run(Machine(program), ids) for ids in (IDS, other)]
    machine = Machine(program)
    together: list[list[np.ndarray]] = [[], []]
    for start in range(0, LENGTH, 23):
        for sequence, ids in enumerate((IDS, other)):
            together[sequence].append(run(machine, ids[start : start + 23], start, sequence))
    for parts, expected in zip(together, alone, strict=True):
        np.testing.assert_array_equal(np.concatenate(parts), expected)


def test_what_a_cache_has_can_be_taken_out_and_put_in(program: Program) -> None:
    first, second = Machine(program), Machine(program)
    resident = Machine(_program(SHAPES["groups"], RESIDENT, choices=Choices(sequences=2)))
    for machine in (first, resident):
        run(machine, IDS[:180], 0, 1)
    taken = first.read_cache(0, 1, 180)
    for ours, theirs in zip(taken, resident.read_cache(0, 1, 180), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    second.write_cache(0, 1, *taken)
    for ours, theirs in zip(second.read_cache(0, 1, 180), taken, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2.5e-7, atol=0)  # scales are made again: the last bit
    expected, found = run(first, IDS[180:], 180, 1), run(second, IDS[180:], 180, 1)
    # One row of fifty is rounded to another int8 because of that bit.
    is_close = np.isclose(found, expected, rtol=1e-5, atol=1e-5).all(axis=1)
    assert is_close.mean() > 0.95
    assert np.abs(found - expected).max() <= 0.01 * np.abs(expected).max()


def test_programs_go_through_text(program: Program) -> None:
    assert assemble(program_text(program), target=program.target).caches == program.caches


# --------------------------------------------------------------------------------------------------------- time


def _cycles(program: Program, position: int) -> int:
    return Simulator(program).step(segments_of(1, position, program.limits.chunk)).cycles


def test_a_block_of_streamed_rows_costs_its_bytes() -> None:
    slow = with_quantity(tiny(14), "dram", "bandwidth", 0.5)
    program = _program(SHAPES["heads"], POLICIES["streamed"], slow)
    rate = slow.bytes_per_cycle(slow.dram.bandwidth) * slow.dram.channels.value
    heads, row = len(program.caches[0].heads), 2 * (16 + 4)
    block = heads * 64 * row / rate
    first, second, third = (_cycles(program, position) for position in (64, 128, 192))
    for more in (second - first, third - second):
        assert 0.95 * block <= more <= 1.25 * block


def test_tiered_rows_cost_nothing_of_memory_while_they_are_hot() -> None:
    shape, slow = SHAPES["groups"], with_quantity(tiny(14), "dram", "bandwidth", 0.5)
    resident, tiered, streamed = (
        _program(shape, kv, slow) for kv in (RESIDENT, POLICIES["tiered-128"], POLICIES["streamed"])
    )
    assert _cycles(tiered, 120) < 1.1 * _cycles(resident, 120)
    assert _cycles(resident, 250) < _cycles(tiered, 250) < _cycles(streamed, 250)


def test_loads_go_ahead_of_the_segment_s_own_rows() -> None:
    late = Choices(without=frozenset({Optimisation.PREFETCH_KV}))
    for kv in POLICIES.values():
        ours, without = _program(SHAPES["groups"], kv), _program(SHAPES["groups"], kv, choices=late)
        assert _cycles(ours, 250) < _cycles(without, 250)


# ------------------------------------------------------------------------------------------------ what is proven


def _without(program: Program, kind: type[Inst]) -> Program:
    """The program with the instructions of a kind made to do nothing."""
    roles = tuple(
        replace(role, code=tuple(replace(i, cols=0) if isinstance(i, kind) else i for i in role.code))  # type: ignore[call-arg]
        for role in program.roles
    )
    return replace(program, roles=roles)


def test_rows_that_no_pass_stores_must_not_be_loaded(program: Program) -> None:
    codes = {d.code for d in findings(_without(program, Store))}
    assert codes == {"E0404"}


def test_rows_must_be_loaded_from_where_they_are_stored(program: Program) -> None:
    shifted = replace(
        program,
        caches=tuple(replace(cache, hot=cache.hot + 16) for cache in program.caches),
    )
    assert "E0404" in {d.code for d in findings(shifted)} or "E0410" in {d.code for d in findings(shifted)}


@pytest.mark.parametrize("change", [{"rows": 128}, {"cross": True}, {"ways": 2}])
def test_caches_in_memory_must_fit_together(program: Program, change: dict[str, int]) -> None:
    wrong = replace(program, caches=tuple(replace(c, **change) for c in program.caches))  # type: ignore[arg-type]
    assert "E0410" in {d.code for d in findings(wrong)}


# --------------------------------------------------------------------------------------------------- what is chosen


def test_rows_that_do_not_fit_arrays_go_to_memory() -> None:
    def policies(context: int, **choices: object) -> set[KvPolicy]:
        made = Choices(context=context, **choices)  # type: ignore[arg-type]
        return {c.policy for c in _program(SHAPES["groups"], KvChoice(), choices=made).caches}

    assert policies(256) == {KvPolicy.RESIDENT}
    assert policies(4096) == {KvPolicy.TIERED}
    assert policies(4096, sequences=16) == {KvPolicy.STREAMED}


def test_a_dram_too_small_is_refused_with_the_numbers() -> None:
    small = with_quantity(tiny(14), "dram", "capacity", 2**-20)
    with pytest.raises(CimError, match=r"E0304.*bytes of DRAM, it has 1,024"):
        _program(SHAPES["groups"], POLICIES["streamed"], small)


@pytest.mark.parametrize(
    ("kv", "choices", "way_out"),
    [
        (RESIDENT, Choices(4096), r"--max-context 1024 would fit; --kv tiered would, with the last \d+ rows"),
        (RESIDENT, Choices(1024, sequences=2), r"--max-context 512 would fit; --batch 1 would; --kv tiered"),
        (POLICIES["tiered"], Choices(1024, sequences=16), r"--batch \d+ would; --kv streamed would"),
    ],
)
def test_rows_that_do_not_fit_are_refused_with_what_would(
    kv: KvChoice, choices: Choices, way_out: str
) -> None:
    with pytest.raises(CimError, match=r"E0304.*macros, a tile has 32") as error:
        _program(SHAPES["groups"], kv, choices=choices)
    (diagnostic,) = error.value.diagnostics
    assert diagnostic.help is not None
    assert re.match(way_out, diagnostic.help)


def test_with_too_few_tiles_for_shared_heads_rows_go_to_memory() -> None:
    graph, choices = decoder(SHAPES["groups"]), Choices(context=4096)
    mapping = mapping_of(graph, tiny(16), choices)
    assert {cache.policy for cache in mapping.caches} == {KvPolicy.RESIDENT}  # over several tiles a head
    few = mapping_of(graph, tiny(4), choices)
    assert len(few.tiles) < len(mapping.tiles)
    assert {cache.policy for cache in few.caches} == {KvPolicy.TIERED}


def test_what_was_chosen_is_said_with_its_reason() -> None:
    def notes(kv: KvChoice, context: int = 256) -> list[str]:
        found: list[Note] = []
        limits, options = Limits(context, chunk=1), MapOptions(block=64, kv=kv, without=ONE_TILE)
        settle(Problem(decoder(Shape(layers=1)), tiny(14), limits, Arithmetic.INT8), options, found)
        return [note.text for note in found if note.text.startswith("KV cache")]

    assert notes(KvChoice()) == [
        "KV cache: 1 layer(s) resident in KV arrays (all rows of a head take 8 macros, a tile has 32)."
    ]
    (tiered,) = notes(KvChoice(), 4096)
    assert re.search(r"tiered, the last \d+ rows .*all rows of a head take 128 macros, a tile has 32", tiered)
    assert notes(KvChoice(KvPolicy.STREAMED)) == [
        "KV cache: 1 layer(s) streamed from DRAM, 64 rows at a time (asked for)."
    ]


def test_listing_of_a_streamed_role(golden: Callable[[str, str], None]) -> None:
    program = _program(SHAPES["groups"], POLICIES["streamed"])
    role = next(role for role in program.roles if role.name.startswith("attention"))
    golden("attend/streamed.txt", "\n".join(text for text, _ in code_lines(role)) + "\n")
