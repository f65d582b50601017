"""Assemble a text to a program."""

from __future__ import annotations

import argparse

from .console import Console
from .files import read_text, write_file
from .paths import names_files


def configure(parser: argparse.ArgumentParser) -> None:
    """`cim asm FILE.cimasm -o OUT.cim`"""
    parser.add_argument("source", metavar="FILE.cimasm", help="assembly text (`-`: standard input)")
    parser.add_argument("--target", metavar="NAME|FILE.toml", help="refuse a text that is for another target")
    parser.add_argument(
        "-o", "--output", metavar="OUT.cim", help="program to write (default: only check the text)"
    )
    names_files(parser, reads=("source", "target"), writes=("output",))


def run(options: argparse.Namespace, console: Console) -> int:
    """Assemble; say what came out."""
    from isa.assembler import assemble
    from isa.binary import write_program
    from isa.hardware import load_target

    text = read_text(options.source)
    target = load_target(options.target) if options.target else None
    with console.activity(f"assembling {options.source}"):
        program = assemble(text, "<stdin>" if options.source == "-" else options.source, target)
    if options.output:
        write_file(options.output, lambda path: write_program(program, path))
    instructions = sum(len(role.code) for role in program.roles)
    facts = {"roles": len(program.roles), "instructions": instructions, "tiles": program.tile_count}
    console.say(", ".join(f"{count:,} {what}" for what, count in facts.items()))
    console.data({**facts, "output": options.output})
    return 0
