"""List the instructions, or show one of them in full: operands, encoding, costs, an example."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
from typing import TYPE_CHECKING

from isa.diagnostics import fail

from .console import Console, columns

if TYPE_CHECKING:
    from isa.describe import InstructionEntry


def configure(parser: argparse.ArgumentParser) -> None:
    """`cim isa [MNEMONIC]`"""
    parser.add_argument("mnemonic", nargs="?", metavar="MNEMONIC", help="an instruction such as mvm")


def run(options: argparse.Namespace, console: Console) -> int:
    """Print the table, or one entry of it."""
    from isa.describe import describe

    isa = describe()
    if options.mnemonic is None:
        rows = [(e.mnemonic, f"{e.opcode:#04x}", e.unit, e.summary.splitlines()[0]) for e in isa.instructions]
        console.result(columns(("instruction", "opcode", "unit", "what it does"), rows))
        console.data(dataclasses.asdict(isa))
        return 0
    by_name = {e.mnemonic: e for e in isa.instructions}
    entry = by_name.get(options.mnemonic.lower())
    if entry is None:
        close = difflib.get_close_matches(options.mnemonic.lower(), by_name, n=3)
        hint = f"close to it: {', '.join(close)}" if close else "`cim isa` lists them all"
        raise fail("E0102", f"there is no instruction {options.mnemonic!r}", help=hint)
    console.result(_in_full(entry))
    console.data(dataclasses.asdict(entry))
    return 0


def _in_full(entry: InstructionEntry) -> str:
    rows = []
    for operand in entry.operands:
        last = operand.low_bit + operand.bits - 1
        bits = f"{last}..{operand.low_bit}" if operand.bits > 1 else f"{last}"
        name = operand.name + (" (optional)" if operand.optional else "")
        rows.append((f"  {name}", bits, operand.kind, operand.meaning))
    lines = [
        f"{entry.mnemonic} (opcode {entry.opcode:#04x}, unit {entry.unit})",
        "",
        entry.summary,
        "",
        *([columns(("  operand", "bits", "kind", "meaning"), rows), ""] if rows else []),
        f"example  {entry.example}",
        f"         {entry.example_hex}",
        f"timing   {entry.timing}",
        f"energy   {entry.energy}",
    ]
    return "\n".join([*lines, f"work     {entry.work}"] if entry.work else lines)
