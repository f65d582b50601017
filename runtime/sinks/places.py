"""What each layer cost: energy and critical path by place in the model, with the static energy of tiles."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from isa.events import Category, Component
from isa.program import Program, Tile
from runtime.energy import STATIC_NODE, Energy, Part
from runtime.nodes import NodeName, short_name

from .schema import PlaceRecord

STATIC = NodeName(None, STATIC_NODE)
# What stands by in tiles; all else (memories, links, routers) belongs to chips or to the system.
_OF_TILES = frozenset(
    {Component.ARRAYS, Component.ADDERS, Component.BUFFERS, Component.VECTOR, Component.SEQUENCERS}
)
_named = lru_cache(maxsize=1 << 16)(short_name)


def held(tile: Tile) -> tuple[NodeName, ...]:
    """The layers, or the parts outside of layers, whose work a tile holds: each once, in order; empty if unknown."""
    names = (_named(nodes) for nodes in tile.nodes if nodes)
    places = (NodeName(name.layer, STATIC_NODE) if name.layer is not None else name for name in names)
    return tuple(sorted(set(places), key=_order))


def _order(place: NodeName) -> tuple[bool, int, str]:
    return place.layer is None, place.layer or 0, place.part


def place_records(program: Program, spent: Energy, critical: Mapping[str, int]) -> list[PlaceRecord]:
    """Energy by place and category, and cycles of the critical path; both add up exactly."""
    joules: dict[NodeName, dict[Category, float]] = defaultdict(lambda: dict.fromkeys(Category, 0.0))
    standing: list[Part] = []
    for part in spent.parts:
        if part.category is Category.STATIC and part.component in _OF_TILES:
            standing.append(part)
        else:
            joules[_named(part.node)][part.category] += part.joules
    for place, share in _shared(program, standing, spent).items():
        joules[place][Category.STATIC] += share
    cycles: Counter[NodeName] = Counter()
    for node, count in critical.items():
        cycles[_named(node)] += count
    return [
        PlaceRecord(
            layer=place.layer,
            part=place.part,
            dynamic_j=joules[place][Category.DYNAMIC],
            write_j=joules[place][Category.WRITE],
            static_j=joules[place][Category.STATIC],
            critical_cycles=cycles[place],
        )
        for place in sorted({*joules, *cycles}, key=_order)
    ]


def _shared(program: Program, standing: Sequence[Part], spent: Energy) -> dict[NodeName, float]:
    """The static energy of tiles by layer: each tile has as much, in equal parts for the layers that it holds."""
    weights: dict[NodeName, float] = defaultdict(float)
    for tile in program.tiles:
        places = held(tile) or (STATIC,)
        for place in places:
            weights[place] += 1 / len(places)
    return dealt(
        sum((part.joules for part in standing), 0.0), weights, quantum(p.joules for p in spent.parts)
    )


def quantum(values: Iterable[float]) -> float:
    """The largest power of two that all values are multiples of; 0 if there are none."""
    least = 0.0
    for value in values:
        if value:
            numerator, denominator = value.as_integer_ratio()
            own = (numerator & -numerator) / denominator
            least = min(least or own, own)
    return least


def dealt(amount: float, weights: Mapping[NodeName, float], unit: float) -> dict[NodeName, float]:
    """`amount`, a multiple of `unit`, in multiples of `unit` by weight; they add up to it, exactly."""
    rest = math.fsum(weights.values())
    if not rest or not unit:
        return {}
    shares, left = {}, round(amount / unit)
    for place, weight in weights.items():
        own = round(left * weight / rest) if rest > weight else left
        shares[place] = own * unit
        left, rest = left - own, rest - weight
    shares[place] += left * unit
    return shares
