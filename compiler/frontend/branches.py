"""Models that hold two graphs behind one switch: `If(use_cache_branch)` of merged decoders.

The switch is an input, so which graph runs is known before the run. One of them is read, as if the file had no
other; `passes.join_branches` reads the other too and shows that both are one model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx


@dataclass(frozen=True, slots=True)
class Taken:
    """A graph with its switches thrown: nodes, weights, and the inputs that are switches."""

    nodes: tuple[onnx.NodeProto, ...]
    weights: tuple[onnx.TensorProto, ...]
    switches: frozenset[str]


def take(graph: onnx.GraphProto, branch: bool) -> Taken:
    """`graph` with each If over a boolean input replaced by its branch for `branch`."""
    weights = {t.name for t in graph.initializer}
    booleans = {
        i.name
        for i in graph.input
        if i.name not in weights and i.type.tensor_type.elem_type == onnx.TensorProto.BOOL
    }
    nodes: list[onnx.NodeProto] = []
    extra: list[onnx.TensorProto] = []
    switches: set[str] = set()
    for node in graph.node:
        if node.op_type != "If" or node.domain not in ("", "ai.onnx") or node.input[0] not in booleans:
            nodes.append(node)
            continue
        switches.add(node.input[0])
        wanted = "then_branch" if branch else "else_branch"
        inner = next(a.g for a in node.attribute if a.name == wanted)
        nodes += _spliced(inner, node.output)
        extra += inner.initializer
    return Taken(tuple(nodes), tuple(extra), frozenset(switches))


def _spliced(inner: onnx.GraphProto, outputs: Sequence[str]) -> Iterator[onnx.NodeProto]:
    """The nodes of a branch; its outputs take the names that the If gives them."""
    made = {name for node in inner.node for name in node.output}
    names = {o.name: wanted for o, wanted in zip(inner.output, outputs, strict=True) if o.name in made}
    for node in inner.node:
        if not any(names.get(n, n) != n for n in (*node.input, *node.output)):
            yield node
            continue
        renamed = onnx.NodeProto()
        renamed.CopyFrom(node)
        renamed.input[:] = [names.get(n, n) for n in node.input]
        renamed.output[:] = [names.get(n, n) for n in node.output]
        yield renamed
    for inside, wanted in zip(inner.output, outputs, strict=True):
        if inside.name not in made:
            # A branch may give away a value of the graph around it.
            yield onnx.helper.make_node("Identity", [inside.name], [wanted])
