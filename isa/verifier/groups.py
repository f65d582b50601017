"""Which phases of tiles go along with each other, and in what order.

A *unit* is one phase of one tile: a straight part, or a loop over the segments. Units that exchange messages form a
*group*: its loops go through the segments side by side. Every tile goes through its units in their order, so groups
must have an order too; if they have none, a loop would have to end before another one that it exchanges messages with.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

from .binding import Binding
from .channels import TileScript
from .hosting import HostUnit

Unit = tuple[int, int]  # tile, phase
Key = tuple[int, int]  # a meeting, and the how-many-th phase of its ends it is
Step = tuple[
    Unit, int
]  # a unit and the meeting that leads to the next one; -1: the tile itself, one unit back


class Groups:
    """Units with messages, joined where they exchange some (a forest in which every unit leads to its group)."""

    def __init__(self, binding: Binding, scripts: list[TileScript], host: Sequence[HostUnit] = ()) -> None:
        """`host`: what the host does (`hosting.py`). It stands behind the last tile."""
        self.units: list[Unit] = []
        self._host, self._does = len(scripts), host
        self.keys: dict[Unit, list[Key]] = {}
        self._leads_to: dict[Unit, Unit] = {}
        self._head: dict[Key, Unit] = {}  # the first unit seen of each key
        for tile, script in enumerate(scripts):
            said = [0] * len(script.ports)  # phases with messages so far, by port
            for phase, events in enumerate(script.phases):
                if events:
                    self._add_tile((tile, phase), {event.port for event in events}, said, binding.ports[tile])
        # parts of a stream so far, by channel: each is a phase of the other end
        turns: Counter[int] = Counter()
        for number, does in enumerate(host):
            self._add(
                (len(scripts), number), [(does.channel, turns[does.channel])] if does.channel >= 0 else []
            )
            turns[does.channel] += 1

    def _add_tile(self, unit: Unit, ports: set[int], said: list[int], meetings: list[int]) -> None:
        keys = [(meetings[port], said[port]) for port in sorted(ports)]
        for port in ports:
            said[port] += 1
        self._add(unit, keys)

    def _add(self, unit: Unit, keys: list[Key]) -> None:
        self.units.append(unit)
        self._leads_to[unit] = unit
        self.keys[unit] = keys
        for key in keys:
            head = self._head.setdefault(key, unit)
            self._leads_to[self.group(head)] = self.group(unit)

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

    def _previous(self) -> dict[Unit, list[Unit]]:
        """The units that must be over before another one: a tile's one before it, or what the host waits for."""
        pairs = zip(self.units, self.units[1:], strict=False)
        previous = {
            later: [earlier] for earlier, later in pairs if earlier[0] == later[0] and later[0] != self._host
        }
        previous |= {
            (self._host, number): [(self._host, earlier) for earlier in unit.after]
            for number, unit in enumerate(self._does)
            if unit.after
        }
        return previous

    def disorder(self) -> list[Step]:
        """A way from a unit to a later one of its tile that it needs; empty if the groups have an order."""
        previous = self._previous()
        pairs = [(earlier, later) for later, earliers in previous.items() for earlier in earliers]
        entering = dict.fromkeys(map(self.group, self.units), 0)
        after: dict[Unit, list[Unit]] = {}
        for earlier, later in pairs:
            after.setdefault(self.group(earlier), []).append(self.group(later))
            entering[self.group(later)] += 1
        ready = [group for group, count in entering.items() if not count]
        while ready:
            for group in after.get(ready.pop(), ()):
                entering[group] -= 1
                if not entering[group]:
                    ready.append(group)
        for earlier, later in pairs:
            if entering[self.group(later)] and entering[self.group(earlier)]:
                way = self._way(earlier, later, previous)
                if way:
                    return way
        assert not any(entering.values()), "groups without an order have a circle"
        return []

    def _way(self, start: Unit, goal: Unit, previous: dict[Unit, list[Unit]]) -> list[Step]:
        """The shortest way from `start` to `goal` over messages and to what comes before; empty if none."""
        with_key: dict[Key, list[Unit]] = {}
        for unit, keys in self.keys.items():
            for key in keys:
                with_key.setdefault(key, []).append(unit)
        came: dict[Unit, Step] = {start: (start, -1)}
        waiting = deque([start])
        while waiting and goal not in came:
            unit = waiting.popleft()
            steps = [(other, key[0]) for key in self.keys[unit] for other in with_key[key]]
            steps += [(earlier, -1) for earlier in previous.get(unit, ())]
            for other, meeting in steps:
                if other not in came:
                    came[other] = (unit, meeting)
                    waiting.append(other)
        return _traced(came, start, goal) if goal in came else []


def _traced(came: dict[Unit, Step], start: Unit, goal: Unit) -> list[Step]:
    way: list[Step] = [(goal, -1)]
    while way[0][0] != start:
        way.insert(0, came[way[0][0]])
    return way
