"""What a role says on the network: its messages and barriers in order, and which of them wait for which.

A role's script is a list of phases: straight parts, and bodies of loops over the step's segments or source segments.
An event waits for earlier events of its phase that must be complete before the tile can come to it. The hardware that
is assumed is the most restrictive one that is allowed: one send in flight, one receive outstanding at a port, an
operation waits for all in flight whose ranges (first to last byte, in granules) may overlap its own. Addresses behind
the same register value are compared whatever that value is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from isa.program import Direction

from .poly import NOTHING, Poly
from .segments import Over


@dataclass(frozen=True, slots=True)
class Event:
    """A message or barrier: where in the text, at which port, of how many words, after which earlier events."""

    direction: Direction
    index: int
    port: Poly
    rows: Poly
    cols: Poly
    waits: tuple[int, ...]


@dataclass(slots=True)
class Phase:
    """Events that happen once for each segment of a list, or (`over` None) once."""

    over: Over | None = None
    events: list[Event] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Range:
    """Granules low..high-1 of the buffer, behind a `base` in bytes, a multiple of granules, which holds the same all
    through a pass. Whatever the base is, they lie in granules least..most-1."""

    low: int
    high: int
    base: Poly
    least: int
    most: int

    def meets(self, other: Range) -> bool:
        """Whether both may have a granule in common."""
        if self.base == other.base:
            return self.low < other.high and other.low < self.high
        return self.least < other.most and other.least < self.most


NOWHERE = Range(0, 0, NOTHING, 0, 0)


@dataclass(frozen=True, slots=True)
class _Flight:
    event: int
    direction: Direction
    port: Poly
    range: Range


class Recorder:
    """Builds a script while the text is walked through in order."""

    def __init__(self) -> None:
        self.phases = [Phase()]
        self._flying: list[_Flight] = []
        self._needed: set[int] = set()

    def begin_phase(self, over: Over | None) -> None:
        """Go on in a new phase. What is in flight from an earlier one completes by itself (docs/verifier.md)."""
        self.phases.append(Phase(over))
        self._flying, self._needed = [], set()

    def repeat(self, phases: tuple[Phase, ...]) -> None:
        """Say again what was said before: phases that do not change any more."""
        self.phases += phases
        self.begin_phase(None)

    def touch(self, reads: list[Range], writes: list[Range]) -> None:
        """An operation inside the tile waits for the messages that it may conflict with."""
        if self._flying:
            self._wait_for([f for f in self._flying if _conflicts(f, reads, writes)])

    def send(self, index: int, port: Poly, size: tuple[Poly, Poly], source: Range) -> None:
        """A message is sent: after the one before, and after receives into its range."""
        waits = [f for f in self._flying if f.direction is Direction.OUT or _conflicts(f, [source], [])]
        self._wait_for(waits)
        self._add(Direction.OUT, index, port, size, source)

    def recv(self, index: int, port: Poly, size: tuple[Poly, Poly], target: Range) -> None:
        """A receive is posted: after the one before at its port, and after all that uses its range."""
        waits = [f for f in self._flying if _conflicts(f, [], [target]) or _same_port(f, port)]
        self._wait_for(waits)
        self._add(Direction.IN, index, port, size, target)

    def barrier(self, index: int, port: Poly) -> None:
        """A barrier is come to when all else is complete; nothing goes on before it has opened."""
        self._wait_for(self._flying)
        self._add(Direction.BARRIER, index, port, (Poly(), Poly()), NOWHERE)
        self._wait_for(self._flying)

    def _wait_for(self, flights: list[_Flight]) -> None:
        self._needed.update(f.event for f in flights)
        self._flying = [f for f in self._flying if f.event not in self._needed]

    def _add(
        self, direction: Direction, index: int, port: Poly, size: tuple[Poly, Poly], where: Range
    ) -> None:
        events = self.phases[-1].events
        self._flying.append(_Flight(len(events), direction, port, where))
        events.append(Event(direction, index, port, *size, tuple(sorted(self._needed))))
        self._needed = set()


def _conflicts(flight: _Flight, reads: list[Range], writes: list[Range]) -> bool:
    touched = [*reads, *writes] if flight.direction is Direction.IN else writes
    return any(flight.range.meets(other) for other in touched)


def _same_port(flight: _Flight, port: Poly) -> bool:
    """Whether a receive may be at this port."""
    distance = flight.port - port
    return flight.direction is Direction.IN and (bool(distance.terms) or distance.const == 0)
