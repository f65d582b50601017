"""The host's ends of the channels, in the arenas of the engine of values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isa.program import Program
from runtime.activity import Meter
from runtime.engine.network import host_end
from runtime.engine.trap import TrapError
from runtime.fast.words import Words

from . import layout as at
from .kernel import fetch, post, waiting
from .state import State
from .template import Template

Message = NDArray[np.int32]


class Arenas:
    """What a copy's steps work on: the memory stays from step to step, all else begins anew."""

    def __init__(self, template: Template, messages: int, meter: Meter | None) -> None:
        self.template = template
        self._messages = np.zeros(messages, np.int32)
        self._words = np.zeros(0, np.int64)
        self._counts = np.zeros(1, np.int64) if meter is None else meter.arena
        self._receives = np.zeros(len(template.tiles) * at.FIRST_PENDING * at.P_SIZE, np.int64)
        self.state = self._with(self._words)

    def _with(self, words: Words) -> State:
        memory, plan, messages = self.template.memory, self.template.plan, self._messages
        return State(
            m=words,
            k=plan,
            reals=plan.view(np.float64),
            f=memory.view(np.float32),
            i=memory.view(np.int32),
            b=memory.view(np.int8),
            h=memory.view(np.uint16),
            d=memory.view(np.float64),
            l=memory.view(np.int64),
            written=self.template.written,
            p=self._receives,
            q=messages,
            a=self._counts,
            qf=messages.view(np.float32),
        )

    def begin(self, more: Words) -> None:
        """The state as steps begin with it, and more words behind it."""
        first = self.template.state
        if self._words.size != first.size + more.size:
            self._words = np.zeros(first.size + more.size, np.int64)
            self.state = self._with(self._words)
        self._words[: first.size], self._words[first.size :] = first, more

    def grow(self) -> None:
        """More room for messages."""
        larger = np.zeros(2 * self._messages.size, np.int32)
        larger[: self._messages.size] = self._messages
        self._messages = larger
        self.state = self._with(self._words)

    def grow_receives(self) -> None:
        """More room for the receives of the tile that needs it, in this step and all others."""
        tile = int(self._words[at.H_FULL])
        first, room = self._words[[tile + at.V_PENDING, tile + at.V_PENDING_ROOM]].tolist()
        held = self._receives[first : first + room * at.P_SIZE]
        for words in (self._words, self.template.state):
            words[[tile + at.V_PENDING, tile + at.V_PENDING_ROOM]] = self._receives.size, 2 * room
        self._receives = np.concatenate([self._receives, held, np.zeros_like(held)])
        self.state = self._with(self._words)


class HostEnds:
    """What the host of a step needs of the channels (`runtime/hostend.py`)."""

    def __init__(self, arenas: Arenas) -> None:
        self._arenas = arenas
        template = arenas.template
        firsts = [_queues(template, channel) for channel in template.channels]
        self._queues = np.array([place for places in firsts for place in places], np.int64)
        self._owners = [number for number, places in enumerate(firsts) for _ in places]

    def host_outlet(self, program: Program, channel: int) -> _Outlet:
        """The host's end of a channel it sends to. Raises `CimError` E0410 if it has none."""
        which = host_end(program.channels[channel].sources, program.channels[channel].name)
        first = int(self._arenas.template.state[self._arenas.template.channels[channel] + at.X_SOURCES])
        return _Outlet(self._arenas, program.channels[channel].name, first + at.S_SIZE * which)

    def host_inbox(self, program: Program, channel: int) -> _Inbox:
        """The host's end of a channel it receives from. Raises `CimError` E0410 if it has none."""
        which = host_end(program.channels[channel].dests, program.channels[channel].name)
        first = int(self._arenas.template.state[self._arenas.template.channels[channel] + at.X_INBOXES])
        place = first + at.I_SIZE * which
        return _Inbox(program.channels[channel].name, _Messages(self._arenas, place))

    def leftover(self) -> list[str]:
        """Names of channels that hold messages no one took."""
        held = np.flatnonzero(self._arenas.state.m[self._queues])
        names = [channel.name for channel in self._arenas.template.program.channels]
        return [names[number] for number in sorted({self._owners[place] for place in held.tolist()})]


def _queues(template: Template, channel: int) -> list[int]:
    """The words that say which message is the first of each source's and each receiver's queue."""
    row = template.state[channel : channel + at.X_LEVEL].tolist()
    sources = range(row[at.X_SOURCES], row[at.X_SOURCES] + at.S_SIZE * row[at.X_SOURCE_COUNT], at.S_SIZE)
    inboxes = range(row[at.X_INBOXES], row[at.X_INBOXES] + at.I_SIZE * row[at.X_INBOX_COUNT], at.I_SIZE)
    return [*(place + at.S_FIRST for place in sources), *(place + at.I_NEXT for place in inboxes)]


@dataclass(frozen=True, slots=True)
class _Outlet:
    arenas: Arenas
    name: str
    place: int

    def send(self, words: Message) -> None:
        """Hand a message to the channel."""
        status = post(self.arenas.state, self.place, words)
        while status == at.GROW:
            self.arenas.grow()
            status = post(self.arenas.state, self.place, words)
        if status != at.DONE:
            raise TrapError(f"channel {self.name} is to reduce messages of different sizes")


@dataclass(frozen=True, slots=True)
class _Messages:
    arenas: Arenas
    place: int

    def __len__(self) -> int:
        return waiting(self.arenas.state, self.place)

    def popleft(self) -> Message:
        """Take the first message."""
        state = self.arenas.state
        block = int(state.m[self.place + at.I_NEXT])
        words = np.zeros(int(state.q[block + at.Q_SIZE]), np.int32)
        fetch(state, self.place, words)
        return words


@dataclass(frozen=True, slots=True)
class _Inbox:
    channel: str
    messages: _Messages
