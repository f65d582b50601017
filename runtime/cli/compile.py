"""Compile an ONNX model to a program.

The program goes to the file named with -o; what was built is said in a few lines. With --emit graph, mapping or asm
the text of that level is the result, on standard output or in the file named with -o.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.sinks.files import make_folder

from .building import Watcher, build_watched, check_pass_names, text_of
from .console import Console, columns
from .files import STANDARD, as_file, write_file, write_text
from .options import add_compile_options
from .paths import names_files
from .summary import facts_of, summary

if TYPE_CHECKING:
    from compiler.pipeline import Compilation


def configure(parser: argparse.ArgumentParser) -> None:
    """`cim compile MODEL.onnx -o OUT.cim ...`"""
    parser.add_argument("model", metavar="MODEL.onnx", help="an ONNX file (`-`: standard input)")
    parser.add_argument("-o", "--output", metavar="OUT", help="file to write (`-`: standard output)")
    add_compile_options(parser)
    parser.add_argument(
        "--shapes-only", action="store_true", help="a program without weights: it has time, not values"
    )
    parser.add_argument(
        "--explain",
        action="store_true",
        help="say what lies where and why, what binds, and what would help most",
    )
    parser.add_argument(
        "--emit",
        choices=("graph", "mapping", "asm", "bin"),
        default="bin",
        help="what to write (default: bin)",
    )
    group = parser.add_argument_group("looking inside (on stderr; `cim passes` lists the passes)")
    group.add_argument(
        "--print-after", action="append", default=[], metavar="PASS", help="print the level (`all`: each)"
    )
    group.add_argument("--stop-after", metavar="PASS", help="go no further")
    group.add_argument("--time-passes", action="store_true", help="say how long each pass took")
    group.add_argument("--dump-dir", type=Path, metavar="DIR", help="write NN-PASS.txt after each pass")
    names_files(parser, reads=("model", "target", "bind"), writes=("output",))


def run(options: argparse.Namespace, console: Console) -> int:
    """Compile, write, summarise."""
    stops = [options.stop_after] if options.stop_after else []
    check_pass_names([*(name for name in options.print_after if name != "all"), *stops])
    if options.dump_dir is not None:
        make_folder(options.dump_dir)
    with (
        as_file(options.model, ".onnx") as model,
        console.activity(f"compiling {options.model}") as activity,
    ):
        watcher = Watcher(console, activity, options.print_after, options.stop_after, options.dump_dir)
        compilation = build_watched(model, options, watcher)
        activity.note = "writing"
        _write(compilation, options)
    if options.time_passes:
        console.say(_times(watcher.seconds))
    _summarise(compilation, options, watcher, console)
    return 0


def _write(compilation: Compilation, options: argparse.Namespace) -> None:
    """Write what --emit asks for, as far as it has been reached (--stop-after)."""
    reached = {"graph": compilation.graph, "mapping": compilation.mapping, "asm": compilation.program}
    if options.emit != "bin":
        if reached[options.emit] is None:
            return
        text = text_of(compilation, options.emit) + "\n"
        write_text(options.output or STANDARD, text)
    elif options.output and compilation.program is not None:
        from isa.binary import write_program

        program = compilation.program
        write_file(options.output, lambda path: write_program(program, path))


def _times(seconds: dict[str, float]) -> str:
    rows = [(name, f"{1e3 * value:,.1f} ms") for name, value in seconds.items()]
    rows.append(("total", f"{1e3 * sum(seconds.values()):,.1f} ms"))
    return columns(("pass", "time"), rows, right=(1,))


def _summarise(
    compilation: Compilation, options: argparse.Namespace, watcher: Watcher, console: Console
) -> None:
    text = summary(compilation, options.output)
    facts = facts_of(compilation) | {"output": options.output, "seconds_by_pass": watcher.seconds}
    if options.explain:
        from compiler.explain.note import as_data, as_text

        text += "\n\n" + as_text(compilation.notes)
        facts["notes"] = as_data(compilation.notes)
    if options.output == STANDARD or (options.emit != "bin" and not options.output):
        console.say(text)  # standard output holds the level that was asked for
    else:
        console.result(text)
        console.data(facts)
