"""The instruction table as data: what `docs/isa.md` and `cim isa --json` are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from inspect import cleandoc
from typing import Any

from . import instructions as _declared  # noqa: F401 (its import fills the table)
from .digest import isa_hash
from .instruction import INSTRUCTION_BYTES, TABLE, Access, ArrayMode, Field, Inst
from .operands import (
    ZERO,
    Addr,
    AddrKind,
    ArrayRef,
    EitherKind,
    EnumKind,
    FlagKind,
    FloatKind,
    IndexedKind,
    IntKind,
    Kind,
    LabelKind,
    Mem,
    MemKind,
    PortRef,
    Reg,
    RegKind,
    Space,
)


@dataclass(frozen=True, slots=True)
class OperandEntry:
    """An operand: its bits (lowest and number), how it is written, and what the instruction does with it."""

    name: str
    kind: str
    low_bit: int
    bits: int
    meaning: str
    optional: bool


@dataclass(frozen=True, slots=True)
class InstructionEntry:
    """An instruction as the reference shows it. `example_hex` are the bytes in memory order."""

    mnemonic: str
    opcode: int
    unit: str
    timing: str
    energy: str
    work: str
    summary: str
    operands: tuple[OperandEntry, ...]
    used_bits: int
    example: str
    example_hex: str


@dataclass(frozen=True, slots=True)
class IsaEntry:
    """The whole table with its digest."""

    hash: str
    instruction_bytes: int
    instructions: tuple[InstructionEntry, ...]


def describe() -> IsaEntry:
    """The table in the order of its opcodes."""
    return IsaEntry(
        isa_hash(), INSTRUCTION_BYTES, tuple(_instruction(TABLE[opcode]) for opcode in sorted(TABLE))
    )


def _instruction(cls: type[Inst]) -> InstructionEntry:
    last = cls.layout[-1] if cls.layout else None
    example = sample(cls)
    return InstructionEntry(
        mnemonic=cls.mnemonic,
        opcode=cls.opcode,
        unit=cls.unit.value,
        timing=cls.timing.value,
        energy=cls.energy.value,
        work=_work(cls),
        summary=cleandoc(cls.__doc__ or ""),
        operands=tuple(_operand(cls, field) for field in cls.layout),
        used_bits=last.low_bit + last.kind.bits if last is not None else 8,
        example=example.text({SAMPLE_TARGET: "done"}),
        example_hex=example.encode().hex(" "),
    )


def _operand(cls: type[Inst], field: Field) -> OperandEntry:
    kind = _kind_name(field.kind)
    return OperandEntry(
        field.name, kind, field.low_bit, field.kind.bits, _meaning(field), is_optional(cls, field)
    )


def _kind_name(kind: Kind) -> str:
    if isinstance(kind, IndexedKind):
        return "array" if kind.type is ArrayRef else "port"
    return KIND_NAMES[type(kind)]


KIND_NAMES: dict[type[Kind], str] = {
    RegKind: "register",
    IntKind: "constant",
    LabelKind: "label",
    EitherKind: "register or constant",
    AddrKind: "buffer address",
    MemKind: "memory address",
    FloatKind: "float32 constant",
    FlagKind: "flag",
    EnumKind: "name",
}


def _meaning(field: Field) -> str:
    """`reads int8 [n, rows]`, `activates rows row..row+rows-1`, `takes 0..65535`"""
    parts = []
    if field.writes_register:
        parts.append("is set")
    if field.access is not None:
        parts.append(_access(field.access))
    if field.array is not None:
        parts.append(_rows(field.array.mode, field.array.row, field.array.rows))
    if field.memory is not None:
        how = " rows chosen by value" if field.memory.indexed else ""
        parts.append(f"{field.memory.mode.value} memory{how}")
    limits = bounds(field.kind)
    if limits:
        parts.append(limits)
    return ", ".join(parts)


def _access(access: Access) -> str:
    shape = ", ".join(map(str, access.dims))
    pitch = f", rows `{access.pitch}` words apart" if access.pitch else ""
    return f"{access.mode.value} {access.dtype.value} [{shape}]{pitch}"


def _rows(mode: ArrayMode, row: str | None, rows: str | None) -> str:
    which = "" if row is None else f", rows {row}..{row}+{rows}-1"
    return f"{mode.value} the array{which}"


def bounds(kind: Kind) -> str:
    """The range or the names that a constant takes; empty where the kind says it all."""
    match kind:
        case FlagKind():
            return "written or left out"
        case EnumKind():
            return kind.names()
        case LabelKind():
            return "an instruction ahead"
        case IntKind():
            return _range(kind.bits, kind.signed)
        case EitherKind():
            return "constant " + _range(kind.bits - 1, kind.signed)
    return ""


def _range(bits: int, signed: bool) -> str:
    if not signed:
        return f"0..{(1 << bits) - 1}"
    return f"-2^{bits - 1}..2^{bits - 1}-1"


def _work(cls: type[Inst]) -> str:
    """`2 ALU, 1 SFU on each element; 1 tree a row`, empty outside the vector unit."""
    work = cls.work
    each = [f"{n} {what}" for n, what in ((work.alu, "ALU"), (work.sfu, "SFU")) if n]
    row = [f"{n} {what}" for n, what in ((work.row_alu, "ALU"), (work.row_sfu, "SFU")) if n]
    row += [f"{work.trees} tree{'s' if work.trees > 1 else ''}"] if work.trees else []
    parts = [f"{', '.join(each)} an element"] if each else []
    parts += [f"{', '.join(row)} a row"] if row else []
    return "; ".join(parts)


SAMPLE_TARGET = 7  # the instruction that labels of samples stand for


def sample(cls: type[Inst]) -> Inst:
    """One instruction of the class, the same every time, its operands told apart by their values."""
    return cls(**{field.name: _sample_value(field, index) for index, field in enumerate(cls.layout)})


_SAMPLES: dict[type[Kind], Callable[[int], Any]] = {
    RegKind: lambda index: Reg(index + 1),
    IntKind: lambda index: 4 * index,
    EitherKind: lambda index: 16 * index if index % 2 else Reg(index + 1),
    AddrKind: lambda index: Addr(Reg(16 + index) if index % 2 else ZERO, 256 * index, step=index == 3),
    MemKind: lambda index: Mem(Space.DRAM, Reg(8 + index), 4096),
    FloatKind: lambda index: 0.125,
    FlagKind: lambda index: True,
    LabelKind: lambda index: SAMPLE_TARGET,
}


def _sample_value(field: Field, index: int) -> Any:
    match field.kind:
        case EnumKind():
            return list(field.kind.type)[1]
        case IndexedKind():
            return ArrayRef(3) if field.kind.type is ArrayRef else PortRef(2, Reg(5))
    return _SAMPLES[type(field.kind)](index)


def instruction_form(cls: type[Inst]) -> str:
    """`mvm a, dst, src, n, row, rows [, acc]`: mnemonic and operand names; what may be left out in brackets."""
    required = ", ".join(f.name for f in cls.layout if not is_optional(cls, f))
    optional = "".join(f" [, {f.name}]" for f in cls.layout if is_optional(cls, f))
    return f"{cls.mnemonic} {required}{optional}".rstrip()


def is_optional(cls: type[Inst], field: Field) -> bool:
    """Whether the operand may be left out: a flag, or one with a default."""
    default = next(f.default for f in fields(cls) if f.name == field.name)  # type: ignore[arg-type]
    return isinstance(field.kind, FlagKind) or default is not MISSING
