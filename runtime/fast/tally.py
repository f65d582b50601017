"""What the tiles of a step have issued and caused: what their traces say, by event and node.

From step to step only traces count that are not the same as before.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isa.events import Event
from isa.instruction import Unit

from .marks import EVENTS, NUMBERS, UNITS, Marks
from .messages import CHIP_LINK, HOP, HOST_LINK, REDUCE
from .template import Template
from .traces import Trace
from .words import Words

_MESSAGE_EVENTS = {
    HOP: Event.HOP_BYTE,
    CHIP_LINK: Event.CHIP_LINK_BYTE,
    HOST_LINK: Event.HOST_LINK_BYTE,
    REDUCE: Event.REDUCE_OP,
}


class Tally:
    """Counts by event and node, then by unit, of the traces that tiles go through."""

    def __init__(self, template: Template, copies: int) -> None:
        self._template = template
        self._nodes = len(template.nodes)
        self._counts = np.zeros(len(EVENTS) * self._nodes + len(UNITS), np.int64)
        self._now: list[list[Marks | None]] = [[None] * len(template.kinds) for _ in range(copies)]
        self._teams = [self._teams_of(number, copies) for number in range(copies)]
        keys = [(event, node) for event in EVENTS for node in template.nodes]
        order = sorted(range(len(keys)), key=lambda at: (NUMBERS[keys[at][0]], keys[at][1]))
        self._order, self._keys = np.array(order), [keys[at] for at in order]
        self._some: Words = np.zeros(0, np.int64)  # those keys that were counted in the last step
        self._some_keys: list[tuple[Event, str]] = []

    def _teams_of(self, number: int, copies: int) -> list[tuple[Words, Words]]:
        """Of each kind of a copy's tiles: the nodes behind instructions of each team that has some, and how many."""
        teams, kinds = self._template.of_tile
        each, count = len(teams) // copies, len(self._template.kinds)
        mine = slice(number * each, (number + 1) * each)
        found: list[list[tuple[int, int]]] = [[] for _ in range(count)]
        pairs, counts = np.unique(teams[mine] * count + kinds[mine], return_counts=True)
        for pair, tiles in zip(pairs.tolist(), counts.tolist(), strict=True):
            found[pair % count].append((pair // count, tiles))
        return [
            (np.array([self._template.teams[team].nodes for team, _ in own]), np.array([n for _, n in own]))
            for own in found
        ]

    def count(self, traces: Sequence[Sequence[Trace]]) -> None:
        """The tiles go through these traces: those of each copy, by kind; none in one that rests."""
        for now, wanted, teams in zip(self._now, traces, self._teams, strict=True):
            for kind, before in enumerate(now):
                trace = wanted[kind] if wanted else None
                marks = trace.marks if trace else None
                if marks is not before:
                    self._add(before, teams[kind], -1)
                    self._add(marks, teams[kind], 1)
                    now[kind] = marks

    def _add(self, marks: Marks | None, teams: tuple[Words, Words], sign: int) -> None:
        """Count what the tiles of some teams do on their way through a trace, or take it back."""
        if marks is None or not len(teams[1]):
            return
        nodes, tiles = teams
        units = marks.rows - len(EVENTS)
        by_node = marks.rows * self._nodes + nodes[:, marks.indices]
        places = np.where(units < 0, by_node, len(EVENTS) * self._nodes + units)
        np.add.at(self._counts, places, sign * tiles[:, None] * marks.counts)

    def instructions(self) -> dict[Unit, int]:
        """Instructions issued, by unit."""
        return dict(zip(UNITS, self._counts[-len(UNITS) :].tolist(), strict=True))

    def events(self, messages: Words) -> dict[tuple[Event, str], int]:
        """Counts by event and node, with those of messages."""
        totals = self._counts[: -len(UNITS)].copy()
        for number, event in _MESSAGE_EVENTS.items():
            place, to = number * self._nodes, NUMBERS[event] * self._nodes
            totals[to : to + self._nodes] += messages[place : place + self._nodes]
        totals = totals[self._order]
        some = np.flatnonzero(totals)
        if not np.array_equal(some, self._some):
            self._some, self._some_keys = some, [self._keys[at] for at in some.tolist()]
        return dict(zip(self._some_keys, totals[some].tolist(), strict=True))
