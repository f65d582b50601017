"""Joules by name: of components, of layers, of parts of layers; each split into dynamic, write and static."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from .nodes import NodeName

if TYPE_CHECKING:
    from .sinks.schema import Statistics

CATEGORIES = ("dynamic", "write", "static")


def _spread(lines: Iterable[tuple[str, str, float]]) -> dict[str, dict[str, float]]:
    """Joules by name and category, from (name, category, joules); the largest sum first."""
    found: dict[str, dict[str, float]] = {}
    for name, category, joules in lines:
        found.setdefault(name, dict.fromkeys(CATEGORIES, 0.0))[category] += joules
    return dict(sorted(found.items(), key=lambda item: (-sum(item[1].values()), item[0])))


def by_component(stats: Statistics) -> dict[str, dict[str, float]]:
    """Joules by component and category, the largest first."""
    return _spread((line.component, line.category, line.joules) for line in stats.energy_lines)


Group = tuple[str, dict[str, float], int]


def grouped(stats: Statistics, key: Callable[[NodeName], str]) -> list[Group]:
    """(group, joules by category, critical cycles), by energy; the places grouped by `key`."""
    cycles: dict[str, int] = {}
    lines = []
    for place in stats.places:
        group = key(NodeName(place.layer, place.part))
        cycles[group] = cycles.get(group, 0) + place.critical_cycles
        each = (place.dynamic_j, place.write_j, place.static_j)
        lines += [(group, category, joules) for category, joules in zip(CATEGORIES, each, strict=True)]
    return [(name, by, cycles[name]) for name, by in _spread(lines).items()]


def layer_of(name: NodeName) -> str:
    """The group of a table by layer."""
    return name.part if name.layer is None else f"layer {name.layer}"


def part_of(name: NodeName) -> str:
    """The group of a table by part: the same part of all layers is one."""
    return name.part if name.layer is None else f"layers: {name.part}"
