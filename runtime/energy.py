"""Joules from counts (docs/energy.md).

Counts are integers and constants are the target's, so energy is computed once, at the end, and again with other
constants without a new simulation. Every part (an event on behalf of a node, a kind of static power) is rounded to
a multiple of one power of two, chosen so that the total has at most 53 bits: then float sums of parts are exact in any
order, and the total equals the sum by category, by component and by node, to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from isa.events import Category, Component, Event, Static
from isa.hardware import Hardware
from isa.program import Program

from .timing.result import StepCost

STATIC_NODE = "(static)"  # the node of energy that no instruction causes
_MANTISSA_BITS = 53

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Part:
    """One addend: what caused it, on behalf of which node, how often (or for how many pieces), its joules, and the
    factor by which these are other than the constants say, because of the data."""

    cause: Event | Static
    node: str
    count: int
    joules: float
    factor: float = 1.0

    @property
    def component(self) -> Component:
        """The component that spends it."""
        return self.cause.info.component

    @property
    def category(self) -> Category:
        """Dynamic, write or static."""
        return Category.STATIC if isinstance(self.cause, Static) else self.cause.info.category


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy in joules; every sum below is exactly the sum of `parts`."""

    parts: tuple[Part, ...]

    def _sums(self, key: Callable[[Part], K]) -> dict[K, float]:
        sums: dict[K, float] = {}
        for part in self.parts:
            sums[key(part)] = sums.get(key(part), 0.0) + part.joules
        return sums

    @property
    def total(self) -> float:
        """All of it."""
        return sum((part.joules for part in self.parts), 0.0)

    @property
    def by_category(self) -> dict[Category, float]:
        """By dynamic, write, static; all three are there."""
        return dict.fromkeys(Category, 0.0) | self._sums(lambda part: part.category)

    @property
    def by_component(self) -> dict[Component, float]:
        """By component, with its static energy; every component is there."""
        return dict.fromkeys(Component, 0.0) | self._sums(lambda part: part.component)

    @property
    def by_node(self) -> dict[str, float]:
        """By ONNX nodes; static energy is the node `(static)`."""
        return self._sums(lambda part: part.node)

    @property
    def by_cause(self) -> dict[Event | Static, float]:
        """By event, or kind of static power."""
        return self._sums(lambda part: part.cause)


def powered(program: Program) -> dict[Static, int]:
    """How many pieces (or bytes) of each kind are switched on.

    Tiles without a role, and chips without tiles in use, are gated. A chip in use has all its routers, its DRAM and
    global buffer on, and its links to neighbouring chips in use. The host link is one.
    """
    target = program.target
    tiles = program.tile_count
    places = {(t.x + corner.x, t.y + corner.y) for corner in program.corners for t in program.tiles}
    chips = {(x // _chip_x(target), y // _chip_y(target)) for x, y in places}
    across = sum((x + 1, y) in chips for x, y in chips) * _chip_y(target)
    along = sum((x, y + 1) in chips for x, y in chips) * _chip_x(target)
    cells = tiles * target.macros_per_tile * target.macro.bytes
    kv_cells = tiles * target.kv_macros_per_tile * target.written.bytes
    return {
        Static.MACRO: cells,
        Static.MACRO_REFRESH: cells,
        Static.KV_MACRO: kv_cells,
        Static.KV_REFRESH: kv_cells,
        Static.BUFFER: tiles * target.buffer_bytes,
        Static.VECTOR_UNIT: tiles,
        Static.SEQUENCER: tiles,
        Static.ROUTER: len(chips) * _chip_x(target) * _chip_y(target),
        Static.CHIP_LINK: across + along,
        Static.HOST_LINK: 1,
        Static.DRAM: len(chips),
        Static.GBUF: len(chips),
    }


def _chip_x(target: Hardware) -> int:
    return int(target.chip.tiles_x.value)


def _chip_y(target: Hardware) -> int:
    return int(target.chip.tiles_y.value)


def total_events(costs: Iterable[StepCost]) -> dict[tuple[Event, str], int]:
    """The counts of several steps, added."""
    totals: dict[tuple[Event, str], int] = {}
    for cost in costs:
        for key, count in cost.events.items():
            totals[key] = totals.get(key, 0) + count
    return totals


Factors = Mapping[tuple[Event, str], float]


def energy(
    target: Hardware, program: Program, costs: Sequence[StepCost], factors: Factors | None = None
) -> Energy:
    """The energy of steps run one after another, with the constants of `target`.

    `target` may differ from the program's own in its energies and powers: counts do not depend on them. `factors`, by
    event and node, are 1 where they are not given (`runtime/activity.py`).
    """
    seconds = sum(cost.cycles for cost in costs) / target.clock.si
    return energy_of(target, total_events(costs), powered(program), seconds, factors or {})


def energy_of(
    target: Hardware,
    events: Mapping[tuple[Event, str], int],
    pieces: Mapping[Static, int],
    seconds: float,
    factors: Factors = MappingProxyType({}),
) -> Energy:
    """The energy of counted events and of pieces that were on for some time."""
    each = {event: event.joules(target) for event in Event}
    exact = []
    for (event, node), count in events.items():
        if count * each[event] > 0.0:
            factor = factors.get((event, node), 1.0)
            exact.append(Part(event, node, count, count * each[event] * factor, factor))
    for static, count in pieces.items():
        joules = count * static.watts(target) * seconds
        if joules > 0.0:
            exact.append(Part(static, STATIC_NODE, count, joules))
    return Energy(_rounded(exact))


def _rounded(parts: list[Part]) -> tuple[Part, ...]:
    """The parts as multiples of a power of two such that their sum is below 2**53 of it."""
    total = math.fsum(part.joules for part in parts)
    if total == 0.0:
        return ()
    # Rounding may add half a quantum a part; one bit to spare keeps the sum below 2**53 quanta.
    quantum = math.ldexp(1.0, math.frexp(total)[1] + 1 - _MANTISSA_BITS)
    return tuple(Part(p.cause, p.node, p.count, round(p.joules / quantum) * quantum, p.factor) for p in parts)
