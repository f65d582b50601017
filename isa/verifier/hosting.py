"""The parts of a model that the host runs within a step: they read what is there, and what they make goes somewhere.

For deadlocks the host takes the messages of each channel, runs its parts one after another, each when it has all that
it needs for all segments, and then sends what it makes on each channel. It can always take messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from isa.program import Direction, HostPart, Moment, Program, Stream

from .report import Report


def check_hosting(program: Program, report: Report) -> None:
    """Report parts within the step that do not fit together, and streams that reach neither chip nor part."""
    parts = [part for part in program.hosts if part.moment is Moment.WITHIN]
    streams = {stream.name: stream for stream in program.streams}
    made: dict[str, bool] = {}  # by parts so far, and whether of wanted rows alone
    later = {name for part in parts for name in part.outputs}
    for part in parts:
        for message in _wrong_part(part, streams, made, later):
            report.thing(f"host part {part.name}", "E0410", message)
        only_wanted = _only_wanted(part, streams, made)
        made |= dict.fromkeys(part.outputs, only_wanted)
    read = {name for part in parts for name in part.inputs}
    for stream in program.streams:
        for message in _wrong_stream(stream, made, read):
            report.thing(f"stream {stream.name}", "E0410", message)


@dataclass(frozen=True, slots=True)
class HostUnit:
    """Something that the host does in a step: it takes or sends the messages of a channel, or (channel -1) runs a part.

    `after` are the numbers of those that must be over before.
    """

    what: str
    channel: int
    after: tuple[int, ...]


def host_units(program: Program) -> list[HostUnit]:
    """What the host does for its parts within the step. Messages of different channels do not wait for each other."""
    streams = {stream.name: stream for stream in program.streams}
    units: list[HostUnit] = []
    ran: tuple[int, ...] = ()
    for part in program.hosts:
        if part.moment is not Moment.WITHIN:
            continue
        before = len(units)
        what = f"part {part.name}, what it takes"
        units += [HostUnit(what, c, ()) for c in _channels(part.inputs, Direction.OUT, streams)]
        units.append(HostUnit(f"part {part.name}", -1, (*ran, *range(before, len(units)))))
        ran = (len(units) - 1,)
        what = f"part {part.name}, what it makes"
        units += [HostUnit(what, c, ran) for c in _channels(part.outputs, Direction.IN, streams)]
    return units


def _channels(names: Iterable[str], way: Direction, streams: dict[str, Stream]) -> list[int]:
    found = [streams[name] for name in names if name in streams]
    return [part.channel for stream in found if stream.direction is way for part in stream.parts]


def _only_wanted(part: HostPart, streams: dict[str, Stream], made: dict[str, bool]) -> bool:
    """Whether a part runs on the rows whose outputs are wanted alone."""
    taken = [streams[name] for name in part.inputs if name in streams and name not in made]
    of_chip = any(s.direction is Direction.OUT and not (s.every or s.source) for s in taken)
    return of_chip or any(made.get(name, False) for name in part.inputs)


def _wrong_part(
    part: HostPart, streams: dict[str, Stream], made: dict[str, bool], later: set[str]
) -> Iterator[str]:
    """`made` says what earlier parts make, `later` what any part does."""
    if part.positions and part.positions not in part.inputs:
        yield f"{part.positions!r}, its rows' positions, is not among its inputs"
    if not part.outputs:
        yield "it makes nothing"
    for name in part.inputs:
        is_known = name in made or (name in streams and name not in later) or name == part.positions
        if not is_known:
            yield f"nothing before it makes its input {name!r}"
    for name in part.outputs:
        stream = streams.get(name)
        if name in made:
            yield f"{name!r} is made by an earlier part"
        elif stream is not None and (stream.direction is Direction.IN) is not bool(stream.parts):
            yield f"it makes {name!r}, a stream that does not go from the host to the chip, or to the caller"
        elif stream is not None and stream.parts and _only_wanted(part, streams, made):
            yield f"it runs on wanted rows alone; stream {name} carries those of all tokens"
    whose = {streams[name].source for name in (*part.inputs, *part.outputs) if name in streams}
    if len(whose) > 1:
        yield "it works on rows of the tokens and on rows of the source"


def _wrong_stream(stream: Stream, made: dict[str, bool], read: set[str]) -> Iterator[str]:
    if stream.every and (stream.direction is Direction.IN or stream.source):
        yield "every row is meant of what the chip makes of tokens alone"
    if not stream.parts and stream.direction is Direction.OUT and stream.name not in made:
        yield "it has no channels, and no part of the host makes it"
    if (
        not stream.parts
        and stream.direction is Direction.IN
        and stream.name not in read
        and not stream.source
    ):
        yield "it has no channels, and no part of the host reads it"
