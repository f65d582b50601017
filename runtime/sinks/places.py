"""What each layer cost: energy and critical path by place in the model, with the static energy of tiles."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache

from isa.events import Category, Component
from isa.program import Program, Tile
from runtime.energy import STATIC_NODE, Energy
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
    """Energy by place, category and component, and cycles of the critical path; all add up exactly."""
    joules: dict[NodeName, Spent] = defaultdict(dict)
    standing: Spent = {}
    for part in spent.parts:
        of_tiles = part.category is Category.STATIC and part.component in _OF_TILES
        _add(
            standing if of_tiles else joules[_named(part.node)], (part.category, part.component), part.joules
        )
    weights, unit = _weights(program), quantum(part.joules for part in spent.parts)
    for key, amount in standing.items():
        for place, share in dealt(amount, weights, unit).items():
            _add(joules[place], key, share)
    cycles: Counter[NodeName] = Counter()
    for node, count in critical.items():
        cycles[_named(node)] += count
    places = sorted({*joules, *cycles}, key=_order)
    return [_record(place, joules.get(place, {}), cycles[place]) for place in places]


Spent = dict[tuple[Category, Component], float]


def _add(spent: Spent, key: tuple[Category, Component], joules: float) -> None:
    spent[key] = spent.get(key, 0.0) + joules


def _record(place: NodeName, spent: Spent, cycles: int) -> PlaceRecord:
    by = {category: sum((j for (c, _), j in spent.items() if c is category), 0.0) for category in Category}
    components: dict[str, float] = {}
    for (_, component), joules in spent.items():
        components[component.value] = components.get(component.value, 0.0) + joules
    return PlaceRecord(
        layer=place.layer,
        part=place.part,
        dynamic_j=by[Category.DYNAMIC],
        write_j=by[Category.WRITE],
        static_j=by[Category.STATIC],
        by_component={name: joules for name, joules in components.items() if joules},
        critical_cycles=cycles,
    )


def _weights(program: Program) -> dict[NodeName, float]:
    """How many tiles each layer has: each tile counts once, in equal parts for the layers that it holds."""
    weights: dict[NodeName, float] = defaultdict(float)
    for tile in program.tiles:
        places = held(tile) or (STATIC,)
        for place in places:
            weights[place] += 1 / len(places)
    return weights or {STATIC: 1.0}


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
