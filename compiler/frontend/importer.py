"""From an ONNX file to a `Graph` of ONNX operators.

A forgiving reader: it takes what ONNX Runtime takes (unsorted nodes, missing operator set imports)
and does not run `onnx.checker`, which refuses many real files. Weights stay where they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError

from compiler.frontend.branches import Taken, take
from compiler.frontend.inputs import ENCODER, OURS, dims_of, read_inputs
from compiler.frontend.settle import read_values, settle
from compiler.frontend.tensors import TensorReader
from compiler.ir.border import Border
from compiler.ir.feeding import is_of_source
from compiler.ir.graph import AttributeValue, Graph, Input, Node, Onnx, Role, Value
from compiler.ir.rewrite import Editor
from compiler.ir.tensor import DType
from isa.diagnostics import NamedPlace, NodePlace, fail

SHAPES_ONLY_KEY = "cim.shapes_only"
"""Model metadata that says that the weights were left out on purpose."""

DEFAULT_OPSET = 17
"""Assumed for ai.onnx when a file imports no operator set at all."""


def import_model(
    path: str | Path,
    *,
    shapes_only: bool = False,
    dims: Mapping[str, int] | None = None,
    keep_dead: bool = False,
    branch: bool = False,
    bind: str | Path | None = None,
) -> Graph:
    """The graph of `import_file`."""
    options = {"shapes_only": shapes_only, "keep_dead": keep_dead, "branch": branch}
    return import_file(path, dims=dims, bind=bind, **options)[0]


def import_file(
    path: str | Path,
    *,
    shapes_only: bool = False,
    dims: Mapping[str, int] | None = None,
    keep_dead: bool = False,
    branch: bool = False,
    bind: str | Path | None = None,
) -> tuple[Graph, Border]:
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
    declared = read_inputs(proto.input, taken.nodes, frozenset(constants), dict(dims or {}))
    inputs = _used(declared, taken) if taken.switches else declared
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
    settled = finished if keep_dead else settle(finished, values, shapes_only)
    return settled, _border(declared, settled, proto, taken)


def _border(declared: Sequence[Input], graph: Graph, proto: onnx.GraphProto, taken: Taken) -> Border:
    """The file's inputs, with the roles that the graph has given them."""
    settled = {i.name: i for i in graph.inputs}

    def role(given: Input) -> Role:
        if given.name in taken.switches:
            return Role.SWITCH
        return Role.WEIGHT if given.name in graph.constants else given.role

    inputs = tuple(settled.get(i.name) or Input(i.value, role(i)) for i in declared)
    of_source = frozenset(i.name for i in inputs if re.search(ENCODER, i.name) or is_of_source(i))
    unused = frozenset(i.name for i in inputs) - set(_read_names(proto))
    return Border(inputs, tuple(o.name for o in proto.output), of_source, unused)


def _read_names(proto: onnx.GraphProto) -> Iterator[str]:
    """The names that nodes read, those of graphs inside them too, and outputs."""
    yield from (output.name for output in proto.output)
    for node in proto.node:
        yield from node.input
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _read_names(attribute.g)


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


def _used(inputs: Sequence[Input], taken: Taken) -> tuple[Input, ...]:
    """The inputs that the branch reads: the caches are those of the other one. Switches stay, to be seen."""
    names = {name for node in taken.nodes for name in node.input}
    kept = (i for i in inputs if i.name in names | taken.switches)
    return tuple(Input(i.value, Role.SWITCH) if i.name in taken.switches else i for i in kept)


def _check_dims(protos: Sequence[onnx.ValueInfoProto], dims: Mapping[str, int], path: Path) -> None:
    """Every name in `dims` must be that of a free axis, and every size possible."""
    free = sorted({str(e) for p in protos for e in dims_of(p) if not isinstance(e, int)})
    for name, size in dims.items():
        if name not in free and name not in OURS:
            way_out = f"free axes of this model: {', '.join(free) or 'none'}"
            raise fail("E0206", f"the model has no free axis {name!r}", NamedPlace(str(path)), way_out)
        if size < (0 if name == "past" else 1):
            raise fail("E0206", f"axis {name!r} cannot have the size {size}", NamedPlace(str(path)))


def _check_defined(graph: Graph) -> None:
    """Every value that is used must be made somewhere."""
    known = {v.name for v in graph.values()} | set(graph.constants) | {""}
    for node in graph.nodes:
        for name in node.inputs:
            if name not in known:
                op = node.op.kind if isinstance(node.op, Onnx) else ""
                place = NodePlace(graph.model, node.sources[0], op)
                raise fail("E0201", f"input {name!r} is made by no node, weight or input", place)
