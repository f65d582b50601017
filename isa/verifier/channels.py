"""Whether the ends of each channel and barrier exchange the same messages (E0405).

Scripts of roles become scripts of tiles: parameters are replaced by their values, ports and sizes become known. Ends
agree if their phases with messages are alike: the same number of messages, with the same numbers of words, as texts of
polynomials in facts that all tiles share.
"""

from __future__ import annotations

from dataclasses import dataclass

from isa.operands import Special
from isa.program import HOST, Direction, Endpoint, Program

from .arithmetic import Arithmetic
from .binding import Binding, HostEnd, Meeting
from .poly import Poly
from .report import Report
from .script import Event, Phase
from .segments import FACTS, Over
from .walk import Variant

MAX_LISTED = 6  # messages of an end that a finding lists
Sizes = tuple[str, ...]  # of the messages of one phase at one port, in words, in order
Said = tuple[
    tuple[Over | None, Sizes], ...
]  # by phase with messages: the segments for each of which it repeats, and the sizes


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
    """What a tile says: its events by phase, and the sizes by port."""

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
        """The script with these parameters. A phase that is said again is bound once."""
        bound: dict[int, tuple[tuple[BoundEvent, ...], list[tuple[str, ...]]]] = {}
        for phase in self.variant.phases:
            if id(phase) not in bound:
                bound[id(phase)] = self._phase(phase, params)
        said = [bound[id(phase)] for phase in self.variant.phases]
        overs = [phase.over for phase in self.variant.phases]
        ports = range(len(self.variant.context.job.role.ports))
        return TileScript(
            tuple(events for events, _ in said),
            tuple(_said_at(overs, [sizes[port] for _, sizes in said]) for port in ports),
        )

    def _phase(
        self, phase: Phase, params: dict[int, int]
    ) -> tuple[tuple[BoundEvent, ...], list[tuple[str, ...]]]:
        """The events of a phase, and the sizes of its messages by port."""
        ports: list[list[str]] = [[] for _ in self.variant.context.job.role.ports]
        events: list[BoundEvent] = []
        for event in phase.events:
            port = self.values.substitute(event.port, params)
            if port.terms:
                self._find(event, "the port is not the same in all passes")
                continue
            said = ports[port.const]
            size = self._size(event, params)
            events.append(BoundEvent(event.direction, event.index, port.const, len(said), size, event.waits))
            said.append(size)
        return tuple(events), [tuple(sizes) for sizes in ports]

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


def _said_at(overs: list[Over | None], port: list[tuple[str, ...]]) -> Said:
    """What is said at a port, from the sizes by phase."""
    return tuple((over, sizes) for over, sizes in zip(overs, port, strict=True) if sizes)


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
    rows = limits.max_context if host.over is Over.TOKENS else limits.max_source
    if host.rows is Special.TOKENS and min(limits.chunk, rows) == 1:
        return str(host.words)
    name = FACTS[host.over][host.rows].value
    if _host_repeats(program, host) is None:
        name += "(0)"
    return name if host.words == 1 else f"{host.words}*{name}"


def _host_repeats(program: Program, host: HostEnd) -> Over | None:
    """The segments for each of which the host's message repeats; None where a step has exactly one."""
    return None if host.over is Over.TOKENS and program.limits.segments == 1 else host.over


def _suits_host(program: Program, host: HostEnd, said: Said) -> bool:
    """Whether there is one message a segment, of the host's size, as many times as the channel carries parts."""
    return said == ((_host_repeats(program, host), (_host_size(program, host),)),) * host.times


def _overs(said: Said) -> set[Over | None]:
    return {over for over, _ in said}


def _hint(a: set[Over | None], b: set[Over | None]) -> str | None:
    """What to do if two ends speak in loops over different segments."""
    if a == b or not a or not b:
        return None
    return "what is said in a loop over segments, or over source segments, is said in such a loop at all ends"


def _text(said: Said) -> str:
    """The messages of an end, by their sizes."""
    return (
        "; ".join(_listed(sizes) + (f" each {over.text}" if over else "") for over, sizes in said)
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
    report.thing(f"{kind} {meeting.name}", "E0405", message, _hint(_overs(said[0]), _overs(said[1])))


def _report_host(
    program: Program, meeting: Meeting, host: HostEnd, end: Endpoint, said: Said, report: Report
) -> None:
    times = f", {host.times} times" if host.times > 1 else ""
    ours = f"the host: [{_host_size(program, host)}] each {host.over.text}{times}"
    message = (
        f"its ends differ in their messages. {ours}; {_name(program, end)}: {_text(said)} (sizes in words)"
    )
    hint = _hint({_host_repeats(program, host)}, _overs(said))
    report.thing(f"channel {meeting.name}", "E0405", message, hint)
