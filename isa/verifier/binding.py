"""Who is at which end: every port of every tile belongs to one channel or barrier, every host end to one stream."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from isa.operands import Special
from isa.program import HOST, BarrierGroup, Channel, Direction, Endpoint, Program, Reduce, Role, Stream

from .report import Report
from .segments import Over

WORD_BYTES = 4


@dataclass(frozen=True, slots=True)
class Meeting:
    """A channel or barrier: its name and all its ends."""

    name: str
    ends: tuple[Endpoint, ...]
    is_barrier: bool = False
    tiles: int = 0  # how many of the ends are tiles'


@dataclass(frozen=True, slots=True)
class HostEnd:
    """What the host exchanges on a channel in each segment of a list: `words` a row.

    Rows are its tokens, or (OUT, over tokens, not `every`) those whose outputs are wanted. It goes through the list
    `times` times: once for each part of the `stream` that the channel carries.
    """

    direction: Direction
    words: int
    over: Over = Over.TOKENS
    every: bool = False
    times: int = 1
    stream: str = ""

    @property
    def rows(self) -> Special:
        """The fact of a segment that says how many rows its message has."""
        only_wanted = self.direction is Direction.OUT and self.over is Over.TOKENS and not self.every
        return Special.OUTPUTS if only_wanted else Special.TOKENS


@dataclass(slots=True)
class Binding:
    """Meetings, and for each tile the meeting at each of its ports (-1: none)."""

    meetings: list[Meeting]
    ports: list[list[int]]
    host: dict[int, HostEnd] = field(default_factory=dict)


def bind(program: Program, report: Report) -> Binding:
    """Connect ports; report what is connected wrongly, twice or not at all (E0410)."""
    channels = [_meeting(c.name, (*c.sources, *c.dests)) for c in program.channels]
    barriers = [_meeting(b.name, b.members, is_barrier=True) for b in program.barriers]
    roles = {role.name: role for role in program.roles}
    ports = [[-1] * len(roles[tile.role].ports) for tile in program.tiles]
    binder = _Binder(program, roles, ports, report)
    for number, channel in enumerate(program.channels):
        binder.channel(number, channel)
    for number, group in enumerate(program.barriers, len(channels)):
        binder.barrier(number, group)
    binder.check_all_bound()
    binding = Binding(channels + barriers, ports)
    _bind_streams(program, binding, report)
    return binding


def _meeting(name: str, ends: tuple[Endpoint, ...], is_barrier: bool = False) -> Meeting:
    return Meeting(name, ends, is_barrier, sum(end.tile != HOST for end in ends))


class _Binder:
    def __init__(
        self, program: Program, roles: dict[str, Role], ports: list[list[int]], report: Report
    ) -> None:
        self.program, self.roles, self.ports, self.report = program, roles, ports, report

    def channel(self, number: int, channel: Channel) -> None:
        place = f"channel {channel.name}"
        if not channel.sources or not channel.dests:
            self.report.thing(place, "E0410", "it needs at least one sender and one receiver")
        if len(channel.sources) > 1 and channel.reduce is Reduce.NONE:
            message = "it has several senders, and nothing says how their messages are combined"
            self.report.thing(place, "E0410", message)
        hosts = sum(end.tile == HOST for end in (*channel.sources, *channel.dests))
        if hosts > 1:
            self.report.thing(place, "E0410", "the host is at more than one end")
        for end in channel.sources:
            self._connect(place, number, end, Direction.OUT)
        for end in channel.dests:
            self._connect(place, number, end, Direction.IN)

    def barrier(self, number: int, group: BarrierGroup) -> None:
        place = f"barrier {group.name}"
        tiles = [end.tile for end in group.members]
        if not tiles:
            self.report.thing(place, "E0410", "it has no members")
        if len(set(tiles)) < len(tiles):
            self.report.thing(place, "E0410", "a tile is in it twice")
        for end in group.members:
            if end.tile == HOST:
                self.report.thing(place, "E0410", "the host takes part in no barrier")
            else:
                self._connect(place, number, end, Direction.BARRIER)

    def _connect(self, place: str, number: int, end: Endpoint, direction: Direction) -> None:
        if end.tile == HOST:
            if end.port:
                self.report.thing(place, "E0410", f"the host has port 0 alone, not {end.port}")
            return
        if not 0 <= end.tile < len(self.program.tiles):
            self.report.thing(place, "E0410", f"there is no tile number {end.tile}")
            return
        tile = self.program.tiles[end.tile]
        ports = self.roles[tile.role].ports
        if not 0 <= end.port < len(ports):
            message = f"tile {tile.name} has no port {end.port}; role {tile.role} has {len(ports)}"
            self.report.thing(place, "E0410", message)
            return
        port = ports[end.port]
        if port.direction is not direction:
            message = (
                f"port {port.name} of tile {tile.name} goes {port.direction.value}, not {direction.value}"
            )
            self.report.thing(place, "E0410", message)
        elif self.ports[end.tile][end.port] >= 0:
            self.report.thing(place, "E0410", f"port {port.name} of tile {tile.name} is connected twice")
        else:
            self.ports[end.tile][end.port] = number

    def check_all_bound(self) -> None:
        for tile, bound in zip(self.program.tiles, self.ports, strict=True):
            for port, number in zip(self.roles[tile.role].ports, bound, strict=True):
                if number < 0:
                    self.report.thing(f"tile {tile.name}", "E0410", f"port {port.name} is not connected")
            if self.report.full("E0410"):
                return


# ----------------------------------------------------------------------------------------------------- streams


def _bind_streams(program: Program, binding: Binding, report: Report) -> None:
    for stream in program.streams:
        place = f"stream {stream.name}"
        if stream.direction is Direction.BARRIER:
            report.thing(place, "E0410", "a stream goes in or out")
            continue
        if stream.source and not program.limits.max_source:
            report.thing(
                place, "E0410", "it is of the source, and the program is made for none (max_source 0)"
            )
            continue
        for part in stream.parts:
            _bind_part(program, binding, stream, part.channel, (part.column, part.columns), report)
        if stream.direction is Direction.OUT and stream.parts:
            _check_covered(stream, report)
    for number, channel in enumerate(program.channels):
        if number not in binding.host and any(e.tile == HOST for e in (*channel.sources, *channel.dests)):
            message = "the host is at one end, but no stream says what it exchanges"
            report.thing(f"channel {channel.name}", "E0410", message)


def _bind_part(
    program: Program, binding: Binding, stream: Stream, number: int, columns: tuple[int, int], report: Report
) -> None:
    place = f"stream {stream.name}"
    if not 0 <= number < len(program.channels):
        report.thing(place, "E0410", f"there is no channel number {number}")
        return
    channel = program.channels[number]
    first, count = columns
    over = Over.SOURCE if stream.source else Over.TOKENS
    host, known = (
        HostEnd(stream.direction, count, over, stream.every, 1, stream.name),
        binding.host.get(number),
    )
    is_shared = stream.direction is Direction.OUT and all(
        part.columns == count for part in stream.parts if part.channel == number
    )
    ends = channel.sources if stream.direction is Direction.IN else channel.dests
    wrong = (
        f"the host is not at its end of channel {channel.name}"
        if not any(end.tile == HOST for end in ends)
        else f"channel {channel.name} belongs to two stream parts"
        if known is not None and not (is_shared and known.stream == stream.name)
        else f"columns {first}..{first + count - 1} are not among its {stream.columns}"
        if first < 0 or count < 1 or first + count > stream.columns
        else f"it carries {stream.dtype.value}; streams carry int32 or float32"
        if stream.dtype.bytes != WORD_BYTES
        else None
    )
    if wrong:
        report.thing(place, "E0410", wrong)
        return
    binding.host[number] = replace(host, times=known.times + 1) if known else host


def _check_covered(stream: Stream, report: Report) -> None:
    """Every column of an output comes from exactly one part."""
    reached = 0
    for part in sorted(stream.parts, key=lambda p: p.column):
        if part.column != reached:
            break
        reached += part.columns
    if reached != stream.columns or sum(p.columns for p in stream.parts) != stream.columns:
        report.thing(f"stream {stream.name}", "E0410", "its parts do not give each column exactly once")
