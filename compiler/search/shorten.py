"""A deep model with fewer of its layers: what one layer adds is measured, and holds for all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from compiler.ir.graph import Graph, Node
from compiler.mapping.cutting import cut
from compiler.mapping.folding import Fold, Item, fold

SHORT = (1, 2)
"""Layers of the graphs whose difference is a layer's."""


@dataclass(frozen=True, slots=True)
class Depths:
    """Graphs of growing depth that stand for one of `count` layers: costs are extrapolated. Or that graph alone."""

    graphs: tuple[Graph, ...]
    count: int

    def extrapolated(self, costs: list[float]) -> float:
        """The cost at full depth, from those of the graphs: cost(n) = cost(1) + (n - 1) (cost(2) - cost(1))."""
        if len(costs) == 1:
            return costs[0]
        return costs[0] + (self.count - SHORT[0]) * (costs[1] - costs[0])


def depths_of(graph: Graph) -> Depths:
    """Short forms of a graph, if more layers repeat than `SHORT` has."""
    found = fold(graph, cut(graph))
    if found is None or found.count <= SHORT[-1]:
        return Depths((graph,), 1)
    return Depths(tuple(shortened(graph, found, layers) for layers in SHORT), found.count)


def shortened(graph: Graph, found: Fold, layers: int) -> Graph:
    """The graph with the first `layers` iterations of its loop: what follows reads what the last of them leaves."""
    dropped = {node.output.name for run in found.body for item in run[layers:] for node in _nodes(item)}
    given = {found.carry[-1]: found.carry[layers]}
    nodes = tuple(
        replace(node, inputs=tuple(given.get(name, name) for name in node.inputs))
        for node in graph.nodes
        if node.output.name not in dropped
    )
    outputs = tuple(given.get(name, name) for name in graph.outputs if given.get(name, name) not in dropped)
    return replace(graph, nodes=nodes, outputs=outputs)


def _nodes(item: Item) -> Iterator[Node]:
    work = item.work
    if isinstance(work, Node):
        yield work
        return
    for lane in work.lanes:
        if lane is not None:
            yield from (*([lane.linear] if lane.linear else []), *lane.chain)
    yield from (*work.first, *work.inner, *([work.last] if work.last else []))
