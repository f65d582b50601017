"""Channels and barriers as queues: what is delivered depends on the order of messages alone, never on time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isa.diagnostics import NamedPlace, fail
from isa.program import HOST, BarrierGroup, Channel, Direction, Endpoint, Program, Reduce
from runtime import numerics

from .trap import TrapError

Message = NDArray[np.int32]  # the words of a message, in order

_COMBINE: dict[Reduce, Callable[[Any, Any], Any]] = {Reduce.SUM: np.add, Reduce.MAX: numerics.larger}


def reduce_tree(messages: Sequence[Message], how: Reduce) -> Message:
    """The messages combined as float32, neighbours first: ((m0+m1)+(m2+m3))+...; an odd last one waits a level."""
    combine = _COMBINE[how]
    level = [message.view(np.float32) for message in messages]
    while len(level) > 1:
        pairs = [combine(a, b) for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[len(pairs) * 2 :]
    return level[0].view(np.int32)


@dataclass(slots=True)
class Inbox:
    """A receiver's end of a channel: the messages that have come and were not taken yet."""

    channel: str
    tile: int
    messages: deque[Message] = field(default_factory=deque)


@dataclass(slots=True)
class ChannelState:
    """A channel with the messages of each source that wait for the other sources'."""

    name: str
    reduce: Reduce
    queues: list[deque[Message]]
    inboxes: list[Inbox]
    network: Network

    def put(self, source: int, words: Message) -> None:
        """Take a message from a source; deliver what is complete."""
        self.queues[source].append(words)
        while all(self.queues):
            parts = [queue.popleft() for queue in self.queues]
            if len({part.size for part in parts}) > 1:
                sizes = ", ".join(str(part.size) for part in parts)
                raise TrapError(
                    f"channel {self.name} is to reduce messages of different sizes: {sizes} words"
                )
            message = reduce_tree(parts, self.reduce) if len(parts) > 1 else parts[0]
            for inbox in self.inboxes:
                inbox.messages.append(message)
                self.network.woken.append(inbox.tile)


@dataclass(slots=True)
class Outlet:
    """A sender's end of a channel."""

    channel: ChannelState
    source: int

    def send(self, words: Message) -> None:
        """Hand a message to the channel, which keeps it (pass a copy)."""
        self.channel.put(self.source, words)


@dataclass(slots=True)
class BarrierState:
    """A barrier: who has come to it, and how often it has opened."""

    name: str
    members: tuple[int, ...]
    network: Network
    arrived: set[int] = field(default_factory=set)
    opened: int = 0

    def arrive(self, tile: int) -> int:
        """Note that a tile has come; the result is what `opened` must reach before the tile goes on."""
        awaited = self.opened + 1
        self.arrived.add(tile)
        if len(self.arrived) == len(self.members):
            self.arrived.clear()
            self.opened += 1
            self.network.woken.extend(self.members)
        return awaited


def host_end(ends: Sequence[Endpoint], channel: str) -> int:
    """Which of a channel's ends is the host's. Raises `CimError` E0410 if none is."""
    tiles = [end.tile for end in ends]
    if HOST not in tiles:
        raise fail(
            "E0410", "a stream travels on a channel that does not end at the host", NamedPlace(channel)
        )
    return tiles.index(HOST)


End = Outlet | Inbox | BarrierState


class Network:
    """All channels and barriers of a program, and which end each port of each tile is."""

    def __init__(self, program: Program) -> None:
        self.woken: list[int] = []  # tiles that got a message, or whose barrier opened
        self.channels = [self._channel(channel) for channel in program.channels]
        self.barriers = [self._barrier(group) for group in program.barriers]
        self._ends: dict[tuple[int, int, Direction], End] = {}
        for channel, state in zip(program.channels, self.channels, strict=True):
            for source, end in enumerate(channel.sources):
                self._ends[end.tile, end.port, Direction.OUT] = Outlet(state, source)
            for end, inbox in zip(channel.dests, state.inboxes, strict=True):
                self._ends[end.tile, end.port, Direction.IN] = inbox
        for group, barrier in zip(program.barriers, self.barriers, strict=True):
            for end in group.members:
                self._ends[end.tile, end.port, Direction.BARRIER] = barrier

    def _channel(self, channel: Channel) -> ChannelState:
        inboxes = [Inbox(channel.name, end.tile) for end in channel.dests]
        return ChannelState(channel.name, channel.reduce, [deque() for _ in channel.sources], inboxes, self)

    def _barrier(self, group: BarrierGroup) -> BarrierState:
        return BarrierState(group.name, tuple(end.tile for end in group.members), self)

    def end(self, tile: int, port: int, direction: Direction) -> End | None:
        """What `port` of `tile` is connected to; None if nothing."""
        return self._ends.get((tile, port, direction))

    def host_outlet(self, program: Program, channel: int) -> Outlet:
        """The host's end of a channel it sends to. Raises `CimError` E0410 if it has none."""
        source = host_end(program.channels[channel].sources, self.channels[channel].name)
        return Outlet(self.channels[channel], source)

    def host_inbox(self, program: Program, channel: int) -> Inbox:
        """The host's end of a channel it receives from. Raises `CimError` E0410 if it has none."""
        dest = host_end(program.channels[channel].dests, self.channels[channel].name)
        return self.channels[channel].inboxes[dest]

    def clear(self) -> None:
        """Forget all messages and arrivals (those of a step that failed)."""
        self.woken.clear()
        for state in self.channels:
            for queue in state.queues:
                queue.clear()
            for inbox in state.inboxes:
                inbox.messages.clear()
        for barrier in self.barriers:
            barrier.arrived.clear()

    def leftover(self) -> list[str]:
        """Names of channels that hold messages no one took."""
        return [
            state.name
            for state in self.channels
            if any(state.queues) or any(inbox.messages for inbox in state.inboxes)
        ]
