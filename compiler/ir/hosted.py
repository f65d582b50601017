"""The reference meaning of a graph with host partitions: in front, chip, behind.

The compiler does not run ONNX models itself; whoever evaluates such a graph brings something that does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from compiler.ir.evaluate import Observer, run
from compiler.ir.graph import Graph, Partition
from compiler.ir.tensor import Array
from isa.program import Moment

HostRunner = Callable[[Array, Mapping[str, Array]], dict[str, Array]]
"""Runs an ONNX model, given as bytes (uint8), on inputs by name; gives its outputs by name. Of the given values it
takes those that it needs, and gives rows ([batch, tokens, features]) the axes that its input declares."""


def run_hosted(
    graph: Graph, feeds: Mapping[str, Array], host: HostRunner, observe: Observer | None = None
) -> dict[str, Array]:
    """The outputs of the whole model, and of its caches, by the names of the ONNX file.

    `feeds` are the file's inputs. `observe` sees the values of the chip's part.
    """
    known = dict(feeds)
    for part in graph.hosts:
        if part.moment is Moment.BEFORE:
            known |= host(part.model.data(), known)
    wanted = {i.name for i in graph.inputs} | {n for c in graph.caches for n in (c.past_key, c.past_value)}
    made = run(graph, {name: value for name, value in known.items() if name in wanted}, observe)
    known |= made
    for part in graph.hosts:
        if part.moment is Moment.AFTER:
            known |= host(part.model.data(), known)
    presents = [n for c in graph.caches for n in (c.present_key, c.present_value) if n]
    return {name: known[name] for name in (*(graph.results or graph.outputs), *presents)}


def parts_within(graph: Graph) -> tuple[Partition, ...]:
    """The parts that the host runs within the step, in order."""
    return tuple(part for part in graph.hosts if part.moment is Moment.WITHIN)


def every_row(graph: Graph) -> frozenset[str]:
    """The outputs of the chip of which the host needs every row, wanted or not: what the chip goes on from."""
    needed = rows_needed(graph)
    read = {name for part in parts_within(graph) if part.name in needed for name in part.inputs}
    return frozenset(read & set(graph.outputs))


def rows_needed(graph: Graph) -> frozenset[str]:
    """The parts within the step that work on every row, wanted or not: the chip goes on from what they make."""
    needed, parts = {i.name for i in graph.inputs}, set[str]()
    for part in reversed(parts_within(graph)):
        if needed & set(part.outputs):
            needed |= set(part.inputs)
            parts.add(part.name)
    return frozenset(parts)
