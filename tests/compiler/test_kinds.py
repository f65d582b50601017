"""Targets whose keys and values have macros of their own, and cells that wear out."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from isa.endurance import wear
from isa.events import Event
from isa.hardware import Hardware
from isa.program import ArrayKind, Program, segments_of
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


def test_cells_that_wear_out_are_found() -> None:
    assert wear(_program(_kinds())) == ()
    (found,) = wear(_program(_kinds(endurance=q(1e6)), context=64))
    assert (found.what, found.endurance, found.writes_per_token) == ("keys and values", 1e6, 1 / 64)
    assert found.lifetime_s(1e-3) == pytest.approx(1e6 * 64 * 1e-3)
