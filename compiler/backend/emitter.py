"""What emission of every block shares: the code so far, registers, addresses, and the frame of a role's text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from compiler.ir.mapping import Arithmetic, Format, MapValue, Rows, Template
from isa.instruction import Inst
from isa.instructions import Add, Halt, Ldp, Loop, Mul, Seg, Sys
from isa.operands import ZERO, Addr, ArrayRef, Count, PortRef, Reg, Special
from isa.program import Limits

from .layout import BufferPlan, scratch_name

SEGMENTS, INDEX, TOKENS, POSITION, OUTPUTS = Reg(1), Reg(2), Reg(3), Reg(4), Reg(5)
KV_BASE, KV_ROW, LENGTH = Reg(6), Reg(7), Reg(8)
_FIRST_FREE, _FIRST_TABLE, _LAST = 9, 24, 31

Deferred = Callable[[int], Inst]


@dataclass(slots=True)
class Line:
    """An instruction, or one that waits for the index of the label `end`, and the site it is done for."""

    make: Inst | Deferred
    site: int
    label: int | None = None


class Emitter:
    """The text of one role in the making.

    `head` runs at the start of every segment (lengths and row counts that blocks need), `body` is the blocks.
    """

    def __init__(
        self, template: Template, plan: BufferPlan, arithmetic: Arithmetic, limits: Limits, context: int
    ):
        self.template, self.plan, self.arithmetic, self.limits = template, plan, arithmetic, limits
        self.context_rows = context
        self.values = {v.name: v for v in template.values}
        self.array_index = {a.name: i for i, a in enumerate(template.arrays)}
        self.port_index = {p.name: i for i, p in enumerate(template.ports)}
        self.table_register = {name: Reg(_FIRST_TABLE + i) for i, name in enumerate(template.tables)}
        self.head: list[Line] = []
        self.body: list[Line] = []
        self.labels: dict[int, int] = {}
        self.site = -1
        self.block = 0
        self._shared: dict[str, Reg] = {}
        self._free = _FIRST_FREE
        if len(template.tables) > _LAST - _FIRST_TABLE + 1:
            raise ValueError(f"template {template.name} has more tables than registers are kept for")

    @property
    def int8(self) -> bool:
        """Whether arrays take int8."""
        return self.arithmetic is Arithmetic.INT8

    # ------------------------------------------------------------------------------------- names to operands

    def at(self, name: str) -> Addr:
        """The address of a value, a constant, or the scales of a Q8 value (`x.scale`)."""
        return Addr(ZERO, self.plan.offsets[name])

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
        """A register for the current block and those after it."""
        if self._free >= _FIRST_TABLE:
            raise ValueError(f"template {self.template.name} needs more scalar registers than there are")
        self._free += 1
        return Reg(self._free - 1)

    def shared(self, key: str, make: Callable[[Reg], Inst]) -> Reg:
        """A register that holds the same all through a segment, set in `head` when first asked for."""
        if key not in self._shared:
            register = self._shared[key] = self.register()
            self.head.append(Line(make(register), -1))
        return self._shared[key]

    def rows(self, name: str, times: int = 1) -> Reg:
        """The number of rows of a value, `times` over."""
        base = OUTPUTS if self.values[name].rows is Rows.OUTPUTS else TOKENS
        if times == 1:
            return base
        return self.shared(f"{base}*{times}", lambda rd: Mul(rd, base, times))

    # --------------------------------------------------------------------------------------------------- code

    def add(self, *instructions: Inst) -> None:
        """Append to the body."""
        self.body += [Line(inst, self.site) for inst in instructions]

    def loop(self, count: Count, emit: Callable[[Reg], None]) -> None:
        """Append a counted loop; `emit` appends its body, given the counter."""
        counter = self.register()
        label = len(self.labels)
        self.labels[label] = -1
        self.body.append(Line(lambda end: Loop(counter, count, end), self.site, label))
        emit(counter)
        self.labels[label] = len(self.body)

    def text(self) -> tuple[tuple[Inst, ...], tuple[int, ...]]:
        """The finished code with the site of each instruction."""
        front = [Line(Ldp(register, i), -1) for i, register in enumerate(self.table_register.values())]
        front.append(Line(Sys(SEGMENTS, Special.SEGMENTS), -1))
        start = [Line(inst, -1) for inst in self._segment_facts()]
        lines = [*start, *self.head, *self.body]
        end = len(front) + 1 + len(lines)
        offset = end - len(self.body)
        frame = [*front, Line(Loop(INDEX, SEGMENTS, end), -1), *lines, Line(Halt(), -1)]
        code = tuple(self._resolve(line, offset) for line in frame)
        return code, tuple(line.site for line in frame)

    def _resolve(self, line: Line, offset: int) -> Inst:
        if isinstance(line.make, Inst):
            return line.make
        assert line.label is not None
        return line.make(self.labels[line.label] + offset)

    def _segment_facts(self) -> list[Inst]:
        facts: list[Inst] = [Seg(INDEX), Sys(TOKENS, Special.TOKENS), Sys(POSITION, Special.POSITION)]
        if any(v.rows is Rows.OUTPUTS for v in self.template.values):
            facts.append(Sys(OUTPUTS, Special.OUTPUTS))
        if any(a.rows and a.name in ("keys", "values") for a in self.template.arrays):
            facts += [
                Sys(KV_BASE, Special.SEQUENCE),
                Mul(KV_BASE, KV_BASE, self.context_rows),
                Add(KV_ROW, KV_BASE, POSITION),
                Add(LENGTH, POSITION, TOKENS),
            ]
        return facts


def words(value: MapValue, cols: int) -> int:
    """4-byte words of `cols` columns of a value."""
    return cols // 4 if value.format is Format.Q8 else cols
