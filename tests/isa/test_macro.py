"""The macro model, by hand."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from isa.diagnostics import CimError
from isa.hardware import Hardware, load_target
from isa.macro import Adc, Macro, touched
from isa.quantities import Confidence, Quantity
from isa.timing.rates import rates_of


def q(value: float, unit: str = "1") -> Quantity:
    """A quantity of this test."""
    return Quantity(value=value, unit=unit, source="a test", confidence=Confidence.ASSUMED)


def macro(**changes: Any) -> Macro:
    """64 x 16 weights of 8 one-bit cells: 10 ns and 0.1 pJ a multiply-accumulate, as `tiny` has them."""
    return load_target("tiny").macro.model_copy(update=changes)


def adc(lines: int, latency_ns: float = 1, energy_pj: float = 2) -> Adc:
    """A converter."""
    return Adc(bits=q(8), lines=q(lines), latency=q(latency_ns, "ns"), energy=q(energy_pj, "pJ"))


def test_a_digital_macro_takes_its_latency_and_its_macs() -> None:
    m = macro()
    assert m.mvm_seconds(64, 16) == pytest.approx(10e-9)
    assert m.mvm_seconds(1, 1) == pytest.approx(10e-9)
    assert m.mvm_joules(64, 16) == pytest.approx(64 * 16 * 0.1e-12)
    assert m.mvm_joules(64, 16, transposed=True) == pytest.approx(64 * 16 * 0.12e-12)
    assert (m.conversions(64, 16), m.drives(64, 16)) == (0, 0)


def test_rows_that_share_a_multiplier_take_passes() -> None:
    m = macro(pass_rows=q(16), pass_cols=q(8))
    assert [m.passes(*size) for size in ((16, 8), (17, 8), (64, 16), (1, 9))] == [1, 2, 8, 2]
    assert m.mvm_seconds(64, 16) == pytest.approx(80e-9)
    assert m.mvm_joules(64, 16) == macro().mvm_joules(64, 16)


def test_conversions_are_counted_for_each_step_and_slice() -> None:
    m = macro(adc=adc(lines=16), drive_energy=q(0.5, "pJ"))
    assert m.conversions(64, 16) == 16 * 8 * 8
    assert m.conversions(64, 16, transposed=True) == 64 * 8 * 8
    assert m.drives(64, 16) == 64 * 8
    assert m.drives(64, 16, transposed=True) == 16 * 8 * 8
    expected = 64 * 16 * 0.1 + 64 * 8 * 0.5 + 16 * 8 * 8 * 2
    assert m.mvm_joules(64, 16) == pytest.approx(expected * 1e-12)


def test_lines_that_share_a_converter_take_turns() -> None:
    m = macro(adc=adc(lines=16))  # 8 converters for 128 lines; a step of the cells takes 1.25 ns
    assert m.mvm_seconds(64, 16) == pytest.approx(8 * 16e-9)
    assert m.mvm_seconds(64, 4) == pytest.approx(8 * 4e-9)
    assert m.mvm_seconds(64, 1) == pytest.approx(8 * 1.25e-9)


def test_along_columns_each_slice_is_converted_in_turn() -> None:
    m = macro(adc=adc(lines=16))  # 4 converters for 64 rows, 8 slices
    assert m.mvm_seconds(64, 16, transposed=True) == pytest.approx(8 * 8 * 16e-9)
    assert m.mvm_seconds(1, 16, transposed=True) == pytest.approx(8 * 8 * 1e-9)
    slow = macro(adc=adc(lines=16), transpose_latency_factor=q(200))  # cells that take longer hide them
    assert slow.mvm_seconds(64, 16, transposed=True) == pytest.approx(200 * 10e-9)


def test_crossbars_have_drivers_and_sums_of_their_own() -> None:
    m = macro(adc=adc(lines=64), drive_energy=q(0.5, "pJ"), crossbar_cols=q(32))  # 4 of 4 weights
    assert [m.drives(64, cols) for cols in (1, 4, 5, 16)] == [64 * 8 * n for n in (1, 1, 2, 4)]
    assert m.drives(64, 5, transposed=True) == 5 * 8 * 8
    assert m.conversions(64, 16) == 16 * 8 * 8
    assert [m.conversions(64, cols, transposed=True) for cols in (4, 5, 16)] == [
        64 * 8 * 8 * n for n in (1, 2, 4)
    ]
    # a converter for the 64 rows of each crossbar, which are converted for each of 8 slices
    assert m.mvm_seconds(64, 16, transposed=True) == pytest.approx(8 * 8 * 64e-9)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("lines", [1, 3, 16, 64, 1000])
@pytest.mark.parametrize("latency", [0.01, 0.5, 20])
@pytest.mark.parametrize("parts", [{}, {"pass_rows": q(16), "pass_cols": q(8)}, {"crossbar_cols": q(32)}])
def test_converters_have_time_for_all_conversions(
    transposed: bool, lines: int, latency: float, parts: dict[str, Quantity]
) -> None:
    m = macro(adc=adc(lines, latency), **parts)
    beside = m.cols.value / m.crossbar_weights
    all_lines = m.rows.value * beside if transposed else m.cols.value * m.weight_slices.value
    converters = max(1.0, all_lines / lines)
    for row, rows, cols in ((0, 64, 16), (0, 1, 1), (0, 20, 5), (10, 30, 16), (17, 40, 9)):
        seconds = m.mvm_seconds(rows, cols, transposed, row)
        assert m.conversions(rows, cols, transposed, row) * latency * 1e-9 <= seconds * converters * (
            1 + 1e-9
        )
        steps = m.passes(rows, cols, row) * m.input_slices.value
        most = touched(row, rows, m.pass_height)[1]
        assert steps * m.turns(most, cols, transposed) * latency * 1e-9 <= seconds * (1 + 1e-9)


def test_each_pass_over_a_sum_is_converted() -> None:
    m = macro(adc=adc(lines=16), pass_rows=q(16), pass_cols=q(4))
    assert m.conversions(64, 16) == 16 * 8 * 8 * 4
    assert m.conversions(64, 16, transposed=True) == 64 * 8 * 8 * 4
    # 4 columns of 8 slices a pass, on 8 converters
    assert m.mvm_seconds(64, 16) == pytest.approx(16 * 8 * 4e-9)


def test_refreshing_takes_time_and_power() -> None:
    m = macro(retention=q(2.56, "us"))  # 64 rows x (2 + 2) ns: a tenth of it
    assert m.refresh_share == pytest.approx(0.1)
    assert m.mvm_seconds(64, 16) == pytest.approx(10e-9 / 0.9)
    assert m.refresh_power.si == pytest.approx((m.read_energy.si + m.write_energy.si) / 2.56e-6)
    assert macro().refresh_power.si == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pass_rows": q(48)}, "pass_rows must divide rows, 64"),
        (
            {"retention": q(200, "ns")},
            "refreshing all rows takes longer than they keep their contents, 200 ns",
        ),
        ({"crossbar_cols": q(7)}, "a weight must fit a crossbar"),
        ({"crossbar_cols": q(24)}, "whole crossbars of 3 weights"),
        ({"crossbar_cols": q(64), "pass_cols": q(1)}, None),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Quantity], words: str | None) -> None:
    values = macro().model_dump() | {name: value.model_dump() for name, value in changes.items()}
    if words is None:
        assert Macro.model_validate(values).sum_weights == 1
        return
    with pytest.raises(ValidationError, match=words):
        Macro.model_validate(values)


def test_other_widths_scale_slices_time_and_energy() -> None:
    m = macro().at_bits(4, 4)
    assert (m.cols.value, m.weight_slices.value, m.input_slices.value) == (32, 4, 4)
    assert m.mvm_seconds(64, 32) == pytest.approx(5e-9)
    assert m.mac_energy.si == pytest.approx(0.025e-12)
    assert macro().at_bits(8, 8) == macro()


def test_columns_are_cut_anew_for_other_widths() -> None:
    wide = macro().at_bits(12, 8)
    assert (wide.cols.value, wide.weight_slices.value) == (10, 12)  # of 128 columns of cells 8 are left over
    banked = macro(pass_cols=q(4)).at_bits(4, 8)
    assert (banked.cols.value, banked.pass_cols) == (32, q(8))
    assert macro(pass_cols=q(4)).at_bits(12, 8).cols.value == 8  # 2 a pass
    crossed = macro(crossbar_cols=q(32), pass_cols=q(8)).at_bits(12, 8)
    assert (crossed.cols.value, crossed.crossbar_weights, crossed.pass_weights) == (8, 2, 4)
    hbm = load_target("hbm-pim").macro
    assert hbm.at_bits(4, 8).passes(1, 1024) == hbm.passes(1, 512)


def test_a_weight_that_does_not_fit_a_pass_is_refused() -> None:
    with pytest.raises(CimError, match="E0502") as caught:
        macro(pass_cols=q(1)).at_bits(16, 8)
    assert "takes 16 columns of cells, of which 8 compute at once" in str(caught.value)


def _with(target: Hardware, own: Macro) -> Hardware:
    return target.model_copy(update={"macro": own})


def test_an_array_of_several_macros_converts_in_each() -> None:
    rates = rates_of(_with(load_target("tiny"), macro(adc=adc(lines=16), drive_energy=q(0.5, "pJ")))).weights
    assert rates.conversions(0, 65, 20, transposed=False) == 2 * 20 * 64  # 64 rows, and 1 row
    assert rates.conversions(0, 65, 20, transposed=True) == 2 * 65 * 64
    assert rates.drives(0, 65, 20, transposed=False) == 2 * 65 * 8
    assert rates.vector_cycles(0, 65, 20, transposed=False) == 8 * 16


def test_windows_are_counted_by_the_macros_and_passes_that_they_touch() -> None:
    own = macro(adc=adc(lines=16), drive_energy=q(0.5, "pJ"), pass_rows=q(32))
    rates = rates_of(_with(load_target("tiny"), own)).weights
    assert rates.conversions(48, 32, 20, transposed=False) == 2 * 20 * 64  # 48..63 and 64..79
    assert rates.conversions(16, 32, 20, transposed=False) == 2 * 20 * 64  # two passes of one macro
    assert rates.conversions(32, 32, 20, transposed=False) == 20 * 64
    assert rates.drives(48, 32, 20, transposed=True) == 2 * 20 * 8 * 8
    assert rates.vector_cycles(16, 32, 20, transposed=False) == 2 * 8 * 16
    assert rates.vector_cycles(48, 32, 20, transposed=False) == 8 * 16  # side by side
    assert rates.vector_cycles(48, 64, 20, transposed=False) == 2 * 8 * 16  # 64..111 are two passes


def test_blocks_touched() -> None:
    for first, count, size in ((0, 0, 4), (0, 4, 4), (3, 2, 4), (2, 9, 4), (5, 1, 4), (0, 9, 4)):
        blocks = [place // size for place in range(first, first + count)]
        most = max((blocks.count(block) for block in blocks), default=0)
        assert touched(first, count, size) == (len(set(blocks)), most)
