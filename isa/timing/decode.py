"""Roles made ready to run: every instruction becomes, once a role, an `Op` that needs no reflection.

A scalar instruction becomes a closure that changes the tile's registers and returns the next instruction's index.
Any other becomes the registers its lengths and addresses come from, and a cache of its costs by lengths: tiles of
one role run it with the same lengths again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from isa import instructions as table
from isa.diagnostics import InstructionPlace, fail
from isa.instruction import Inst, Mode, Timing, Unit
from isa.operands import REGISTERS, Mem, PortRef, Reg, Source, Space
from isa.program import Role, Segment
from isa.scalars import (
    BRANCH,
    SCALAR,
    ScalarTrap,
    physical_page,
    source_count,
    source_segment,
    special,
    token_segment,
)

from .costs import Cost, cost_of, length_registers, operands_at
from .rates import Rates

SINK_REGISTER = REGISTERS  # where writes to r0 go: r0 reads as zero


class Registers:
    """What scalar instructions of one tile work on. `values` has one place more than there are registers."""

    __slots__ = ("loops", "params", "segment", "segments", "values")

    def __init__(self, params: tuple[int, ...], segments: Sequence[Segment]) -> None:
        self.values = [0] * (REGISTERS + 1)
        self.params = params
        self.segments = segments
        self.segment = source_count(segments)  # where in `segments` the current one lies
        self.loops: list[LoopState] = []


@dataclass(slots=True)
class LoopState:
    """A hardware loop under way: instructions start..end-1, pass `index` of `count`."""

    start: int
    end: int
    register: int
    count: int
    index: int = 0


ScalarStep = Callable[[Registers], int]
HALTED = -1


@dataclass(frozen=True, slots=True)
class BufferAccess:
    """An address operand: base register, byte offset, where a post-increment goes, and the mode."""

    base: int
    offset: int
    step: bool
    writes: bool


@dataclass(frozen=True, slots=True)
class MemoryPlace:
    """The place outside the tile that an instruction moves data from or to."""

    space: Space
    base: int
    offset: int


@dataclass(slots=True)
class Op:
    """A decoded instruction; `scalar` is None for the units beside the sequencer."""

    index: int
    unit: Unit
    timing: Timing
    role: Role
    rates: Rates
    scalar: ScalarStep | None = None
    lengths: tuple[int, ...] = ()
    accesses: tuple[BufferAccess, ...] = ()
    memory: MemoryPlace | None = None
    port: PortRef | None = None
    is_receive: bool = False
    frees_early: bool = False  # the next of its queue can start before it is over
    costs: dict[tuple[int, ...], Cost] = field(default_factory=dict)

    def cost(self, values: list[int]) -> Cost:
        """The cost with the register values as they are."""
        key = tuple([values[i] for i in self.lengths])
        found = self.costs.get(key)
        if found is None:
            operands = operands_at(self.role, self.index, dict(zip(self.lengths, key, strict=True)))
            found = self.costs[key] = cost_of(operands, self.rates)
        return found


def _destination(register: Reg) -> int:
    return register.index or SINK_REGISTER


def _source(source: Source) -> tuple[int, int]:
    """(register, constant): the value is their sum; a constant comes with r0, a register with 0."""
    return (source.index, 0) if isinstance(source, Reg) else (0, source)


def _alu(inst: Inst, following: int) -> ScalarStep:
    assert isinstance(inst, table._Alu)
    function, rd, a = SCALAR[type(inst)], _destination(inst.rd), inst.a.index
    b, constant = _source(inst.b)

    def step(r: Registers) -> int:
        values = r.values
        values[rd] = function(values[a], values[b] + constant)
        return following

    return step


def _branch(inst: Inst, following: int) -> ScalarStep:
    assert isinstance(inst, table._Branch)
    taken, a, target = BRANCH[type(inst)], inst.a.index, inst.target
    b, constant = _source(inst.b)

    def step(r: Registers) -> int:
        return target if taken(r.values[a], r.values[b] + constant) else following

    return step


def _loop(inst: table.Loop, following: int) -> ScalarStep:
    rd, end = _destination(inst.rd), inst.end
    count, constant = _source(inst.count)

    def step(r: Registers) -> int:
        passes = r.values[count] + constant
        if passes <= 0:
            return end
        r.loops.append(LoopState(following, end, rd, passes))
        r.values[rd] = 0
        return following

    return step


def _set(inst: table.Li, following: int) -> ScalarStep:
    rd, value = _destination(inst.rd), inst.value

    def step(r: Registers) -> int:
        r.values[rd] = value
        return following

    return step


def _parameter(inst: table.Ldp, following: int) -> ScalarStep:
    rd, index = _destination(inst.rd), inst.index

    def step(r: Registers) -> int:
        if index >= len(r.params):
            raise ScalarTrap(f"parameter {index} does not exist; the tile has {len(r.params)}")
        r.values[rd] = r.params[index]
        return following

    return step


def _fact(inst: table.Sys, following: int) -> ScalarStep:
    rd, what = _destination(inst.rd), inst.what

    def step(r: Registers) -> int:
        r.values[rd] = special(what, r.segments, r.segment)
        return following

    return step


def _page(inst: table.Page, following: int) -> ScalarStep:
    rd = _destination(inst.rd)
    index, constant = _source(inst.index)

    def step(r: Registers) -> int:
        r.values[rd] = physical_page(r.segments, r.segment, r.values[index] + constant)
        return following

    return step


def _segment(inst: table.Seg | table.Sseg, following: int) -> ScalarStep:
    index = inst.index.index
    find = source_segment if isinstance(inst, table.Sseg) else token_segment

    def step(r: Registers) -> int:
        r.segment = find(r.segments, r.values[index])
        return following

    return step


def _constant_step(target: int) -> ScalarStep:
    return lambda _: target


def _scalar(inst: Inst, index: int) -> ScalarStep:
    following = index + 1
    match inst:
        case table._Alu():
            return _alu(inst, following)
        case table._Branch():
            return _branch(inst, following)
        case table.Loop():
            return _loop(inst, following)
        case table.Li():
            return _set(inst, following)
        case table.Ldp():
            return _parameter(inst, following)
        case table.Sys() | table.Page():
            return _page(inst, following) if isinstance(inst, table.Page) else _fact(inst, following)
        case table.Seg() | table.Sseg():
            return _segment(inst, following)
        case table.Jump():
            return _constant_step(inst.target)
        case table.Halt():
            return _constant_step(HALTED)
    raise TypeError(f"{type(inst).__name__} has no scalar meaning")


def next_pass(registers: Registers, at: int) -> int:
    """Where to go on when `at` is the end of the innermost loop: back to its start, or past all that end here."""
    loops = registers.loops
    while loops and loops[-1].end == at:
        loop = loops[-1]
        loop.index += 1
        if loop.index < loop.count:
            registers.values[loop.register] = loop.index
            return loop.start
        loops.pop()
    return at


def _access(inst: Inst, name: str, writes: bool) -> BufferAccess:
    address = getattr(inst, name)
    return BufferAccess(address.base.index, address.offset, address.step, writes)


def _unit_op(role: Role, index: int, rates: Rates) -> Op:
    inst = role.code[index]
    op = Op(index, inst.unit, inst.timing, role, rates, lengths=length_registers(inst))
    accesses = [f for f in inst.layout if f.access is not None]
    op.accesses = tuple(
        _access(inst, f.name, f.access.mode is not Mode.READ) for f in accesses if f.access is not None
    )
    for f in inst.layout:
        value = getattr(inst, f.name)
        if isinstance(value, Mem):
            op.memory = MemoryPlace(value.space, value.base.index, value.offset)
        elif isinstance(value, PortRef):
            op.port = value
    op.is_receive = inst.timing is Timing.MESSAGE and op.accesses[0].writes
    op.frees_early = op.is_receive or op.memory is not None or op.unit in (Unit.CIM, Unit.VECTOR)
    return op


def decode_role(role: Role, rates: Rates) -> tuple[Op, ...]:
    """The role's instructions as ops, and a `halt` behind the last."""
    ops: list[Op] = []
    for index, inst in enumerate(role.code):
        if inst.unit is Unit.SCALAR:
            ops.append(Op(index, inst.unit, inst.timing, role, rates, scalar=_scalar(inst, index)))
        else:
            ops.append(_unit_op(role, index, rates))
    end = _constant_step(HALTED)
    ops.append(Op(len(role.code), Unit.SCALAR, Timing.SCALAR, role, rates, scalar=end))
    return tuple(ops)


def trapped(role: Role, index: int, error: ScalarTrap) -> Exception:
    """The diagnostic for a scalar instruction with operands its definition excludes."""
    place = InstructionPlace("program", role.name, index, str(role.code[index]))
    return fail("E0604", str(error), place, "verify the program with `cim verify`")
