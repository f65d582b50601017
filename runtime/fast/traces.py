"""The traces of a program's tiles: made when they are first needed, kept for later steps.

Tiles with the same role and parameters, in copies with equal segments, go through one trace. Of segments only those
facts count that the role's text can read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isa import instructions as table
from isa.events import Bound
from isa.operands import Special
from isa.program import Role
from isa.segments import Segment
from isa.timing.critical import INDEX_OF
from isa.timing.memory import INTERLEAVE_BYTES

from . import layout as at
from .costs import Costs
from .marks import Marks, marks_of, unit_numbers
from .shares import share_words
from .template import Kind, Template
from .tracer import SMALL, link, room_needed, trace, turn_back
from .words import enlarged

Items = NDArray[np.int32]
FIRST_REACH = 4096
_FIRST_ITEMS = 1 << 16
_MOST_ITEMS = 1 << 26  # int32 words of traces from which on a step begins without those of earlier ones
_SEQUENCER = INDEX_OF[Bound.SEQUENCER]


@dataclass(frozen=True, slots=True)
class Trace:
    """Where a trace begins, and what a tile counts on its way through.

    Traces of one `form` pass in the same way, if the transfers of each memory begin as many channels apart: `turns`
    says how many bytes after the first channel of DRAM, and of a global buffer, they begin (-1: there are none).
    """

    item: int
    marks: Marks
    form: int
    turns: tuple[int, int] = (-1, -1)


class OutsideError(Exception):
    """A text does what only the reference knows."""


class Traces:
    """Makes and keeps traces."""

    def __init__(self, template: Template, costs: Costs) -> None:
        self._template, self._costs = template, costs
        self.items: Items = np.zeros(_FIRST_ITEMS, np.int32)
        self._free = 1
        self.reach = FIRST_REACH
        self._found: dict[tuple[object, ...], Trace] = {}
        self._same: dict[bytes, int] = {}  # by what lies there: where a trace begins
        self._forms: dict[bytes, int] = {}
        self._marks: dict[bytes, Marks] = {}
        self._asks_memory = [any(op.memory is not None for op in ops) for ops in template.ops]
        target = template.program.target
        self.stripes = [
            INTERLEAVE_BYTES * int(memory.channels.value) for memory in (target.dram, target.gbuf)
        ]
        self.generation = 0
        self._units = [unit_numbers(role) for role in template.program.roles]
        self._facts = [_facts_of(role) for role in template.program.roles]
        self._arena = np.zeros(1 << 18, np.int64)

    def begin(self) -> None:
        """A step begins: if traces have become very many, those of earlier steps go."""
        if self._free > _MOST_ITEMS:
            self.forget()

    def forget(self) -> None:
        """Make all traces again: none begins any more where one of another generation does."""
        self._found.clear()
        self._same.clear()
        self._forms.clear()
        self._marks.clear()
        self._free = 1
        self.generation += 1

    def widen(self) -> None:
        """Traces are to hold dependences over more operations."""
        self.reach *= 8
        self.forget()

    def of(self, kind: Kind, segments: Sequence[Segment]) -> Trace:
        """The trace of tiles of a kind. Raises `OutsideError`, and `CimError` E0604 where the machine traps."""
        key = (kind.role, kind.params, self._facts[kind.role].of(segments))
        found = self._found.get(key)
        if found is None:
            item, made = self._make(kind, segments)
            marks = self._marks.setdefault(made.key, made)
            form, turns = self._form(kind, item)
            item = self._shared(item)
            found = self._found[key] = Trace(item, marks, item if form is None else form, turns)
        return found

    def _form(self, kind: Kind, item: int) -> tuple[int | None, tuple[int, int]]:
        """The number (below 0) of what the latest trace says but for the channels in which transfers begin, and where
        they do; None if there are no transfers."""
        if not self._asks_memory[kind.role]:
            return None, (-1, -1)
        items, turns = self.items[item : self._free].copy(), np.array([*self.stripes, -1, -1])
        turn_back(items, self._costs.plan, turns)
        number = self._forms.setdefault(items.tobytes(), -1 - len(self._forms))
        return number, (int(turns[2]), int(turns[3]))

    def _shared(self, item: int) -> int:
        """Where what the latest trace says begins for the first time; one that says it again is not kept."""
        first = self._same.setdefault(self.items[item : self._free].tobytes(), item)
        if first != item:
            self._free = item
        return first

    # ------------------------------------------------------------------------------------------------ making

    def _make(self, kind: Kind, segments: Sequence[Segment]) -> tuple[int, Marks]:
        """A new trace: where it begins, and what it counts."""
        tracer, issued = self._lay_out(kind, segments)
        self._run(tracer, kind.role)
        self._set_limits(tracer)
        while (status := link(self._arena, self.items, tracer)) == at.GROW:
            self._grow(tracer)
        if status != at.DONE:
            raise OutsideError
        arena = self._arena
        first, self._free = int(arena[tracer + at.B_FIRST]), int(arena[tracer + at.B_OUT])
        executed = int(arena[tracer + at.B_EXECUTED])
        costs, units = self._costs.by_role[kind.role], self._units[kind.role]
        counts = arena[executed : executed + len(costs)]
        return first, marks_of(units, costs, counts, arena[issued : issued + len(units)])

    def _lay_out(self, kind: Kind, segments: Sequence[Segment]) -> tuple[int, int]:
        """Put a tracer into the arena: where it, and its counts of instructions are."""
        template, target = self._template, self._template.program.target
        depth = target.queue_depth
        words, share = share_words(segments, at.H_SIZE)
        issued = at.H_SIZE + words.size
        boards = issued + len(template.ops[kind.role])
        ports = boards + 2 * at.BOARD_SIZE
        numbers = ports + at.BQ_SIZE * kind.ports
        scratch = numbers + depth * (kind.ports + 3)
        places = scratch + 3 * at.MOST_DEPENDENCES
        tracer = places + self.reach
        executed = tracer + at.B_SIZE
        free = executed + self._room_for_costs(kind.role)
        arena = self._arena
        if arena.size < free + SMALL:
            arena = self._arena = np.zeros(2 * free + SMALL, np.int64)
        arena[:free] = 0
        arena[at.H_SIZE : issued] = words
        arena[[at.H_FREE, at.H_DEPTH, at.H_WINDOW]] = free, depth, target.queue_window
        arena[[at.H_GRANULE, at.H_REACH, at.H_MOST]] = target.granule_bytes, self.reach, 64
        row = arena[tracer : tracer + at.B_SIZE]
        row[at.T_CODE], row[at.T_SHARE], row[at.T_SEGMENT] = template.code[kind.role], share, words[-1]
        row[at.T_PARAMS], row[at.T_PARAM_COUNT] = kind.place, len(kind.params)
        row[at.B_BUFFER], row[at.B_CELLS] = boards, boards + at.BOARD_SIZE
        row[at.B_DEPENDENCES], row[at.B_FOUND] = scratch, scratch + at.MOST_DEPENDENCES
        row[at.B_PLACES] = places
        row[at.B_STRIPES : at.B_STRIPES + 2] = self.stripes
        row[at.B_EXECUTED], row[at.B_ISSUED] = executed, issued
        row[at.B_PORTS], row[at.B_PORT_COUNT] = ports, kind.ports
        row[at.B_FIRST] = row[at.B_OUT] = self._free
        for number in range(kind.ports):
            arena[ports + at.BQ_SIZE * number + at.BQ_NUMBERS] = numbers + depth * number
        for number, queue in enumerate((at.B_CIM, at.B_VECTOR, at.B_DMA), kind.ports):
            row[queue + at.BQ_NUMBERS] = numbers + depth * number
        return tracer, issued

    def _room_for_costs(self, role: int) -> int:
        return 64 + 2 * len(self._costs.by_role[role])

    def _run(self, tracer: int, role: int) -> None:
        """Run the text to its end."""
        room = self._room_for_costs(role)
        while True:
            self._set_limits(tracer)
            status = trace(self._arena, self.items, self._costs.plan, tracer, _SEQUENCER)
            if status == at.DONE:
                return
            if status == at.GROW:
                self._grow(tracer)
            elif status == at.MISS:
                registers = self._arena[tracer + at.T_REGISTERS :][: at.REGISTER_WORDS].tolist()
                if self._costs.add(int(self._arena[at.H_ARG]), registers) + 1 == room:
                    room = self._move_counts(tracer, room)
            else:
                raise OutsideError

    def _move_counts(self, tracer: int, room: int) -> int:
        """Twice the room for counts of costs."""
        free, old = int(self._arena[at.H_FREE]), int(self._arena[tracer + at.B_EXECUTED])
        if free + 2 * room > self._arena.size:
            self._arena = enlarged(self._arena, 2 * self._arena.size + 2 * room)
        self._arena[free : free + 2 * room] = 0
        self._arena[free : free + room] = self._arena[old : old + room]
        self._arena[tracer + at.B_EXECUTED], self._arena[at.H_FREE] = free, free + 2 * room
        return 2 * room

    def _grow(self, tracer: int) -> None:
        """More room, where it is missing."""
        arena, operations = self._arena, int(self._arena[tracer + at.B_SEQUENCE])
        need = int(arena[at.H_FREE]) + room_needed(arena) + 2 * operations
        if need > arena.size:
            self._arena = enlarged(arena, 2 * need)
        out, first = int(self._arena[tracer + at.B_OUT]), int(self._arena[tracer + at.B_FIRST])
        if 2 * out - first + at.I_SIZE + at.I_MOST > self.items.size:
            larger = np.empty(2 * (2 * out - first + at.I_MOST), np.int32)
            larger[: self.items.size] = self.items
            self.items = larger
        self._set_limits(tracer)

    def _set_limits(self, tracer: int) -> None:
        """Say how much room there is."""
        self._arena[at.H_LIMIT], self._arena[tracer + at.B_LIMIT] = self._arena.size, self.items.size


# ------------------------------------------------------------------------------------------------- facts


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a role's text can read of the step's segments."""

    any: bool
    names: tuple[str, ...]
    ends: bool

    def of(self, segments: Sequence[Segment]) -> object:
        """All that a trace depends on."""
        if not self.any:
            return None
        kinds = tuple(s.is_source for s in segments)
        facts = tuple(tuple(getattr(s, name) for s in segments) for name in self.names)
        ends = tuple((s.sequence, s.is_source, s.position + s.tokens) for s in segments) if self.ends else ()
        return kinds, facts, ends


_NAMES: dict[Special, tuple[str, ...]] = {  # of a segment's fields; how many segments there are counts anyway
    Special.SEGMENTS: (),
    Special.SOURCES: (),
    Special.END: (),
    Special.TOKENS: ("tokens",),
    Special.POSITION: ("position",),
    Special.OUTPUTS: ("outputs",),
    Special.SEQUENCE: ("sequence",),
    Special.SOURCE: ("source",),
}


def _facts_of(role: Role) -> _Facts:
    read = {inst.what for inst in role.code if isinstance(inst, table.Sys)}
    pages = any(isinstance(inst, table.Page) for inst in role.code)
    names = [name for fact in sorted(read, key=int) for name in _NAMES[fact]]
    is_any = bool(read) or any(isinstance(inst, table.Seg | table.Sseg) for inst in role.code)
    ends = bool(read & {Special.END, Special.SOURCE})
    return _Facts(is_any or pages, (*names, *(("pages",) if pages else ())), ends)
