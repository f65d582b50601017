"""Options that say how analog macros compute, and what is said of it."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from isa.diagnostics import NamedPlace, fail
from runtime.arguments import fraction, natural

from .console import Console

if TYPE_CHECKING:
    from isa.hardware import Hardware
    from isa.program import Program
    from runtime.activity import Meter
    from runtime.analog.options import AnalogOptions, Applied

LEAST_BITS, MOST_BITS = 2, 24
MOST_DRIFT_S = 1e12  # as in descriptions of hardware


def add_analog_options(parser: argparse.ArgumentParser) -> None:
    """`--ideal`, `--adc-bits N`, `--noise-seed N`, `--drift-time S`."""
    group = parser.add_argument_group("analog macros (values only: time and energy are the target's)")
    group.add_argument(
        "--ideal",
        action="store_true",
        help="sums are exact, as those of digital macros: no converter, no noise",
    )
    group.add_argument(
        "--adc-bits", type=_bits, metavar="N", help="resolution of converters (default: the target's)"
    )
    group.add_argument(
        "--noise-seed",
        type=natural,
        metavar="N",
        help="of errors of cells and read noise (default: 0)",
    )
    group.add_argument(
        "--drift-time",
        type=fraction,
        metavar="S",
        help="seconds since weights were programmed (default: the target's)",
    )


def add_activity_option(parser: argparse.ArgumentParser) -> None:
    """`--activity reference|measured`."""
    parser.add_argument(
        "--activity",
        choices=("reference", "measured"),
        default="reference",
        help="data that the energy of arrays is for: that of the constants' sources, or the zeros and ones of what is"
        " multiplied, counted in every 16th activation (default: %(default)s)",
    )


def meter_of(options: argparse.Namespace, program: Program) -> Meter | None:
    """Who counts what arrays multiply, if that is asked for. Raises `CimError` E0601 if there is nothing to count."""
    from runtime.activity import Meter

    if options.activity != "measured":
        return None
    meter = Meter(program)
    if not meter.counts():
        message = "no array of the program multiplies codes of int8: there is nothing to count"
        raise fail("E0601", message, NamedPlace("--activity"), "leave it out, or compile with --weights int8")
    return meter


def _bits(text: str) -> int:
    bits = natural(text)
    if not LEAST_BITS <= bits <= MOST_BITS:
        raise argparse.ArgumentTypeError(f"{bits} is not from {LEAST_BITS} to {MOST_BITS}")
    return bits


def given_of(options: argparse.Namespace) -> dict[str, float | None]:
    """The options that say how converters and cells compute, as far as they were given."""
    words = {
        "--adc-bits": options.adc_bits,
        "--noise-seed": options.noise_seed,
        "--drift-time": options.drift_time,
    }
    return {name: value for name, value in words.items() if value is not None}


def analog_options(options: argparse.Namespace, program: Program, console: Console) -> AnalogOptions:
    """How a program's analog macros are to compute; said, if the target has such.

    Raises `CimError` E0601 for an option that would change nothing.
    """
    from runtime.analog.options import AnalogOptions, applied, is_analog

    if options.drift_time is not None and options.drift_time > MOST_DRIFT_S:
        message = (
            f"{options.drift_time:g} s is more than {MOST_DRIFT_S:g} s, which cells can be simulated after"
        )
        raise fail("E0601", message, NamedPlace("--drift-time"), f"give {MOST_DRIFT_S:g} or less")
    found = AnalogOptions(options.ideal, options.adc_bits, options.noise_seed or 0, options.drift_time)
    kinds = applied(program, replace(found, is_ideal=False))
    for name in given_of(options):
        what = _amiss(name, options.ideal, kinds, program.target)
        if what:
            raise fail("E0601", what, NamedPlace(name), "leave it out")
    for kind in () if options.ideal else kinds:
        console.say(f"analog: {kind}")
    if is_analog(program.target):
        if options.ideal:
            console.say("analog: ideal, as digital macros compute")
        elif not kinds:
            console.say("analog: nothing; no array of int8 lies in analog macros, so all products are exact")
    return found


def _amiss(name: str, is_ideal: bool, kinds: tuple[Applied, ...], target: Hardware) -> str:
    """Why an option would change nothing; empty if it changes something."""
    from runtime.analog.options import has_drift, is_analog

    if is_ideal:
        return "with --ideal there are no converters and no noise"
    if name == "--drift-time":
        if not has_drift(target):
            return f"{target.name} has no cells that drift"
        return (
            "" if any(kind.drift_s is not None for kind in kinds) else "the program uses no cells that drift"
        )
    if not is_analog(target):
        return f"{target.name} has no analog macros"
    return "" if kinds else "no array of int8 lies in analog macros: all products are exact"
