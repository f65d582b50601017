"""Operands: what they are (values), how wide they are and how they are written (kinds).

A *value* is what an instruction object holds: `Reg(3)`, `Addr(Reg(0), 256)`, `12`. A *kind* knows how many
bits the value takes, checks its range, encodes it, decodes it, and writes it as text. Parsing text is the
assembler's business (`isa/assembler.py`), which uses the kinds' `example` and range checks.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

REGISTERS = 32
WORD_BYTES = 4
ADDRESS_BITS = 18  # word offset: a tile buffer holds at most 1 MiB


class OperandError(ValueError):
    """A value does not fit its operand. `expected` says in words what would."""

    def __init__(self, message: str, expected: str) -> None:
        super().__init__(message)
        self.expected = expected


@dataclass(frozen=True, slots=True, order=True)
class Reg:
    """A scalar register, r0..r31. r0 always reads as zero. Registers hold 64-bit signed integers."""

    index: int

    def __str__(self) -> str:
        return f"r{self.index}"


ZERO = Reg(0)


@dataclass(frozen=True, slots=True)
class Addr:
    """A place in the tile buffer: `base` register plus `offset` bytes (a multiple of 4).

    With `step`, the base register grows by the bytes the access spans after the instruction issues.
    """

    base: Reg = ZERO
    offset: int = 0
    step: bool = False

    def __str__(self) -> str:
        inner = (
            str(self.offset)
            if self.base == ZERO
            else f"{self.base}+{self.offset}"
            if self.offset
            else f"{self.base}"
        )
        return f"[{inner}]" + ("++" if self.step else "")


@dataclass(frozen=True, slots=True)
class ArrayRef:
    """A logical array of the role: number `index` plus the value of register `offset`."""

    index: int
    offset: Reg = ZERO

    def __str__(self) -> str:
        return f"a{self.index}" + (f"+{self.offset}" if self.offset != ZERO else "")


@dataclass(frozen=True, slots=True)
class PortRef:
    """A port of the role: number `index` plus the value of register `offset`."""

    index: int
    offset: Reg = ZERO

    def __str__(self) -> str:
        return f"p{self.index}" + (f"+{self.offset}" if self.offset != ZERO else "")


class Space(IntEnum):
    """Memories outside the tile, one of each a chip."""

    DRAM = 0
    GBUF = 1


@dataclass(frozen=True, slots=True)
class Mem:
    """A byte address in a memory of the tile's chip: `base` register plus `offset`."""

    space: Space
    base: Reg = ZERO
    offset: int = 0

    def __str__(self) -> str:
        inner = (
            str(self.offset)
            if self.base == ZERO
            else f"{self.base}+{self.offset}"
            if self.offset
            else f"{self.base}"
        )
        return f"{self.space.name.lower()}[{inner}]"


Count = Reg | int  # a length: from a register, or 0..65535
Source = Reg | int  # a scalar operand: from a register, or a signed 32-bit constant


class Special(IntEnum):
    """What `sys` can read: facts of the step, set by the host, and of the current segment."""

    SEGMENTS = 0  # segments in this step
    TOKENS = 1  # tokens of the current segment, 1..chunk
    POSITION = 2  # position of its first token in its sequence
    OUTPUTS = 3  # rows wanted from the output layer: 0 or TOKENS
    SEQUENCE = 4  # which of the resident sequences it belongs to, 0..sequences-1
    END = 5  # tokens its sequence has after this step, at least POSITION + TOKENS
    SOURCES = 6  # source segments in this step: rows of another sequence, what an encoder made
    SOURCE = 7  # rows of the source that its sequence has after this step


class Kind:
    """How one operand is checked, encoded, decoded and written."""

    bits: int
    example: str

    def check(self, value: Any) -> Any:
        """The canonical form of `value`; raises `OperandError` if it does not fit."""
        raise NotImplementedError

    def encode(self, value: Any) -> int:
        raise NotImplementedError

    def decode(self, raw: int) -> Any:
        raise NotImplementedError

    def text(self, value: Any) -> str:
        return str(value)


def _field(raw: int, low: int, bits: int) -> int:
    return (raw >> low) & ((1 << bits) - 1)


def _check_range(value: int, low: int, high: int, what: str) -> None:
    if not low <= value <= high:
        raise OperandError(f"{what} {value} is out of range", f"{low}..{high}")


@dataclass(frozen=True, slots=True)
class RegKind(Kind):
    """`r0`..`r31`."""

    bits: int = 5
    example: str = "r3"

    def check(self, value: Any) -> Reg:
        if not isinstance(value, Reg):
            raise OperandError(f"{value!r} is not a register", "a register r0..r31")
        _check_range(value.index, 0, REGISTERS - 1, "register number")
        return value

    def encode(self, value: Reg) -> int:
        return value.index

    def decode(self, raw: int) -> Reg:
        return Reg(raw)


@dataclass(frozen=True, slots=True)
class IntKind(Kind):
    """A constant of `bits` bits, signed or not."""

    bits: int
    signed: bool = False
    example: str = "12"

    def check(self, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise OperandError(f"{value!r} is not an integer constant", "an integer constant")
        low, high = (
            (-(1 << self.bits - 1), (1 << self.bits - 1) - 1) if self.signed else (0, (1 << self.bits) - 1)
        )
        _check_range(value, low, high, "constant")
        return int(value)

    def encode(self, value: int) -> int:
        return value & ((1 << self.bits) - 1)

    def decode(self, raw: int) -> int:
        return raw - (1 << self.bits) if self.signed and raw >> (self.bits - 1) else raw


@dataclass(frozen=True, slots=True)
class LabelKind(IntKind):
    """An instruction index in the same role; written as a label."""

    bits: int = 16
    signed: bool = False
    example: str = "done"


@dataclass(frozen=True, slots=True)
class EitherKind(Kind):
    """A register, or a constant of `bits - 1` bits; the lowest bit says which."""

    bits: int
    signed: bool
    example: str = "r3"

    def _constant(self) -> IntKind:
        return IntKind(self.bits - 1, self.signed)

    def check(self, value: Any) -> Reg | int:
        if isinstance(value, Reg):
            return RegKind().check(value)
        return self._constant().check(value)

    def encode(self, value: Reg | int) -> int:
        return value.index << 1 | 1 if isinstance(value, Reg) else self._constant().encode(value) << 1

    def decode(self, raw: int) -> Reg | int:
        if raw & 1:
            return RegKind().check(Reg(raw >> 1))
        return self._constant().decode(raw >> 1)


@dataclass(frozen=True, slots=True)
class AddrKind(Kind):
    """`[r4+256]`, `[256]`, `[r4]++`: base register, word offset, post-increment."""

    bits: int = 5 + ADDRESS_BITS + 1
    example: str = "[r4+256]"

    def check(self, value: Any) -> Addr:
        if not isinstance(value, Addr):
            raise OperandError(f"{value!r} is not a buffer address", "an address such as [r4+256]")
        RegKind().check(value.base)
        if value.offset % WORD_BYTES:
            raise OperandError(f"offset {value.offset} is not a multiple of {WORD_BYTES}", "a multiple of 4")
        _check_range(value.offset, 0, ((1 << ADDRESS_BITS) - 1) * WORD_BYTES, "offset")
        if value.step and value.base == ZERO:
            raise OperandError("r0 cannot be stepped", "another base register, or no ++")
        return value

    def encode(self, value: Addr) -> int:
        return value.base.index | value.offset // WORD_BYTES << 5 | int(value.step) << 5 + ADDRESS_BITS

    def decode(self, raw: int) -> Addr:
        offset = _field(raw, 5, ADDRESS_BITS) * WORD_BYTES
        return self.check(Addr(Reg(_field(raw, 0, 5)), offset, bool(_field(raw, 5 + ADDRESS_BITS, 1))))


@dataclass(frozen=True, slots=True)
class IndexedKind(Kind):
    """`a3` or `a3+r5` (arrays), `p0` or `p0+r5` (ports): an 8-bit number plus a register."""

    type: type[ArrayRef] | type[PortRef]
    example: str
    bits: int = 13

    def check(self, value: Any) -> ArrayRef | PortRef:
        if not isinstance(value, self.type):
            raise OperandError(f"{value!r} is not of this kind", f"something like {self.example}")
        _check_range(value.index, 0, 255, "number")
        RegKind().check(value.offset)
        return value

    def encode(self, value: ArrayRef | PortRef) -> int:
        return value.index | value.offset.index << 8

    def decode(self, raw: int) -> ArrayRef | PortRef:
        return self.type(_field(raw, 0, 8), Reg(_field(raw, 8, 5)))


@dataclass(frozen=True, slots=True)
class MemKind(Kind):
    """`dram[r5+1024]`, `gbuf[0]`: space, base register, 32-bit byte offset."""

    bits: int = 38
    example: str = "dram[r5+1024]"

    def check(self, value: Any) -> Mem:
        if not isinstance(value, Mem):
            raise OperandError(f"{value!r} is not a memory address", "an address such as dram[r5+1024]")
        RegKind().check(value.base)
        _check_range(value.offset, 0, (1 << 32) - 1, "offset")
        return value

    def encode(self, value: Mem) -> int:
        return int(value.space) | value.base.index << 1 | value.offset << 6

    def decode(self, raw: int) -> Mem:
        return Mem(Space(raw & 1), Reg(_field(raw, 1, 5)), _field(raw, 6, 32))


def as_float32(value: float) -> float:
    """`value` rounded to the nearest float32."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def float32_text(value: float) -> str:
    """The shortest decimal text that reads back as this float32."""
    for digits in range(1, 10):
        text = f"{value:.{digits}g}"
        if as_float32(float(text)) == value:
            break
    return text if any(c in text for c in ".einf") else text + ".0"


@dataclass(frozen=True, slots=True)
class FloatKind(Kind):
    """A float32 constant (no NaN)."""

    bits: int = 32
    example: str = "0.125"

    def check(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise OperandError(f"{value!r} is not a number", "a number such as 0.125, or -inf")
        try:
            return as_float32(value)
        except OverflowError:
            raise OperandError(f"{value!r} is beyond float32", "a number within float32, or inf") from None

    def encode(self, value: float) -> int:
        return int.from_bytes(struct.pack("<f", value), "little")

    def decode(self, raw: int) -> float:
        return self.check(float(struct.unpack("<f", raw.to_bytes(4, "little"))[0]))

    def text(self, value: float) -> str:
        return float32_text(value)


@dataclass(frozen=True, slots=True)
class FlagKind(Kind):
    """Written as the field's name when set, left out when not."""

    bits: int = 1
    example: str = ""

    def check(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise OperandError(f"{value!r} is not a flag", "present or absent")
        return value

    def encode(self, value: bool) -> int:
        return int(value)

    def decode(self, raw: int) -> bool:
        return bool(raw)


@dataclass(frozen=True, slots=True)
class EnumKind(Kind):
    """One of a few names, written in lower case."""

    type: type[IntEnum]
    bits: int = 4

    @property
    def example(self) -> str:  # type: ignore[override]
        return next(iter(self.type)).name.lower()

    def check(self, value: Any) -> IntEnum:
        if not isinstance(value, self.type):
            raise OperandError(f"{value!r} is not one of the names", self.names())
        return value

    def names(self) -> str:
        return ", ".join(member.name.lower() for member in self.type)

    def encode(self, value: IntEnum) -> int:
        return int(value)

    def decode(self, raw: int) -> IntEnum:
        try:
            return self.type(raw)
        except ValueError:
            raise OperandError(f"{raw} stands for no name", self.names()) from None

    def text(self, value: IntEnum) -> str:
        return value.name.lower()
