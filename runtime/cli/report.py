"""Show statistics that `cim run` or `cim generate` saved; --html makes a page of them."""

from __future__ import annotations

import argparse

from .console import Console
from .files import STANDARD, existing, write_text
from .paths import names_files


def configure(parser: argparse.ArgumentParser) -> None:
    """`cim report S.json [--html R.html] [--baseline OLD.json] [--constants]`"""
    parser.add_argument("stats", metavar="S.json", help="what --stats saved")
    parser.add_argument("--baseline", metavar="OLD.json", help="statistics to compare with")
    parser.add_argument(
        "--html",
        metavar="R.html",
        help="write the report as one page that needs no other file (`-`: on stdout, alone)",
    )
    parser.add_argument(
        "--constants", action="store_true", help="list the constants behind each line of energy, with sources"
    )
    names_files(parser, reads=("stats", "baseline"), writes=("html",))
    parser.set_defaults(usage_error=parser.error)


def run(options: argparse.Namespace, console: Console) -> int:
    """Print the report."""
    from runtime.report import render_report, report_data
    from runtime.sinks.statistics import read_statistics

    if options.html == STANDARD and (options.json or options.constants):
        options.usage_error(
            "--html - prints the page alone: leave out --json and --constants, or name a file"
        )
    stats = read_statistics(existing(options.stats))
    baseline = read_statistics(existing(options.baseline)) if options.baseline is not None else None
    if options.html is not None:
        from runtime.html import page

        write_text(options.html, page(stats, baseline))
        if options.html == STANDARD:
            return 0
        console.say(f"written: {options.html}")
    console.result(render_report(stats, baseline, with_constants=options.constants).rstrip("\n"))
    console.data(report_data(stats, baseline))
    return 0
