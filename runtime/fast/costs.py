"""The costs of a program that were met so far: in the plan arena, and by number in their role."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from isa.timing.costs import Cost

from . import layout as at
from .decode import cost_words, duration_words
from .table import FIRST_SLOTS, put_cost
from .template import Template
from .words import enlarged


class Costs:
    """Grows as instructions are met with lengths that are new."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self.plan = enlarged(template.plan, 2 * template.plan.size)
        self._free = template.plan.size
        self._places: list[int] = []
        self._lines: dict[bytes, int] = {}
        self._make_table(FIRST_SLOTS)
        self.by_role: list[list[Cost]] = [[] for _ in template.ops]

    def add(self, code: int, registers: Sequence[int]) -> int:
        """Find the cost of the instruction at `code`: its number in its role. Raises `CimError` E0604 where the
        machine traps."""
        starts = self._template.code
        role = bisect_right(starts, code) - 1
        op = self._template.ops[role][(code - starts[role]) // at.C_SIZE]
        cost = op.cost(list(registers))
        number = len(self.by_role[role])
        row = cost_words(cost, code, [registers[i] for i in op.lengths], number)
        row[at.K_DURATIONS] = self._durations(cost, int(self.plan[code + at.C_MEMORY]))
        self.by_role[role].append(cost)
        place = self._take(row.size)
        self.plan[place : place + row.size] = row
        self._places.append(place)
        slots = int(self.plan[at.X_MASK]) + 1
        if 2 * len(self._places) > slots:
            self._make_table(4 * slots)
        else:
            put_cost(self.plan, place)
        return number

    def _durations(self, cost: Cost, memory: int) -> int:
        """Where it is written down what an operation takes."""
        words = duration_words(cost, memory)
        key = words.tobytes()
        if key not in self._lines:
            place = self._lines[key] = self._take(at.D_SIZE)
            self.plan[place : place + at.D_SIZE] = words
        return self._lines[key]

    def _take(self, words: int) -> int:
        """Room in the plan arena that begins with a cache line."""
        place = -(-self._free // at.LINE) * at.LINE
        if place + words > self.plan.size:
            self.plan = enlarged(self.plan, 2 * self.plan.size + words)
        self._free = place + words
        return place

    def _make_table(self, slots: int) -> None:
        """Put all costs into a new table."""
        table = self._take(slots)
        self.plan[table : table + slots] = 0
        self.plan[[at.X_TABLE, at.X_MASK]] = table, slots - 1
        for place in self._places:
            put_cost(self.plan, place)
