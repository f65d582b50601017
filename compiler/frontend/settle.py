"""What an input is for, where its name does not tell: by what the graph does with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from compiler.ir.dims import axis
from compiler.ir.graph import Graph, Input, Node, Onnx, Role
from compiler.ir.rewrite import Editor
from compiler.ir.tensor import Array, Declared, Tensor, tensor
from compiler.recognition.sequences import Step, source_inputs
from isa.diagnostics import NamedPlace, fail

_PASSING = ("Cast", "Unsqueeze", "Squeeze", "Reshape", "Identity", "Expand", "Transpose")
_COMPARING = ("Sub", "Mul", "Not", "Where", "Equal", "Less", "Greater", "And", "Neg")

_WEIGHT_PLACES: Mapping[str, tuple[int, ...]] = {
    "MatMul": (1,),
    "Gemm": (1, 2),
    "GemmFastGelu": (1, 2),
    "Attention": (1, 2),
    "MatMulNBits": (1, 2, 3, 5),
    "RotaryEmbedding": (1, 2, 3),
    "GroupQueryAttention": (7, 8),
    "LayerNormalization": (1, 2),
    "MatMulInteger": (1, 2, 3),
    "QLinearMatMul": (1, 2, 3, 4, 5, 6, 7),
    "DynamicQuantizeMatMul": (1, 2, 3, 4),
    "MatMulIntegerToFloat": (1, 2, 3, 4, 5, 6),
    "DequantizeLinear": (0, 1, 2),
    "QuantizeLinear": (1, 2),
}
"""Operands that are weights, by operator. `Attention` is that of com.microsoft."""


def settle(graph: Graph, values: Mapping[str, Array], shapes_only: bool) -> Graph:
    """`graph` with masks that do not call themselves so, and with weights that are inputs as constants.

    `values` are those of such weights; with `shapes_only` they are declared without values.
    """
    graph = _with_growing_caches(_with_rows(graph))
    users = graph.consumers()
    named = any(i.role is Role.IDS for i in graph.inputs)
    inputs = tuple(_as_mask(i if named else _as_ids(i, graph, users), users) for i in graph.inputs)
    inputs = inputs if named else _with_source_ids(inputs, graph.nodes)
    weights = {i.name for i in inputs if _is_weight(i, users)}
    if not any(i.role in (Role.IDS, Role.OTHER) and i.name not in weights for i in inputs):
        # What is computed must be computed from something.
        return replace(graph, inputs=inputs)
    inputs = tuple(Input(i.value, Role.WEIGHT) if i.name in weights else i for i in inputs)
    known = [i for i in inputs if i.role is Role.WEIGHT and (shapes_only or i.name in values)]
    bound = {i.name: _constant(i, values.get(i.name)) for i in known}
    kept = tuple(i for i in inputs if i.name not in bound)
    return replace(graph, inputs=kept, constants={**graph.constants, **bound})


def _with_rows(graph: Graph) -> Graph:
    """`graph` with rows in the place of inputs that are heads [batch, heads, tokens, depth]."""
    if any(isinstance(node.op, Onnx) and node.op.kind in _IMAGES for node in graph.nodes):
        return graph
    editor = Editor(graph)
    for given in graph.inputs:
        shape = given.value.shape or ()
        fits = given.role is Role.OTHER and given.value.dtype.is_float and len(shape) == 4
        if fits and isinstance(heads := shape[1], int) and isinstance(depth := shape[3], int):
            _as_heads(editor, given, heads, depth)
    return editor.finish(keep_dead=True)


def _with_growing_caches(graph: Graph) -> Graph:
    """`graph` with caches as long as the tokens in them where the file has buffers that tokens are written to."""
    users = graph.consumers()

    def grown(given: Input) -> Input:
        shape = given.value.shape or ()
        kinds = {n.op.kind for n in users.get(given.name, ()) if isinstance(n.op, Onnx)}
        joined = "TensorScatter" in kinds or ("Concat" in kinds and len(shape) == 3)
        if given.role is not Role.PAST or not joined or len(shape) < 3:
            return given
        lead = (axis("batch"), *shape[1:-2]) if not isinstance(shape[0], int) else shape[:-2]
        return replace(given, value=replace(given.value, shape=(*lead, axis("past"), shape[-1])))

    return replace(graph, inputs=tuple(map(grown, graph.inputs)))


def _as_heads(editor: Editor, given: Input, heads: int, depth: int) -> None:
    shape = given.value.shape
    assert shape is not None
    rows = replace(given.value, shape=(shape[0], shape[2], heads * depth))
    split, whole = (replace(given.value, name=editor.fresh(f"{given.name}.{n}")) for n in ("split", "heads"))
    sizes = editor.add_constant(f"{given.name}.sizes", tensor(np.array([0, 0, heads, depth])))
    editor.redirect(given.name, whole.name)
    editor.insert(Onnx("", "Reshape", 18), (given.name, sizes), replace(split, shape=None), ())
    editor.insert(Onnx("", "Transpose", 18, (("perm", (0, 2, 1, 3)),)), (split.name,), whole, ())
    editor.inputs = [replace(given, value=rows, heads=heads) if i is given else i for i in editor.inputs]
    editor.outputs = [given.name if o == whole.name else o for o in editor.outputs]


_IMAGES = ("Conv", "ConvInteger", "QLinearConv", "MaxPool", "AveragePool", "Resize")
"""Where these are, four axes are those of an image."""


def read_values(path: Path) -> dict[str, Array]:
    """The arrays of an `.npz` file by name; `in:NAME` is `NAME`. `CimError` E0001 if it cannot be read."""
    try:
        with np.load(path) as data:
            return {
                name.removeprefix("in:"): data[name] for name in data.files if not name.startswith("out:")
            }
    except (OSError, ValueError) as error:
        raise fail("E0001", f"cannot read the file: {error}", NamedPlace(str(path))) from None


def _as_ids(given: Input, graph: Graph, users: Mapping[str, Sequence[Node]]) -> Input:
    """Integers that look up rows of a table are token ids, whatever their name (where no input says that it is ids)."""
    shape = given.value.shape or ()
    if given.role is not Role.OTHER or not given.value.dtype.is_integer or len(shape) != 2:
        return given
    if not _looks_up(given.name, graph, users):
        return given
    names = (axis("batch"), axis("sequence"))
    named = tuple(e if isinstance(e, int) else n for e, n in zip(shape, names, strict=True))
    return Input(replace(given.value, shape=named), Role.IDS)


def _with_source_ids(inputs: tuple[Input, ...], nodes: Sequence[Node]) -> tuple[Input, ...]:
    """Of several inputs of token ids, those that an encoder in the same file reads are a source."""
    steps = [Step(_kind(n), n.inputs, tuple(v.name for v in n.outputs)) for n in nodes]
    sources = source_inputs(steps, frozenset(i.name for i in inputs if i.role is Role.IDS))

    def settled(given: Input) -> Input:
        if given.name not in sources:
            return given
        batch, count = given.value.shape or ()
        shape = (batch, count if isinstance(count, int) else axis("source"))
        return Input(replace(given.value, shape=shape), Role.SOURCE_IDS)

    return tuple(map(settled, inputs))


def _kind(node: Node) -> str:
    return node.op.kind if isinstance(node.op, Onnx) else ""


def _looks_up(name: str, graph: Graph, users: Mapping[str, Sequence[Node]]) -> bool:
    """Whether an input, perhaps cast, is the index of a lookup in a table of the file."""
    todo = [name]
    while todo:
        at = todo.pop()
        for node in users.get(at, ()):
            kind = node.op.kind if isinstance(node.op, Onnx) else ""
            table = graph.constants.get(node.inputs[0]) if node.inputs else None
            if kind == "Gather" and node.inputs[1] == at and table is not None and len(table.shape) == 2:
                return True
            if kind in _PASSING:
                todo += [v.name for v in node.outputs]
    return False


def _as_mask(given: Input, users: Mapping[str, Sequence[Node]]) -> Input:
    shape = given.value.shape or ()
    if given.role is not Role.IDS or len(shape) != 2:
        return given
    kinds = _uses(given.name, users)
    return Input(given.value, Role.MASK) if kinds and kinds <= set(_COMPARING) else given


def _uses(name: str, users: Mapping[str, Sequence[Node]]) -> set[str]:
    """The operators that an input reaches through casts and changes of shape."""
    found: set[str] = set()
    todo = [name]
    while todo:
        for node in users.get(todo.pop(), ()):
            kind = node.op.kind if isinstance(node.op, Onnx) else ""
            if kind in _PASSING:
                todo += [v.name for v in node.outputs]
            else:
                found.add(kind)
    return found


def _is_weight(given: Input, users: Mapping[str, Sequence[Node]]) -> bool:
    shape = given.value.shape
    if given.role is not Role.OTHER or not shape or not all(isinstance(e, int) for e in shape):
        return False
    if len(shape) == 1 and given.value.dtype.is_float:
        return True
    mine = users.get(given.name, ())
    return bool(mine) and all(_is_weight_of(given.name, node) for node in mine)


def _is_weight_of(name: str, node: Node) -> bool:
    if not isinstance(node.op, Onnx) or (node.op.kind == "Attention" and not node.op.domain):
        return False
    places = _WEIGHT_PLACES.get(node.op.kind, ())
    return all(at in places for at, used in enumerate(node.inputs) if used == name)


def _constant(given: Input, value: Array | None) -> Tensor:
    shape = tuple(e for e in given.value.shape or () if isinstance(e, int))
    if value is None:
        return Tensor(given.value.dtype, shape, Declared(given.name))
    if value.shape != shape:
        message = f"the value of {given.name!r} has the shape {list(value.shape)}, not {list(shape)}"
        raise fail("E0601", message, NamedPlace(given.name))
    return tensor(value.astype(given.value.dtype.numpy))
