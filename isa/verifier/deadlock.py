"""Whether every message comes about: no circle of tiles in which each waits for the next (E0406).

Phases of tiles that exchange messages form a group (`groups.py`); groups come one after the other. One pass of each
group is executed from empty channels, with the waits of the scripts. What a tile waits for is fixed by the program, and
a message once possible stays possible; so if these executions complete, every execution does, with any number of
segments (docs/verifier.md has the argument).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from isa.diagnostics import Diagnostic, InstructionPlace
from isa.program import HOST, Direction, Program

from .binding import Binding
from .channels import BoundEvent, TileScript
from .groups import Groups, Step, Unit
from .hosting import HostUnit, host_units

MAX_SHOWN = 12  # tiles of a circle that are named


@dataclass(slots=True)
class _Run:
    """A tile in a group: its events, the messages they belong to, and how many it has come to."""

    events: tuple[BoundEvent, ...]
    messages: list[int] = field(default_factory=list)
    done: int = 0

    @property
    def stuck(self) -> bool:
        """Whether there is something it has not come to."""
        return self.done < len(self.events)


class GroupRun:
    """One pass of a group. Messages are numbered; `missing` says how many ends have not come to each."""

    def __init__(
        self, program: Program, binding: Binding, scripts: list[TileScript], units: list[Unit]
    ) -> None:
        self.program, self.binding = program, binding
        self.owner: list[int] = []  # the meeting of each message
        self.missing: list[int] = []
        self._waiters: dict[int, list[int]] = {}
        self.tiles = {tile: _Run(scripts[tile].phases[phase]) for tile, phase in units}
        self._number_messages()

    def _number_messages(self) -> None:
        """The messages of a meeting are numbered in their order; all ends have the same ones."""
        numbers: dict[tuple[int, int], int] = {}
        for tile, run in self.tiles.items():
            ports = self.binding.ports[tile]
            for event in run.events:
                key = ports[event.port], event.number
                number = numbers.get(key)
                if number is None:
                    number = numbers[key] = len(self.missing)
                    self.owner.append(key[0])
                    self.missing.append(self.binding.meetings[key[0]].tiles)
                run.messages.append(number)

    def execute(self) -> list[int]:
        """Run until nothing more can happen; the result is the tiles that are stuck."""
        ready = list(self.tiles)
        ready.reverse()
        while ready:
            self._advance(ready.pop(), ready)
        return [tile for tile, run in self.tiles.items() if run.stuck]

    def _advance(self, tile: int, ready: list[int]) -> None:
        run, missing = self.tiles[tile], self.missing
        while run.stuck:
            awaited = self.awaited(tile)
            if awaited >= 0:
                self._waiters.setdefault(run.messages[awaited], []).append(tile)
                return
            message = run.messages[run.done]
            run.done += 1
            missing[message] -= 1
            if not missing[message]:
                ready += self._waiters.pop(message, ())

    def awaited(self, tile: int) -> int:
        """The event whose message must be complete before the tile goes on; -1 if none."""
        run = self.tiles[tile]
        for event in run.events[run.done].waits:
            if self.missing[run.messages[event]]:
                return event
        return -1

    # ------------------------------------------------------------------------------------------- what went wrong

    def circle(self, tile: int) -> list[tuple[int, int]]:
        """A circle of waiting tiles that can be reached from a stuck one: (tile, event that it waits for)."""
        way: list[tuple[int, int]] = []
        seen: dict[int, int] = {}
        while tile not in seen:
            seen[tile] = len(way)
            event = self.awaited(tile)
            way.append((tile, event))
            tile = self._absent(tile, event)
        return way[seen[tile] :]

    def _absent(self, tile: int, event: int) -> int:
        """A tile that has not come to the message of an event that `tile` waits for."""
        message = self.tiles[tile].messages[event]
        for end in self.binding.meetings[self.owner[message]].ends:
            if end.tile == HOST:
                continue
            other = self.tiles[end.tile]
            coming = zip(other.events[other.done :], other.messages[other.done :], strict=True)
            if any(number == message and e.port == end.port for e, number in coming):
                return end.tile
        raise AssertionError("a message that all ends have come to is not complete")

    def hop(self, tile: int, event: int) -> str:
        """In words: what a stuck tile waits for."""
        message = self.tiles[tile].messages[event]
        meeting = self.binding.meetings[self.owner[message]]
        mine = self.program.tiles[tile].name
        other = self.program.tiles[self._absent(tile, event)].name
        direction = self.tiles[tile].events[event].direction
        if direction is Direction.BARRIER:
            return f"{mine} waits at {meeting.name} for {other}"
        if direction is Direction.OUT:
            return f"{mine} waits to send on {meeting.name} to {other}"
        return f"{mine} waits to receive on {meeting.name} from {other}"


def find_deadlock(
    program: Program, binding: Binding, scripts: list[TileScript], name: str
) -> Diagnostic | None:
    """The first circle of waiting tiles; None if every message comes about. The ends of all channels must agree."""
    host = host_units(program)
    groups = Groups(binding, scripts, host)
    way = groups.disorder()
    if way:
        return _disorder(program, binding, (scripts, host), way, name)
    complete: set[tuple[tuple[int, int], ...]] = set()  # groups that say the same again complete again
    for members in groups.members().values():
        units = [
            unit for unit in members if unit[0] < len(scripts)
        ]  # within a phase the host is always there
        said = tuple((tile, id(scripts[tile].phases[phase])) for tile, phase in units)
        if said in complete:
            continue
        complete.add(said)
        run = GroupRun(program, binding, scripts, units)
        stuck = run.execute()
        if stuck:
            return _diagnostic(program, run, run.circle(stuck[0]), name)
    return None


def _disorder(
    program: Program,
    binding: Binding,
    said: tuple[list[TileScript], list[HostUnit]],
    way: list[Step],
    name: str,
) -> Diagnostic:
    """Whole phases wait for each other: `way` leads from one to a later one of the same tile."""
    notes, (scripts, host) = [], said
    for (tile, phase), meeting in way:
        if tile == len(scripts):
            notes.append(f"the host, {host[phase].what}: {_how(binding, meeting)}")
            continue
        place = _place(program, tile, scripts[tile].phases[phase][0].index, name)
        who = f"{program.tiles[tile].name}, the part with instruction {place.index} `{place.text}`"
        notes.append(f"{who}: {_how(binding, meeting)}")
    notes[-1] = f"{notes[-1].rpartition(': ')[0]}: comes after the first"
    tiles = ["the host" if tile == len(scripts) else program.tiles[tile].name for (tile, _), _ in way]
    tile, phase = next(unit for unit, _ in way if unit[0] < len(scripts))
    return Diagnostic(
        "E0406",
        f"loops wait for each other as wholes: {' - '.join(dict.fromkeys(tiles))} - {tiles[0]}",
        _place(program, tile, scripts[tile].phases[phase][0].index, name),
        "messages of different loops over the segments belong in different loops of the other tiles too",
        tuple(notes[:MAX_SHOWN]),
    )


def _how(binding: Binding, meeting: int) -> str:
    if meeting < 0:
        return "needs the next first"
    return f"goes along with the next over {binding.meetings[meeting].name}"


def _place(program: Program, tile: int, index: int, name: str) -> InstructionPlace:
    role = program.role(program.tiles[tile].role)
    return InstructionPlace(name, role.name, index, str(role.code[index]))


def _diagnostic(program: Program, run: GroupRun, circle: list[tuple[int, int]], name: str) -> Diagnostic:
    hops = [run.hop(tile, event) for tile, event in circle]
    shown = hops[:MAX_SHOWN] + ([f"... ({len(hops) - MAX_SHOWN} more)"] if len(hops) > MAX_SHOWN else [])
    places = [(tile, run.tiles[tile].events[event].index) for tile, event in circle[:MAX_SHOWN]]
    notes = []
    for tile, index in places:
        place = _place(program, tile, index, name)
        notes.append(f"{program.tiles[tile].name}: role {place.role}, instruction {index} `{place.text}`")
    return Diagnostic(
        "E0406",
        "; ".join(shown),
        _place(program, *places[0], name),
        "post receives before the sends that others wait for, or send in the order in which others receive",
        tuple(notes),
    )
