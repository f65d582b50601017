"""Parsing, dispatch, and the one place where an exception becomes an exit code."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace

from isa.diagnostics import CimError, Diagnostic, NamedPlace

from .console import Console
from .paths import check_files
from .table import COMMANDS, Command, Module

OK, WRONG_INPUT, USAGE, DIFFERENT, DEFECT, INTERRUPTED = 0, 1, 2, 3, 70, 130

_ABOUT_FILES = ("E02", "E03", "E04", "E06")  # import, mapping, verification, running

_EPILOG = """exit codes: 0 ok, 1 the input is wrong, 2 usage, 3 results differ, 70 a defect in cim
`cim COMMAND --help` shows the options of a command; every command takes --json"""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` name; the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command, rest = _choose(words)
    module = command.load()
    parser = parser_of(command)
    options = parser.parse_args(rest)
    check_files(parser, options)
    console = Console(json=options.json)
    try:
        return _guarded(module, options, console, words)
    finally:
        console.close()


def _guarded(module: Module, options: argparse.Namespace, console: Console, words: list[str]) -> int:
    try:
        code = module.run(options, console)
        sys.stdout.flush()
        return code
    except CimError as error:
        console.diagnostics(_placed(error.diagnostics, options))
        return WRONG_INPUT
    except BrokenPipeError:
        # The reader (`| head`) has seen enough. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except KeyboardInterrupt:
        console.say("interrupted")
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001  (the last resort: what nobody expected becomes a report)
        from .defect import report_defect

        report_defect(error, words, console)
        return DEFECT


def _placed(found: Iterable[Diagnostic], options: argparse.Namespace) -> list[Diagnostic]:
    """Diagnostics about a model or a program that do not say which one: it is the one the command was given."""
    subject = next(
        (getattr(options, name) for name in ("model", "program") if getattr(options, name, None)), None
    )
    if subject is None:
        return list(found)
    place = NamedPlace(subject)
    return [
        replace(d, place=place) if d.place is None and d.code.startswith(_ABOUT_FILES) else d for d in found
    ]


def parser_of(command: Command) -> argparse.ArgumentParser:
    """The parser of one command (imports its module)."""
    module = command.load()
    parser = argparse.ArgumentParser(
        prog=f"cim {command.name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.configure(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def top_parser() -> argparse.ArgumentParser:
    """The parser of `cim` itself: it knows the commands' names and nothing of their options."""
    width = max(len(command.name) for command in COMMANDS)
    lines = [f"  {command.name:<{width}}  {command.summary}" for command in COMMANDS]
    parser = argparse.ArgumentParser(
        prog="cim",
        usage="cim COMMAND [options]",
        description="Compiler and simulator for transformers on compute-in-memory accelerators.\n\ncommands:\n"
        + "\n".join(lines),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("-h", "--help", action="store_true", help="show this text")
    parser.add_argument("--version", action="store_true", help="show the version")
    return parser


def _choose(words: list[str]) -> tuple[Command, list[str]]:
    """The command that `words` name, and its own arguments. Exits for --help, --version and wrong usage."""
    parser = top_parser()
    if words and not words[0].startswith("-"):
        return _find(words[0], parser), words[1:]
    options = parser.parse_args(words[:1])
    if options.version:
        from importlib.metadata import version

        parser.exit(OK, f"cim {version('cim-toolchain')}\n")
    if options.help:
        parser.print_help()
        parser.exit(OK)
    parser.print_help(sys.stderr)
    parser.exit(USAGE)


def _find(name: str, parser: argparse.ArgumentParser) -> Command:
    for command in COMMANDS:
        if command.name == name:
            return command
    close = difflib.get_close_matches(name, [command.name for command in COMMANDS], n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    parser.error(f"there is no command {name!r}{hint} (`cim --help` lists them)")
