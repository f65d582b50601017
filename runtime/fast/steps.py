"""One step in the arenas: tiles before their traces, what the host brings, the kernel's run with what it asks for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isa.program import Segment
from runtime.within import parts_within

from . import layout as at
from .costs import Costs
from .hosts import Hosts, host_turn, is_host_turn
from .kernel import are_left, room_needed, run
from .template import Template
from .traces import Traces
from .words import Words, enlarged, reserved

_FIRST_ROOM = 1 << 20  # words for what a step makes


class Step:
    """The arenas of one step. What an earlier step has left in the state arena does no harm: rows are made whole."""

    def __init__(
        self,
        template: Template,
        costs: Costs,
        traces: Traces,
        items: Words,
        segments: Sequence[Segment],
        arena: Words,
    ) -> None:
        self._template, self._costs, self._traces = template, costs, traces
        self.state = arena
        if self.state.size < template.state.size + _FIRST_ROOM:
            self.state = reserved(template.state, template.state.size + _FIRST_ROOM)
        self.state[: template.state.size] = template.state
        self.state[at.H_REACH] = traces.reach
        self._put_tiles(items)
        self._put_host(segments)
        self.hosts: Hosts | None = None
        if parts_within(template.program):
            self.hosts = Hosts(template.program, template.exchange, template.routes, self)

    def reserve(self, words: int = 0) -> None:
        """See to it that there is room for so many words, and whatever something small makes."""
        needed = int(self.state[at.H_FREE]) + room_needed(self.state) + words
        if needed > self.state.size:
            self.state = enlarged(self.state, 2 * needed)

    def _add(self, words: Words) -> int:
        """Put words behind what is in the state arena."""
        self.reserve(words.size)
        place = int(self.state[at.H_FREE])
        self.state[place : place + words.size] = words.reshape(-1)
        self.state[at.H_FREE] += words.size
        return place

    def _put_tiles(self, items: Words) -> None:
        """Put all tiles before their traces, which begin there; those that have none (0) rest."""
        first, count = int(self.state[at.H_TILES]), int(self.state[at.H_TILE_COUNT])
        tiles = self.state[first : first + at.TILE_SIZE * count].reshape(count, at.TILE_SIZE)
        tiles[:, at.TILE_ITEM], tiles[:, at.TILE_TIME] = items, self._traces.items[items] >> at.I_GAP
        awake = np.flatnonzero(items)
        rows = first + at.TILE_SIZE * awake
        tiles[awake, at.TILE_NEXT] = np.append(rows[1:], 0)
        self.state[at.H_FIRST], self.state[at.H_LATEST] = rows[0], rows[-1]
        self.state[at.H_HALTED] = count - len(rows)

    def _put_host(self, segments: Sequence[Segment]) -> None:
        self._template.exchange.segments = tuple(segments)
        sizes = self._template.exchange.sizes(segments)
        place = self._add(np.array([size for own in sizes.values() for size in own], np.int64))
        for number, own in sizes.items():
            meeting = self._template.routes.meeting(number)
            self.state[meeting + at.M_HOST_SIZES], self.state[meeting + at.M_HOST_COUNT] = place, len(own)
            place += len(own)

    def put_sizes(self, meeting: int, sizes: Sequence[int]) -> None:
        """The host's messages of a channel have these sizes."""
        place = self._add(np.array(sizes, np.int64))
        self.state[meeting + at.M_HOST_SIZES], self.state[meeting + at.M_HOST_COUNT] = place, len(sizes)

    def run(self) -> int:
        """Run until the step is over (`DONE`), or is trouble."""
        while True:
            self.state[at.H_LIMIT] = self.state.size
            floats = self.state.view(np.float64)
            status = run(self.state, floats, self._traces.items, self._costs.plan, self._template.rates)
            if status == at.GROW:
                self.state = enlarged(self.state, 2 * self.state.size + int(self.state[at.H_MARGIN]))
            elif self.hosts is not None and is_host_turn(status):
                host_turn(self.hosts, self.state, status)
            elif status == at.DONE and self._are_left():
                return at.TROUBLE
            else:
                return status

    def _are_left(self) -> bool:
        routes = self._template.routes
        return are_left(self.state, routes.meetings, len(self._template.exchange.meetings))
