"""Run a benchmark of the toolchain; without a name, list them. What the README says was measured by these."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .console import Console, columns
from .paths import names_files

if TYPE_CHECKING:
    from benchmarks.registry import Benchmark

OK, DIFFERENT = 0, 3


def configure(parser: argparse.ArgumentParser) -> None:
    """`cim bench [NAME] [options]`"""
    from benchmarks.registry import BENCHMARKS

    names = parser.add_subparsers(dest="name", metavar="NAME", title="benchmarks")
    for benchmark in BENCHMARKS:
        own = names.add_parser(benchmark.name, help=benchmark.summary, description=benchmark.summary)
        benchmark.configure(own)
        own.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="print the result as JSON"
        )
        own.set_defaults(benchmark=benchmark)
        names_files(own, reads=("target", "hybrid", "against", "baseline"), keeps=("output", "resume"))


def run(options: argparse.Namespace, console: Console) -> int:
    """List the benchmarks, or run one; exit code 3 if something is not as it should be."""
    from benchmarks.registry import BENCHMARKS

    if options.name is None:
        console.result(columns(("benchmark", "measures"), [(b.name, b.summary) for b in BENCHMARKS]))
        console.data([{"name": b.name, "summary": b.summary} for b in BENCHMARKS])
        return OK
    benchmark: Benchmark = options.benchmark
    with console.activity(f"benchmark {benchmark.name}") as activity:

        def say(note: str) -> None:
            activity.note = note

        report = benchmark.load()(options, say)
    console.result(report.text)
    console.data(report.data)
    return OK if report.good else DIFFERENT
