"""The host's end of the channels: rows of streams as messages, and the parts that the host runs within a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from isa.diagnostics import fail
from isa.program import Direction, Program, Segment, Stream

from .host import HostModel, loaded
from .segments import carried, rows_in
from .within import Between, is_inner

Array = NDArray[Any]
Words = NDArray[np.int32]


class HostEnd:
    """The host during the steps of a program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.between = Between(program)
        self._outer = [stream for stream in program.streams if not is_inner(program, stream)]
        self._models: dict[int, HostModel] = {}

    def outer(self, direction: Direction) -> list[Stream]:
        """The streams that the caller of a step feeds, or gets."""
        return [stream for stream in self._outer if stream.direction is direction]

    def words(self, segments: Sequence[Segment], inputs: Mapping[str, Array]) -> dict[str, Words]:
        """The words of each stream that the caller feeds: [rows, columns]. Raises `CimError` E0601."""
        streams = self.outer(Direction.IN)
        names = {stream.name for stream in streams}
        needed = {stream.name for stream in streams if carried(stream, segments)}
        if not needed <= set(inputs) <= names:
            raise fail("E0601", f"the step takes inputs {sorted(needed)}, given are {sorted(inputs)}")
        return {
            stream.name: words_of(
                stream, inputs[stream.name], sum(s.tokens for s in carried(stream, segments))
            )
            for stream in streams
            if stream.name in inputs
        }

    def model(self, number: int) -> HostModel:
        """The model of part `number`, loaded when it is first needed."""
        if number not in self._models:
            assert self.program.data is not None
            data = np.asarray(self.program.data[self.between.parts[number].model])
            self._models[number] = loaded(data.tobytes())
        return self._models[number]


class Waiting(Protocol):
    """Messages that have come and were not taken."""

    def __len__(self) -> int: ...

    def popleft(self) -> Words:
        """Take the first."""


class HostInbox(Protocol):
    """The host's end of a channel that it receives from."""

    @property
    def channel(self) -> str:
        """The channel's name."""

    @property
    def messages(self) -> Waiting:
        """What has come."""


class HostOutlet(Protocol):
    """The host's end of a channel that it sends to."""

    def send(self, words: Words) -> None:
        """Hand a message to the channel, which keeps it (pass a copy)."""


class Ends(Protocol):
    """The channels of an engine, as the host sees them."""

    def host_outlet(self, program: Program, channel: int) -> HostOutlet:
        """The host's end of a channel it sends to. Raises `CimError` E0410 if it has none."""

    def host_inbox(self, program: Program, channel: int) -> HostInbox:
        """The host's end of a channel it receives from. Raises `CimError` E0410 if it has none."""

    def leftover(self) -> list[str]:
        """Names of channels that hold messages no one took."""


class HostStep:
    """The host during one step: what it knows, and which of its parts have run."""

    def __init__(
        self, host: HostEnd, network: Ends, segments: Sequence[Segment], words: Mapping[str, Words]
    ) -> None:
        self._host, self._network, self._segments = host, network, segments
        self._left = list(range(len(host.between.parts)))
        self._known: dict[str, Array] = {}
        self._taken: dict[str, Array] = {}  # of it, what the chip has sent
        for stream in host.outer(Direction.IN):
            if stream.name in words:
                self._known[stream.name] = words[stream.name].view(stream.dtype.value)
                self._send(stream, words[stream.name])

    def move_to(self, network: Ends) -> None:
        """Go on with the channels of another engine, which hold what these hold."""
        self._network = network

    def advance(self) -> bool:
        """Run every part whose inputs have come; whether there was one."""
        before = len(self._left)
        self._left = [number for number in self._left if not self._try(number)]
        return len(self._left) < before

    def outputs(self) -> dict[str, Array]:
        """The rows of the streams that the caller gets. Raises `CimError` E0604 if messages are missing or left."""
        while self._left and self.advance():
            pass
        made = {stream.name: self._result(stream) for stream in self._host.outer(Direction.OUT)}
        leftover = self._network.leftover()
        if leftover:
            raise fail("E0604", f"messages were sent that no one took, on {', '.join(leftover)}")
        return made

    def _result(self, stream: Stream) -> Array:
        """Rows of a stream whose outputs are wanted: those that a part has made, or that the chip sends."""
        if stream.parts:
            rows = self._rows(stream)
        else:  # a part has made it, if anybody wants its rows
            nothing = np.zeros((0, stream.columns), stream.dtype.value)
            rows = self._known.get(stream.name, nothing)
        wanted = sum(rows_in(stream, s) for s in carried(stream, self._segments))
        return rows if stream.source or len(rows) == wanted else rows[self._wanted()]

    # ------------------------------------------------------------------------------------------------- its parts

    def _try(self, number: int) -> bool:
        """Run a part, if all that it needs is there."""
        between = self._host.between
        if any(earlier in self._left for earlier in between.before[number]):
            return False
        awaited = between.awaited(number, self._segments, self._taken)
        inboxes = {c: self._network.host_inbox(self._host.program, c) for c in awaited}
        if any(len(inboxes[channel].messages) < count for channel, count in awaited.items()):
            return False
        for stream in between.takes[number]:
            self._known[stream.name] = self._rows(stream)
        if between.rows(number, self._segments):
            self._run(number)
        return True

    def _run(self, number: int) -> None:
        between = self._host.between
        part = between.parts[number]
        rows = between.rows(number, self._segments)
        given = {name: self._some(self._known[name], rows) for name in part.inputs if name != part.positions}
        if part.positions:
            segments = between.segments(number, self._segments)
            places = [np.arange(s.position, s.position + s.tokens, dtype=np.int32) for s in segments]
            given[part.positions] = self._some(np.concatenate(places), rows)
        made = self._host.model(number).run(given)
        self._known |= {name: np.asarray(made[name], np.float32) for name in part.outputs}
        for stream in between.gives[number]:
            words = words_of(stream, self._known[stream.name], rows)
            self._send(stream, words)

    def _some(self, rows: Array, count: int) -> Array:
        """All rows, or those whose outputs are wanted, if `count` says that these are meant."""
        return rows if len(rows) == count else rows[self._wanted()]

    def _wanted(self) -> NDArray[np.bool_]:
        """Which of the step's tokens have outputs."""
        parts = [np.full(s.tokens, bool(s.outputs)) for s in self._segments if not s.is_source]
        return np.concatenate(parts)

    # ------------------------------------------------------------------------------------------------- messages

    def _send(self, stream: Stream, words: Words) -> None:
        row = 0
        for segment in carried(stream, self._segments):
            rows = words[row : row + segment.tokens]
            row += segment.tokens
            for part in stream.parts:
                block = rows[:, part.column : part.column + part.columns]
                outlet = self._network.host_outlet(self._host.program, part.channel)
                outlet.send(block.reshape(-1).copy())

    def _rows(self, stream: Stream) -> Array:
        """What the chip has sent, taken once."""
        if stream.name not in self._taken:
            self._taken[stream.name] = self._take(stream)
        return self._taken[stream.name]

    def _take(self, stream: Stream) -> Array:
        counts = [rows_in(stream, segment) for segment in carried(stream, self._segments)]
        words = np.zeros((sum(counts), stream.columns), np.int32)
        for part in stream.parts:
            inbox = self._network.host_inbox(self._host.program, part.channel)
            _take_part(stream, counts, inbox, words[:, part.column : part.column + part.columns])
        return words.view(stream.dtype.value)


def _take_part(stream: Stream, counts: Sequence[int], inbox: HostInbox, into: Words) -> None:
    """Take the messages of a channel, one for each segment of the stream's, which has so many rows."""
    row, kind = 0, "source segment" if stream.source else "segment"
    for number, count in enumerate(counts):
        name = f"{kind} {number}"
        if not inbox.messages:
            raise fail("E0604", f"channel {inbox.channel} brought the host no message for {name}")
        message = inbox.messages.popleft()
        rows = into[row : row + count]
        if message.size != rows.size:
            text = f"channel {inbox.channel} brings the host {message.size} words for {name}"
            raise fail("E0604", f"{text}, {rows.size} were expected")
        rows[:] = message.reshape(rows.shape)
        row += count


def words_of(stream: Stream, given: Array, count: int) -> Words:
    """The words of a stream's rows, [count, columns]. Raises `CimError` E0601 if there are others."""
    rows = np.asarray(given)
    rows = rows[:, None] if rows.ndim == 1 and stream.columns == 1 else rows
    if rows.shape != (count, stream.columns):
        shape = [count, stream.columns]
        raise fail("E0601", f"input {stream.name!r} is {list(rows.shape)}, the step takes {shape}")
    return np.ascontiguousarray(rows, stream.dtype.value).view(np.int32)
