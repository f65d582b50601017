"""Zeros and ones of what arrays multiply, and what they do to energy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from isa import instructions as t
from isa.events import Category, Event
from isa.hardware import Hardware
from isa.macro import Activity
from isa.operands import Reg
from isa.program import Program
from runtime.activity import SAMPLE, Meter, activities, factors_of, levels
from runtime.energy import energy
from runtime.machine import Machine
from runtime.numerics import I8
from runtime.report import behind, formula, render_report
from runtime.sinks.constants import constant_records, energy_lines
from runtime.sinks.statistics import statistics
from runtime.timing import Simulator
from runtime.values import EngineKind
from tests.values.bench import ONE, Bench, tiny
from tests.values.noisy import Cells, number
from tests.values.test_analog import codes


def _target(base: Hardware | None = None) -> Hardware:
    """The teaching target, half of whose energy of MACs is in proportion to pairs of ones."""
    base = base or tiny()
    activity = Activity(reference=number(0.25), idle_share=number(0.5))
    return base.model_copy(update={"macro": base.macro.model_copy(update={"activity": activity})})


def _program(x: I8, w: I8, turns: int = 1, target: Hardware | None = None) -> Program:
    """Products of vectors with weights and, `turns` times, along the columns."""
    bench = Bench(target or _target())
    a, src, n, rows = bench.array(w), bench.put(x), bench.reg(len(x)), bench.reg(w.shape[1])
    down, across = bench.room(4 * len(x) * w.shape[1]), bench.room(4 * len(x) * len(w))
    code = [t.Mvm(a, down, src, n, Reg(0), w.shape[0]), t.Loop(Reg(30), bench.reg(turns), bench.jump_over(3))]
    return bench.program(*code, t.Mvmt(a, across, src, n, Reg(0), rows))


def _counted(program: Program, engine: EngineKind = EngineKind.FAST) -> Meter:
    meter = Meter(program)
    Machine(program, engine=engine, meter=meter).step(ONE, {})
    return meter


def test_ones_and_zeros_are_counted() -> None:
    """Inputs of 1 have one of eight bits, cells of 3 two; a quarter of the inputs is zero."""
    x, w = np.ones((4, 16), np.int8), np.full((16, 16), 3, np.int8)
    x[0] = 0
    program = _program(x, w)
    down, across = activities(program, _counted(program))
    assert (down.event, across.event) == (Event.ARRAY_MAC, Event.ARRAY_MAC_TRANSPOSED)
    assert (down.inputs, down.zeros, down.input_ones, down.cell_ones) == (64, 0.25, 0.75 / 8, 0.25)
    assert down.factor == pytest.approx(0.5 + 0.5 * (0.75 / 8 * 0.25) / 0.25)


def test_engines_count_the_same_and_every_so_many_activations() -> None:
    program = _program(codes((3, 16), 1), codes((16, 16), 2), turns=2 * SAMPLE + 1)
    found = [_counted(program, engine) for engine in (EngineKind.FAST, EngineKind.REFERENCE)]
    assert (found[0].arena == found[1].arena).all()
    down, across = activities(program, found[0])
    assert (down.inputs, across.inputs) == (3 * 16, 3 * 3 * 16)


def test_counting_changes_no_value() -> None:
    program = _program(codes((3, 16), 1), codes((16, 16), 2))
    plain, counted = (Machine(program, engine=EngineKind.FAST, meter=m) for m in (None, Meter(program)))
    for machine in (plain, counted):
        machine.step(ONE, {})
    assert (plain.tiles[0]._words == counted.tiles[0]._words).all()


def test_levels_of_analog_macros_are_those_of_slices() -> None:
    analog = Cells(weight_slices=4, input_slices=8).target().macro
    bits, pairs, whole = levels(analog, 8), levels(analog, 4), levels(analog, 1)
    assert bits[[0, 1, 127, 255]].tolist() == pytest.approx([0, 1 / 7, 1, 1 / 7])  # 255 is -1
    assert pairs[[0, 1, 3, 129]].tolist() == pytest.approx([0, 1 / 12, 1 / 4, 5 / 6])
    assert whole[[0, 64, 127]].tolist() == pytest.approx([0, 64 / 127, 1])


def test_energy_is_scaled_by_node_and_adds_up() -> None:
    program = _program(codes((3, 16), 1, most=8), codes((16, 16), 2))
    cost = Simulator(program).step(ONE)
    found = activities(program, _counted(program))
    plain, scaled = (
        energy(program.target, program, [cost]),
        energy(program.target, program, [cost], factors_of(found)),
    )
    for one in found:
        assert one.factor != 1.0
        assert scaled.by_cause[one.event] == pytest.approx(one.factor * plain.by_cause[one.event])
    rest = {
        cause: joules for cause, joules in plain.by_cause.items() if cause not in {f.event for f in found}
    }
    assert {cause: scaled.by_cause[cause] for cause in rest} == pytest.approx(rest)
    assert scaled.total == sum(scaled.by_category.values()) == sum(scaled.by_node.values())
    assert scaled.total == sum(scaled.by_component.values())
    assert scaled.by_category[Category.DYNAMIC] != plain.by_category[Category.DYNAMIC]


def test_statistics_say_what_was_counted() -> None:
    program = _program(codes((3, 16), 1), codes((16, 16), 2))
    cost = Simulator(program).step(ONE)
    found = activities(program, _counted(program))
    stats = statistics(program, [cost], engine="fast", wall_s=0.0, activity=found)
    assert stats.activity is not None
    assert (stats.activity.every, stats.activity.is_scaled) == (SAMPLE, True)
    assert [one.event for one in stats.activity.nodes] == ["array_mac", "array_mac_transposed"]
    assert stats.energy_j.total != statistics(program, [cost], engine="fast", wall_s=0.0).energy_j.total


def test_what_activity_does_is_the_ratio_of_energies() -> None:
    """Not the mean of factors over what was counted: along columns, one of 33 activations and many more products."""
    program = _program(codes((3, 16), 1, most=8), codes((16, 16), 2), turns=2 * SAMPLE + 1)
    cost = Simulator(program).step(ONE)
    found = activities(program, _counted(program))
    plain, measured = (
        statistics(program, [cost], engine="fast", wall_s=0.0, activity=each) for each in ((), found)
    )
    of_macs = [sum(by.energy_j.by_event[one.event.key] for one in found) for by in (plain, measured)]
    assert measured.activity is not None
    assert measured.activity.factor == pytest.approx(of_macs[1] / of_macs[0], rel=1e-12)
    assert f"energy of MACs x {of_macs[1] / of_macs[0]:.4g}" in render_report(measured)


def test_lines_say_the_factor_that_data_give_them() -> None:
    """Also where it is 0: a line without joules is left out, and its count is not lost to others."""
    program = _program(codes((3, 16), 1), codes((16, 16), 2))
    cost = Simulator(program).step(ONE)
    found = [
        replace(one, factor=factor)
        for one, factor in zip(activities(program, _counted(program)), (0.75, 0.0), strict=True)
    ]
    plain, measured = (
        {line.key: line for line in energy_lines(energy(program.target, program, [cost], factors))}
        for factors in ({}, factors_of(found))
    )
    line, before = measured["array_mac"], plain["array_mac"]
    assert (line.count, line.activity, before.activity) == (before.count, 0.75, None)
    assert line.joules == pytest.approx(0.75 * before.joules)
    assert set(plain) - set(measured) == {"array_mac_transposed"}
    known = {record.path: record for record in constant_records(program.target, [line])}
    assert formula(line, known) == "macro.mac_energy* x activity 0.75"
    assert behind(line)[1:] == ["macro.activity.reference", "macro.activity.idle_share"]


def test_targets_that_say_nothing_of_data_scale_nothing() -> None:
    program = _program(codes((3, 16), 1), codes((16, 16), 2), target=tiny())
    assert {one.factor for one in activities(program, _counted(program))} == {1.0}
    assert replace(program, target=_target()).target.macro.activity is not None
