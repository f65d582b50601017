"""`cim run --timing-only --decode N`: many decode steps, with progress; Ctrl-C leaves statistics of what was done."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from runtime.arguments import positive

from .console import Console
from .costing import show
from .files import check_folder
from .interrupts import interruptible
from .pace import Pace
from .pieces import Piece, timing_step

if TYPE_CHECKING:
    from isa.program import Program, Segment

OK, INTERRUPTED = 0, 130


def add_decode_options(parser: argparse.ArgumentParser) -> None:
    """How many steps, and which of them are simulated."""
    parser.add_argument(
        "--decode",
        type=positive,
        metavar="N",
        help="with --timing-only: N steps of one token of each sequence; all sequences that the program keeps go on"
        " from --position, or those of --segments (1@500,1@17) from theirs. Ctrl-C ends the run after a step",
    )
    parser.add_argument(
        "--every",
        type=positive,
        metavar="K",
        help="with --decode: simulate each K-th step, the first and the last; interpolate the cycles and joules of"
        " the others (default: 1, all are simulated)",
    )
    parser.add_argument(
        "--jobs",
        type=positive,
        metavar="J",
        help="with --decode: simulate steps in J processes side by side, each with memory of its own, where the system"
        " can fork processes (default: 1)",
    )


def check_decode(options: argparse.Namespace) -> None:
    """Options that only make sense together. Exits with 2."""
    if not options.decode:
        if options.every or options.jobs:
            options.usage_error("--every and --jobs belong to --decode")
        return
    if not options.timing_only:
        options.usage_error("--decode belongs to --timing-only")
    if options.tokens or any(tokens != 1 for tokens, _ in options.segments or ()):
        options.usage_error(
            "a decode step takes one token of each sequence: give --position, or --segments 1@P,..."
        )
    if options.trace:
        options.usage_error("--trace is of single steps: leave out --decode")


def run_decode(program: Program, options: argparse.Namespace, console: Console) -> int:
    """Simulate the steps; report; 130 if the user has ended the run early."""
    from runtime.decoding import Decoding
    from runtime.fast import Timing, timer_of
    from runtime.sinks.statistics import decode_statistics, write_statistics

    if options.stats is not None:
        check_folder(options.stats)
    began = time.perf_counter()
    steps = decode_steps(program, options)
    part = f"{len(steps):,} of " if len(steps) < options.decode else ""
    label = f"simulating {part}{options.decode:,} decode steps"
    with console.activity(label) as activity:

        def noted() -> None:
            activity.note = "interrupted, ends with this step"

        with interruptible(noted) as interrupt:
            jobs = min(options.jobs or 1, len(steps))
            timer = timer_of(program, tuple(steps.values()), Timing(options.timing))
            run = Decoding(program, timer, steps, options.every or 1, jobs)
            activity.pace = Pace(len(steps))
            for _ in run.simulate():
                activity.pace.done()
                if interrupt.is_asked:
                    break
            is_short = len(run.cycles) < len(steps)
            stats = decode_statistics(run, interrupted=is_short, wall_s=time.perf_counter() - began)
            if options.stats is not None:
                write_statistics(options.stats, stats)
    show(stats, options, console)
    if is_short:
        console.say(f"interrupted: {len(run.points()):,} of {options.decode:,} steps are done")
    return INTERRUPTED if is_short else OK


def decode_steps(program: Program, options: argparse.Namespace) -> dict[int, tuple[Segment, ...]]:
    """The segments of the steps to simulate, by number. Raises `CimError` E0602 if not all fit in the context."""
    from runtime.decoding import sampled

    places = [position for _, position in options.segments or ()]
    places = places or [options.position or 0] * program.step_limits.sequences
    _check_room(program.limits.max_context, max(places), options.decode)

    def step(number: int) -> list[Piece]:
        return [(1, position + number) for position in places]

    return {
        number: timing_step(program, step(number), options.source)
        for number in sampled(options.decode, options.every or 1)
    }


def _check_room(most: int, position: int, steps: int) -> None:
    from isa.diagnostics import fail

    if position + steps <= most:
        return
    message = f"{steps:,} steps from position {position:,} on end at {position + steps:,}"
    room = f"give --decode {most - position}, or " if position < most else ""
    raise fail(
        "E0602",
        f"{message}; the program's maximum context is {most:,}",
        help=f"{room}compile with a larger --max-context",
    )
