"""A piece of an ONNX file as an ONNX model of its own: what a host partition runs.

The piece is cut by names: from its outputs back to the inputs that are given, to inputs of the file and to weights.
Nodes are taken from the file as they are, so shape arithmetic and control flow keep their meaning.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compiler.frontend.importer import DEFAULT_OPSET, read_proto
from compiler.frontend.tensors import TensorReader
from compiler.ir.dims import Shape, axis
from compiler.ir.graph import Value
from compiler.ir.tensor import INLINE_LIMIT, Array, DType, Stored, Tensor
from compiler.ops.call import ONNX_TYPES
from isa.diagnostics import NamedPlace, fail

_ELEMENTS = {dtype: number for number, dtype in ONNX_TYPES.items()}


@dataclass(frozen=True, slots=True)
class Submodel:
    """A piece of a file. `model` is the bytes of an ONNX model whose graph inputs and outputs are `inputs`
    (inputs of the file that it needs come last) and `outputs`; `sources` are its nodes."""

    model: Tensor
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Named:
    """A node with the name that the importer gives it."""

    name: str
    proto: onnx.NodeProto


class ModelFile:
    """An ONNX file, to cut pieces from."""

    def __init__(self, path: str | Path, *, shapes_only: bool = False) -> None:
        self.path = Path(path)
        self._model = read_proto(self.path)
        self._reader = TensorReader(self.path, shapes_only, declared=True)
        self.nodes = tuple(named_nodes(self._model.graph.node))
        self._makers = {name: node for node in self.nodes for name in node.proto.output if name}
        self._weights = {t.name: t for t in self._model.graph.initializer}
        self.inputs = {i.name: i for i in self._model.graph.input if i.name not in self._weights}

    @property
    def outputs(self) -> tuple[str, ...]:
        """The file's outputs, in its order."""
        return tuple(o.name for o in self._model.graph.output)

    def makes(self, name: str) -> bool:
        """Whether some node of the file makes a value of this name."""
        return name in self._makers

    def reads_shape_only(self, name: str, sources: Sequence[str]) -> bool:
        """Whether the nodes `sources` use the value `name` for its shape alone."""
        nodes = [node.proto for node in self.nodes if node.name in set(sources)]
        return all(node.op_type == "Shape" for node in nodes if name in used_names(node))

    def cut(
        self, name: str, given: Sequence[Value], outputs: Sequence[str], types: Mapping[str, Value]
    ) -> Submodel:
        """The piece that computes `outputs` from `given` values and inputs of the file.

        Types of given values are their own, those of the file's inputs are in `types` where known better than
        the file says. `CimError` E0203 if a node on the way has an input that is made nowhere.
        """
        nodes, reached = self._between({v.name for v in given}, outputs)
        borders = [_value_info(v) for v in given if v.name in reached]
        own = [i for i in self.inputs if i in reached and i not in {v.name for v in given}]
        borders += [_value_info(types[i]) if i in types else self.inputs[i] for i in own]
        graph = helper.make_graph(
            [_renamed(node) for node in nodes],
            name,
            borders,
            [onnx.ValueInfoProto(name=o) for o in outputs],
            [self._weight(self._weights[n]) for n in sorted(reached & set(self._weights))],
        )
        model = helper.make_model(graph, opset_imports=self._imports(nodes), functions=self._model.functions)
        model.ir_version = max(self._model.ir_version, 4)
        typed = _typed(model)
        return Submodel(
            _stored(name, typed),
            tuple(map(value_of, typed.graph.input)),
            tuple(map(value_of, typed.graph.output)),
            tuple(node.name for node in nodes),
        )

    def _between(self, given: set[str], outputs: Sequence[str]) -> tuple[list[Named], set[str]]:
        """The nodes that make `outputs`, producers first, and every name they use or make."""
        nodes: dict[str, Named] = {}
        reached: set[str] = set()
        todo: list[tuple[str, bool]] = [(o, False) for o in reversed(outputs)]
        while todo:
            name, done = todo.pop()
            node = None if name in given else self._makers.get(name)
            if done and node is not None:
                nodes.setdefault(node.name, node)
            if done or name in reached:
                continue
            reached.add(name)
            if node is None:
                self._check_known(name, given)
                continue
            todo.append((name, True))
            todo += [(i, False) for i in reversed(list(used_names(node.proto)))]
        return list(nodes.values()), reached

    def _check_known(self, name: str, given: set[str]) -> None:
        if name not in given and name not in self._weights and name not in self.inputs:
            message = f"value {name!r}, which the host would need, is made by no node of the file"
            raise fail("E0203", message, NamedPlace(str(self.path)))

    def _weight(self, proto: TensorProto) -> TensorProto:
        if proto.data_location != TensorProto.EXTERNAL:
            return proto
        constant = self._reader.read(proto)
        if not constant.has_data:
            return TensorProto(name=proto.name, data_type=proto.data_type, dims=proto.dims)
        return numpy_helper.from_array(np.ascontiguousarray(constant.data()), proto.name)

    def _imports(self, nodes: Iterable[Named]) -> list[onnx.OperatorSetIdProto]:
        """The file's operator sets, and those that it should have imported but did not."""
        versions = {("" if o.domain == "ai.onnx" else o.domain): o.version for o in self._model.opset_import}
        for node in nodes:
            domain = "" if node.proto.domain == "ai.onnx" else node.proto.domain
            versions.setdefault(domain, 1 if domain else DEFAULT_OPSET)
        return [helper.make_opsetid(domain, version) for domain, version in versions.items()]


def definition(model: Tensor) -> str:
    """A submodel without its larger weights, in Base64: its nodes and the shapes of everything."""
    proto = onnx.ModelProto.FromString(model.data().tobytes())
    for weight in proto.graph.initializer:
        if np.prod(weight.dims, dtype=np.int64) > INLINE_LIMIT:
            bare = TensorProto(name=weight.name, data_type=weight.data_type, dims=weight.dims)
            weight.CopyFrom(bare)
    return b64encode(proto.SerializeToString(deterministic=True)).decode("ascii")


def named_nodes(protos: Iterable[onnx.NodeProto]) -> Iterator[Named]:
    """The nodes with the names that the importer gives them: each its own."""
    taken: set[str] = set()
    for number, proto in enumerate(protos):
        name = proto.name or f"{proto.op_type}_{number}"
        while name in taken:
            name += "'"
        taken.add(name)
        yield Named(name, proto)


def used_names(proto: onnx.NodeProto) -> Iterator[str]:
    """What a node reads, and what graphs inside it read of the graph around them."""
    yield from (name for name in proto.input if name)
    for attribute in proto.attribute:
        for graph in (attribute.g, *attribute.graphs):
            own = {t.name for t in graph.initializer} | {i.name for i in graph.input}
            own |= {o for node in graph.node for o in node.output}
            yield from (n for node in graph.node for n in used_names(node) if n not in own)
            yield from (o.name for o in graph.output if o.name and o.name not in own)


def value_of(info: onnx.ValueInfoProto) -> Value:
    """The type of a value as the Graph has it; unknown axes have the name `?`."""
    tensor = info.type.tensor_type
    dtype = ONNX_TYPES.get(tensor.elem_type, DType.OTHER)
    if not tensor.HasField("shape"):
        return Value(info.name, dtype, None)
    shape = [
        int(d.dim_value) if d.HasField("dim_value") else axis(d.dim_param or f"{info.name}_{at}")
        for at, d in enumerate(tensor.shape.dim)
    ]
    return Value(info.name, dtype, tuple(shape))


def _renamed(node: Named) -> onnx.NodeProto:
    proto = onnx.NodeProto()
    proto.CopyFrom(node.proto)
    proto.name = node.name
    return proto


def _value_info(value: Value) -> onnx.ValueInfoProto:
    elements = _ELEMENTS.get(value.dtype, TensorProto.FLOAT)
    return helper.make_tensor_value_info(value.name, elements, _axes(value.shape))


def _axes(shape: Shape | None) -> list[int | str] | None:
    return None if shape is None else [e if isinstance(e, int) else str(e) for e in shape]


def _typed(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with the types of its outputs, as far as ONNX infers them."""
    try:
        inferred: onnx.ModelProto = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return model  # ONNX Runtime's own inference will do
    del inferred.graph.value_info[:]
    return inferred


def _stored(name: str, model: onnx.ModelProto) -> Tensor:
    data = model.SerializeToString(deterministic=True)

    def load() -> Array:
        return np.frombuffer(data, np.uint8)

    key = f"host:{name}:{sha256(data).hexdigest()[:16]}"
    return Tensor(DType.UINT8, (len(data),), Stored(key, load))


__all__ = ["ModelFile", "Named", "Submodel", "definition", "named_nodes", "used_names", "value_of"]
