"""Windows of arrays of analog macros: what is charged is what values are converted for, on both engines of time."""

from __future__ import annotations

import numpy as np
import pytest

from isa import instructions as t
from isa.events import Event
from isa.hardware import Hardware
from isa.program import Program, Segment
from runtime.analog import arithmetic
from runtime.analog.model import model_of
from runtime.analog.options import AnalogOptions
from runtime.fast.simulator import FastSimulator
from runtime.timing import simulate
from tests.values.bench import Bench
from tests.values.noisy import Cells

ROWS, COLS = 150, 40
WINDOWS = ((0, 150), (48, 32), (60, 8), (1, 1), (63, 2), (20, 100), (64, 64))
KINDS = (Cells(), Cells(pass_rows=16), Cells(crossbar_weights=4), Cells(pass_rows=32, crossbar_weights=2))


def steps(kind: Cells) -> int:
    """Conversions of an output for each sum of it."""
    return kind.input_slices * kind.weight_slices


def activation(target: Hardware, row: int, rows: int, across: bool) -> Program:
    """One vector through some rows of an array."""
    bench = Bench(target)
    x = bench.put(np.ones((1, COLS if across else rows), np.int8))
    a, dst = bench.array(np.ones((ROWS, COLS), np.int8)), bench.room(4 * max(ROWS, COLS))
    one, first, many = bench.reg(1), bench.reg(row), bench.reg(rows)
    if across:
        return bench.program(t.Mvmt(a, dst, x, one, first, many))
    return bench.program(t.Mvm(a, dst, x, one, first, rows))


def sums_of_values(
    target: Hardware, row: int, rows: int, across: bool, monkeypatch: pytest.MonkeyPatch
) -> int:
    """Sums that the values of such an activation are converted from, of a slice and step."""
    model, counted = model_of(target.macro, AnalogOptions()), list[int]()
    assert model is not None
    usual = arithmetic._pass

    def noted(x, cells, keys, outputs, model):  # type: ignore[no-untyped-def]
        counted.append(len(outputs))
        return usual(x, cells, keys, outputs, model)

    monkeypatch.setattr(arithmetic, "_pass", noted)
    held = np.zeros((model.weight_slices, ROWS, COLS), np.int16)
    array = arithmetic.AnalogArray(model, 0, held, np.full((ROWS, COLS), 256, np.int16))
    cells = np.ones((rows, COLS), np.float32)
    array.product(np.ones((1, COLS if across else rows), np.int8), cells, row, across)
    return sum(counted)


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("row", "rows"), WINDOWS)
def test_conversions_are_those_of_values(
    kind: Cells, row: int, rows: int, across: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = kind.target()
    program = activation(target, row, rows, across)
    cost = simulate(program, (Segment(1, 0, 0),))
    sums = sums_of_values(target, row, rows, across, monkeypatch)
    assert cost.count(Event.ARRAY_CONVERSION) == sums * steps(kind)
    assert FastSimulator(program).step((Segment(1, 0, 0),)) == cost


def test_rows_across_a_border_of_passes_take_both() -> None:
    """Rows 16..47 lie in two passes of 32, and take twice as long as rows 32..63."""
    target = Cells(pass_rows=32).target()
    costs = [simulate(activation(target, row, 32, False), (Segment(1, 0, 0),)).cycles for row in (32, 16)]
    step = target.cycles_of(target.macro.mvm_seconds(32, 16))
    assert costs[1] - costs[0] == step
