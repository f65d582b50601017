"""The base of every instruction: fields, encoding, accesses, and the classes its costs fall in.

An instruction is declared once, as a subclass of `Inst` in `isa/instructions.py`; its annotations are its
operands, in encoding order and in text order. An instruction word is 128 bits, little-endian: the opcode in
bits 0..7, then the operands from low to high. Why 128: a vector instruction names four buffer addresses of 24
bits (base register, word offset, post-increment), a row count and a column count; in 64 bits that would be
two or three instructions of address set-up. All tiles that do the same work share one text of a few hundred
instructions, so width costs kilobytes a role, not a tile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from enum import Enum
from typing import Annotated, Any, ClassVar, Self, dataclass_transform, get_args, get_origin, get_type_hints

from .operands import (
    Addr,
    AddrKind,
    ArrayRef,
    Count,
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
    OperandError,
    PortRef,
    Reg,
    RegKind,
    Special,
)

INSTRUCTION_BYTES = 16
OPCODE_BITS = 8


class Unit(Enum):
    """The parts of a tile that work side by side."""

    __hash__ = object.__hash__  # members are single; the hash of their names is slow

    SCALAR = "scalar"
    CIM = "cim"
    VECTOR = "vector"
    DMA = "dma"
    NETWORK = "network"


class Timing(Enum):
    """How an instruction's latency and occupancy follow from its operands (docs/timing.md)."""

    __hash__ = object.__hash__  # members are single; the hash of their names is slow

    SCALAR = "one cycle in the sequencer"
    ACTIVATE = "array activation: one MVM time a vector, at least the buffer port's time"
    ROW_WRITE = "array row write: one write time a row"
    ROW_READ = "array row read: one read time a row"
    VECTOR = "vector: start-up, then elements x operations over lanes"
    COPY = "move inside the tile buffer: bytes over the port"
    MEMORY = "latency and channel time of DRAM or global buffer"
    MESSAGE = "rendezvous, then hops and link time"
    BARRIER = "until all members have arrived"


class Energy(Enum):
    """Which events an instruction causes (docs/energy.md)."""

    SCALAR = "an issue"
    ACTIVATE = "MACs, adder tree, buffer bytes"
    ROW_WRITE = "cell writes, buffer bytes"
    ROW_READ = "cell reads, buffer bytes"
    VECTOR = "vector and special-function operations, buffer bytes"
    COPY = "buffer bytes"
    MEMORY = "memory bytes, buffer bytes"
    MESSAGE = "byte-hops, reductions, link bytes, buffer bytes"
    BARRIER = "control messages"


class DType(Enum):
    """Element types in buffers, arrays and messages; the value is the NumPy name."""

    I8 = "int8"
    I32 = "int32"
    F16 = "float16"
    F32 = "float32"

    @property
    def bytes(self) -> int:
        """Bytes an element takes."""
        return _BYTES[self]


_BYTES = {DType.I8: 1, DType.I32: 4, DType.F16: 2, DType.F32: 4}

Dim = str | int  # a field of the instruction ("n"), of its array ("a.rows", "a.cols"), or a number


class Mode(Enum):
    """Direction of an access."""

    READ = "reads"
    WRITE = "writes"
    UPDATE = "updates"  # reads, then writes


@dataclass(frozen=True, slots=True)
class Access:
    """What an instruction does at a buffer address: `dims` elements of `dtype`, rows `pitch` words apart.

    Without `pitch` the rows are dense. The span in bytes is rounded up to whole words.
    """

    mode: Mode
    dtype: DType
    dims: tuple[Dim, ...]
    pitch: str | None = None

    def span(self, extents: tuple[int, ...], pitch: int = 0) -> int:
        """Bytes from the first to the last one touched, in whole words, when `dims` are `extents`.

        Rows are `pitch` words apart (0: dense). This is also how far a post-increment moves its register.
        """
        elements = math.prod(extents)
        if pitch and elements:
            elements += (extents[0] - 1) * (pitch * 4 // self.dtype.bytes - elements // extents[0])
        return -(-elements * self.dtype.bytes // 4) * 4


def reads(dtype: DType, *dims: Dim, pitch: str | None = None) -> Access:
    """An operand that is read: `dims` elements of `dtype`."""
    return Access(Mode.READ, dtype, dims, pitch)


def writes(dtype: DType, *dims: Dim, pitch: str | None = None) -> Access:
    """An operand that is written whole."""
    return Access(Mode.WRITE, dtype, dims, pitch)


def updates(dtype: DType, *dims: Dim) -> Access:
    """An operand that is read and written."""
    return Access(Mode.UPDATE, dtype, dims)


class ArrayMode(Enum):
    """What an instruction does with a logical array."""

    ACTIVATE = "activates"
    WRITE = "writes rows of"
    READ = "reads rows of"
    SCALES = "reads the scales of"
    WRITE_SCALES = "writes the column scales of"


@dataclass(frozen=True, slots=True)
class ArrayUse:
    """Which rows of an array an instruction uses: `rows` of them from `row` on; all of them if None."""

    mode: ArrayMode
    row: str | None = None
    rows: str | None = None


@dataclass(frozen=True, slots=True)
class MemAccess:
    """What an instruction does outside the tile: `n` rows of `cols` words, `pitch` bytes apart.

    `indexed`: the rows are chosen by values in the buffer (gather), so any row of the region may be meant.
    """

    mode: Mode
    indexed: bool = False


@dataclass(frozen=True, slots=True)
class Field:
    """An operand of an instruction: its name, kind, and what it stands for."""

    name: str
    kind: Kind
    low_bit: int
    access: Access | None = None
    array: ArrayUse | None = None
    memory: MemAccess | None = None
    is_label: bool = False
    writes_register: bool = False


LANES = 64  # partial results of a row reduction, of which those beyond the row's end are neutral


def tree_widths(cols: float) -> tuple[int, ...]:
    """Operations of each level of the tree that combines the partial results of a row of `cols` elements."""
    return tuple(1 << level for level in range(LANES.bit_length() - 1) if 1 << level < cols)


@dataclass(frozen=True, slots=True)
class Work:
    """Operations of the vector unit: on each of rows x cols elements, and once a row besides.

    `alu` are float32 additions, multiplications, comparisons, conversions; `sfu` are special functions
    (exp, reciprocal, rsqrt, sqrt, erf, tanh). `rows` and `cols` name fields of the instruction or its array.
    To change an operand's sign or leave it out costs nothing where something else is done, nor do lanes switched off.

    `trees` reductions of a row combine its `LANES` partial results (one operation an element before that is in `alu`):
    level after level half as many, those of all rows side by side.
    """

    alu: int = 0
    sfu: int = 0
    row_alu: int = 0
    row_sfu: int = 0
    trees: int = 0
    rows: Dim = "n"
    cols: Dim = "cols"

    def operations(self, rows: int, cols: int) -> tuple[int, int]:
        """ALU and special-function operations on a block, trees included."""
        alu = rows * (cols * self.alu + self.row_alu + self.trees * sum(tree_widths(cols)))
        return alu, rows * (cols * self.sfu + self.row_sfu)

    def alu_cycles(self, rows: int, cols: int, lanes: int) -> int:
        """Cycles that `lanes` take for the ALU operations on a block: each level of a tree needs the one before."""
        levels = sum(-(-rows * width // lanes) for width in tree_widths(cols))
        return -(-rows * (cols * self.alu + self.row_alu) // lanes) + self.trees * levels


class _Label:
    """Marks an integer operand as an instruction index."""


class _Defines:
    """Marks a register operand as written by the instruction."""


Label = Annotated[int, _Label()]
Dest = Annotated[Reg, _Defines()]
U7 = Annotated[int, IntKind(7)]
U8 = Annotated[int, IntKind(8)]
U12 = Annotated[int, IntKind(12)]
U16 = Annotated[int, IntKind(16)]
U24 = Annotated[int, IntKind(24)]
S48 = Annotated[int, IntKind(48, signed=True)]
Length = Annotated[Count, EitherKind(17, signed=False)]
Operand = Annotated[Count, EitherKind(33, signed=True, example="-8")]

_KINDS: dict[Any, Kind] = {
    Reg: RegKind(),
    Addr: AddrKind(),
    ArrayRef: IndexedKind(ArrayRef, "a3"),
    PortRef: IndexedKind(PortRef, "p0"),
    Mem: MemKind(),
    float: FloatKind(),
    bool: FlagKind(),
    Special: EnumKind(Special),
}


def _pick(metadata: tuple[Any, ...], kind: type[Any]) -> Any:
    return next((m for m in metadata if isinstance(m, kind)), None)


def _field_of(name: str, annotation: Any, low_bit: int) -> Field:
    base, metadata = annotation, ()
    if get_origin(annotation) is Annotated:
        base, *rest = get_args(annotation)
        metadata = tuple(rest)
    is_label = _pick(metadata, _Label) is not None
    kind = LabelKind() if is_label else _pick(metadata, Kind) or _KINDS[base]
    return Field(
        name,
        kind,
        low_bit,
        access=_pick(metadata, Access),
        array=_pick(metadata, ArrayUse),
        memory=_pick(metadata, MemAccess),
        is_label=is_label,
        writes_register=_pick(metadata, _Defines) is not None,
    )


@dataclass_transform(frozen_default=True)
class Inst:
    """An instruction. Subclasses with an opcode enter the table; those without are shapes to share."""

    opcode: ClassVar[int]
    mnemonic: ClassVar[str]
    unit: ClassVar[Unit]
    timing: ClassVar[Timing]
    energy: ClassVar[Energy]
    work: ClassVar[Work]
    layout: ClassVar[tuple[Field, ...]]
    accesses: ClassVar[tuple[Access, ...]]

    def __init_subclass__(
        cls,
        opcode: int | None = None,
        mnemonic: str | None = None,
        unit: Unit | None = None,
        timing: Timing | None = None,
        energy: Energy | None = None,
        work: Work | None = None,
    ) -> None:
        dataclass(frozen=True)(cls)
        if unit is not None:
            cls.unit = unit
        if timing is not None:
            cls.timing = timing
        if energy is not None:
            cls.energy = energy
        if opcode is None:
            return
        cls.opcode, cls.mnemonic = opcode, mnemonic or cls.__name__.lower()
        cls.work = work or Work()
        cls.layout = _layout_of(cls)
        cls.accesses = tuple(f.access for f in cls.layout if f.access is not None)
        _register(cls)

    def __post_init__(self) -> None:
        for f in type(self).layout:
            try:
                value = f.kind.check(getattr(self, f.name))
            except OperandError as error:
                raise OperandError(f"{self.mnemonic}: {f.name}: {error}", error.expected) from None
            object.__setattr__(self, f.name, value)

    def __str__(self) -> str:
        return self.text()

    def text(self, labels: dict[int, str] | None = None) -> str:
        """The assembly text; instruction indices appear as `labels`, or as bare numbers."""
        words = []
        for f in self.layout:
            value = getattr(self, f.name)
            if isinstance(f.kind, FlagKind):
                words += [f.name] if value else []
            elif f.is_label and labels is not None:
                words.append(labels[value])
            else:
                words.append(f.kind.text(value))
        return f"{self.mnemonic} {', '.join(words)}".rstrip()

    def encode(self) -> bytes:
        """The 16 bytes of the instruction word."""
        word = self.opcode
        for f in self.layout:
            word |= f.kind.encode(getattr(self, f.name)) << f.low_bit
        return word.to_bytes(INSTRUCTION_BYTES, "little")

    @classmethod
    def decode_operands(cls, word: int) -> Self:
        """The instruction of this class whose operand bits are in `word`."""
        values = {f.name: f.kind.decode(word >> f.low_bit & ((1 << f.kind.bits) - 1)) for f in cls.layout}
        return cls(**values)


def _layout_of(cls: type[Inst]) -> tuple[Field, ...]:
    hints = get_type_hints(cls, include_extras=True)
    layout: list[Field] = []
    low = OPCODE_BITS
    for f in fields(cls):  # type: ignore[arg-type]
        layout.append(_field_of(f.name, hints[f.name], low))
        low += layout[-1].kind.bits
    if low > 8 * INSTRUCTION_BYTES:
        raise TypeError(f"{cls.__name__} takes {low} bits, an instruction word has {8 * INSTRUCTION_BYTES}")
    return tuple(layout)


TABLE: dict[int, type[Inst]] = {}  # opcode -> instruction; filled by the declarations in instructions.py
BY_MNEMONIC: dict[str, type[Inst]] = {}


def _register(cls: type[Inst]) -> None:
    if cls.opcode in TABLE or cls.mnemonic in BY_MNEMONIC:
        raise TypeError(f"{cls.__name__}: opcode {cls.opcode:#x} or mnemonic {cls.mnemonic} is taken")
    TABLE[cls.opcode] = cls
    BY_MNEMONIC[cls.mnemonic] = cls


def decode(data: bytes) -> Inst:
    """The instruction in 16 bytes. Raises `OperandError` if they are not one; unused bits must be zero."""
    word = int.from_bytes(data, "little")
    cls = TABLE.get(word & ((1 << OPCODE_BITS) - 1))
    if cls is None:
        raise OperandError(f"opcode {word & 0xFF:#04x} is not assigned", "an opcode of the table")
    inst = cls.decode_operands(word)
    if inst.encode() != data:
        raise OperandError(f"{cls.mnemonic}: unused bits are set", "zeros")
    return inst
