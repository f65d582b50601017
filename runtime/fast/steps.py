"""One step in the arenas: what the host brings, the kernel's run with what it returns for, room, costs that are new."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isa.program import Segment
from isa.scalars import source_count
from isa.segments import dealt
from isa.timing.costs import Cost
from runtime.within import parts_within

from . import layout as at
from .decode import cost_words
from .hosts import Hosts, host_turn, is_host_turn
from .kernel import are_left, margin, run
from .shares import share_words
from .table import FIRST_SLOTS, put_cost
from .template import Template
from .words import Words, enlarged, reserved

_FIRST_ROOM = 1 << 20  # words for what a step makes


class Costs:
    """The costs of a program that were met so far: in the plan arena, and by number in their role."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self.plan = enlarged(template.plan, 2 * template.plan.size)
        self._free = template.plan.size
        self._places: list[int] = []
        self._make_table(FIRST_SLOTS)
        self.by_role: list[list[Cost]] = [[] for _ in template.ops]

    @property
    def most(self) -> int:
        """The most costs that a role has."""
        return max(map(len, self.by_role), default=0)

    def add(self, code: int, registers: Sequence[int]) -> None:
        """Find the cost of the instruction at `code`. Raises `CimError` E0604 where the machine traps."""
        starts = self._template.code
        role = int(np.searchsorted(starts, code, side="right")) - 1
        op = self._template.ops[role][(code - starts[role]) // at.C_SIZE]
        cost = op.cost(list(registers))
        row = cost_words(cost, code, [registers[i] for i in op.lengths], len(self.by_role[role]))
        self.by_role[role].append(cost)
        place = self._take(row.size)
        self.plan[place : place + row.size] = row
        self._places.append(place)
        slots = int(self.plan[at.X_MASK]) + 1
        if 2 * len(self._places) > slots:
            self._make_table(4 * slots)
        else:
            put_cost(self.plan, place)

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


class Step:
    """The arenas of one step. What an earlier step has left in the state arena does no harm: rows are made whole."""

    def __init__(self, template: Template, costs: Costs, segments: Sequence[Segment], arena: Words) -> None:
        self._template, self._costs = template, costs
        self.state = arena
        if self.state.size < template.state.size + _FIRST_ROOM:
            self.state = reserved(template.state, template.state.size + _FIRST_ROOM)
        self.state[: template.state.size] = template.state
        self.executed = np.zeros((len(template.teams), max(costs.most, 1)), np.int64)
        self._put_segments(segments)
        self._put_host(segments)
        self.hosts: Hosts | None = None
        if parts_within(template.program):
            self.hosts = Hosts(template.program, template.exchange, template.routes, self)

    def reserve(self, words: int = 0) -> None:
        """See to it that there is room for so many words, and whatever something small makes."""
        needed = int(self.state[at.H_FREE]) + margin(self.state) + words
        if needed > self.state.size:
            self.state = enlarged(self.state, 2 * needed)

    def _add(self, words: Words) -> int:
        """Put words behind what is in the state arena."""
        self.reserve(words.size)
        place = int(self.state[at.H_FREE])
        self.state[place : place + words.size] = words.reshape(-1)
        self.state[at.H_FREE] += words.size
        return place

    def _put_segments(self, segments: Sequence[Segment]) -> None:
        """Give each tile the segments of its copy; tiles that have none rest."""
        first, count = int(self.state[at.H_TILES]), int(self.state[at.H_TILE_COUNT])
        shares = dealt(segments, self._template.copies)
        each = count // len(shares)
        places = [self._add_share(own) for own in shares]
        awake = [index for index in range(count) if shares[index // each]]
        tiles = self.state[first : first + at.T_SIZE * count].reshape(count, at.T_SIZE)
        for number, (place, own) in enumerate(zip(places, shares, strict=True)):
            tiles[number * each : (number + 1) * each, at.T_SHARE] = place
            tiles[number * each : (number + 1) * each, at.T_SEGMENT] = source_count(own)
        rows = first + at.T_SIZE * np.array(awake)
        tiles[awake, at.T_NEXT] = np.append(rows[1:], 0)
        self.state[at.H_FIRST], self.state[at.H_LATEST] = rows[0], rows[-1]
        self.state[at.H_HALTED] = count - len(awake)

    def _add_share(self, segments: Sequence[Segment]) -> int:
        """Put segments into the state arena: the place of what says where they are."""
        words, share = share_words(segments, int(self.state[at.H_FREE]))
        self._add(words)
        return share

    def _put_host(self, segments: Sequence[Segment]) -> None:
        exchange, routes = self._template.exchange, self._template.routes
        exchange.begin(segments)
        for number, meeting in enumerate(exchange.meetings):
            if meeting.host_sizes:
                self.put_sizes(routes.meeting(number), meeting.host_sizes)

    def put_sizes(self, meeting: int, sizes: Sequence[int]) -> None:
        """The host's messages of a channel have these sizes."""
        place = self._add(np.array(sizes, np.int64))
        self.state[meeting + at.M_HOST_SIZES], self.state[meeting + at.M_HOST_COUNT] = place, len(sizes)

    def run(self) -> int:
        """Run until the step is over (`DONE`), or is trouble."""
        while True:
            floats = self.state.view(np.float64)
            status = run(self.state, floats, self._costs.plan, self._template.rates, self.executed)
            if status == at.GROW:
                self.state = enlarged(self.state, 2 * self.state.size + int(self.state[at.H_MARGIN]))
            elif self.hosts is not None and is_host_turn(status):
                host_turn(self.hosts, self.state, status)
            elif status == at.MISS:
                self._add_cost()
            elif status == at.DONE and self._are_left():
                return at.TROUBLE
            else:
                return status

    def _add_cost(self) -> None:
        registers = int(self.state[at.H_CURRENT]) + at.T_REGISTERS
        values = self.state[registers : registers + at.REGISTER_WORDS].tolist()
        self._costs.add(int(self.state[at.H_ARG]), values)
        if self._costs.most > self.executed.shape[1]:
            wider = np.zeros((self.executed.shape[0], 2 * self._costs.most), np.int64)
            wider[:, : self.executed.shape[1]] = self.executed
            self.executed = wider

    def _are_left(self) -> bool:
        routes = self._template.routes
        return are_left(self.state, routes.meetings, len(self._template.exchange.meetings))
