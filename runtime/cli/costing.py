"""Time and energy of the steps that a command ran: simulated once a step, traced if asked for, reported."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.fast import Timing, timer_of

from .console import Console

if TYPE_CHECKING:
    from isa.program import Program, Segment
    from runtime.activity import Meter
    from runtime.analog.options import Applied
    from runtime.paging import KvUse
    from runtime.sinks.schema import Statistics
    from runtime.timing import StepCost


def add_cost_options(parser: argparse.ArgumentParser) -> None:
    """Where statistics and trace go."""
    parser.add_argument(
        "--stats", type=Path, metavar="S.json", help="save the statistics (`cim report` reads them)"
    )
    parser.add_argument(
        "--trace",
        type=Path,
        metavar="T.json",
        help="save a trace: .json for ui.perfetto.dev, .kanata for Konata, .jsonl one event a line",
    )
    parser.add_argument(
        "--timing",
        choices=[timing.value for timing in Timing],
        default=Timing.AUTO.value,
        help="which engine finds the time: both find the same; auto takes the fast one for all but little work",
    )


class Costing:
    """The simulator of time, with progress and trace."""

    def __init__(self, program: Program, options: argparse.Namespace, console: Console) -> None:
        self.program, self._options, self._console = program, options, console
        self._segments: tuple[tuple[Segment, ...], ...] = ()

    def steps(self, steps: Sequence[tuple[Segment, ...]]) -> list[StepCost]:
        """The cost of each step."""
        from runtime.hostwork import with_hosts
        from runtime.sinks.trace import open_trace

        traced = self._options.trace is not None
        timer = timer_of(self.program, steps, Timing(self._options.timing), traced=traced)
        self._segments = tuple(steps)
        costs = []
        with ExitStack() as stack:
            activity = stack.enter_context(self._console.activity("simulating time"))
            path: Path | None = self._options.trace
            sink = stack.enter_context(open_trace(path, self.program)) if path is not None else None
            for number, segments in enumerate(steps, 1):
                activity.note = f"step {number} of {len(steps)}"
                costs.append(with_hosts(self.program, segments, timer.step(segments, sink)))
        return costs

    def statistics(
        self,
        costs: Sequence[StepCost],
        engine: str,
        wall_s: float,
        uses: Sequence[KvUse] = (),
        analog: Sequence[Applied] = (),
        meter: Meter | None = None,
    ) -> Statistics:
        """The statistics of the steps, of how full KV arrays were in them, of what analog macros computed with
        and of what arrays multiplied; saved if that was asked for."""
        from runtime.activity import activities
        from runtime.sinks.statistics import statistics, write_statistics

        stats = statistics(
            self.program,
            costs,
            engine=engine,
            wall_s=wall_s,
            per_step=True,
            segments=self._segments,
            uses=uses,
            analog=analog,
            activity=() if meter is None else activities(self.program, meter),
        )
        if self._options.stats is not None:
            write_statistics(self._options.stats, stats)
        return stats


def show(stats: Statistics, options: argparse.Namespace, console: Console) -> None:
    """The report as the result, and where files went on stderr."""
    import json

    from runtime.report import render_report

    console.result(render_report(stats).rstrip("\n"))
    console.data(json.loads(stats.to_json()))
    for path in (options.stats, options.trace):
        if path is not None:
            console.say(f"written: {path}")
