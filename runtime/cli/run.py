"""Simulate a step of a program: values, cycles and energy; or, with --timing-only, cycles and energy without values.

The inputs are an .npz file with what the ONNX file takes, under its names (token ids alone will do where nothing else
is asked: no padding, an empty cache); the outputs are one with what it gives.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.arguments import natural, positive

from .analog import add_activity_option, add_analog_options, analog_options, given_of, meter_of
from .console import Console
from .costing import Costing, add_cost_options, show
from .decoding import add_decode_options, check_decode, run_decode
from .files import read_arrays, write_file
from .loading import load_program
from .options import AUTO, add_engine_option
from .paths import names_files
from .pieces import pieces, timing_step

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from isa.program import Program, Segment
    from runtime.activity import Meter
    from runtime.analog.options import Applied


def configure(parser: argparse.ArgumentParser) -> None:
    """`cim run OUT.cim [--inputs IN.npz] [--timing-only --tokens N --position P] ...`"""
    parser.add_argument("program", metavar="OUT.cim", help="a program (`-`: standard input)")
    parser.add_argument("--inputs", metavar="IN.npz", help="the ONNX file's inputs, to compute values")
    parser.add_argument("--outputs", metavar="OUT.npz", help="where to put its outputs")
    parser.add_argument("--timing-only", action="store_true", help="no values (works without weights)")
    parser.add_argument(
        "--tokens", type=positive, metavar="N", help="with --timing-only: tokens of the step (default: 1)"
    )
    parser.add_argument(
        "--position",
        type=natural,
        metavar="P",
        help="with --timing-only: tokens already in the cache (default: 0)",
    )
    parser.add_argument(
        "--segments",
        type=pieces,
        metavar="N@P,...",
        help="with --timing-only, instead of these two: a step of several sequences, tokens@position of each"
        " (32@0,1@500,1@17)",
    )
    parser.add_argument(
        "--source",
        type=natural,
        metavar="N",
        help="with --timing-only: rows of the source that tokens look at, which come with the step at position 0"
        " (default: as many as the program takes)",
    )
    add_decode_options(parser)
    add_engine_option(parser)
    add_analog_options(parser)
    add_activity_option(parser)
    add_cost_options(parser)
    names_files(parser, reads=("program", "inputs"), writes=("outputs",), keeps=("stats", "trace"))
    parser.set_defaults(usage_error=parser.error)


def run(options: argparse.Namespace, console: Console) -> int:
    """Run; print the report."""
    _check_usage(options)
    program = load_program(options.program, console)
    if options.decode:
        return run_decode(program, options, console)
    began = time.perf_counter()
    if options.timing_only:
        made = _Made([_given_step(program, options)], "timing")
    else:
        made = _values(program, options, console)
    costing = Costing(program, options, console)
    costs = costing.steps(made.steps)
    took = time.perf_counter() - began
    show(costing.statistics(costs, made.engine, took, analog=made.analog, meter=made.meter), options, console)
    return 0


def _check_usage(options: argparse.Namespace) -> None:
    """Options that only make sense together. Exits with 2."""
    if options.timing_only and (options.inputs or options.outputs):
        options.usage_error(
            "--timing-only computes no values: it takes --tokens, --position, --segments and --source, not files"
        )
    if options.timing_only and options.activity == "measured":
        options.usage_error("--timing-only computes no values: there is no activity to measure")
    if options.timing_only and (options.ideal or given_of(options) or options.engine != AUTO):
        options.usage_error("--timing-only computes no values: leave out --engine and what analog macros do")
    if not options.timing_only and not options.inputs:
        options.usage_error("--inputs IN.npz is needed to compute values; or give --timing-only")
    place = (options.tokens, options.position)
    given = (*place, options.source, options.segments)
    if not options.timing_only and any(value is not None for value in given):
        options.usage_error("--tokens, --position, --segments and --source belong to --timing-only")
    if options.segments and any(value is not None for value in place):
        options.usage_error(
            "--segments says tokens and position of each sequence: leave out --tokens and --position"
        )
    check_decode(options)


def _given_step(program: Program, options: argparse.Namespace) -> tuple[Segment, ...]:
    given = options.segments or ((options.tokens or 1, options.position or 0),)
    return timing_step(program, given, options.source)


@dataclass(frozen=True, slots=True)
class _Made:
    """The steps that were run, the engine that made their values, and what analog macros computed with."""

    steps: list[tuple[Segment, ...]]
    engine: str
    analog: tuple[Applied, ...] = ()
    meter: Meter | None = None


def _values(program: Program, options: argparse.Namespace, console: Console) -> _Made:
    """Compute the outputs, write them."""
    import numpy as np

    from runtime.analog.options import applied
    from runtime.inference import Inference
    from runtime.values import EngineKind

    analog, meter = analog_options(options, program, console), meter_of(options, program)
    inference = Inference(program, engine=EngineKind(options.engine), analog=analog, meter=meter)
    with console.activity("computing") as activity:
        outputs = inference.run(read_arrays(options.inputs))
        activity.note = "writing"
        if options.outputs:
            write_file(options.outputs, lambda path: _save(path, outputs))
    for name, values in outputs.items():
        shape = " x ".join(str(extent) for extent in np.shape(values))
        console.say(f"{name}: {shape}" + (f", in {options.outputs}" if options.outputs else ""))
    return _Made(list(inference.steps), inference.engine.value, applied(program, analog), meter)


def _save(path: Path, outputs: dict[str, NDArray[Any]]) -> None:
    import numpy as np

    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **outputs)
