"""Which streams a step's caller sees, and which stay between the chip and the host's parts within the step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from isa.program import Direction, HostPart, Moment, Program, Segment, Stream

from .segments import carried


def parts_within(program: Program) -> tuple[HostPart, ...]:
    """The parts that the host runs within a step, in order."""
    return tuple(part for part in program.hosts if part.moment is Moment.WITHIN)


def parts_around(program: Program) -> tuple[HostPart, ...]:
    """The parts that the host runs before and after a step, in order."""
    return tuple(part for part in program.hosts if part.moment is not Moment.WITHIN)


def is_inner(program: Program, stream: Stream) -> bool:
    """Whether a stream joins the chip with a part within the step, and is none of the caller's business."""
    parts = parts_within(program)
    if stream.direction is Direction.IN:
        return any(stream.name in part.outputs for part in parts)
    told = {
        *program.results,
        *(name for part in parts_around(program) for name in part.inputs),
        *(value.stream for value in program.interface.outputs),
    }
    return stream.name not in told and any(stream.name in part.inputs for part in parts)


class Between:
    """How a program's parts within a step hang together: what each waits for, sends, and how many rows it has."""

    def __init__(self, program: Program) -> None:
        self.parts = parts_within(program)
        streams = {stream.name: stream for stream in program.streams}
        self.takes = [_going(part.inputs, streams, Direction.OUT) for part in self.parts]
        self.gives = [_going(part.outputs, streams, Direction.IN) for part in self.parts]
        self.before = [
            [p for p, other in enumerate(self.parts) if set(other.outputs) & set(part.inputs)]
            for part in self.parts
        ]
        self.is_source: list[bool] = []
        self.is_wanted: list[bool] = []
        for number, part in enumerate(self.parts):
            fed = [streams[name] for name in (*part.inputs, *part.outputs) if name in streams]
            earlier = self.before[number]
            self.is_source.append(any(s.source for s in fed) or any(self.is_source[p] for p in earlier))
            taken = self.takes[number]
            only_wanted = any(not (s.every or s.source) for s in taken)
            self.is_wanted.append(only_wanted or any(self.is_wanted[p] for p in earlier))

    def segments(self, number: int, step: Sequence[Segment]) -> list[Segment]:
        """The segments of a step that part `number` works for."""
        return [s for s in step if s.is_source is self.is_source[number]]

    def rows(self, number: int, step: Sequence[Segment]) -> int:
        """On how many rows of a step part `number` runs; with none it does not run."""
        only_wanted = self.is_wanted[number]
        return sum(s.outputs if only_wanted else s.tokens for s in self.segments(number, step))

    def awaited(self, number: int, step: Sequence[Segment], known: Collection[str] = ()) -> dict[int, int]:
        """The channels from the chip that part `number` waits for, and how many messages each brings it; but not for
        streams that are `known`."""
        found: Counter[int] = Counter()
        for stream in self.takes[number]:
            if stream.name not in known and carried(stream, step):
                for part in stream.parts:
                    found[part.channel] += len(carried(stream, step))
        return found


def _going(names: Sequence[str], streams: dict[str, Stream], way: Direction) -> list[Stream]:
    """The streams of these names that join the part with the chip, and go one way."""
    found = [streams[name] for name in names if name in streams]
    return [stream for stream in found if stream.direction is way and stream.parts]


__all__ = ["Between", "is_inner", "parts_around", "parts_within"]
