"""The verifier of the Graph level: what every pass leaves must hold together."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.ir.dims import Extent
from compiler.ir.graph import (
    Activation,
    Add,
    Attention,
    Embed,
    FakeQuant,
    Graph,
    Linear,
    Mul,
    Node,
    Norm,
    Onnx,
    Rotary,
    Value,
    op_name,
)
from compiler.ir.tensor import Tensor
from isa.diagnostics import CimError, Diagnostic, NodePlace


def verify_graph(graph: Graph) -> None:
    """Raise `CimError` with everything that is wrong with `graph`.

    Values are made once and before they are used; outputs exist; canonical operators have their
    inputs, and constants of the shapes that their definition asks for.
    """
    problems = [*_structure(graph)]
    if not problems:
        values = {v.name: v for v in graph.values()}
        problems = [p for node in graph.nodes for p in _node(graph, node, values)]
    if problems:
        raise CimError(problems)


def _problem(graph: Graph, node: Node | None, message: str) -> Diagnostic:
    place = None
    if node is not None:
        place = NodePlace(graph.model or graph.name, node.outputs[0].name, op_name(node.op))
    return Diagnostic("E0205", message, place)


def _structure(graph: Graph) -> Iterator[Diagnostic]:
    known = {i.name for i in graph.inputs} | set(graph.constants) | {""}
    if len(known) != len(graph.inputs) + len(graph.constants) + 1:
        yield _problem(graph, None, "inputs and constants share a name")
    for node in graph.nodes:
        for name in node.inputs:
            if name not in known:
                yield _problem(graph, node, f"input {name!r} is not made before it is used")
        for value in node.outputs:
            if value.name in known and value.name:
                yield _problem(graph, node, f"value {value.name!r} is made twice")
            known.add(value.name)
    for name in graph.outputs:
        if name not in known:
            yield _problem(graph, None, f"output {name!r} is not made")


_ARITY: dict[type[object], tuple[int, int]] = {
    Embed: (2, 2),
    Norm: (2, 3),
    Linear: (2, 3),
    Rotary: (2, 2),
    Attention: (3, 4),
    Activation: (1, 1),
    Add: (2, 2),
    Mul: (2, 2),
    FakeQuant: (1, 1),
}
"""How many inputs canonical operators take: at least, at most."""


def _node(graph: Graph, node: Node, values: dict[str, Value]) -> Iterator[Diagnostic]:
    if isinstance(node.op, Onnx):
        return
    least, most = _ARITY[type(node.op)]
    if not least <= len(node.inputs) <= most or len(node.outputs) != 1:
        yield _problem(graph, node, f"takes {least} to {most} inputs and has one output")
        return
    widths = [_width(graph, values, name) for name in node.inputs]
    constants = [graph.constants.get(name) for name in node.inputs]
    for message in _rules(graph, node, widths, constants):
        yield _problem(graph, node, message)


def _width(graph: Graph, values: dict[str, Value], name: str) -> Extent | None:
    """Features of a row of a value."""
    if not name:
        return None
    shape = graph.constants[name].shape if name in graph.constants else values[name].shape
    return shape[-1] if shape else None


def _rules(
    graph: Graph, node: Node, widths: list[Extent | None], constants: list[Tensor | None]
) -> Iterator[str]:
    """What must hold for each canonical operator; yields what does not."""
    out = node.output.shape[-1] if node.output.shape else None
    match node.op:
        case Embed():
            yield from _expect(_shape(constants[1]), (None, out), "the table")
        case Linear():
            wanted: list[tuple[Extent | None, ...]] = [(widths[0], out), (out,)]
            for constant, shape, name in zip(constants[1:], wanted, ("the weight", "the bias"), strict=False):
                yield from _expect(_shape(constant), shape, name)
        case Norm():
            yield from _norm(node.op, widths[0], constants)
        case Rotary(heads, head_dim, rotary_dim):
            yield from _expect((widths[0],), (heads * head_dim,), "the row")
            yield from _expect(_shape(constants[1]), (rotary_dim // 2,), "inv_freq")
        case Attention():
            yield from _attention(graph, node, node.op, widths, out)
        case Add() | Mul():
            if constants[1] is None or constants[1].count != 1:
                yield from _expect((widths[1],), (widths[0],), "the second operand")
        case Activation() | FakeQuant():
            yield from _expect((out,), (widths[0],), "the result")


def _norm(op: Norm, width: Extent | None, constants: list[Tensor | None]) -> Iterator[str]:
    part = width // op.groups if isinstance(width, int) else None
    for constant, name in zip(constants[1:], ("gamma", "beta"), strict=False):
        yield from _expect(_shape(constant), (part,), name)


def _attention(
    graph: Graph, node: Node, op: Attention, widths: list[Extent | None], out: Extent | None
) -> Iterator[str]:
    wanted = (op.heads * op.head_dim, op.kv_heads * op.head_dim, op.kv_heads * op.v_head_dim)
    for width, count, name in zip(widths, wanted, "qkv", strict=False):
        yield from _expect((width,), (count,), name)
    if "" in node.inputs[:3] and not (op.cross and node.inputs[0] and node.inputs[1] == node.inputs[2]):
        yield "only keys and values of a source may be left out, both"
    if len(node.inputs) > 3:
        yield from _bias(graph.constants.get(node.inputs[3]), op.heads)
    yield from _expect((out,), (op.heads * op.v_head_dim,), "the result")
    if op.heads % op.kv_heads:
        yield f"{op.kv_heads} kv heads do not divide {op.heads} heads"
    if op.cache is not None:
        if op.cache >= len(graph.caches):
            yield f"there is no cache {op.cache}"
            return
        cache = graph.caches[op.cache]
        kept = (cache.kv_heads, cache.head_dim, cache.v_head_dim)
        yield from _expect(kept, (op.kv_heads, op.head_dim, op.v_head_dim), "the cache")
        if cache.cross is not op.cross:
            yield "the attention and its cache disagree on whose keys they are"


def _bias(constant: Tensor | None, heads: int) -> Iterator[str]:
    shape = _shape(constant)
    if shape is not None and len(shape) == 2 and isinstance(shape[1], int) and not shape[1] % 2:
        yield "the bias has no column for distance 0"
    yield from _expect(
        shape, (heads,) if shape is not None and len(shape) == 1 else (heads, None), "the bias"
    )


def _shape(constant: Tensor | None) -> tuple[Extent, ...] | None:
    return None if constant is None else constant.shape


def _expect(
    actual: tuple[Extent | None, ...] | None, wanted: tuple[Extent | None, ...], what: str
) -> Iterator[str]:
    """Compare shapes; None is anything (but a constant that is missing)."""
    if actual is None:
        yield f"{what} is not a constant"
    elif len(actual) != len(wanted) or any(
        a != w for a, w in zip(actual, wanted, strict=True) if None not in (a, w)
    ):
        yield f"{what} is {list(actual)}, not {list(wanted)}"
