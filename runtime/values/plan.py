"""Roles decoded once for the engine of values, and what it leaves to the reference."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from isa import instructions as table
from isa.instruction import TABLE, Access, Field, Inst
from isa.operands import (
    Addr,
    AddrKind,
    ArrayRef,
    EitherKind,
    FlagKind,
    FloatKind,
    IndexedKind,
    IntKind,
    Mem,
    MemKind,
    PortRef,
    Reg,
    RegKind,
)
from isa.program import Program, Role
from runtime.fast.decode import SCALAR_KINDS, put_scalar

from . import layout as at

Words = NDArray[np.int64]

OPCODE = {kind.mnemonic: at.FIRST_UNIT + opcode for opcode, kind in TABLE.items()}


def why_not(program: Program) -> str | None:
    """Why the engine cannot run a program; None if it can."""
    for role in program.roles:
        found = _why_not_role(role, int(program.target.tile.loop_depth.value))
        if found is not None:
            return f"role {role.name}: {found}"
    return None


def _why_not_role(role: Role, depth: int) -> str | None:
    """What of a role's text only the reference knows: jumps out of loops, say, which it makes a trap."""
    ends: list[int] = []
    for index, inst in enumerate(role.code):
        while ends and ends[-1] == index:
            ends.pop()
        limit = ends[-1] if ends else len(role.code)
        aim = inst.end if isinstance(inst, table.Loop) else getattr(inst, "target", None)
        if aim is not None and not index < aim <= limit:
            return f"instruction {index} leads to {aim}, which is not ahead in the same loop"
        if isinstance(inst, table.Loop):
            if not role.code[index + 1 : inst.end]:
                return f"the loop at {index} is empty"
            ends.append(inst.end)
            if len(ends) > min(depth, at.MAX_LOOPS):
                return f"more than {min(depth, at.MAX_LOOPS)} loops are nested at {index}"
    return None


def code_words(role: Role) -> Words:
    """The rows of a role's instructions, and one behind them for what runs beyond."""
    rows = np.zeros((len(role.code) + 1, at.U_SIZE), np.int64)
    for index, inst in enumerate(role.code):
        rows[index, at.C_INDEX] = index
        if type(inst) in SCALAR_KINDS:
            put_scalar(rows[index], inst)
        else:
            _put_unit(rows[index], inst)
    rows[-1, at.C_KIND] = at.END_OF_TEXT
    return rows


def _put_unit(row: Words, inst: Inst) -> None:
    row[at.C_KIND] = OPCODE[inst.mnemonic]
    numbers: dict[str, int] = {}
    addresses: list[Field] = []
    floats = 0
    for field in inst.layout:
        value = getattr(inst, field.name)
        match field.kind:
            case AddrKind():
                addresses.append(field)
            case RegKind() | EitherKind() | IntKind() | FlagKind():
                _put_number(row, len(numbers), value)
                numbers[field.name] = len(numbers)
            case IndexedKind():
                _put_place(row, value)
            case MemKind():
                _put_memory(row, value)
            case FloatKind():
                row[at.U_FLOAT + floats] = struct.unpack("<q", struct.pack("<d", value))[0]
                floats += 1
            case _:
                raise TypeError(f"{inst.mnemonic}: {field.name} is an operand of an unknown kind")
    _put_addresses(row, inst, addresses, numbers)


def _put_number(row: Words, which: int, value: Reg | int) -> None:
    place = at.U_NUMBER + 2 * which
    row[place : place + 2] = (value.index, 0) if isinstance(value, Reg) else (0, int(value))


def _put_place(row: Words, value: ArrayRef | PortRef) -> None:
    row[at.U_PLACE], row[at.U_PLACE_BASE] = value.index, value.offset.index


def _put_memory(row: Words, value: Mem) -> None:
    row[at.U_SPACE], row[at.U_MEMORY_BASE] = int(value.space), value.base.index
    row[at.U_MEMORY_OFFSET] = value.offset


def _put_addresses(row: Words, inst: Inst, fields: Sequence[Field], numbers: dict[str, int]) -> None:
    row[at.U_ADDRESS_COUNT] = len(fields)
    for which, field in enumerate(fields):
        access, value = field.access, getattr(inst, field.name)
        assert access is not None and isinstance(value, Addr)
        place = at.U_ADDRESS + at.D_SIZE * which
        row[place : place + at.D_SIZE] = (
            *(value.base.index, value.offset, value.step, access.dtype.bytes),
            *_dims(access, numbers),
            numbers[access.pitch] if access.pitch else -1,
        )
        row[at.U_IS_STEPPED] |= int(value.step)


def _dims(access: Access, numbers: dict[str, int]) -> tuple[int, int]:
    """The one or two dimensions of an access."""
    found = []
    for dim in access.dims:
        if isinstance(dim, int):
            found.append(at.DIM_CONSTANT + dim)
        elif "." in dim:
            found.append(at.DIM_COLS if dim.endswith(".cols") else at.DIM_ROWS)
        else:
            found.append(numbers[dim])
    first, second = (*found, at.DIM_ONE)[:2]
    return first, second
