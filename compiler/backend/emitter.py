"""What emission of every block shares: the code so far, registers, addresses, and the frame of a role's text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from compiler.ir.mapping import Arithmetic, Format, MapValue, Rows, Template
from isa.instruction import Inst
from isa.instructions import Add, Halt, Ldp, Loop, Mul, Seg, Sys
from isa.operands import ZERO, Addr, ArrayRef, Count, PortRef, Reg, Special
from isa.program import Limits

from .layout import BufferPlan, scratch_name

SEGMENTS, INDEX, TOKENS, POSITION, OUTPUTS = Reg(1), Reg(2), Reg(3), Reg(4), Reg(5)
KV_BASE, KV_ROW, LENGTH, END = Reg(6), Reg(7), Reg(8), Reg(9)
_FIRST_FREE, _FIRST_TABLE, _LAST = 10, 24, 31

Deferred = Callable[[int], Inst]


@dataclass(slots=True)
class Line:
    """An instruction, or one that waits for the index of the label `end`, and the site it is done for."""

    make: Inst | Deferred
    site: int
    label: int | None = None


@dataclass(slots=True)
class _Phase:
    """One pass over the segments: `head` runs at the start of each (lengths that blocks need), `body` is the blocks.

    `facts` are the registers among those with fixed meanings that its code uses.
    """

    head: list[Line] = field(default_factory=list)
    body: list[Line] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    shared: dict[str, Reg] = field(default_factory=dict)
    facts: set[Reg] = field(default_factory=set)
    free: int = _FIRST_FREE

    def resolve(self, line: Line, offset: int) -> Inst:
        """The instruction of a line, its label known now that the body starts at `offset`."""
        if isinstance(line.make, Inst):
            return line.make
        if line.label is None:
            raise ValueError("an instruction waits for no label")
        return line.make(self.labels[line.label] + offset)


class Emitter:
    """The text of one role in the making: for each phase a loop over the step's segments."""

    def __init__(
        self, template: Template, plan: BufferPlan, arithmetic: Arithmetic, limits: Limits, context: int
    ):
        self.template, self.plan, self.arithmetic, self.limits = template, plan, arithmetic, limits
        self.context_rows = context
        self.values = {v.name: v for v in template.values}
        self.array_index = {a.name: i for i, a in enumerate(template.arrays)}
        self.port_index = {p.name: i for i, p in enumerate(template.ports)}
        self.table_register = {name: Reg(_FIRST_TABLE + i) for i, name in enumerate(template.tables)}
        self.phases = [_Phase()]
        self.site = -1
        self.block = 0
        if len(template.tables) > _LAST - _FIRST_TABLE + 1:
            raise ValueError(f"template {template.name} has more tables than registers are kept for")

    @property
    def int8(self) -> bool:
        """Whether arrays take int8."""
        return self.arithmetic is Arithmetic.INT8

    def begin(self, block: int, site: int, phase: int) -> None:
        """Go on with block number `block`, done for `site`, in a phase that is this one or the next."""
        self.block, self.site = block, site
        if phase == len(self.phases):
            self.phases.append(_Phase())
        if phase != len(self.phases) - 1:
            raise ValueError(f"template {self.template.name}: blocks are not in the order of their phases")

    @property
    def phase(self) -> _Phase:
        """The phase in the making."""
        return self.phases[-1]

    # ------------------------------------------------------------------------------------- names to operands

    def at(self, name: str) -> Addr:
        """The address of a value, a constant, or the scales of a Q8 value (`x.scale`).

        Of a value that holds the whole sequence, the address of the segment's first row.
        """
        value = self.values.get(name.removesuffix(".scale"))
        base = ZERO
        if value is not None and value.rows is Rows.SEQUENCE:
            size = 4 if name not in self.values else value.cols * (1 if value.format is Format.Q8 else 4)
            base = self.shared(f"row*{size}", lambda rd: Mul(rd, self.fact(POSITION), size))
        return Addr(base, self.plan.offsets[name])

    def tmp(self, name: str) -> Addr:
        """The address of the current block's working space."""
        return self.at(scratch_name(self.block, name))

    def value(self, name: str) -> MapValue:
        """A value of the template."""
        return self.values[name]

    def array(self, name: str) -> ArrayRef:
        """An array by name."""
        return ArrayRef(self.array_index[name])

    def array_rows(self, name: str) -> int:
        """Rows of an array."""
        return self.template.arrays[self.array_index[name]].rows

    def array_cols(self, name: str) -> int:
        """Columns of an array."""
        return self.template.arrays[self.array_index[name]].cols

    def port(self, name: str) -> PortRef:
        """A port by name."""
        return PortRef(self.port_index[name])

    # --------------------------------------------------------------------------------------------- registers

    def register(self) -> Reg:
        """A register for the current block and those after it in its phase."""
        if self.phase.free >= _FIRST_TABLE:
            raise ValueError(f"template {self.template.name} needs more scalar registers than there are")
        self.phase.free += 1
        return Reg(self.phase.free - 1)

    def shared(self, key: str, make: Callable[[Reg], Inst]) -> Reg:
        """A register that holds the same all through a segment, set at its start when first asked for."""
        shared = self.phase.shared
        if key not in shared:
            register = shared[key] = self.register()
            self.phase.head.append(Line(make(register), -1))
        return shared[key]

    def rows(self, name: str, times: int = 1, *, wanted: bool = False) -> Reg:
        """The number of rows of a value that an operation sees, `times` over; `wanted`: those with outputs."""
        base = OUTPUTS if wanted or self.values[name].rows is Rows.OUTPUTS else TOKENS
        self.phase.facts.add(base)
        if times == 1:
            return base
        return self.shared(f"{base}*{times}", lambda rd: Mul(rd, base, times))

    def fact(self, register: Reg) -> Reg:
        """A register that holds a fact of the segment (POSITION, KV_ROW, ...), read at its start."""
        self.phase.facts.add(register)
        return register

    # --------------------------------------------------------------------------------------------------- code

    def add(self, *instructions: Inst) -> None:
        """Append to the current phase."""
        self.phase.body += [Line(inst, self.site) for inst in instructions]

    def loop(self, count: Count, emit: Callable[[Reg], None], counter: Reg | None = None) -> None:
        """Append a counted loop; `emit` appends its body, given the counter (a register of its own, or `counter`)."""
        counter = counter or self.register()
        phase = self.phase
        label = len(phase.labels)
        phase.labels.append(-1)
        phase.body.append(Line(lambda end: Loop(counter, count, end), self.site, label))
        emit(counter)
        phase.labels[label] = len(phase.body)

    def text(self) -> tuple[tuple[Inst, ...], tuple[int, ...]]:
        """The finished code with the site of each instruction."""
        code: list[Inst] = [Ldp(register, i) for i, register in enumerate(self.table_register.values())]
        code.append(Sys(SEGMENTS, Special.SEGMENTS))
        sites = [-1] * len(code)
        for phase in self.phases:
            start = [Line(inst, -1) for inst in _segment_facts(phase, self.context_rows)]
            lines = [*start, *phase.head, *phase.body]
            end = len(code) + 1 + len(lines)
            code.append(Loop(INDEX, SEGMENTS, end))
            code += [phase.resolve(line, end - len(phase.body)) for line in lines]
            sites += [-1, *(line.site for line in lines)]
        return (*code, Halt()), (*sites, -1)


def _segment_facts(phase: _Phase, context_rows: int) -> list[Inst]:
    """Code that reads what the phase uses of the current segment."""
    facts = phase.facts
    needs_end = END in facts
    needs_row = bool(facts & {KV_BASE, KV_ROW})
    code: list[Inst] = [Seg(INDEX), Sys(TOKENS, Special.TOKENS)]
    if facts & {POSITION, KV_ROW, LENGTH}:
        code.append(Sys(POSITION, Special.POSITION))
    if OUTPUTS in facts:
        code.append(Sys(OUTPUTS, Special.OUTPUTS))
    if needs_row:
        code += [Sys(KV_BASE, Special.SEQUENCE), Mul(KV_BASE, KV_BASE, context_rows)]
    if KV_ROW in facts:
        code.append(Add(KV_ROW, KV_BASE, POSITION))
    if needs_end:
        code.append(Sys(END, Special.END))
    elif LENGTH in facts:
        code.append(Add(LENGTH, POSITION, TOKENS))
    return code


def words(value: MapValue, cols: int) -> int:
    """4-byte words of `cols` columns of a value."""
    return cols // 4 if value.format is Format.Q8 else cols
