"""Meetings, their routes and links as words; routes are those that the reference finds."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from isa.events import Bound
from isa.program import HOST
from isa.timing.critical import INDEX_OF
from runtime.timing.exchange import Exchange, Meeting
from runtime.timing.links import Link
from runtime.timing.network import Plan

from . import layout as at
from .words import Pieces, Words

RATE_OF_KIND = {
    Bound.NETWORK: at.RATE_NETWORK,
    Bound.CHIP_LINKS: at.RATE_CHIP_LINK,
    Bound.HOST_LINK: at.RATE_HOST_LINK,
}


@dataclass
class Links:
    """All links of the routes, ways into routers among them, in the order in which they were found."""

    numbers: dict[int, int] = field(default_factory=dict)  # by identity
    links: list[Link] = field(default_factory=list)
    ports: set[int] = field(default_factory=set)

    def number(self, link: Link, is_port: bool = False) -> int:
        """The number of a link."""
        found = self.numbers.setdefault(id(link), len(self.links))
        if found == len(self.links):
            self.links.append(link)
            if is_port:
                self.ports.add(found)
        return found

    def words(self) -> Words:
        """The rows of all links."""
        rows = np.zeros((len(self.links), at.L_SIZE), np.int64)
        for lane in (at.L_ALL, at.L_SHORT):
            rows[:, lane + at.LANE_OWN + at.S_START] = at.S_UNUSED
        return rows

    @cached_property
    def kinds(self) -> Words:
        """The kinds of links, when all are there, as places in `rates`."""
        return np.array([RATE_OF_KIND[link.kind] for link in self.links], np.int64)

    def latencies(self) -> Words:
        """Cycles that all links take."""
        return np.array([link.latency for link in self.links], np.int64)

    @cached_property
    def _of_kind(self) -> dict[Bound, Words]:
        """The numbers of links of each kind, when all are there; ways into routers are none."""
        kinds: dict[Bound, list[int]] = {}
        for number, link in enumerate(self.links):
            if number not in self.ports:
                kinds.setdefault(link.kind, []).append(number)
        return {kind: np.array(numbers, np.int64) for kind, numbers in kinds.items()}

    def busy(self, words: Words, kind: Bound) -> int:
        """Cycles that links of a kind carried bytes, given their rows."""
        mine = self._of_kind.get(kind)
        return 0 if mine is None else int(words[mine, at.L_BUSY].sum())


@dataclass(frozen=True, slots=True)
class Routes:
    """Where the meetings, their ends and the links of a program lie in the state arena."""

    meetings: int
    ends: Words  # where the first one of each meeting is
    links: int
    found: Links
    most_edges: int
    most_ends: int
    most_places: int

    def meeting(self, number: int) -> int:
        """The place of a meeting."""
        return self.meetings + at.M_SIZE * number

    def end(self, meeting: int, number: int) -> int:
        """The place of an end of a meeting."""
        return int(self.ends[meeting]) + at.E_SIZE * number


EDGE = 4


def _edges(plan: Plan, links: Links) -> list[int]:
    """Of each edge `EDGE` words: place before, place after, number of the link, cycles before it."""
    return [
        word
        for edge in plan.edges
        for word in (edge.before, edge.after, links.number(edge.link), plan.delay[edge.before])
    ]


def _meeting_row(meeting: Meeting, plan: Plan) -> list[int]:
    row = [0] * at.M_SIZE
    row[at.M_NUMBER], row[at.M_SOURCES] = meeting.number, len(meeting.sources)
    row[at.M_END_COUNT] = len(meeting.sources) + (0 if meeting.is_barrier else len(meeting.dests))
    row[at.M_NEEDED], row[at.M_IS_BARRIER] = meeting.needed, meeting.is_barrier
    row[at.M_HAS_HOST], row[at.M_GATHERING] = meeting.has_host, 1
    row[at.M_HOST_RECORD] = at.NO_RECORD
    row[at.M_BOUND], row[at.M_PLACE_COUNT] = INDEX_OF[plan.bound], len(plan.delay)
    row[at.M_EDGE_COUNT] = len(plan.edges)
    row[at.M_HOPS] = plan.links(Bound.NETWORK)
    row[at.M_CHIP_HOPS] = plan.links(Bound.CHIP_LINKS)
    row[at.M_HOST_HOPS] = plan.links(Bound.HOST_LINK)
    return row


def _ends(plan: Plan, links: Links) -> Iterator[int]:
    """Place and way into its router (-1: none) of each end."""
    for place, port in zip(plan.sources, plan.ports, strict=True):
        yield place
        yield -1 if port is None else links.number(port, is_port=True)
    for place in plan.dests:
        yield place
        yield -1


def add_routes(exchange: Exchange, state: Pieces, plan_words: Pieces) -> Routes:
    """Put all meetings of a program into the state arena, and their edges into the plan arena."""
    links = Links()
    meetings, ends, edges, delays = array("q"), array("q"), array("q"), array("q")
    for meeting in exchange.meetings:
        plan = exchange.new_plan(meeting)
        row = _meeting_row(meeting, plan)
        row[at.M_ENDS], row[at.M_EDGES], row[at.M_DELAYS] = len(ends) // 2, len(edges) // EDGE, len(delays)
        ends.extend(_ends(plan, links))
        edges.extend(_edges(plan, links))
        delays.extend(plan.delay)
        meetings.extend(row)
    first_link = state.add_lines(links.words())
    first_end = state.add_lines(_ends_words(np.array(ends).reshape(-1, 2), links, first_link))
    first_edge = plan_words.add(_edges_words(np.array(edges).reshape(-1, EDGE), links, first_link))
    first_delay = plan_words.add(np.array(delays))
    rows = np.array(meetings).reshape(-1, at.M_SIZE)
    rows[:, at.M_ENDS] = first_end + at.E_SIZE * rows[:, at.M_ENDS]
    rows[:, at.M_EDGES] = first_edge + at.G_SIZE * rows[:, at.M_EDGES]
    rows[:, at.M_DELAYS] += first_delay
    most = rows.max(axis=0) if len(rows) else np.zeros(at.M_SIZE, np.int64)
    return Routes(
        state.add_lines(rows),
        rows[:, at.M_ENDS],
        first_link,
        links,
        int(most[at.M_EDGE_COUNT]),
        int(most[at.M_END_COUNT]),
        int(most[at.M_PLACE_COUNT]),
    )


def _ends_words(ends: Words, links: Links, first_link: int) -> Words:
    rows = np.zeros((len(ends), at.E_SIZE), np.int64)
    places, ways = ends.T
    assert not len(ends) or places.max() <= at.MOST_PLACES
    has_way = ways >= 0
    numbers = ways[has_way]
    rows[:, at.E_WAY] = places
    rows[has_way, at.E_WAY] |= first_link + at.L_SIZE * numbers << at.E_LINK
    rows[has_way, at.E_WAY] |= links.kinds[numbers] << at.E_KIND
    return rows


def _edges_words(edges: Words, links: Links, first_link: int) -> Words:
    before, after, numbers, delay = edges.T
    latency = links.latencies()[numbers]
    for words, most in ((after, at.MOST_PLACES), (latency, at.MOST_LATENCY), (delay, at.MOST_DELAY)):
        assert not len(edges) or words.max() <= most
    rows = np.zeros((len(edges), at.G_SIZE), np.int64)
    rows[:, at.G_LINK] = first_link + at.L_SIZE * numbers << at.LATENCY_BITS | latency
    rows[:, at.G_WAY] = delay << at.G_DELAY | links.kinds[numbers] << at.G_KIND
    rows[:, at.G_WAY] |= before << at.G_BEFORE | after
    return rows


def port_ends(exchange: Exchange) -> list[tuple[int, int, int, int]]:
    """Tile, port, number of the meeting in `exchange.meetings`, and number of the end there, of all tiles' ends."""
    found = []
    for number, meeting in enumerate(exchange.meetings):
        ends = meeting.sources if meeting.is_barrier else (*meeting.sources, *meeting.dests)
        found += [(end.tile, end.port, number, place) for place, end in enumerate(ends) if end.tile != HOST]
    return found
