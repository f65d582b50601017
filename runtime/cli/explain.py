"""Say what a diagnostic code means (without one: list the codes)."""

from __future__ import annotations

import argparse
import difflib

from isa.diagnostics import CODES, fail

from .console import Console, columns


def configure(parser: argparse.ArgumentParser) -> None:
    """`cim explain [CODE]`"""
    parser.add_argument("code", nargs="?", metavar="CODE", help="a code such as E0103")


def run(options: argparse.Namespace, console: Console) -> int:
    """Print one entry of the table of codes, or all titles."""
    if options.code is None:
        console.result(columns(("code", "title"), [(name, code.title) for name, code in CODES.items()]))
        console.data({name: {"title": c.title, "explanation": c.explanation} for name, c in CODES.items()})
        return 0
    name = str(options.code).upper()
    if name not in CODES:
        close = difflib.get_close_matches(name, CODES, n=3)
        hint = f"close to it: {', '.join(close)}" if close else "`cim explain` lists all codes"
        raise fail("E0002", f"there is no diagnostic code {options.code!r}", help=hint)
    code = CODES[name]
    console.result(f"{name}: {code.title}\n\n{code.explanation}")
    console.data({"code": name, "title": code.title, "explanation": code.explanation})
    return 0
