"""Whether every message comes about: no circle of tiles in which each waits for the next (E0406).

A *unit* is one phase of one tile: a straight part, or a loop over the segments. Units that exchange messages form a
*group*. Groups are brought into an order in which every tile goes through its units; then one pass of each group is
executed from empty channels, with the waits of the scripts. What a tile waits for is fixed by the program, and a
message once possible stays possible; so if these executions complete, every execution does, with any number of segments
(docs/verifier.md has the argument).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from isa.diagnostics import Diagnostic, InstructionPlace
from isa.program import HOST, Direction, Program

from .binding import Binding
from .channels import BoundEvent, TileScript

MAX_SHOWN = 12  # tiles of a circle that are named

Unit = tuple[int, int]  # tile, phase


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


class _Groups:
    """Units with messages, joined where they exchange some (a forest in which every unit leads to its group)."""

    def __init__(self, binding: Binding, scripts: list[TileScript]) -> None:
        self.units = [
            (tile, phase)
            for tile, script in enumerate(scripts)
            for phase, events in enumerate(script.phases)
            if events
        ]
        self._leads_to: dict[Unit, Unit] = {unit: unit for unit in self.units}
        heads: dict[tuple[int, int], Unit] = {}  # the first unit seen of each meeting's how-many-th phase
        for tile, phase in self.units:
            ports = {event.port for event in scripts[tile].phases[phase]}
            for port in ports:
                earlier = scripts[tile].phases[:phase]
                ordinal = sum(any(event.port == port for event in events) for events in earlier)
                head = heads.setdefault((binding.ports[tile][port], ordinal), (tile, phase))
                self._leads_to[self.group(head)] = self.group((tile, phase))

    def group(self, unit: Unit) -> Unit:
        """The unit that stands for the group."""
        way = []
        while self._leads_to[unit] != unit:
            way.append(unit)
            unit = self._leads_to[unit]
        for passed in way:
            self._leads_to[passed] = unit
        return unit

    def members(self) -> dict[Unit, list[Unit]]:
        """The units of each group."""
        found: dict[Unit, list[Unit]] = {}
        for unit in self.units:
            found.setdefault(self.group(unit), []).append(unit)
        return found


def _successors(groups: _Groups) -> dict[Unit, dict[Unit, Unit]]:
    """Which groups must come after which, because a tile goes through units of both: group -> group -> the unit."""
    after: dict[Unit, dict[Unit, Unit]] = {}
    previous: Unit | None = None
    for unit in groups.units:
        if previous is not None and previous[0] == unit[0]:
            after.setdefault(groups.group(previous), {}).setdefault(groups.group(unit), unit)
        previous = unit
    return after


def _order_problem(groups: _Groups) -> Unit | None:
    """A unit that would have to come both before and after others; None if the groups have an order."""
    after = _successors(groups)
    entering = dict.fromkeys(groups.members(), 0)
    for following in after.values():
        for group in following:
            entering[group] += 1
    ready = [group for group, count in entering.items() if not count]
    while ready:
        for group in after.get(ready.pop(), ()):
            entering[group] -= 1
            if not entering[group]:
                ready.append(group)
    for following in after.values():
        for group, unit in following.items():
            if entering[group]:
                return unit
    return None


def find_deadlock(
    program: Program, binding: Binding, scripts: list[TileScript], name: str
) -> Diagnostic | None:
    """The first circle of waiting tiles; None if every message comes about. The ends of all channels must agree."""
    groups = _Groups(binding, scripts)
    unit = _order_problem(groups)
    if unit is not None:
        return _disorder(program, scripts, unit, name)
    for units in groups.members().values():
        run = GroupRun(program, binding, scripts, units)
        stuck = run.execute()
        if stuck:
            return _diagnostic(program, run, run.circle(stuck[0]), name)
    return None


def _disorder(program: Program, scripts: list[TileScript], unit: Unit, name: str) -> Diagnostic:
    """Loops of tiles wait for each other as wholes."""
    tile, phase = unit
    message = (
        f"{program.tiles[tile].name} has messages in several loops, and other tiles exchange theirs in an order that "
        "needs a later loop before an earlier one has ended"
    )
    place = _place(program, tile, scripts[tile].phases[phase][0].index, name)
    hint = "messages of different loops over the segments belong in different loops of the other tiles too"
    return Diagnostic("E0406", message, place, hint)


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
