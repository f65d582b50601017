"""Published results beside what the project predicts of them: macros by the macro model, chips and systems simulated.

Holdout rows set no number of any target; calibration rows do; consistency rows are composed of other numbers of the
same publication. Exit code 3 if a row is out of its limit and nothing explains it.
"""

from __future__ import annotations

import argparse

from .console import Console
from .files import write_file
from .paths import names_files

OK, DIFFERENT = 0, 3


def configure(parser: argparse.ArgumentParser) -> None:
    """`cim validate [--row ID] [--level LEVEL]`"""
    from benchmarks.validation.rows import Level

    parser.add_argument(
        "--row",
        action="append",
        metavar="ID",
        help="this row alone, or those that begin with ID; may be repeated",
    )
    parser.add_argument("--level", choices=[level.value for level in Level], help="rows of this level alone")
    parser.add_argument("--output", metavar="FILE.md", help="write the result as a document, too")
    names_files(parser, writes=("output",))


def run(options: argparse.Namespace, console: Console) -> int:
    """Predict the rows; print them."""
    from benchmarks.validation.document import document
    from benchmarks.validation.judged import judged, summary
    from benchmarks.validation.rows import chosen
    from benchmarks.validation.table import data, text

    rows = chosen(options.row, options.level)
    with console.activity("validating") as activity:

        def say(note: str) -> None:
            activity.note = note

        found = list(judged(rows, say))
    if options.output is not None:
        write_file(options.output, lambda path: path.write_text(document(found), encoding="utf-8"))
    console.result(text(found))
    console.data(data(found))
    return DIFFERENT if summary(found).out else OK
