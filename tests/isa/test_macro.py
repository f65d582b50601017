"""The macro model, by hand."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from isa.hardware import Hardware, load_target
from isa.macro import Adc, Macro
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
        ({"retention": q(200, "ns")}, "refreshing all rows takes longer"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Quantity], words: str) -> None:
    values = macro().model_dump() | {name: value.model_dump() for name, value in changes.items()}
    with pytest.raises(ValidationError, match=words):
        Macro.model_validate(values)


def test_other_widths_scale_slices_time_and_energy() -> None:
    m = macro().at_bits(4, 4)
    assert (m.cols.value, m.weight_slices.value, m.input_slices.value) == (32, 4, 4)
    assert m.mvm_seconds(64, 32) == pytest.approx(5e-9)
    assert m.mac_energy.si == pytest.approx(0.025e-12)
    assert macro().at_bits(8, 8) == macro()


def _with(target: Hardware, own: Macro) -> Hardware:
    return target.model_copy(update={"macro": own})


def test_an_array_of_several_macros_converts_in_each() -> None:
    rates = rates_of(_with(load_target("tiny"), macro(adc=adc(lines=16), drive_energy=q(0.5, "pJ")))).weights
    assert rates.conversions(65, 20, transposed=False) == 2 * 20 * 64  # 64 rows, and 1 row
    assert rates.conversions(65, 20, transposed=True) == 2 * 65 * 64
    assert rates.drives(65, 20, transposed=False) == 2 * 65 * 8
    assert rates.vector_cycles(65, 20, transposed=False) == 8 * 16
