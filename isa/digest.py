"""The digest of the instruction table: two programs with the same digest mean the same bits by the same names."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from . import instructions as _declared  # noqa: F401 (its import fills the table)
from .instruction import INSTRUCTION_BYTES, TABLE, Access, Field, Inst
from .operands import EnumKind, Kind, Space


@lru_cache(maxsize=1)
def isa_hash() -> str:
    """16 hexadecimal digits over every declaration: opcode, mnemonic, fields, bits, accesses.

    Prose, timing and energy classes are left out: they do not change what a program file means.
    """
    text = "\n".join(declaration_lines())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def declaration_lines() -> list[str]:
    """The declarations that the digest covers, one a line."""
    spaces = " ".join(f"{space.name}={space.value}" for space in Space)
    lines = [f"{INSTRUCTION_BYTES} bytes, spaces {spaces}"]
    for opcode in sorted(TABLE):
        lines.append(_instruction(TABLE[opcode]))
        lines += [f"  {_field(field)}" for field in TABLE[opcode].layout]
    return lines


def _instruction(cls: type[Inst]) -> str:
    return f"{cls.opcode:#04x} {cls.mnemonic} {cls.unit.value}"


def _field(field: Field) -> str:
    words = [field.name, f"bit {field.low_bit}", _kind(field.kind)]
    if field.access is not None:
        words.append(_access(field.access))
    if field.array is not None:
        words.append(f"array {field.array.mode.name} {field.array.row} {field.array.rows}")
    if field.memory is not None:
        words.append(f"memory {field.memory.mode.name} {field.memory.indexed}")
    words += ["label"] * field.is_label + ["defines"] * field.writes_register
    return ", ".join(words)


def _kind(kind: Kind) -> str:
    signed = " signed" if getattr(kind, "signed", False) else ""
    names = " ".join(f"{m.name}={m.value}" for m in kind.type) if isinstance(kind, EnumKind) else ""
    return f"{type(kind).__name__} {kind.bits}{signed} {names}".rstrip()


def _access(access: Access) -> str:
    return f"{access.mode.name} {access.dtype.name} {'x'.join(map(str, access.dims))} pitch {access.pitch}"
