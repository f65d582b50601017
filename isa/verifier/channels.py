"""Whether the ends of each channel and barrier exchange the same messages (E0405).

Scripts of roles become scripts of tiles: parameters are replaced by their values, ports and sizes become known. Ends
agree if their phases with messages are alike: the same number of messages, with the same numbers of words, as texts of
polynomials in facts that all tiles share.
"""

from __future__ import annotations

from dataclasses import dataclass

from isa.program import HOST, Direction, Endpoint, Program

from .arithmetic import Arithmetic
from .binding import Binding, HostEnd, Meeting
from .poly import Poly
from .report import Report
from .script import Event
from .walk import Variant

MAX_LISTED = 6  # messages of an end that a finding lists
Sizes = tuple[str, ...]  # of the messages of one phase at one port, in words, in order
Said = tuple[
    tuple[bool, Sizes], ...
]  # by phase with messages: whether it repeats for each segment, and the sizes


@dataclass(frozen=True, slots=True)
class BoundEvent:
    """An event of a tile: which port, the how-many-th event of its phase there, and the events it waits for."""

    direction: Direction
    index: int
    port: int
    number: int
    size: str
    waits: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TileScript:
    """What a tile says: by phase (odd phases repeat for each segment), and the sizes by port."""

    phases: tuple[tuple[BoundEvent, ...], ...]
    ports: tuple[Said, ...]


def bind_scripts(program: Program, variants: list[Variant], report: Report) -> list[TileScript]:
    """The script of each tile, by its number. Sizes that other tiles may not share are reported."""
    scripts: dict[int, TileScript] = {}
    for variant in variants:
        binder = _ScriptBinder(variant, report)
        for number, tile in enumerate(variant.context.job.tiles):
            scripts[tile] = binder.script(number)
    return [scripts[tile] for tile in range(len(program.tiles))]


class _ScriptBinder:
    """Binds one variant's script to its tiles; tiles with the same values of the parameters that matter share it."""

    def __init__(self, variant: Variant, report: Report) -> None:
        self.variant, self.report = variant, report
        self.values: Arithmetic = variant.context.values
        events = [event for phase in variant.phases for event in phase.events]
        self.columns = self._columns([p for e in events for p in (e.port, e.rows, e.cols)])
        self._made: dict[tuple[int, ...], TileScript] = {}

    def _columns(self, polys: list[Poly]) -> dict[int, tuple[int, ...]]:
        """The parameters that the values depend on, each with its value in every tile."""
        params = self.variant.context.param_values
        mentioned: set[int] = set()
        waiting = list(polys)
        seen: set[int] = set()
        while waiting:
            for symbol in waiting.pop().symbols() - seen:
                seen.add(symbol)
                mentioned |= {symbol} & params.keys()
                waiting += self.values.table.symbols[symbol].args
        return {symbol: params[symbol] for symbol in sorted(mentioned)}

    def script(self, number: int) -> TileScript:
        """The script of the variant's tile with this number."""
        key = tuple(column[number] for column in self.columns.values())
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = self._bind(dict(zip(self.columns, key, strict=True)))
        return made

    def _bind(self, params: dict[int, int]) -> TileScript:
        ports: list[list[list[str]]] = [
            [[] for _ in self.variant.phases] for _ in self.variant.context.job.role.ports
        ]
        phases: list[tuple[BoundEvent, ...]] = []
        for phase_number, phase in enumerate(self.variant.phases):
            events: list[BoundEvent] = []
            for event in phase.events:
                port = self.values.substitute(event.port, params)
                if port.terms:
                    self._find(event, "the port is not the same in all passes")
                    continue
                said = ports[port.const][phase_number]
                size = self._size(event, params)
                events.append(
                    BoundEvent(event.direction, event.index, port.const, len(said), size, event.waits)
                )
                said.append(size)
            phases.append(tuple(events))
        return TileScript(tuple(phases), tuple(map(_said_at, ports)))

    def _size(self, event: Event, params: dict[int, int]) -> str:
        if event.direction is Direction.BARRIER:
            return "barrier"
        words = self.values.substitute(event.rows * event.cols, params)
        text = self.values.table.text(words)
        if not self.values.table.shared(words):
            self._find(
                event, f"the size of the message, {text} words, is not shown to be the same in all tiles"
            )
        return text

    def _find(self, event: Event, message: str) -> None:
        hint = "it may depend on constants, parameters and facts of the segment that the loop over segments is at"
        self.report.instruction(self.variant.context.job.role, event.index, "E0405", message, hint)


def _said_at(port: list[list[str]]) -> Said:
    """What is said at a port, from the sizes by phase."""
    return tuple((number % 2 == 1, tuple(sizes)) for number, sizes in enumerate(port) if sizes)


def check_channels(program: Program, binding: Binding, scripts: list[TileScript], report: Report) -> None:
    """Report channels and barriers whose ends do not say the same."""
    for number, meeting in enumerate(binding.meetings):
        ends = [end for end in meeting.ends if end.tile != HOST]
        said = [scripts[end.tile].ports[end.port] for end in ends]
        for end, other in zip(ends[1:], said[1:], strict=True):
            if other != said[0]:
                _report_difference(program, meeting, (ends[0], end), (said[0], other), report)
                break
        host = binding.host.get(number)
        if host is not None and not _suits_host(program, host, said[0]):
            _report_host(program, meeting, host, ends[0], said[0], report)
        if report.full("E0405"):
            return


def _host_size(program: Program, host: HostEnd) -> str:
    """The words of the host's message for a segment, as `SymbolTable.text` writes them."""
    limits = program.limits
    name = "tokens" if host.direction is Direction.IN else "outputs"
    if limits.segments == 1:
        name += "(0)"
    if host.direction is Direction.IN and min(limits.chunk, limits.max_context) == 1:
        return str(host.words)
    return name if host.words == 1 else f"{host.words}*{name}"


def _suits_host(program: Program, host: HostEnd, said: Said) -> bool:
    """Whether there is one message a segment, of the host's size."""
    return said == ((program.limits.segments > 1, (_host_size(program, host),)),)


def _text(said: Said) -> str:
    """The messages of an end, by their sizes."""
    return (
        "; ".join(_listed(sizes) + (" each segment" if repeats else "") for repeats, sizes in said)
        or "nothing"
    )


def _listed(sizes: Sizes) -> str:
    shown = [*sizes[:MAX_LISTED], *([f"... {len(sizes)} in all"] if len(sizes) > MAX_LISTED else [])]
    return f"[{', '.join(shown)}]"


def _name(program: Program, end: Endpoint) -> str:
    return "the host" if end.tile == HOST else f"tile {program.tiles[end.tile].name}"


def _report_difference(
    program: Program,
    meeting: Meeting,
    ends: tuple[Endpoint, Endpoint],
    said: tuple[Said, Said],
    report: Report,
) -> None:
    kind = "barrier" if meeting.is_barrier else "channel"
    first, second = (f"{_name(program, e)}: {_text(s)}" for e, s in zip(ends, said, strict=True))
    message = f"its ends differ in their messages. {first}; {second} (sizes in words)"
    report.thing(f"{kind} {meeting.name}", "E0405", message)


def _report_host(
    program: Program, meeting: Meeting, host: HostEnd, end: Endpoint, said: Said, report: Report
) -> None:
    ours = f"the host: [{_host_size(program, host)}] each segment"
    message = (
        f"its ends differ in their messages. {ours}; {_name(program, end)}: {_text(said)} (sizes in words)"
    )
    report.thing(f"channel {meeting.name}", "E0405", message)
