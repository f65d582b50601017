"""Rendezvous: who has come to which message, and who still waits.

A message starts when its senders and its receivers have all come to it. Receivers can come to later ones before, and
senders as soon as this one has left them; one message of a channel is gathered at a time, then the next. The host is
always there: it has its inputs ready, and room for the outputs, from the beginning of the step, one message a segment
(for source streams, a source segment). What a part of the model makes on the host is there when the part has run
(`hostparts.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from isa.diagnostics import Diagnostic, NamedPlace
from isa.program import HOST, Endpoint, Program, Segment
from isa.segments import dealt
from isa.timing.critical import NO_RECORD
from isa.timing.ledger import Ledger
from isa.timing.operation import Operation
from isa.timing.tile import place_of
from runtime.segments import carried, rows_in
from runtime.within import parts_within

from .hostparts import HostParts
from .network import Arrival, Network, Plan


@dataclass(frozen=True, slots=True)
class Post:
    """A tile's operation has come to a message, at the channel's end number `end` (sources, then dests)."""

    end: int
    operation: Operation


@dataclass(slots=True)
class Meeting:
    """A channel or a barrier: its ends, its route, and the posts for its next message.

    `needed` posts of tiles make a message; those that come to a later one wait among the `early`. The host, if it is
    an end, is there from `host_at` on, for the reason `host_record`. `arrived` is when the receivers have the latest
    message.
    """

    name: str
    number: int
    sources: tuple[Endpoint, ...]
    dests: tuple[Endpoint, ...]
    is_barrier: bool
    host_sizes: list[int] = field(default_factory=list)
    host_at: int = 0
    host_record: int = NO_RECORD
    served: int = 0
    posts: dict[int, Post] = field(default_factory=dict)
    early: list[Post] = field(default_factory=list)
    arrived: list[Arrival] = field(default_factory=list)
    is_gathering: bool = True
    plan: Plan | None = None

    has_host: bool = field(init=False)
    needed: int = field(init=False)

    def __post_init__(self) -> None:
        ends = self.sources if self.is_barrier else (*self.sources, *self.dests)
        self.needed = sum(e.tile != HOST for e in ends)
        self.has_host = self.needed < len(ends)

    def post(self, post: Post) -> None:
        """Someone has come to its next message."""
        if post.end in self.posts:
            self.early.append(post)
        else:
            self.posts[post.end] = post

    def complete(self) -> bool:
        """Everyone has come, and the message before has left."""
        host_is_there = not self.has_host or self.is_barrier or self.served < len(self.host_sizes)
        return self.is_gathering and host_is_there and len(self.posts) == self.needed

    def take(self) -> tuple[list[Post], int | None]:
        """The posts of the message that is complete, by end, and the host's size of it."""
        posts = [self.posts[end] for end in sorted(self.posts)]
        size = self.host_sizes[self.served] if self.has_host and self.host_sizes else None
        self.served += 1
        self.is_gathering = False
        return posts, size

    def in_order(self, arrivals: list[Arrival]) -> list[Arrival]:
        """When the receivers have a message: not before the one before."""
        if self.arrived:
            both = zip(self.arrived, arrivals, strict=True)
            arrivals = [old if old.end > new.end else new for old, new in both]
        self.arrived = arrivals
        return arrivals

    def next(self) -> None:
        """Gather the next message."""
        early, self.posts, self.early, self.is_gathering = self.early, {}, [], True
        for post in early:
            self.post(post)

    def reset(self) -> None:
        """As at the beginning of a step."""
        self.posts, self.early, self.arrived, self.is_gathering = {}, [], [], True
        self.host_sizes, self.served = [], 0
        self.host_at, self.host_record = 0, NO_RECORD

    def open(self, sizes: list[int], at: int, record: int) -> None:
        """The host has made messages of these sizes, by `at`."""
        self.host_sizes, self.host_at, self.host_record = sizes, at, record


class Exchange:
    """All channels and barriers of a program, in which `copies` of another are written out."""

    def __init__(self, program: Program, network: Network, copies: int = 1) -> None:
        self._program = program
        self._copies = copies
        self._network = network
        self.segments: tuple[Segment, ...] = ()
        channels = [Meeting(c.name, i, c.sources, c.dests, False) for i, c in enumerate(program.channels)]
        barriers = [Meeting(b.name, i, b.members, b.members, True) for i, b in enumerate(program.barriers)]
        self.meetings = (*channels, *barriers)
        self._ends: dict[tuple[int, int], tuple[Meeting, int]] = {}
        for meeting in self.meetings:
            ends = meeting.sources if meeting.is_barrier else (*meeting.sources, *meeting.dests)
            for number, end in enumerate(ends):
                if end.tile != HOST:
                    self._ends[end.tile, end.port] = meeting, number

    def begin(self, segments: Sequence[Segment]) -> None:
        """The host gets ready for a step."""
        self.segments = tuple(segments)
        for meeting in self.meetings:
            meeting.reset()
        for channel, sizes in self.sizes(segments).items():
            self.meetings[channel].host_sizes = sizes

    def sizes(self, segments: Sequence[Segment]) -> dict[int, list[int]]:
        """The sizes of the messages that the host exchanges in a step, by channel, but for those of parts of the model
        that it runs within."""
        found: dict[int, list[int]] = {}
        shares, each = dealt(segments, self._copies), len(self._program.channels) // self._copies
        made = {name for part in parts_within(self._program) for name in part.outputs}
        for stream in self._program.streams:
            if stream.name in made:
                continue
            sizes = [
                [rows_in(stream, s) * stream.dtype.bytes for s in carried(stream, own)] for own in shares
            ]
            for part in stream.parts:
                own = sizes[part.channel // each]
                found.setdefault(part.channel, []).extend(size * part.columns for size in own)
        return {channel: own for channel, own in found.items() if own}

    def host_parts(self, ledger: Ledger) -> HostParts | None:
        """The parts of the model that the host runs within the step; None if there are none."""
        is_needed = bool(parts_within(self._program))
        return HostParts(self._program, self.segments, ledger) if is_needed else None

    def meeting(self, tile: int, port: int) -> tuple[Meeting, int] | None:
        """The channel or barrier at a tile's port, and the number of this end of it; None if nothing is there."""
        return self._ends.get((tile, port))

    def plan(self, meeting: Meeting) -> Plan:
        """The route of a channel or barrier; made when it is first used."""
        if meeting.plan is None:
            meeting.plan = self.new_plan(meeting)
        return meeting.plan

    def new_plan(self, meeting: Meeting) -> Plan:
        """The route of a channel or barrier, which is not kept."""
        if meeting.is_barrier:
            return self._network.barrier_plan(meeting.sources)
        return self._network.plan(self._program.channels[meeting.number])

    def leftovers(self) -> list[Diagnostic]:
        """Messages that some end still waits for although all tiles have halted."""
        found: list[Diagnostic] = []
        for meeting in self.meetings:
            left = len(meeting.host_sizes) - meeting.served
            if meeting.posts:
                first = next(iter(meeting.posts.values())).operation
                message = f"channel {meeting.name}: not every end has come to message {meeting.served}"
                found.append(Diagnostic("E0405", message, place_of(first.tile, first.op.index)))
            elif meeting.has_host and left:
                message = f"{left} of the host's {len(meeting.host_sizes)} messages were not exchanged"
                found.append(Diagnostic("E0405", message, NamedPlace("program", f"channel {meeting.name}")))
        return found
