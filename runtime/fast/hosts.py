"""Parts of the model that the host runs within a step: `runtime.timing.hostparts`, writing into the arenas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from isa.program import HOST, Program
from isa.timing.critical import Records
from isa.timing.ledger import Ledger
from runtime.timing.exchange import Exchange
from runtime.timing.hostparts import HostParts
from runtime.within import Between

from . import layout as at
from .kernel import add_host_record, call_host, note_host_end, open_host
from .routes import Routes
from .words import Words


class Room(Protocol):
    """A state arena that can grow."""

    state: Words

    def reserve(self) -> None:
        """See to it that there is room for whatever something small makes."""

    def put_sizes(self, meeting: int, sizes: Sequence[int]) -> None:
        """The host's messages of a channel have these sizes."""


class _HostRecords(Records):
    """Records of the host, in the arena with the others."""

    def __init__(self, room: Room) -> None:
        super().__init__()
        self._room = room

    def add(self, start: int, predecessor: int, issued: bool, tile: int, index: int, bound: int) -> int:
        """A new record's number: its place."""
        assert tile == HOST and not issued
        self._room.reserve()
        return add_host_record(self._room.state, start, predecessor, index, bound)


class _HostLedger(Ledger):
    """What the host writes down: busy cycles and events here, the rest in the arena."""

    def __init__(self, room: Room) -> None:
        super().__init__([], None)
        self._room = room
        self.records = _HostRecords(room)

    def finish(self, end: int, record: int) -> None:
        """Something ends; the step does not end before."""
        note_host_end(self._room.state, end, record)


class Hosts:
    """The host's parts during one step."""

    def __init__(self, program: Program, exchange: Exchange, routes: Routes, room: Room) -> None:
        self.ledger = _HostLedger(room)
        self._room, self._routes = room, routes
        parts = exchange.host_parts(self.ledger)
        assert parts is not None
        self.parts: HostParts = parts
        between = Between(program)
        for number in range(len(between.parts)):
            for channel in between.awaited(number, exchange.segments):
                room.state[routes.meeting(channel) + at.M_TELLS_HOST] = 1
        self._call(self.parts.first())

    def _call(self, ready: Sequence[tuple[int, int]]) -> None:
        for number, time in ready:
            self._room.reserve()
            call_host(self._room.state, time, number)

    def run(self, number: int) -> None:
        """A part's turn."""
        end, record = self.parts.run(number)
        for channel, sizes in self.parts.channels(number):
            meeting = self._routes.meeting(channel)
            self._room.put_sizes(meeting, sizes)
            self._room.reserve()
            open_host(self._room.state, meeting, end, record)
        self._call(self.parts.after(number, end, record))

    def hear(self, meeting: int, time: int, record: int) -> None:
        """A message of a meeting has come to the host, or gone from it."""
        number = int(self._room.state[meeting + at.M_NUMBER])
        self._call(self.parts.arrived(number, time, record))


def is_host_turn(status: int) -> bool:
    """Whether the kernel has returned for the host."""
    return status in (at.HOST_PART, at.HOST_HEARD)


def host_turn(hosts: Hosts, state: Words, status: int) -> None:
    """Do what the kernel has returned for."""
    if status == at.HOST_PART:
        hosts.run(int(state[at.H_ARG]))
    else:
        hosts.hear(int(state[at.H_ARG]), int(state[at.H_ARG_AT]), int(state[at.H_ARG_RECORD]))
