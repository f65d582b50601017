"""Channels between the same ports of the same classes: a message on each of them at the same time is one event."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field

from isa.diagnostics import Diagnostic
from isa.events import Resource
from isa.program import HOST, Channel, Endpoint, Program
from isa.timing.agenda import Agenda
from isa.timing.critical import INDEX_OF
from isa.timing.operation import Operation

from .classes import HOST_END, Classes, End
from .links import Links, Route, Way


@dataclass(slots=True)
class Flow:
    """The channels with these ends. `coming` are its next message and later ones, as far as tiles have come to them;
    the latest message has `arrived`; of those to the host, `ends` has each."""

    sources: tuple[End, ...]
    dests: tuple[End, ...]
    route: Route
    coming: deque[dict[End, Operation]] = field(default_factory=deque)
    come: dict[End, int] = field(default_factory=dict)  # to how many messages, those that are over among them
    over: int = 0
    is_gathering: bool = True
    arrived: int = 0
    ends: list[int] = field(default_factory=list)
    is_output: bool = field(init=False)  # whether it goes to the host
    needed: int = field(init=False)  # operations of tiles that make a message

    def __post_init__(self) -> None:
        self.is_output = HOST_END in self.dests
        self.needed = sum(end != HOST_END for end in (*self.sources, *self.dests))

    def reset(self) -> None:
        """Before a step: no message has been sent."""
        self.coming, self.come, self.over, self.is_gathering = deque(), {}, 0, True
        self.arrived, self.ends = 0, []

    def post(self, end: End, operation: Operation) -> None:
        """A tile of a class has come to the next message that it has not come to."""
        number = self.come.get(end, self.over)
        self.come[end] = number + 1
        if number - self.over == len(self.coming):
            self.coming.append({})
        self.coming[number - self.over][end] = operation

    def complete(self) -> bool:
        """All classes have come, and the message before has left."""
        return self.is_gathering and bool(self.coming) and len(self.coming[0]) == self.needed

    def next(self) -> None:
        """Gather the next message."""
        self.coming.popleft()
        self.over += 1
        self.is_gathering = True


@dataclass(slots=True)
class _Use:
    """An operation that works on the messages of several flows: how many are still to come, and the end so far."""

    left: int
    end: int = 0
    record: int = -1


class Flows:
    """Where classes of tiles meet each other and the host, which is always ready."""

    def __init__(self, program: Program, classes: Classes, links: Links, like: Flows | None = None) -> None:
        """`like`: those of the same tiles and channels, on a target that may be another one."""
        self._links = links
        groups: dict[tuple[tuple[End, ...], tuple[End, ...]], list[Channel]] = defaultdict(list)
        for channel in program.channels:
            groups[_ends(classes, channel.sources), _ends(classes, channel.dests)].append(channel)
        if like is not None and like._links.geometry == links.geometry:
            routes = [flow.route for flow in like.flows]
        else:
            routes = links.routes([[_way(program, c) for c in channels] for channels in groups.values()])
        self.flows: list[Flow] = [
            Flow(sources, dests, route) for (sources, dests), route in zip(groups, routes, strict=True)
        ]
        self._at: dict[End, list[Flow]] = defaultdict(list)
        for flow in self.flows:
            for end in (*flow.sources, *flow.dests):
                self._at[end].append(flow)

    def output(self, messages: int) -> int | None:
        """When the host had the first `messages` messages of each flow in the last step, which had twice as many; None
        if some had another number of them."""
        found = [flow.ends for flow in self.flows if flow.is_output]
        if not found or any(len(ends) != 2 * messages for ends in found):
            return None
        return max(ends[messages - 1] for ends in found)

    def connect(self, agenda: Agenda) -> Meetings:
        """The meetings of one step."""
        for flow in self.flows:
            flow.reset()
        self._links.free[:] = 0
        return Meetings(self._at, self._links, agenda)


class Meetings:
    """Messages of one step: they start when one tile of each class has come to them (`Rendezvous`)."""

    def __init__(self, at: dict[End, list[Flow]], links: Links, agenda: Agenda) -> None:
        self._at, self._links = at, links
        self._agenda, self._ledger = agenda, agenda.ledger
        self._uses: dict[Operation, _Use] = {}

    def begin(self) -> None:
        """The host is ready from the beginning."""

    def leftovers(self) -> list[Diagnostic]:
        """A prediction does not look for mistakes in programs."""
        return []

    def post(self, operation: Operation) -> None:
        """A tile has come to a message of each of its port's flows."""
        end = operation.tile.index, operation.operand
        flows = self._at[end]
        self._uses[operation] = _Use(len(flows))
        for flow in flows:
            flow.post(end, operation)
            if flow.complete():
                self._meet(flow)

    def _meet(self, flow: Flow) -> None:
        flow.is_gathering = False
        posts = list(flow.coming[0].values())
        last = max(posts, key=lambda o: o.start)
        first = posts[0]
        self._agenda.push(
            last.start, first.tile.index, first.sequence, lambda: self._transmit(flow, posts, last)
        )

    def _transmit(self, flow: Flow, posts: list[Operation], last: Operation) -> None:
        size, start, route = last.cost.size, last.start, flow.route
        tile, index = last.tile.index, last.op.index
        record = self._ledger.records.add(start, last.started, True, tile, index, INDEX_OF[route.bound])
        left, arrived = self._links.transmit(route, size, start)
        arrived = flow.arrived = max(flow.arrived, arrived)
        if flow.is_output:
            flow.ends.append(arrived)
        self._ledger.finish(arrived, record)
        for operation in posts:
            self._over(operation, arrived if operation.op.is_receive else left, record)
        flow.next()
        if flow.complete():
            self._meet(flow)

    def _over(self, operation: Operation, end: int, record: int) -> None:
        """A message of an operation is over; when it was the last one, so is the operation."""
        use = self._uses[operation]
        use.left -= 1
        if end >= use.end:
            use.end, use.record = end, record
        if not use.left:
            del self._uses[operation]
            self._ledger.busy[Resource.NETWORK] += use.end - operation.start
            self._agenda.finish(operation, use.end, use.record)


def _ends(classes: Classes, ends: tuple[Endpoint, ...]) -> tuple[End, ...]:
    return tuple(sorted({classes.end(end) for end in ends}))


def _way(program: Program, channel: Channel) -> Way:
    """Where a channel's ends are; the host's place is the router at its link."""

    def places(ends: tuple[Endpoint, ...]) -> tuple[tuple[int, int], ...]:
        tiles = (program.tiles[e.tile] if e.tile != HOST else None for e in ends)
        return tuple((0, 0) if tile is None else (tile.x, tile.y) for tile in tiles)

    from_host, to_host = (any(e.tile == HOST for e in ends) for ends in (channel.sources, channel.dests))
    return Way(places(channel.sources), places(channel.dests), from_host, to_host, channel.reduce)
