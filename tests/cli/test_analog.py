"""What the command line says of analog macros."""

from __future__ import annotations

import argparse

import pytest

from isa.diagnostics import CimError
from isa.hardware import load_target
from runtime.analog.options import AnalogOptions, applied
from runtime.cli.analog import add_analog_options, analog_options
from runtime.cli.console import Console


def _options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_analog_options(parser)
    return parser.parse_args(words)


def _said(capsys: pytest.CaptureFixture[str], target: str, *words: str) -> tuple[AnalogOptions, str]:
    found = analog_options(_options(*words), load_target(target), Console())
    return found, capsys.readouterr().err


def test_what_macros_compute_with_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    found, said = _said(capsys, "hermes14", "--adc-bits", "6", "--noise-seed", "3", "--drift-time", "100")
    assert found == AnalogOptions(False, 6, 3, 100.0)
    assert "weights: ADC of 6 bits over 10 % of the range" in said
    assert "drift of 100 s, seed 3" in said


def test_ideal_and_digital_macros_have_nothing_to_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert _said(capsys, "dcim22") == (AnalogOptions(), "")
    ideal, said = _said(capsys, "isaac32", "--ideal")
    assert "ideal" in said
    assert applied(load_target("isaac32"), ideal) == ()


def test_keys_and_values_on_macros_of_their_own_are_told_apart() -> None:
    (hermes,) = applied(load_target("hermes14"), AnalogOptions())
    (isaac,) = applied(load_target("isaac32"), AnalogOptions())
    assert (hermes.macros, isaac.macros) == ("weights", "weights, keys and values")


@pytest.mark.parametrize(
    ("target", "words", "what"),
    [
        ("dcim22", ("--adc-bits", "6"), "no analog macros"),
        ("isaac32", ("--drift-time", "6"), "no cells that drift"),
    ],
)
def test_options_that_mean_nothing_are_refused(target: str, words: tuple[str, ...], what: str) -> None:
    with pytest.raises(CimError, match=what):
        analog_options(_options(*words), load_target(target), Console())


def test_resolutions_that_there_are_none_of_are_refused() -> None:
    with pytest.raises(SystemExit):
        _options("--adc-bits", "1")
