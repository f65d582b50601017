"""Which layer of the model each tile works for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from compiler.ir.graph import Graph, Node
from compiler.ir.mapping import Mapping, MapTile
from compiler.mapping.cutting import cut
from compiler.mapping.sections import Domain, Layout, Section, Stage

FRONT = ("embed", "gather", "take")
HUB = ("residual", "source", "source_residual")
BACK = ("final", "output")
"""Kinds of tiles before the first layer, of a stage of the hub between layers, and behind the last layer."""


def kind_of(template: str) -> str:
    """The kind of tile that a template is: its name without a number."""
    stem, _, number = template.rpartition("_")
    return stem if number.isdigit() else template


SOURCE, BEFORE = -2, -1
"""In place of a layer: what works on rows of the source, and what comes before the first layer."""


@dataclass(frozen=True, slots=True)
class Group:
    """Tiles of one kind that work for one layer, counted by attention sections from 0; what comes behind the last layer
    has the number of layers."""

    layer: int
    kind: str
    tiles: tuple[MapTile, ...]


def groups_of(graph: Graph, mapping: Mapping) -> list[Group]:
    """The tiles by layer and kind, in the order in which they were placed.

    Only where each layer has tiles of its own: of weights that are streamed all tiles work for all layers.
    """
    layout = cut(graph)
    count = len(_depths(layout))
    hub, sections = _layers(layout)
    found: dict[tuple[int, str], list[MapTile]] = {}
    for tile in mapping.tiles:
        kind = kind_of(tile.template)
        if kind in FRONT or kind in BACK:
            layer = BEFORE if kind in FRONT else count
        else:
            layer = _layer(tile, hub if kind in HUB else sections)
        found.setdefault((layer, kind), []).append(tile)
    return [Group(layer, kind, tuple(tiles)) for (layer, kind), tiles in found.items()]


def _layer(tile: MapTile, known: dict[str, int]) -> int:
    """The layer that most of a tile's nodes belong to."""
    counts = Counter(known[node] for site in tile.nodes for node in site.split() if node in known)
    return counts.most_common(1)[0][0] if counts else BEFORE


def _depths(layout: Layout) -> set[int]:
    return {s.depth for s in layout.sections if s.lanes and s.domain is Domain.TOKENS}


def _layers(layout: Layout) -> tuple[dict[str, int], dict[str, int]]:
    """The layer of each ONNX node of the hub's stages, and of each in sections."""
    attends = _depths(layout)

    def layer(item: Section | Stage) -> int:
        if item.domain is Domain.SOURCE:
            return SOURCE
        return sum(depth <= item.depth for depth in attends) - 1

    hub = [(stage.nodes, layer(stage)) for stage in layout.stages]
    return _sites(hub), _sites([(_nodes(section), layer(section)) for section in layout.sections])


def _nodes(section: Section) -> tuple[Node, ...]:
    lanes = [lane for lane in section.lanes if lane is not None]
    laned = [node for lane in lanes for node in (lane.linear, *lane.chain) if node is not None]
    ends = () if section.last is None else (section.last,)
    return (*laned, *section.first, *section.inner, *ends)


def _sites(items: Iterable[tuple[tuple[Node, ...], int]]) -> dict[str, int]:
    """The layer of each ONNX node that belongs to one layer alone."""
    found: dict[str, set[int]] = {}
    for nodes, layer in items:
        for name in (name for node in nodes for name in node.sources):
            found.setdefault(name, set()).add(layer)
    return {name: layers.pop() for name, layers in found.items() if len(layers) == 1}
