"""What the command line says of analog macros."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest

from isa import instructions as t
from isa.diagnostics import CimError
from isa.hardware import load_target
from isa.instruction import DType
from isa.operands import Reg
from isa.program import Program
from runtime.analog.options import AnalogOptions, applied
from runtime.cli.analog import add_activity_option, add_analog_options, analog_options, meter_of
from runtime.cli.console import Console
from tests.cli.conftest import Cim
from tests.values.bench import Bench


def _options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_analog_options(parser)
    add_activity_option(parser)
    return parser.parse_args(words)


def _program(target: str, dtype: DType = DType.I8, is_written: bool = False) -> Program:
    """A product with 16 x 16 weights, or, if these are written, with keys."""
    bench = Bench(load_target(target))
    a = bench.kv(16, 16, dtype) if is_written else bench.array(np.zeros((16, 16), dtype.value))
    product = t.Mvm if dtype is DType.I8 else t.Mvmf
    return bench.program(product(a, bench.room(64), bench.room(64), bench.reg(1), Reg(0), 16))


def _said(capsys: pytest.CaptureFixture[str], program: Program, *words: str) -> tuple[AnalogOptions, str]:
    found = analog_options(_options(*words), program, Console())
    return found, capsys.readouterr().err


def test_what_macros_compute_with_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--adc-bits", "6", "--noise-seed", "3", "--drift-time", "100")
    found, said = _said(capsys, _program("hermes14"), *words)
    assert found == AnalogOptions(False, 6, 3, 100.0)
    assert "weights: ADC of 6 bits over 10 % of the range" in said
    assert "drift of 100 s, seed 3" in said


def test_ideal_and_digital_macros_have_nothing_to_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert _said(capsys, _program("dcim22")) == (AnalogOptions(), "")
    ideal, said = _said(capsys, _program("isaac32"), "--ideal")
    assert "ideal" in said
    assert applied(_program("isaac32"), ideal) == ()


def test_ideal_arithmetic_passes_no_converter(capsys: pytest.CaptureFixture[str]) -> None:
    program = _program("isaac32", DType.F32)
    _, said = _said(capsys, program)
    assert "all products are exact" in said
    assert applied(program, AnalogOptions()) == ()


def test_what_lies_in_analog_macros_is_told_apart() -> None:
    kinds = [
        [kind.macros for kind in applied(_program(target, is_written=is_written), AnalogOptions())]
        for target in ("hermes14", "isaac32")
        for is_written in (False, True)
    ]
    assert kinds == [["weights"], [], ["weights"], ["keys and values"]]


@pytest.mark.parametrize(
    ("program", "words", "what"),
    [
        (_program("dcim22"), ("--adc-bits", "6"), "no analog macros"),
        (_program("dcim22"), ("--noise-seed", "0"), "no analog macros"),
        (_program("isaac32"), ("--drift-time", "6"), "no cells that drift"),
        (_program("hermes14"), ("--drift-time", "1e300"), "is more than 1e"),
        (_program("hermes14", is_written=True), ("--drift-time", "6"), "uses no cells that drift"),
        (_program("isaac32", DType.F32), ("--adc-bits", "6"), "all products are exact"),
        (_program("isaac32"), ("--ideal", "--noise-seed", "6"), "with --ideal"),
    ],
)
def test_options_that_mean_nothing_are_refused(program: Program, words: tuple[str, ...], what: str) -> None:
    with pytest.raises(CimError, match=what):
        analog_options(_options(*words), program, Console())


def test_activity_is_measured_where_codes_are_multiplied() -> None:
    measured = _options("--activity", "measured")
    assert meter_of(_options(), _program("dcim22", DType.F32)) is None
    assert meter_of(measured, _program("dcim22")) is not None
    with pytest.raises(CimError, match="nothing to count"):
        meter_of(measured, _program("dcim22", DType.F32))


@pytest.mark.parametrize("words", [["--adc-bits", 6], ["--noise-seed", 0], ["--ideal"], ["--engine", "fast"]])
def test_options_of_values_are_refused_where_there_are_none(
    cim: Cim, program: Path, words: list[object]
) -> None:
    assert cim("run", program, "--timing-only", *words).code == 2


@pytest.mark.parametrize("seconds", ["inf", "nan", "-1", "soon"])
def test_times_that_there_are_none_of_are_refused(seconds: str) -> None:
    with pytest.raises(SystemExit):
        _options("--drift-time", seconds)


def test_resolutions_that_there_are_none_of_are_refused() -> None:
    with pytest.raises(SystemExit):
        _options("--adc-bits", "1")
