"""Roles and costs as words of the plan arena; what they mean is the reference's (isa/timing/decode.py, costs.py)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isa import instructions as table
from isa.events import Bound
from isa.instruction import Inst, Timing, Unit
from isa.operands import REGISTERS, Reg, Source, Space
from isa.program import Role
from isa.timing.costs import Cost
from isa.timing.critical import INDEX_OF
from isa.timing.decode import Op

from . import layout as at
from .words import Words

SCALAR_KINDS: dict[type[Inst], int] = {
    table.Halt: at.HALT,
    table.Li: at.LI,
    table.Ldp: at.LDP,
    table.Sys: at.SYS,
    table.Seg: at.SEG,
    table.Sseg: at.SSEG,
    table.Page: at.PAGE,
    table.Jump: at.JUMP,
    table.Loop: at.LOOP,
    table.Add: at.ADD,
    table.Sub: at.SUB,
    table.Mul: at.MUL,
    table.Div: at.DIV,
    table.Mod: at.MOD,
    table.Min: at.MIN,
    table.Max: at.MAX,
    table.Shl: at.SHL,
    table.Shr: at.SHR,
    table.And: at.AND,
    table.Or: at.OR,
    table.Xor: at.XOR,
    table.Beq: at.BEQ,
    table.Bne: at.BNE,
    table.Blt: at.BLT,
    table.Bge: at.BGE,
}
_KIND_OF_TIMING = {
    Timing.ACTIVATE: at.CIM,
    Timing.ROW_WRITE: at.CIM,
    Timing.ROW_READ: at.CIM,
    Timing.VECTOR: at.VECTOR,
    Timing.COPY: at.COPY,
    Timing.MEMORY: at.MEMORY,
    Timing.MESSAGE: at.MESSAGE,
    Timing.BARRIER: at.BARRIER,
}
_BOUND_OF_UNIT = {
    Unit.CIM: Bound.CIM,
    Unit.VECTOR: Bound.VECTOR,
    Unit.DMA: Bound.DMA,
    Unit.NETWORK: Bound.NETWORK,
}
_SPACES = {Space.DRAM: (1, Bound.DRAM), Space.GBUF: (2, Bound.GBUF)}


def can_decode(role: Role, ops: Sequence[Op]) -> bool:
    """Whether the fast engine knows every instruction of a role."""
    return all(
        type(inst) in SCALAR_KINDS
        if op.scalar is not None
        else op.timing in _KIND_OF_TIMING
        and len(op.lengths) <= at.MAX_LENGTHS
        and len(op.accesses) <= at.MAX_ACCESSES
        for inst, op in zip(role.code, ops, strict=False)
    )


def code_words(role: Role, ops: Sequence[Op], windowed: bool) -> Words:
    """The rows of a role's instructions; `windowed`: queues have windows of more than one."""
    rows = np.zeros((len(ops), at.C_SIZE), np.int64)
    for row, op in zip(rows, ops, strict=True):
        row[at.C_INDEX] = op.index
        if op.index == len(role.code):
            row[at.C_KIND] = at.HALT
        elif op.scalar is not None:
            put_scalar(row, role.code[op.index])
        else:
            _put_unit(row, op, windowed)
    return rows


def _source(row: Words, source: Source) -> None:
    row[at.C_B], row[at.C_CONSTANT] = (source.index, 0) if isinstance(source, Reg) else (0, source)


def put_scalar(row: Words, inst: Inst) -> None:
    row[at.C_KIND] = SCALAR_KINDS[type(inst)]
    destination = getattr(inst, "rd", None)
    if isinstance(destination, Reg):
        row[at.C_RD] = destination.index or REGISTERS
    match inst:
        case table._Alu():
            row[at.C_A] = inst.a.index
            _source(row, inst.b)
        case table._Branch() | table.Loop() | table.Jump():
            _put_jump(row, inst)
        case table.Li():
            row[at.C_CONSTANT] = inst.value
        case table.Ldp():
            row[at.C_CONSTANT] = inst.index
        case table.Sys():
            row[at.C_CONSTANT] = int(inst.what)
        case table.Page():
            _source(row, inst.index)
        case table.Seg() | table.Sseg():
            row[at.C_A] = inst.index.index


def _put_jump(row: Words, inst: table._Branch | table.Loop | table.Jump) -> None:
    if isinstance(inst, table.Loop):
        row[at.C_TARGET] = inst.end
        _source(row, inst.count)
        return
    row[at.C_TARGET] = inst.target
    if isinstance(inst, table._Branch):
        row[at.C_A] = inst.a.index
        _source(row, inst.b)


def _put_unit(row: Words, op: Op, windowed: bool) -> None:
    row[at.C_KIND] = _KIND_OF_TIMING[op.timing]
    bound = _BOUND_OF_UNIT[op.unit]
    if op.memory is not None:
        row[at.C_MEMORY], bound = _SPACES[op.memory.space]
        row[at.C_BASE], row[at.C_OFFSET] = op.memory.base, op.memory.offset
    elif op.port is not None:
        row[at.C_BASE], row[at.C_OFFSET] = op.port.offset.index, op.port.index
    row[at.C_BOUND] = INDEX_OF[bound]
    is_windowed = windowed and op.unit in (Unit.CIM, Unit.VECTOR)
    row[at.C_IS_RECEIVE], row[at.C_IS_WINDOWED] = op.is_receive, is_windowed
    row[at.C_HAS_PORT] = op.frees_early and not is_windowed
    row[at.C_LENGTHS], row[at.C_ACCESSES] = len(op.lengths), len(op.accesses)
    row[at.C_LENGTH : at.C_LENGTH + len(op.lengths)] = op.lengths
    for number, access in enumerate(op.accesses):
        place = at.C_ACCESS + at.ACCESS_SIZE * number
        row[place : place + at.ACCESS_SIZE] = access.base, access.offset, access.step, access.writes


def duration_words(cost: Cost, memory: int) -> Words:
    """The row of what an operation takes; `memory`: see C_MEMORY."""
    macros = 0 if cost.cells is None else cost.cells.macros
    words = cost.busy, cost.done, cost.port, macros, cost.size, cost.rows, cost.pitch, memory
    return np.array(words, np.int64)


def cost_words(cost: Cost, code: int, key: Sequence[int], number: int) -> Words:
    """The row of a cost: number `number` of its role, of the instruction at `code` with these lengths."""
    row = [0] * at.K_WORDS
    row[at.K_CODE] = code
    row[at.K_NUMBER], row[at.K_NOOP] = number, cost.noop
    row[at.K_KEY : at.K_KEY + len(key)] = key
    uses: list[tuple[int, int, int]] = []
    if cost.cells is not None:
        place = 3 * cost.cells.array * at.USE_STRIDE
        uses.append((place + cost.cells.low, place + cost.cells.high, 1))
    for scales in cost.scales:
        place = (3 * scales.array + (2 if scales.columns else 1)) * at.USE_STRIDE
        uses.append((place + scales.low, place + scales.high, scales.writes))
    row[at.K_USES] = len(uses)
    for use, words in enumerate(uses):
        place = at.K_USE + at.USE_SIZE * use
        row[place : place + at.USE_SIZE] = words
    for access, (span, (pitch, width)) in enumerate(zip(cost.spans, cost.strides, strict=True)):
        place = at.K_SPAN + at.SPAN_SIZE * access
        row[place : place + at.SPAN_SIZE] = span, pitch, width
    return np.array(row, np.int64)
