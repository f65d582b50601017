"""What emission of every block shares: the code so far, registers, addresses, and the frame of a role's text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from compiler.ir.mapping import FIRST_OF_ROW, Arithmetic, Format, MapValue, Repeat, Rows, Template
from isa.instruction import Inst
from isa.instructions import Add, And, Div, Halt, Ldp, Loop, Mod, Mul, Page, Seg, Sseg, Sub, Sys
from isa.operands import ZERO, Addr, ArrayRef, Count, PortRef, Reg, Special
from isa.program import ArraySpec, Limits

from .layout import BufferPlan, scratch_name
from .registers import Unplaced, share_registers

SEGMENTS, INDEX, TOKENS, POSITION, OUTPUTS = Reg(1), Reg(2), Reg(3), Reg(4), Reg(5)
KV_BASE, KV_ROW, LENGTH, END = Reg(6), Reg(7), Reg(8), Reg(9)
PLACE = Reg(10)  # which of their places the segment's values have: how far from the first, in bytes
_FIRST_FREE, _FIRST_TABLE, _LAST = 11, 24, 31

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

    `facts` are the registers among those with fixed meanings that its code uses; `rows` is how many rows of a KV
    array a sequence has, of the array for which KV_BASE and KV_ROW stand (0 while there is none); `page_rows` are those
    of a page, where they stand for arrays that sequences share. With `is_source` the segments are those of the source.
    `distance` is that of two of the `places` of a value.
    """

    head: list[Line] = field(default_factory=list)
    body: list[Line] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    shared: dict[str, Reg] = field(default_factory=dict)
    facts: set[Reg] = field(default_factory=set)
    is_source: bool = False
    distance: int = 0
    places: int = 1
    is_once: bool = False
    rows: int = 0
    page_rows: int = 0
    free: int = _FIRST_FREE
    unplaced: int = 0

    def resolve(self, line: Line, offset: int) -> Inst:
        """The instruction of a line, its label known now that the body starts at `offset`."""
        if isinstance(line.make, Inst):
            return line.make
        if line.label is None:
            raise ValueError("an instruction waits for no label")
        return line.make(self.labels[line.label] + offset)

    @property
    def counts(self) -> Special:
        """What says how many segments the pass goes over."""
        return Special.SOURCES if self.is_source else Special.SEGMENTS

    def start(self) -> list[Inst]:
        """Code that makes a segment the current one, and reads what the pass uses of it."""
        if self.is_once:
            return []
        facts = self.facts
        code: list[Inst] = [Sseg(INDEX) if self.is_source else Seg(INDEX), Sys(TOKENS, Special.TOKENS)]
        if PLACE in facts:
            code += [And(PLACE, INDEX, self.places - 1), Mul(PLACE, PLACE, self.distance)]
        if facts & {POSITION, KV_ROW, LENGTH}:
            code.append(Sys(POSITION, Special.POSITION))
        if OUTPUTS in facts:
            code.append(Sys(OUTPUTS, Special.OUTPUTS))
        code += self._paged_rows() if self.page_rows else self._rows()
        if END in facts:
            code.append(Sys(END, Special.END))
        if LENGTH in facts:
            code.append(Add(LENGTH, POSITION, TOKENS))
        return code

    def _rows(self) -> list[Inst]:
        """KV_BASE = sequence * rows, KV_ROW = KV_BASE + position."""
        code: list[Inst] = []
        if self.facts & {KV_BASE, KV_ROW}:
            code += [Sys(KV_BASE, Special.SEQUENCE), Mul(KV_BASE, KV_BASE, self.rows)]
        if KV_ROW in self.facts:
            code.append(Add(KV_ROW, KV_BASE, POSITION))
        return code

    def _paged_rows(self) -> list[Inst]:
        """KV_BASE = page(0) * rows, KV_ROW = (page(position div rows) - position div rows) * rows + position."""
        code: list[Inst] = []
        if KV_ROW in self.facts:
            code += [Div(KV_ROW, POSITION, self.page_rows), Page(KV_BASE, KV_ROW)]
            code += [Sub(KV_BASE, KV_BASE, KV_ROW), Mul(KV_BASE, KV_BASE, self.page_rows)]
            code.append(Add(KV_ROW, KV_BASE, POSITION))
        if KV_BASE in self.facts:
            code += [Page(KV_BASE, 0), Mul(KV_BASE, KV_BASE, self.page_rows)]
        return code


class Emitter:
    """The text of one role in the making: for each phase a loop over the step's segments."""

    def __init__(self, template: Template, plan: BufferPlan, arithmetic: Arithmetic, limits: Limits) -> None:
        self.template, self.plan, self.arithmetic, self.limits = template, plan, arithmetic, limits
        self.values = {v.name: v for v in template.values}
        self.array_index = {a.name: i for i, a in enumerate(template.arrays)}
        self.port_index = {p.name: i for i, p in enumerate(template.ports)}
        self.table_register = {name: Reg(_FIRST_TABLE + i) for i, name in enumerate(template.tables)}
        self.stacked = {c.name: c for c in template.constants if c.times}
        self.depth = max((len(template.around(r.first)) for r in template.repeats), default=0)
        self.phases = [self._new_phase(0)]
        self.site = -1
        self.block = 0
        if len(template.tables) > _LAST - _FIRST_TABLE + 1 - self.depth:
            raise ValueError(f"template {template.name} has more tables than registers are kept for")

    @property
    def int8(self) -> bool:
        """Whether arrays take int8."""
        return self.arithmetic is Arithmetic.INT8

    def _new_phase(self, number: int) -> _Phase:
        is_source = number < self.template.source_phases
        page_rows = 0 if is_source else self.limits.page_rows
        phase = _Phase(is_source=is_source, is_once=number in self.template.once, page_rows=page_rows)
        phase.distance, phase.places = self.plan.distance, self.plan.places
        return phase

    def begin(self, block: int, site: int, phase: int) -> None:
        """Go on with block number `block`, done for `site`, in a phase that is this one or the next."""
        self.block, self.site = block, site
        if phase == len(self.phases):
            self.phases.append(self._new_phase(phase))
        if phase != len(self.phases) - 1:
            raise ValueError(f"template {self.template.name}: blocks are not in the order of their phases")

    @property
    def phase(self) -> _Phase:
        """The phase in the making."""
        return self.phases[-1]

    # ------------------------------------------------------------------------------------- names to operands

    def at(self, name: str) -> Addr:
        """The address of a value, a constant, or the scales of a Q8 value (`x.scale`).

        Of a value that holds whole sequences, the address of the segment's first row.
        """
        value = self.values.get(name.removesuffix(".scale"))
        base = self.fact(PLACE) if name in self.plan.turned else ZERO
        if value is not None and value.rows is Rows.SEQUENCE:
            size = value.cols * (1 if value.format is Format.Q8 else 4)
            size = 4 * value.scales if name not in self.values else size
            row = self._kept_row()
            base = self.shared(f"row*{size}", lambda rd: Mul(rd, row, size))
        if value is not None and value.rows is Rows.STEP:
            size = 4 if name not in self.values else value.cols * (1 if value.format is Format.Q8 else 4)
            size *= self.limits.chunk
            base = self.shared(f"segment*{size}", lambda rd: Mul(rd, INDEX, size))
        if name in self.stacked:
            size, by_position = 4 * self.stacked[name].cols, self.stacked[name].by_position
            at = self.fact(POSITION) if by_position else self.counters[0]
            base = self.shared(f"{at}*{size}", lambda rd: Mul(rd, at, size))
        return Addr(base, self.plan.offsets[name])

    def longest(self, *, of_source: bool = False) -> int:
        """Rows that a sequence, or its source, has at most."""
        is_source = of_source or self.phase.is_source
        return self.limits.max_source if is_source else self.limits.max_context

    def _kept_row(self) -> Reg:
        """The row of the segment's first token in values that hold whole sequences, one after the other."""
        position = self.fact(POSITION)
        if self.limits.sequences == 1:
            return position
        start = self.sequence_times(self.longest())
        return self.shared("kept_row", lambda rd: Add(rd, start, position))

    def tmp(self, name: str) -> Addr:
        """The address of the current block's working space."""
        return self.at(scratch_name(self.block, name))

    def value(self, name: str) -> MapValue:
        """A value of the template."""
        return self.values[name]

    def array(self, name: str) -> ArrayRef:
        """An array by name; one that begins a row of arrays (`FIRST_OF_ROW`) stands for that of the iteration."""
        if name.endswith(FIRST_OF_ROW):
            return ArrayRef(self.array_index[name], self._iteration())
        return ArrayRef(self.array_index[name])

    @property
    def counters(self) -> tuple[Reg, ...]:
        """The counters of the loops around the phase, outer ones first."""
        return tuple(Reg(_LAST - i) for i in range(len(self.around)))

    @property
    def around(self) -> tuple[Repeat, ...]:
        """The loops around the phase, outer ones first."""
        return self.template.around(len(self.phases) - 1)

    def _iteration(self) -> Reg:
        """A register that counts the iterations of all loops around the phase together."""
        at = self.counters[0]
        for depth in range(1, len(self.around)):
            outer, count, inner = at, self.around[depth].count, self.counters[depth]
            whole = self.shared(f"whole{depth}", lambda rd, outer=outer, count=count: Mul(rd, outer, count))  # type: ignore[misc]
            at = self.shared(f"iteration{depth}", lambda rd, whole=whole, inner=inner: Add(rd, whole, inner))  # type: ignore[misc]
        return at

    def spec(self, name: str) -> ArraySpec:
        """An array's size and kind."""
        return self.template.arrays[self.array_index[name]]

    @property
    def is_paged(self) -> bool:
        """Whether sequences share the KV arrays of the phase's rows in pages."""
        return self.limits.pages > 0 and not self.phase.is_source

    def port(self, name: str) -> PortRef:
        """A port by name."""
        return PortRef(self.port_index[name])

    # --------------------------------------------------------------------------------------------- registers

    def register(self) -> Reg:
        """A register for the current block and those after it in its phase: one below those of tables, or above.

        When there are no more, one that is chosen at the end (`share_registers`).
        """
        index = self.phase.free
        if index == _FIRST_TABLE:
            index += len(self.table_register)
        if index > _LAST - self.depth:
            self.phase.unplaced += 1
            return Unplaced(_LAST, self.phase.unplaced)
        self.phase.free = index + 1
        return Reg(index)

    def shared(self, key: str, make: Callable[[Reg], Inst]) -> Reg:
        """A register that holds the same all through a segment, set at its start when first asked for."""
        shared = self.phase.shared
        if key not in shared:
            register = shared[key] = self.register()
            self.phase.head.append(Line(make(register), -1))
        return shared[key]

    def kept(self, key: str) -> Reg:
        """A register for code that comes several times in a phase, and needs it only while it runs."""
        shared = self.phase.shared
        if key not in shared:
            shared[key] = self.register()
        return shared[key]

    def rows(self, name: str, times: int = 1, *, wanted: bool = False) -> Reg:
        """The number of rows of a value that an operation sees, `times` over; `wanted`: those with outputs."""
        base = OUTPUTS if wanted or self.values[name].rows is Rows.OUTPUTS else TOKENS
        self.phase.facts.add(base)
        if times == 1:
            return base
        return self.shared(f"{base}*{times}", lambda rd: Mul(rd, base, times))

    def fact(self, register: Reg) -> Reg:
        """A register that holds a fact of the segment (POSITION, LENGTH, ...), read at its start."""
        self.phase.facts.add(register)
        return register

    def source(self) -> Reg:
        """A register that holds how many rows of the source the segment's sequence has."""
        return self.shared("source", lambda rd: Sys(rd, Special.SOURCE))

    def kv_base(self, array: str, *, own: bool = False) -> Reg:
        """A register that holds the first row of a KV array that belongs to the segment's sequence.

        With pages, the first row of its first page, unless each has rows of its `own` in this array.
        """
        if self.is_paged and not own:
            return self.fact(KV_BASE)
        rows = self.spec(array).rows // self.limits.sequences
        if self._is_usual(rows):
            return self.fact(KV_BASE)
        return self.sequence_times(rows)

    def kv_row(self, array: str, ring: int = 0) -> Reg:
        """A register that holds the row of a KV array that belongs to the segment's first token.

        With `ring` a sequence's rows are a ring of that many.
        """
        if ring:
            base, position = self.kv_base(array, own=True), self.fact(POSITION)
            place = self.shared(f"position%{ring}", lambda rd: Mod(rd, position, ring))
            return self.shared(f"{base}+position%{ring}", lambda rd: Add(rd, base, place))
        if self.is_paged or self._is_usual(self.spec(array).rows // self.limits.sequences):
            return self.fact(KV_ROW)
        base = self.kv_base(array)
        return self.shared(f"{base}+position", lambda rd: Add(rd, base, self.fact(POSITION)))

    def sequence_times(self, rows: int) -> Reg:
        """A register that holds the segment's sequence, times `rows`."""
        sequence = self.shared("sequence", lambda rd: Sys(rd, Special.SEQUENCE))
        return self.shared(f"sequence*{rows}", lambda rd: Mul(rd, sequence, rows))

    def _is_usual(self, rows: int) -> bool:
        """Whether KV_BASE and KV_ROW are for arrays with so many rows a sequence: as the first in the phase has."""
        if self.is_paged:
            return False
        self.phase.rows = self.phase.rows or rows
        return rows == self.phase.rows

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
        sites = [-1] * len(code)
        opened: list[tuple[int, Repeat]] = []
        counted: Special | None = None
        for number, phase in enumerate(self.phases):
            for repeat in self.template.repeats:
                if repeat.first == number:
                    opened.append((len(code), repeat))
                    code.append(Halt())  # the loop, once its end is known
                    sites.append(-1)
            if not phase.is_once and counted is not phase.counts:
                counted = phase.counts
                code.append(Sys(SEGMENTS, counted))
                sites.append(-1)
            self._phase_text(phase, code, sites)
            while opened and opened[-1][1].last == number:
                at, repeat = opened.pop()
                code[at] = Loop(Reg(_LAST - len(opened)), repeat.count, len(code))
        return (*code, Halt()), (*sites, -1)

    def _phase_text(self, phase: _Phase, code: list[Inst], sites: list[int]) -> None:
        """Append a phase: a loop over segments, or, of what is done once, its blocks."""
        lines = [*(Line(inst, -1) for inst in phase.start()), *phase.head, *phase.body]
        if not phase.is_once:
            code.append(Loop(INDEX, SEGMENTS, len(code) + 1 + len(lines)))
            sites.append(-1)
        end = len(code) + len(lines)
        text = [phase.resolve(line, end - len(phase.body)) for line in lines]
        code += share_registers(text, len(code), self._pool, self.template.name) if phase.unplaced else text
        sites += [line.site for line in lines]

    @property
    def _pool(self) -> list[Reg]:
        """Registers that belong to one phase: not those of loops around it and of tables."""
        kept = self.table_register.values()
        return [r for r in map(Reg, range(POSITION.index, _LAST + 1 - self.depth)) if r not in kept]


def words(value: MapValue, cols: int) -> int:
    """4-byte words of `cols` columns of a value."""
    return cols // 4 if value.format is Format.Q8 else cols
