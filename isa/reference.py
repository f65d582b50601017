"""The reference manual of the instruction set, made from the table: `python -m isa.reference > docs/isa.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from .asm_text import DIRECTIVES
from .describe import InstructionEntry, OperandEntry, describe
from .instruction import OPCODE_BITS
from .operands import ADDRESS_BITS, REGISTERS, WORD_BYTES

COMMAND = "python -m isa.reference > docs/isa.md"
_FAMILIES = {
    "scalar": "Scalar and control",
    "cim": "Compute in memory",
    "vector": "Vector",
    "dma": "Memory",
    "network": "Network",
}


def markdown() -> str:
    """The text of `docs/isa.md`: the template with its marks filled in."""
    isa = describe()
    parts = {
        "command": COMMAND,
        "hash": isa.hash,
        "registers": str(REGISTERS),
        "buffer_kib": str(WORD_BYTES << ADDRESS_BITS >> 10),
        "index": "\n".join(_index(isa.instructions)),
        "directives": "\n".join(_directives()),
        "example": _file("example.cimasm"),
        "grammar": _file("grammar.lark"),
        "instructions": "\n".join(_families(isa.instructions)),
    }
    text = _file("reference_template.md")
    for name, part in parts.items():
        text = text.replace(f"<<{name}>>", part)
    return text.rstrip() + "\n"


def _file(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _families(entries: Sequence[InstructionEntry]) -> Iterator[str]:
    for unit, title in _FAMILIES.items():
        yield f"## {title}"
        yield ""
        for entry in entries:
            if entry.unit == unit:
                yield from _section(entry)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
    yield ""


def _index(entries: Iterable[InstructionEntry]) -> Iterator[str]:
    rows = []
    for e in entries:
        rows.append(
            (f"[`{e.mnemonic}`](#{e.mnemonic})", f"{e.opcode:#04x}", e.unit, e.summary.splitlines()[0])
        )
    yield from _table(("instruction", "opcode", "unit", "what it does"), rows)


def _section(entry: InstructionEntry) -> Iterator[str]:
    yield f"### {entry.mnemonic}"
    yield ""
    yield entry.summary
    yield ""
    yield f"    {entry.example}"
    yield f"    {entry.example_hex}"
    yield ""
    yield f"    {_picture(entry)}"
    yield ""
    if entry.operands:
        yield from _table(("operand", "bits", "kind", "meaning"), map(_row, entry.operands))
    yield f"Timing: {entry.timing}. Energy: {entry.energy}." + (f" Work: {entry.work}." if entry.work else "")
    yield ""


def _row(operand: OperandEntry) -> tuple[str, ...]:
    name = f"`{operand.name}`" + (" (optional)" if operand.optional else "")
    return name, _bits(operand.low_bit, operand.bits), operand.kind, operand.meaning


def _bits(low: int, count: int) -> str:
    return str(low) if count == 1 else f"{low + count - 1}..{low}"


def _picture(entry: InstructionEntry) -> str:
    """`| opcode 7..0 | rd 12..8 | 0 127..13 |`: the word from its lowest bit on."""
    boxes = [f"{entry.opcode:#04x} {_bits(0, OPCODE_BITS)}"]
    boxes += [f"{o.name} {_bits(o.low_bit, o.bits)}" for o in entry.operands]
    if entry.used_bits < 128:
        boxes.append(f"0 {_bits(entry.used_bits, 128 - entry.used_bits)}")
    return "| " + " | ".join(boxes) + " |"


def _directives() -> Iterator[str]:
    rows = ((f"`{d.syntax}`", d.section, d.summary) for d in DIRECTIVES)
    yield from _table(("line", "where", "meaning"), rows)


if __name__ == "__main__":
    sys.stdout.write(markdown())
