"""The machine that executes a program's values: tiles, channels, memories, and the host at their edge.

A machine keeps its KV arrays, buffers and memories from one step to the next. A step is a list of segments; the
host sends each segment's rows of the input streams and takes its rows of the output streams.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isa.diagnostics import CimError, Diagnostic, InstructionPlace, fail
from isa.program import Direction, Limits, Program, Segment, Stream

from . import numerics
from .engine.load import load_tile
from .engine.memory import load_memories
from .engine.network import Inbox, Network
from .engine.reference import Observer, StuckError, TileRunner, decode_role, run_tiles
from .engine.state import TileState
from .engine.trap import TrapError

Arrays = Mapping[str, NDArray[Any]]
Pick = Callable[[int], int]


def _segment_problem(limits: Limits, segment: Segment) -> str | None:
    first, tokens = segment.position, segment.tokens
    if not 1 <= tokens <= limits.chunk:
        return f"has {tokens} tokens; a segment has 1..{limits.chunk}"
    if first < 0 or first // limits.chunk != (first + tokens - 1) // limits.chunk:
        return f"crosses a multiple of {limits.chunk} (positions {first}..{first + tokens - 1})"
    if segment.outputs not in (0, tokens):
        return f"asks for {segment.outputs} rows of output; it is 0 or {tokens}"
    if not 0 <= segment.sequence < limits.sequences:
        return f"is of sequence {segment.sequence}; there are {limits.sequences}"
    return None


def check_segments(limits: Limits, segments: Sequence[Segment]) -> None:
    """Raise `CimError` E0601 or E0602 unless the program can take these segments as one step."""
    if not 1 <= len(segments) <= limits.segments:
        raise fail("E0601", f"a step has 1..{limits.segments} segments, not {len(segments)}")
    for number, segment in enumerate(segments):
        problem = _segment_problem(limits, segment)
        if problem:
            raise fail("E0601", f"segment {number} {problem}")
        end = segment.position + segment.tokens
        if end > limits.max_context:
            raise fail(
                "E0602",
                f"segment {number} ends at position {end}, the program's maximum context is {limits.max_context}",
                help="compile with a larger --max-context, or begin a new sequence",
            )


class Machine:
    """Runs the steps of one program on the reference engine.

    Raises `CimError` E0603 if the program carries no weights, E0410 if it does not fit together. `observer` is
    told of every instruction. `pick(n)` chooses which of n ready tiles runs next (the first, if not given).
    """

    def __init__(
        self, program: Program, *, observer: Observer | None = None, pick: Pick | None = None
    ) -> None:
        if program.data is None:
            raise fail(
                "E0603",
                "the program carries no weights",
                help="compile without --shapes-only, or use --timing-only",
            )
        self.program = program
        self.observer = observer
        self._pick: Pick = pick or (lambda ready: 0)
        self._code = {role.name: decode_role(role) for role in program.roles}
        self.reset()

    def reset(self) -> None:
        """Load the program afresh: KV arrays, buffers and memories as before the first step."""
        program = self.program
        assert program.data is not None
        self._network = Network(program)
        memories = load_memories(program, program.data)
        self.tiles: list[TileState] = [
            load_tile(program, number, program.data, self._network, memories)
            for number in range(len(program.tiles))
        ]

    def step(self, segments: Sequence[Segment], inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run one step.

        `inputs` holds, for each input stream, the rows of all segments' tokens in order: [tokens, columns], or
        [tokens] for a stream of one column. The result holds each output stream: [rows, columns], the rows of
        the segments that ask for outputs, in order.

        Raises `CimError`: E0601, E0602 (segments or inputs that do not fit), E0604 (a trap, or tiles that wait
        for each other; the machine then needs a `reset`).
        """
        check_segments(self.program.limits, segments)
        self._send_inputs(segments, self._checked_inputs(segments, inputs))
        runners = []
        for tile, state in zip(self.program.tiles, self.tiles, strict=True):
            state.begin(segments)
            runners.append(TileRunner(state, self._code[tile.role], self.observer))
        try:
            with numerics.quiet():
                run_tiles(runners, self._network.woken, self._pick, self._trapped)
        except StuckError as stuck:
            raise self._deadlock(stuck.tiles) from None
        return self._take_outputs(segments)

    # ------------------------------------------------------------------------------------------------- the host

    def _streams(self, direction: Direction) -> list[Stream]:
        return [stream for stream in self.program.streams if stream.direction is direction]

    def _checked_inputs(self, segments: Sequence[Segment], inputs: Arrays) -> dict[str, NDArray[np.int32]]:
        """The words of each input stream: [tokens, columns]."""
        streams = self._streams(Direction.IN)
        names = {stream.name for stream in streams}
        if set(inputs) != names:
            raise fail("E0601", f"the step takes inputs {sorted(names)}, given are {sorted(inputs)}")
        tokens = sum(segment.tokens for segment in segments)
        words = {}
        for stream in streams:
            rows = np.asarray(inputs[stream.name])
            rows = rows[:, None] if rows.ndim == 1 and stream.columns == 1 else rows
            if rows.shape != (tokens, stream.columns):
                shape = [tokens, stream.columns]
                raise fail("E0601", f"input {stream.name!r} is {list(rows.shape)}, the step takes {shape}")
            words[stream.name] = np.ascontiguousarray(rows, stream.dtype.value).view(np.int32)
        return words

    def _send_inputs(self, segments: Sequence[Segment], words: Mapping[str, NDArray[np.int32]]) -> None:
        self._network.clear()
        for stream in self._streams(Direction.IN):
            row = 0
            for segment in segments:
                rows = words[stream.name][row : row + segment.tokens]
                row += segment.tokens
                for part in stream.parts:
                    block = rows[:, part.column : part.column + part.columns]
                    self._network.host_outlet(self.program, part.channel).send(block.reshape(-1).copy())

    def _take_outputs(self, segments: Sequence[Segment]) -> dict[str, NDArray[Any]]:
        outputs: dict[str, NDArray[Any]] = {}
        for stream in self._streams(Direction.OUT):
            words = np.zeros((sum(segment.outputs for segment in segments), stream.columns), np.int32)
            for part in stream.parts:
                inbox = self._network.host_inbox(self.program, part.channel)
                into = words[:, part.column : part.column + part.columns]
                self._take_part(segments, inbox, into)
            outputs[stream.name] = words.view(stream.dtype.value)
        leftover = self._network.leftover()
        if leftover:
            raise fail("E0604", f"messages were sent that no one took, on {', '.join(leftover)}")
        return outputs

    def _take_part(self, segments: Sequence[Segment], inbox: Inbox, into: NDArray[np.int32]) -> None:
        row = 0
        for number, segment in enumerate(segments):
            if not inbox.messages:
                raise fail(
                    "E0604", f"channel {inbox.channel} brought the host no message for segment {number}"
                )
            message = inbox.messages.popleft()
            rows = into[row : row + segment.outputs]
            if message.size != rows.size:
                text = f"channel {inbox.channel} brings the host {message.size} words for segment {number}"
                raise fail("E0604", f"{text}, {rows.size} were expected")
            rows[:] = message.reshape(rows.shape)
            row += segment.outputs

    # -------------------------------------------------------------------------------------------------- failures

    def _place(self, number: int, index: int) -> InstructionPlace:
        role = self.program.role(self.program.tiles[number].role)
        text = str(role.code[index]) if index < len(role.code) else ""
        return InstructionPlace(self.program.origin.model or "program", role.name, index, text)

    def _trapped(self, number: int, trap: TrapError) -> CimError:
        state = self.tiles[number]
        place = self._place(number, state.index if trap.index is None else trap.index)
        notes = (f"on tile {self.program.tiles[number].name}, in segment {state.segment}",)
        return CimError(Diagnostic("E0604", trap.message, place, notes=notes))

    def _deadlock(self, numbers: Sequence[int]) -> CimError:
        names = ", ".join(self.program.tiles[number].name for number in numbers)
        place = self._place(numbers[0], self.tiles[numbers[0]].index)
        notes = tuple(
            f"{self.program.tiles[number].name} waits {self._waits_for(number)}" for number in numbers[:8]
        )
        return CimError(Diagnostic("E0604", f"tiles wait for each other: {names}", place, notes=notes))

    def _waits_for(self, number: int) -> str:
        state = self.tiles[number]
        if state.barrier is not None:
            return f"at barrier {state.barrier[0].name}"
        role = self.program.role(self.program.tiles[number].role)
        ports = [f"port {role.ports[r.port].name} (channel {r.inbox.channel})" for r in state.pending]
        return "for " + ", ".join(ports)
