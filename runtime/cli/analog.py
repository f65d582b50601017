"""Options that say how analog macros compute, and what is said of it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from isa.diagnostics import NamedPlace, fail

from .console import Console
from .options import fraction, natural

if TYPE_CHECKING:
    from isa.hardware import Hardware
    from isa.program import Program
    from runtime.activity import Meter
    from runtime.analog.options import AnalogOptions

LEAST_BITS, MOST_BITS = 2, 24


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
        default=0,
        metavar="N",
        help="of errors of cells and read noise (default: %(default)s)",
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
    """Who counts what arrays multiply, if that is asked for."""
    from runtime.activity import Meter

    return Meter(program) if options.activity == "measured" else None


def _bits(text: str) -> int:
    bits = natural(text)
    if not LEAST_BITS <= bits <= MOST_BITS:
        raise argparse.ArgumentTypeError(f"{bits} is not from {LEAST_BITS} to {MOST_BITS}")
    return bits


def analog_options(options: argparse.Namespace, target: Hardware, console: Console) -> AnalogOptions:
    """How analog macros are to compute; said, if there are such. Raises `CimError` E0601 if the target has no such."""
    from runtime.analog.options import AnalogOptions, applied, has_drift, is_analog

    given = {"--adc-bits": options.adc_bits, "--drift-time": options.drift_time}
    for name, value in given.items():
        fits = is_analog(target) if name == "--adc-bits" else has_drift(target)
        if value is not None and not fits:
            what = "analog macros" if name == "--adc-bits" else "cells that drift"
            raise fail("E0601", f"{target.name} has no {what}", NamedPlace(name), "leave it out")
    found = AnalogOptions(options.ideal, options.adc_bits, options.noise_seed, options.drift_time)
    for line in map(str, applied(target, found)):
        console.say(f"analog: {line}")
    if found.is_ideal and is_analog(target):
        console.say("analog: ideal, as digital macros compute")
    return found
