"""The text form of a `Graph`: `parse_graph(print_graph(g)) == g`.

Weights print as references to where their data is; after parsing they have no data. Constants of up
to `INLINE_LIMIT` elements print in full. One line is one input, constant, cache, host partition, node,
output or result.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from enum import Enum
from typing import assert_never

import numpy as np

from compiler.ir.dims import Shape
from compiler.ir.graph import Cache, Graph, Node, Onnx, Operator, Partition, Value, op_name
from compiler.ir.graph_parse import parse_graph
from compiler.ir.tensor import (
    Centred,
    Declared,
    Dequantised,
    Inline,
    Reshaped,
    Sliced,
    Stored,
    Symbolic,
    Tensor,
    Transposed,
)

_BARE = re.compile(r"[A-Za-z0-9_./\-]+")


def print_graph(graph: Graph) -> str:
    """The graph as text."""
    return "\n".join(_lines(graph)) + "\n"


def _lines(graph: Graph) -> Iterator[str]:
    yield f"graph {_quoted(graph.name)} {{"
    for given in graph.inputs:
        yield f"  input {_value(given.value)} {given.role.value}{f' {given.heads}' if given.heads else ''}"
    for name, constant in graph.constants.items():
        yield f"  const {_name(name)}: {_tensor(constant)}"
    for cache in graph.caches:
        yield f"  cache {_record(cache)}"
    for part in graph.hosts:
        yield f"  host {_record(part)}"
    for node in graph.nodes:
        yield f"  {print_node(node)}"
    heads = dict(graph.by_head)
    for output in graph.outputs:
        yield f"  output {_name(output)}{f' {heads[output]}' if output in heads else ''}"
    for result in graph.results:
        yield f"  result {_name(result)}"
    yield "}"


def print_node(node: Node) -> str:
    """One node as a line of text."""
    outputs = ", ".join(_value(v) for v in node.outputs)
    inputs = ", ".join(_name(i) if i else "_" for i in node.inputs)
    sources = ", ".join(_quoted(s) for s in node.sources)
    suffix = f" from {sources}" if sources else ""
    return f"{outputs} = {_operator(node.op)}({inputs}){_attributes(node.op)}{suffix}"


def _operator(op: Operator) -> str:
    return f"{op_name(op)}@{op.version}" if isinstance(op, Onnx) else op_name(op)


def _attributes(op: Operator) -> str:
    if isinstance(op, Onnx):
        pairs = [(name, value) for name, value in op.attributes]
        shown = [f"{name}={_literal(value)}" for name, value in pairs]
    else:
        shown = [f"{f.name}={_literal(getattr(op, f.name))}" for f in fields(op)]
    return f" {{{', '.join(shown)}}}" if shown else ""


def _record(record: Cache | Partition) -> str:
    return " ".join(f"{f.name}={_literal(getattr(record, f.name))}" for f in fields(record))


def _literal(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case Enum():
            return str(value.value)
        case str():
            return _quoted(value)
        case tuple():
            return f"[{', '.join(_literal(v) for v in value)}]"
        case Tensor():
            return f"tensor({_tensor(value)})"
        case int() | float():
            return repr(value)
        case _:
            raise TypeError(f"{value!r} has no text form")


def _value(value: Value) -> str:
    return f"{_name(value.name)}: {value.dtype.value}{_shape(value.shape)}"


def _shape(shape: Shape | None) -> str:
    return "[?]" if shape is None else f"[{', '.join(str(e) for e in shape)}]"


def _tensor(tensor: Tensor) -> str:
    kind = f"{tensor.dtype.value}{_shape(tensor.shape)}"
    source = tensor.source
    match source:
        case Inline():
            return f"{kind} = [{', '.join(_numbers(tensor))}]"
        case Stored(key):
            return f"{kind} = ref {_quoted(key)}"
        case Declared(name):
            return f"{kind} = declared {_quoted(name)}"
        case Symbolic(items):
            return f"{kind} = sizes [{', '.join(str(i) for i in items)}]"
        case Transposed(base, perm):
            return f"{kind} = transpose({_tensor(base)}, [{', '.join(map(str, perm))}])"
        case Sliced(base, axis, start, stop):
            return f"{kind} = slice({_tensor(base)}, {axis}, {start}, {stop})"
        case Reshaped(base):
            return f"{kind} = reshape({_tensor(base)})"
        case Centred(base):
            return f"{kind} = centre({_tensor(base)})"
        case Dequantised(values, scales, zeros, axis, block):
            parts = (_tensor(values), _tensor(scales), "none" if zeros is None else _tensor(zeros))
            along = "none" if axis is None else str(axis)
            return f"{kind} = dequantise({', '.join(parts)}, {along}, {block})"
        case _:
            assert_never(source)


def _numbers(tensor: Tensor) -> Iterator[str]:
    data = tensor.data().reshape(-1)
    if tensor.dtype.is_float:
        # The shortest decimal of the value as float64 gives back the same narrower float.
        yield from (repr(float(v)) for v in data.astype(np.float64))
    else:
        yield from (str(int(v)) for v in data)


def _name(name: str) -> str:
    return f"%{name}" if _BARE.fullmatch(name) else f"%{_quoted(name)}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


__all__ = ["parse_graph", "print_graph", "print_node"]
