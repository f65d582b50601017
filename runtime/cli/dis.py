"""Print the listing of a program.

The default is for reading: each role once. With --complete the text holds all but the weights, and `cim asm` makes the
same program of it.
"""

from __future__ import annotations

import argparse

from .console import Console
from .loading import load_program


def configure(parser: argparse.ArgumentParser) -> None:
    """`cim dis OUT.cim [--source] [--tiles] [--complete | --role R]`"""
    parser.add_argument("program", metavar="OUT.cim", help="a program (`-`: standard input)")
    parser.add_argument("--source", action="store_true", help="name the ONNX nodes behind the instructions")
    parser.add_argument("--tiles", action="store_true", help="the tiles, channels and streams too")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--complete", action="store_true", help="everything but tensor data, for `cim asm`")
    part.add_argument("--role", metavar="R", help="only this role's text")


def run(options: argparse.Namespace, console: Console) -> int:
    """Disassemble."""
    from isa.disassembler import listing

    program = load_program(options.program, console)
    text = listing(
        program, source=options.source, role=options.role, tiles=options.tiles, complete=options.complete
    )
    console.result(text.removesuffix("\n"))
    console.data({"listing": text, "roles": {role.name: len(role.code) for role in program.roles}})
    return 0
