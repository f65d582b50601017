"""From an ONNX file to a `Graph` of ONNX operators.

A forgiving reader: it takes what ONNX Runtime takes (unsorted nodes, missing operator set imports)
and does not run `onnx.checker`, which refuses many real files. Weights stay where they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError

from compiler.frontend.branches import Taken, take
from compiler.frontend.settle import read_values, settle
from compiler.frontend.tensors import TensorReader
from compiler.ir.dims import Extent, Shape, axis, bind, parse_extent
from compiler.ir.graph import AttributeValue, Graph, Input, Node, Onnx, Role, Value
from compiler.ir.rewrite import Editor
from compiler.ir.tensor import DType
from compiler.ops.call import ONNX_TYPES
from isa.diagnostics import NamedPlace, NodePlace, fail

SHAPES_ONLY_KEY = "cim.shapes_only"
"""Model metadata that says that the weights were left out on purpose."""

DEFAULT_OPSET = 17
"""Assumed for ai.onnx when a file imports no operator set at all."""

_ENCODER = r"encoder|cross|memory"
"""In the names of inputs that belong to another sequence."""

_Raw = tuple[str, Role, DType, Shape]
"""An input as the file has it."""

_NAMELESS = ("", "None", "?", "*")
"""What stands where an axis has no name: two such axes need not be equal."""

_BY_TOKEN = (Role.IDS, Role.POSITIONS, Role.TOKEN_TYPES)

_OURS = ("batch", "sequence", "past", "source")
"""Our names for the free axes."""

_ROLES: tuple[tuple[str, Role], ...] = (
    (r"(past|cache).*(encoder|cross)|(encoder|cross).*(past|cache)", Role.CROSS),
    (r"past|(^|_)(k|key|v|value)_cache", Role.PAST),
    (r"write_ind", Role.START),
    (r"nonpad|seqlen", Role.MASK),
    (r"position", Role.POSITIONS),
    (r"token_type|segment", Role.TOKEN_TYPES),
    (r"mask", Role.MASK),
    (r"(^|_)(input_)?ids?$|tokens?$|^input", Role.IDS),
)
"""What an input is for, by its name; the first pattern that is found counts."""


def import_model(
    path: str | Path,
    *,
    shapes_only: bool = False,
    dims: Mapping[str, int] | None = None,
    keep_dead: bool = False,
    branch: bool = False,
    bind: str | Path | None = None,
) -> Graph:
    """Read `path`. Nodes carry ONNX operators; constants are lazy; free axes have our names.

    `dims` fixes free axes, by the file's name for them or ours ("batch", "sequence", "past"). With
    `shapes_only`, weights that the file leaves out become declarations without data. `keep_dead` keeps
    nodes that no output needs, and inputs as they are. Where a boolean input chooses between two graphs, the one
    for `branch` is read. `bind` is an `.npz` file with values of weights that the model file makes inputs.
    """
    path = Path(path)
    model = read_proto(path)
    metadata = {p.key: p.value for p in model.metadata_props}
    reader = TensorReader(path, shapes_only, metadata.get(SHAPES_ONLY_KEY) == "true")
    versions = {o.domain: o.version for o in model.opset_import}
    versions["ai.onnx"] = versions.setdefault("", versions.get("ai.onnx", DEFAULT_OPSET))
    proto = model.graph
    taken = take(proto, branch)
    constants = {t.name: reader.read(t) for t in (*proto.initializer, *taken.weights)}
    _check_dims(proto.input, dims or {}, path)
    inputs = _inputs(proto.input, set(constants), dict(dims or {}))
    if taken.switches:
        inputs = _used(inputs, taken)
    graph = Graph(
        proto.name or path.stem,
        inputs,
        tuple(o.name for o in proto.output),
        tuple(_nodes(taken.nodes, versions, reader)),
        constants,
        model=str(path),
    )
    _check_defined(graph)
    values = {} if bind is None else read_values(Path(bind))
    finished = Editor(graph).finish(keep_dead)
    return finished if keep_dead else settle(finished, values, shapes_only)


def read_proto(path: Path) -> onnx.ModelProto:
    """The file as protobuf, external data left alone. A diagnostic if it is not ONNX."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise fail("E0001", f"cannot read the file: {error.strerror}", NamedPlace(str(path))) from None
    try:
        model: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except DecodeError:
        raise _unreadable(path, "is truncated or is not an ONNX file") from None
    if not model.graph.node:
        raise _unreadable(path, "holds no ONNX graph")
    return onnx.inliner.inline_local_functions(model) if model.functions else model


def _unreadable(path: Path, what: str) -> Exception:
    way_out = "check that the download or the export finished"
    return fail("E0201", f"the file {what}", NamedPlace(str(path)), way_out)


def _nodes(protos: Sequence[onnx.NodeProto], versions: Mapping[str, int], reader: TensorReader) -> list[Node]:
    taken: set[str] = set()
    redeclared: dict[str, str] = {}
    made: set[str] = set()
    nodes: list[Node] = []
    for number, proto in enumerate(protos):
        name = proto.name or f"{proto.op_type}_{number}"
        while name in taken:
            name += "'"
        taken.add(name)
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        attributes = tuple((a.name, _attribute(a, reader)) for a in proto.attribute)
        op = Onnx(domain, proto.op_type, versions.get(domain, 1), attributes)
        inputs = tuple(redeclared.get(i, i) for i in proto.input)
        outputs = _identified(tuple(_declare(o, made, redeclared) for o in proto.output), name)
        nodes.append(Node(op, _trimmed(inputs), outputs, (name,)))
    return nodes


def _identified(outputs: tuple[Value, ...], node: str) -> tuple[Value, ...]:
    """A node is known by its first output, so that has a name even where the file leaves it out."""
    if not outputs or outputs[0].name:
        return outputs
    return (replace(outputs[0], name=f"{node}:0"), *outputs[1:])


def _declare(name: str, made: set[str], redeclared: dict[str, str]) -> Value:
    """Some files make a name twice; each use means the latest before it."""
    if name in made:
        fresh = f"{name}'"
        while fresh in made:
            fresh += "'"
        redeclared[name], name = fresh, fresh
    if name:
        made.add(name)
    return Value(name, DType.OTHER, None)


def _trimmed(names: tuple[str, ...]) -> tuple[str, ...]:
    while names and not names[-1]:
        names = names[:-1]
    return names


def _attribute(proto: onnx.AttributeProto, reader: TensorReader) -> AttributeValue:
    kind = proto.type
    match kind:
        case onnx.AttributeProto.INT:
            return int(proto.i)
        case onnx.AttributeProto.FLOAT:
            return float(proto.f)
        case onnx.AttributeProto.STRING:
            return proto.s.decode("utf-8", "replace")
        case onnx.AttributeProto.INTS:
            return tuple(int(i) for i in proto.ints)
        case onnx.AttributeProto.FLOATS:
            return tuple(float(f) for f in proto.floats)
        case onnx.AttributeProto.STRINGS:
            return tuple(s.decode("utf-8", "replace") for s in proto.strings)
        case onnx.AttributeProto.TENSOR:
            return reader.read(proto.t)
        case onnx.AttributeProto.GRAPH:
            return f"graph:{proto.g.name}"
        case _:
            return f"attribute:{kind}"


def _inputs(
    protos: Sequence[onnx.ValueInfoProto], initializers: set[str], dims: dict[str, int]
) -> tuple[Input, ...]:
    raw = [(p.name, _role(p), _elements(p), _dims(p)) for p in protos if p.name not in initializers]
    raw = _with_sources(raw)
    roles = {role for _, role, _, _ in raw}
    names = _axis_names(raw)
    inputs: list[Input] = []
    for name, role, dtype, shape in raw:
        renamed = tuple(bind(_renamed(_bound(e, dims), names), dims) for e in shape)
        if role is Role.PAST and len(shape) in (4, 5):
            # [batch, heads, tokens, depth], or keys and values of that form in one.
            renamed = (*renamed[:-2], _free(renamed[-2], "past", dims), renamed[-1])
            renamed = (*renamed[:-4], _free(renamed[-4], "batch", dims), *renamed[-3:])
        if role is Role.CROSS and len(shape) == 4:
            renamed = (
                _free(renamed[0], "batch", dims),
                renamed[1],
                _free(renamed[2], "source", dims),
                renamed[3],
            )
        if role is Role.SOURCE:
            renamed = (_free(renamed[0], "batch", dims), _free(renamed[1], "source", dims), *renamed[2:])
        if role is Role.MASK and len(shape) == 2:
            # Some exporters give every input axes of its own.
            renamed = (_free(renamed[0], "batch", dims), *renamed[1:])
        if role is Role.MASK and len(shape) == 2 and re.search(_ENCODER, name):
            renamed = (renamed[0], _free(renamed[1], "source", dims))
        elif role is Role.MASK and len(shape) == 2:
            total = axis("past") + axis("sequence") if Role.PAST in roles else axis("sequence")
            renamed = (renamed[0], renamed[1] if isinstance(renamed[1], int) else bind(total, dims))
        inputs.append(Input(Value(name, dtype, renamed), role))
    return tuple(inputs)


def _used(inputs: Sequence[Input], taken: Taken) -> tuple[Input, ...]:
    """The inputs that the branch reads: the caches are those of the other one. Switches stay, to be seen."""
    names = {name for node in taken.nodes for name in node.input}
    kept = (i for i in inputs if i.name in names | taken.switches)
    return tuple(Input(i.value, Role.SWITCH) if i.name in taken.switches else i for i in kept)


def _with_sources(raw: Sequence[_Raw]) -> list[_Raw]:
    """Rows of an encoder are a source if the model has tokens, or rows, of its own."""

    def is_source(given: _Raw) -> bool:
        name, role, dtype, shape = given
        return role is Role.OTHER and dtype.is_float and len(shape) == 3 and bool(re.search(_ENCODER, name))

    own = [r for r in raw if r[1] is Role.IDS or (r[1] is Role.OTHER and len(r[3]) == 3 and not is_source(r))]
    return [(r[0], Role.SOURCE, *r[2:]) if own and is_source(r) else r for r in raw]


def _check_dims(protos: Sequence[onnx.ValueInfoProto], dims: Mapping[str, int], path: Path) -> None:
    """Every name in `dims` must be that of a free axis, and every size possible."""
    free = sorted({str(e) for p in protos for e in _dims(p) if not isinstance(e, int)})
    for name, size in dims.items():
        if name not in free and name not in _OURS:
            way_out = f"free axes of this model: {', '.join(free) or 'none'}"
            raise fail("E0206", f"the model has no free axis {name!r}", NamedPlace(str(path)), way_out)
        if size < (0 if name == "past" else 1):
            raise fail("E0206", f"axis {name!r} cannot have the size {size}", NamedPlace(str(path)))


def _role(proto: onnx.ValueInfoProto) -> Role:
    role = next((r for pattern, r in _ROLES if re.search(pattern, proto.name.lower())), Role.OTHER)
    integer = ONNX_TYPES.get(proto.type.tensor_type.elem_type, DType.OTHER).is_integer
    return Role.OTHER if role in (Role.IDS, Role.POSITIONS, Role.TOKEN_TYPES) and not integer else role


def _elements(proto: onnx.ValueInfoProto) -> DType:
    return ONNX_TYPES.get(proto.type.tensor_type.elem_type, DType.OTHER)


def _dims(proto: onnx.ValueInfoProto) -> tuple[Extent, ...]:
    """Shape as the file has it; an axis without name or size is named after the input."""
    out: list[Extent] = []
    for at, dim in enumerate(proto.type.tensor_type.shape.dim):
        if dim.HasField("dim_value"):
            out.append(int(dim.dim_value))
        elif dim.dim_param not in _NAMELESS:
            out.append(axis(dim.dim_param))
        else:
            out.append(axis(f"{proto.name}_{at}"))
    return tuple(out)


def _axis_names(raw: Sequence[tuple[str, Role, DType, Shape]]) -> dict[str, Extent]:
    """Our names for the axes of [batch, sequence] inputs, by the file's names."""
    names: dict[str, Extent] = {}
    for _, role, _, shape in raw:
        if role in _BY_TOKEN and len(shape) == 2:
            for extent, ours in zip(shape, ("batch", "sequence"), strict=True):
                if not isinstance(extent, int):
                    names.setdefault(str(extent), axis(ours))
    if not any(role in _BY_TOKEN and len(shape) == 2 for _, role, _, shape in raw):
        names |= _row_axis_names(raw)
    return names


def _row_axis_names(raw: Sequence[tuple[str, Role, DType, Shape]]) -> dict[str, Extent]:
    """The same for a model that starts from rows [batch, sequence, features] or from heads of them."""
    for _, role, dtype, shape in raw:
        if role is Role.OTHER and dtype.is_float and len(shape) in (3, 4):
            pairs = zip((shape[0], shape[-2]), ("batch", "sequence"), strict=True)
            return {str(extent): axis(ours) for extent, ours in pairs if not isinstance(extent, int)}
    return {}


def _bound(extent: Extent, dims: Mapping[str, int]) -> Extent:
    return dims.get(str(extent), extent)


def _renamed(extent: Extent, names: Mapping[str, Extent]) -> Extent:
    if isinstance(extent, int):
        return extent
    if (ours := names.get(str(extent))) is not None:
        return ours
    if not re.search(r"[+*\-]", str(extent)):
        return axis(_sane(str(extent)))
    total: Extent = 0
    for names_of_term, factor in getattr(parse_extent(str(extent)), "terms", ()):
        product: Extent = factor
        for name in names_of_term:
            product = product * names.get(name, axis(_sane(name)))
        total = total + product
    return total


def _sane(name: str) -> str:
    """The name of an axis as a word."""
    return re.sub(r"\W", "_", name)


def _free(extent: Extent, name: str, dims: Mapping[str, int]) -> Extent:
    return extent if isinstance(extent, int) else bind(axis(name), dims)


def _check_defined(graph: Graph) -> None:
    """Every value that is used must be made somewhere."""
    known = {v.name for v in graph.values()} | set(graph.constants) | {""}
    for node in graph.nodes:
        for name in node.inputs:
            if name not in known:
                op = node.op.kind if isinstance(node.op, Onnx) else ""
                place = NodePlace(graph.model, node.sources[0], op)
                raise fail("E0201", f"input {name!r} is made by no node, weight or input", place)
