"""Targets whose keys and values have macros of their own, and cells that wear out."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from compiler.capacity import Capacity, capacity_of
from compiler.explain.choices import choices_of
from compiler.explain.needs import needs_of
from compiler.ir.graph import Attention
from compiler.ir.mapping import Arithmetic
from compiler.mapping.folded_mapping import must_stream
from compiler.mapping.policies import KvChoice
from compiler.mapping.result_sizes import ResultShape, choose_cut
from compiler.mapping.rules import cache_ways, room
from compiler.workload import workload_of
from isa.endurance import wear
from isa.events import Event
from isa.hardware import Hardware
from isa.interface import KvPolicy
from isa.program import ArrayKind, Limits, Program, segments_of
from isa.quantities import Confidence, Quantity
from isa.verifier import verify
from runtime.energy import energy
from runtime.fast.simulator import FastSimulator
from runtime.machine import Machine
from runtime.timing import Simulator

from .building import Choices, program_of, run, tiny
from .graphs import Shape, decoder

IDS = np.random.default_rng(3).integers(0, 64, 20)
STEP = segments_of(1, 40, 4)


def q(value: float) -> Quantity:
    """A number of this test."""
    return Quantity(value=value, unit="1", source="a test", confidence=Confidence.ASSUMED)


def _kinds(weights: int = 24, kv: int = 16, **changes: Quantity) -> Hardware:
    """A target with macros of two kinds; those for keys and values differ by `changes`."""
    shared = tiny(14)
    tile = shared.tile.model_copy(update={"macros": q(weights), "kv_macros": q(kv)})
    return shared.model_copy(update={"tile": tile, "kv": shared.macro.model_copy(update=changes)})


def _program(target: Hardware, context: int = 64) -> Program:
    return program_of(decoder(Shape()), target, Choices(context, chunk=4))


def test_each_kind_is_placed_on_its_own_macros() -> None:
    target = _kinds()
    program = _program(target)
    verify(program)
    for role in program.roles:
        used = Counter[bool]()
        for array in role.arrays:
            used[array.kind is ArrayKind.WEIGHT] += array.macros(target.macro_rows, target.macro_cols)
        assert used[True] <= target.macros_per_tile
        assert used[False] <= target.kv_macros_per_tile


def test_values_do_not_depend_on_the_kinds() -> None:
    shared = tiny(14).model_copy(update={"tile": tiny(14).tile.model_copy(update={"macros": q(40)})})
    kinds, one = _program(_kinds()), _program(shared)
    np.testing.assert_array_equal(run(Machine(kinds), IDS), run(Machine(one), IDS))


@pytest.mark.parametrize("simulator", [Simulator, FastSimulator])
def test_work_on_keys_and_values_is_counted_apart(simulator: type[Simulator] | type[FastSimulator]) -> None:
    program = _program(_kinds())
    cost = simulator(program).step(STEP)
    assert cost.count(Event.KV_MAC) > 0
    assert cost.count(Event.KV_MAC_TRANSPOSED) > 0
    assert cost.count(Event.KV_WRITE_BYTE) > 0
    assert cost.count(Event.ARRAY_MAC) > 0
    assert cost.count(Event.ARRAY_MAC_TRANSPOSED) == cost.count(Event.ARRAY_WRITE_BYTE) == 0
    assert energy(program.target, program, [cost]).by_cause[Event.KV_MAC] > 0


def test_a_slower_kind_makes_steps_longer() -> None:
    slow = tiny().macro.mvm_latency.model_copy(update={"value": 200.0})
    assert (
        Simulator(_program(_kinds(mvm_latency=slow))).step(STEP).cycles
        > Simulator(_program(_kinds())).step(STEP).cycles
    )


def _worn(context: int = 64, sequences: int = 1, **choices: Any) -> tuple[Program, dict[str, float]]:
    """A program on cells that survive a million writes, and how often a token of each sequence writes what."""
    given = Choices(context, chunk=4, sequences=sequences, **choices)
    program = program_of(decoder(Shape()), _kinds(kv=40, endurance=q(1e6)), given)
    return program, {item.what: item.writes_per_token for item in wear(program)}


def test_cells_that_wear_out_are_found() -> None:
    assert wear(_program(_kinds())) == ()
    (found,) = wear(_program(_kinds(endurance=q(1e6)), context=64))
    assert (found.what, found.endurance, found.writes_per_token) == ("keys and values", 1e6, 1 / 64)
    assert found.lifetime_s(1e-3) == pytest.approx(1e6 * 64 * 1e-3)


@pytest.mark.parametrize(("block", "sequences"), [(64, 1), (64, 3), (128, 1), (256, 2)])
def test_rows_that_pass_through_wear_out_first(block: int, sequences: int) -> None:
    """Each block is written into the same rows, by each token: as many bytes as are counted when it runs."""
    program, worn = _worn(256, sequences, kv=KvChoice(KvPolicy.STREAMED, why="a test"), block=block)
    assert worn == {"keys and values that pass through": sequences * 256 / block}
    arrays = [a for t in program.tiles for a in program.role(t.role).arrays if a.kind is ArrayKind.KV]
    step = [s for n in range(sequences) for s in segments_of(1, 255, 4, sequence=n)]
    written = Simulator(program).step(tuple(step)).count(Event.KV_WRITE_BYTE)
    scales = 4 * sum(a.rows for a in arrays)
    size = sum(a.rows * a.cols for a in arrays) + scales
    assert written / size == pytest.approx(sequences * 256 / block, rel=0.01)


def test_tiers_wear_out_where_rows_pass_through() -> None:
    hot = KvChoice(KvPolicy.TIERED, 64, why="a test")
    _, worn = _worn(256, 2, kv=hot, block=64)
    assert worn == {"keys and values": 1 / 128, "keys and values that pass through": 2 * (256 - 64) / 64}
    _, all_hot = _worn(64, 2, kv=hot, block=64)
    assert all_hot == {"keys and values": 1 / 64}


@pytest.mark.parametrize("tokens", [64, 128])
def test_sequences_that_share_rows_write_them_more_often(tokens: int) -> None:
    program, worn = _worn(64, 3, kv_tokens=tokens)
    head = program.caches[0].heads[0]
    rows = program.role(program.tiles[head.tile].role).arrays[head.keys].rows * program.caches[0].ways
    assert program.limits.pages and rows >= tokens
    assert worn == {"keys and values": 3 / rows}


def test_weights_that_are_streamed_wear_out_their_macros() -> None:
    bare, _ = _worn(64, stream=True)
    program = replace(bare, workload=workload_of(decoder(Shape())))
    worn = {item.what: item.writes_per_token for item in wear(program)}
    tiles = [program.role(t.role) for t in program.tiles]
    cells = sum(a.rows * a.cols for role in tiles for a in role.arrays if a.kind is ArrayKind.STREAM)
    assert worn["streamed weights"] == pytest.approx(program.workload.weights / cells)


def test_each_kind_has_room_for_its_own() -> None:
    kinds, shared = capacity_of(_kinds(24, 16), 2), capacity_of(tiny(14))
    macro = tiny().macro.bytes
    assert kinds == Capacity(48 * macro, 32 * macro, is_shared=False)
    assert kinds.holds(48 * macro, 32 * macro)
    assert not kinds.holds(48 * macro + 1, 0)
    assert not kinds.holds(0, 32 * macro + 1)
    assert kinds.fills(12 * macro, 24 * macro) == 0.75
    assert shared.weights == shared.written == tiny(14).tiles * tiny(14).macros_per_tile * macro
    assert shared.holds(shared.weights - 1, 1)
    assert not shared.holds(shared.weights, 1)


def test_explanations_compare_each_kind_with_its_own() -> None:
    """Weights that do not fit theirs are not said to fit because those for keys and values are empty."""
    program = replace(_worn(64)[0], workload=workload_of(decoder(Shape())))
    weights = program.workload.weights
    macros = -(-weights // (program.target.tiles * program.target.macro.bytes))
    for count, fits in ((macros, "both fit at once"), (macros - 1, "they cannot all be there at once")):
        needs = list(needs_of(replace(program, target=_kinds(count, 400))))[-1].text
        assert needs.endswith(f"{fits}.")
        assert "of weights, and" in needs and f"tiles of {count} and 400 macros of" in needs


def test_layers_of_a_chip_are_those_of_the_fuller_kind() -> None:
    program = replace(_worn(64)[0], workload=workload_of(decoder(Shape())))
    (note,) = [
        n.text
        for n in choices_of(replace(program, target=_kinds(24, 1).with_chips(2, 1)))
        if "A layer" in n.text
    ]
    cells = 14 * 14 * tiny().macro.bytes
    cache = program.workload.kv_row_bytes * 64 // 2
    assert f"{24 * cells:,} cells for weights (" in note and f"{cells:,} for keys and values (" in note
    assert f"up to {cells // cache} layers would fit a chip" in note


def test_rows_are_counted_against_the_macros_that_hold_them() -> None:
    """More macros for keys and values leave more room for rows, and none for weights."""
    graph, limits = decoder(Shape()), Limits(256, 1)
    few, many = _kinds(24, 4), _kinds(24, 64)
    op = next(n.op for n in graph.nodes if isinstance(n.op, Attention))
    assert room(graph, few, limits) < room(graph, many, limits)
    assert cache_ways(op, 256, 1, few) > cache_ways(op, 256, 1, many)
    large = decoder(Shape(vocabulary=20_000))
    assert must_stream(large, _kinds(1, 1024)) and not must_stream(large, _kinds(24, 1))


def test_weights_that_pass_take_all_macros_of_their_kind() -> None:
    """None of them is kept for the weights that stay, which have macros of their own."""
    macro = tiny().macro
    rows, step = int(macro.rows.value), int(macro.cols.value)
    shape = ResultShape(rows, 12 * step, has_bias=False, tiles=2, segment=1)
    own = choose_cut(_kinds(4, 1), shape, Arithmetic.INT8.dtype)
    assert own is not None and (own.columns, own.loaded + own.kept) == (step, 2)
    shared = tiny(14).model_copy(update={"tile": tiny(14).tile.model_copy(update={"macros": q(1)})})
    assert choose_cut(shared, shape, Arithmetic.INT8.dtype) is None
