"""Messages and barriers: tiles come to them, and the last one sets them on their way."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from isa.diagnostics import Diagnostic, InstructionPlace, fail
from isa.events import Bound, Event, Resource
from isa.program import HOST
from isa.timing.agenda import Agenda
from isa.timing.critical import INDEX_OF
from isa.timing.ledger import Ledger
from isa.timing.operation import Operation
from isa.timing.tile import place_of

from .exchange import Exchange, Meeting, Post
from .network import Network

CONTROL_BYTES = 4  # of a barrier's control word


class Messages:
    """Starts operations of senders and receiving ports, and barriers."""

    def __init__(self, network: Network, exchange: Exchange, agenda: Agenda, ledger: Ledger) -> None:
        self._network, self._exchange = network, exchange
        self._agenda, self._ledger = agenda, ledger
        self._hosts = exchange.host_parts(ledger)

    def by_node(self, cycles: Mapping[str, int]) -> Mapping[str, int]:
        """Cycles of the critical path by node, the host's parts node by node too."""
        return cycles if self._hosts is None else self._hosts.spread(cycles)

    def begin(self) -> None:
        """The host runs what needs nothing of the chip."""
        if self._hosts is not None:
            self._call(self._hosts.first())

    def leftovers(self) -> list[Diagnostic]:
        """Messages that some end still waits for although all tiles have halted."""
        return self._exchange.leftovers()

    def _call(self, parts: list[tuple[int, int]]) -> None:
        """Let parts of the model take their turn on the host: which, and since when they could."""
        for number, at in parts:
            self._agenda.push(at, HOST, number, partial(self._run_part, number))

    def _run_part(self, number: int) -> None:
        assert self._hosts is not None
        end, record = self._hosts.run(number)
        for channel, sizes in self._hosts.channels(number):
            meeting = self._exchange.meetings[channel]
            meeting.open(sizes, end, record)
            if sizes and meeting.complete():
                self._meet(meeting)
        self._call(self._hosts.after(number, end, record))

    def post(self, operation: Operation) -> None:
        """A tile has come to a message; if it is the last one, the message takes its turn."""
        meeting, end = self._meeting(operation)
        meeting.post(Post(end, operation))
        if meeting.complete():
            self._meet(meeting)

    def _meet(self, meeting: Meeting) -> None:
        """All have come to a message."""
        posts, host_size = meeting.take()
        last = max(posts, key=lambda p: (p.operation.start, -p.end)).operation
        first = posts[0]
        from_tile = first.end == 0  # otherwise the host sends
        sender = first.operation.tile.index if from_tile else HOST
        sequence = first.operation.sequence if from_tile else meeting.number
        at = max(last.start, meeting.host_at)
        self._agenda.push(at, sender, sequence, lambda: self._transmit(meeting, posts, last, host_size))

    def _meeting(self, operation: Operation) -> tuple[Meeting, int]:
        tile, port = operation.tile, operation.operand
        found = self._exchange.meeting(tile.index, port)
        if found is None:
            index, role = operation.op.index, tile.group.role
            place = InstructionPlace("program", role.name, index, str(role.code[index]))
            raise fail("E0604", f"no channel at port {port} of tile {tile.index}", place)
        return found

    def _transmit(self, meeting: Meeting, posts: list[Post], last: Operation, host_size: int | None) -> None:
        """Everyone is there: send the message on its way."""
        ledger, plan, first = self._ledger, self._exchange.plan(meeting), posts[0].operation
        size = 0 if meeting.is_barrier else _agreed_size(meeting, posts, host_size)
        start, bound = max(last.start, meeting.host_at), INDEX_OF[plan.bound]
        by_tile = start == last.start
        cause = last.started if by_tile else meeting.host_record
        record = ledger.records.add(start, cause, by_tile, first.tile.index, first.op.index, bound)
        journey = self._network.transmit(plan, size, start, record, ledger.records)
        arrivals = meeting.in_order(journey.arrivals)
        latest = max(arrivals, key=lambda a: a.end)
        ledger.finish(latest.end, latest.record)
        ends = arrivals if meeting.is_barrier else [*journey.departures, *arrivals]
        for post in posts:
            arrival = ends[post.end]
            tile = post.operation.tile
            ledger.busy[Resource.NETWORK] += max(0, arrival.end - max(start, tile.network_until))
            tile.network_until = max(tile.network_until, arrival.end)
            self._agenda.finish(post.operation, arrival.end, arrival.record)
            if meeting.is_barrier:
                self._agenda.tiles.append(tile)
        meeting.next()
        if meeting.complete():
            self._meet(meeting)
        self._count(meeting, size, first)
        if self._hosts is not None and not meeting.is_barrier:
            self._call(self._hosts.arrived(meeting.number, latest.end, latest.record))
        if ledger.sink is not None and not meeting.is_barrier:
            sources = tuple(e.tile for e in meeting.sources)
            dests = tuple(e.tile for e in meeting.dests)
            ledger.sink.on_message(meeting.number, start, latest.end, sources, dests, size)

    def _count(self, meeting: Meeting, size: int, first: Operation) -> None:
        ledger, plan = self._ledger, self._exchange.plan(meeting)
        node = first.tile.group.node(first.op.index)
        carried = CONTROL_BYTES if meeting.is_barrier else size
        for event, kind in (
            (Event.HOP_BYTE, Bound.NETWORK),
            (Event.CHIP_LINK_BYTE, Bound.CHIP_LINKS),
            (Event.HOST_LINK_BYTE, Bound.HOST_LINK),
        ):
            ledger.events[event, node] += carried * plan.links(kind)
        if not meeting.is_barrier:
            ledger.events[Event.REDUCE_OP, node] += (len(meeting.sources) - 1) * (size // 4)
            ledger.messages += 1
            ledger.message_bytes += size


def _agreed_size(meeting: Meeting, posts: list[Post], host_size: int | None) -> int:
    sizes = {post.operation.cost.size for post in posts} | ({host_size} if host_size is not None else set())
    if len(sizes) > 1:
        shown = ", ".join(str(size) for size in sorted(sizes))
        message = (
            f"channel {meeting.name}: the ends of message {meeting.served - 1} differ in size ({shown} bytes)"
        )
        first = posts[0].operation
        raise fail("E0405", message, place_of(first.tile, first.op.index))
    return sizes.pop()
