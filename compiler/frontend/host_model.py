"""Canonical operators written back to ONNX: what the host runs within a step.

Canonical operators work on rows, so a part has one free axis, `tokens`: the rows of all sequences of a step go
through it together, whatever the file's own axes are. Weights stay in the file's number format where ONNX Runtime
multiplies in it (float32, float16), all else is float32.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compiler.ir.graph import Activation, Add, Embed, Function, Graph, Linear, Mul, Node, Norm, NormKind
from compiler.ir.tensor import Array, DType, Stored, Tensor
from isa.diagnostics import NamedPlace, fail

OPSET = 24
"""The operator set of the written models: the first with all functions that models use as one node each."""
SOURCE_NODE = "cim.node"
"""What notes of a written node call the node of the file that it stands for; `isa/hostcount.py` reads them."""
_IR_VERSION = 10
_LARGEST = 2**31 - 1  # bytes of an ONNX file in one piece
_ROWS = "tokens"
_KINDS: Mapping[Function, tuple[str, dict[str, Any]]] = {
    Function.RELU: ("Relu", {}),
    Function.GELU: ("Gelu", {}),
    Function.GELU_TANH: ("Gelu", {"approximate": "tanh"}),
    Function.QUICK_GELU: ("Swish", {"alpha": 1.702}),
    Function.SILU: ("Swish", {"alpha": 1.0}),
    Function.SIGMOID: ("Sigmoid", {}),
    Function.TANH: ("Tanh", {}),
}


@dataclass(frozen=True, slots=True)
class Written:
    """An ONNX model: `model` holds its bytes, `definition` those without its larger weights, in Base64."""

    model: Tensor
    definition: str


def host_model(
    name: str,
    graph: Graph,
    nodes: Sequence[Node],
    ends: tuple[Sequence[str], Sequence[str]],
    widths: Mapping[str, int],
) -> Written:
    """The model that computes outputs from inputs (`ends`) by canonical operators of `graph`.

    Inputs are ids or positions, int32 [tokens], or rows, float32 [tokens, features], as wide as `widths` say.
    Weights are read when the model's bytes are asked for. `CimError` E0305 for a model that is too large for ONNX.
    """
    writer = Writer(graph)
    protos = [proto for node in nodes for proto in writer.node(node)]
    inputs, outputs = ends
    numbers = {i.name for i in graph.inputs if not i.value.dtype.is_float}
    bare = [weight.declared() for weight in writer.weights.values()]
    proto = helper.make_graph(
        protos,
        name,
        [_border(i, 0 if i in numbers else widths[i]) for i in inputs],
        [_border(o, widths[o]) for o in outputs],
        [*bare, *writer.numbers],
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION)
    text = model.SerializeToString(deterministic=True)
    definition = b64encode(text).decode("ascii")
    return Written(_stored(name, text, writer.weights), definition)


@dataclass(frozen=True, slots=True)
class Weight:
    """A constant as the model holds it."""

    name: str
    tensor: Tensor
    dtype: DType

    @property
    def size(self) -> int:
        """Bytes of its elements."""
        return self.tensor.count * self.dtype.numpy.itemsize

    def data(self) -> bytes:
        """Its elements."""
        return np.ascontiguousarray(np.asarray(self.tensor.data(), self.dtype.numpy)).tobytes()

    def declared(self) -> TensorProto:
        """The constant without its elements."""
        elements = TensorProto.FLOAT16 if self.dtype is DType.FLOAT16 else TensorProto.FLOAT
        return TensorProto(name=self.name, data_type=elements, dims=self.tensor.shape)


@dataclass(slots=True)
class Writer:
    """Writes nodes, and collects the constants that they use."""

    graph: Graph
    weights: dict[str, Weight] = field(default_factory=dict)
    numbers: list[TensorProto] = field(default_factory=list)
    _made: int = 0

    def node(self, node: Node) -> Iterator[onnx.NodeProto]:
        """The ONNX nodes of an operator, each with a name of its own; for costs, a note says the file's node."""
        source = node.sources[-1] if node.sources else node.output.name
        for step, proto in enumerate(self._nodes(node)):
            proto.name = f"{node.output.name}.{step}"
            proto.metadata_props.add(key=SOURCE_NODE, value=source)
            yield proto

    def _nodes(self, node: Node) -> Iterator[onnx.NodeProto]:
        out, inputs = node.output.name, node.inputs
        match node.op:
            case Embed(offset=offset):
                yield from self._embed(inputs, out, offset)
            case Linear():
                yield from self._linear(inputs, out)
            case Norm():
                yield from self._norm(node.op, inputs, out)
            case Activation(kind=kind):
                name, attributes = _KINDS[kind]
                yield helper.make_node(name, [inputs[0]], [out], **attributes)
            case Add() | Mul():
                values = [self._weight(i) if i in self.graph.constants else i for i in inputs]
                yield helper.make_node(type(node.op).__name__, values, [out])
            case _:
                raise fail(
                    "E0305", f"the host has no form of {type(node.op).__name__.lower()}", NamedPlace(out)
                )

    def _embed(self, inputs: Sequence[str], out: str, offset: int) -> Iterator[onnx.NodeProto]:
        table, ids = self._weight(inputs[1], keep=True), inputs[0]
        if offset:
            name = self._fresh(out)
            self._number(f"{name}.offset", offset)
            yield helper.make_node("Add", [ids, f"{name}.offset"], [name])
            ids = name
        if self.weights[table].dtype is DType.FLOAT32:
            yield helper.make_node("Gather", [table, ids], [out], axis=0)
            return
        rows = self._fresh(out)
        yield helper.make_node("Gather", [table, ids], [rows], axis=0)
        yield helper.make_node("Cast", [rows], [out], to=TensorProto.FLOAT)

    def _linear(self, inputs: Sequence[str], out: str) -> Iterator[onnx.NodeProto]:
        weight = self._weight(inputs[1], keep=True)
        is_half = self.weights[weight].dtype is DType.FLOAT16
        operands = [inputs[0], weight]
        if is_half:
            operands[0] = self._fresh(out)
            yield helper.make_node("Cast", [inputs[0]], [operands[0]], to=TensorProto.FLOAT16)
        if len(inputs) > 2 and inputs[2]:
            operands.append(self._weight(inputs[2], half=is_half))
        made = self._fresh(out) if is_half else out
        yield helper.make_node("Gemm", operands, [made])
        if is_half:
            yield helper.make_node("Cast", [made], [out], to=TensorProto.FLOAT)

    def _norm(self, op: Norm, inputs: Sequence[str], out: str) -> Iterator[onnx.NodeProto]:
        kind = "RMSNormalization" if op.kind is NormKind.RMS else "LayerNormalization"
        constants = [self._weight(i) for i in inputs[1:] if i]
        if op.kind is NormKind.RMS and len(constants) > 1:
            normed = self._fresh(out)
            yield from self._norm(op, inputs[:2], normed)
            yield helper.make_node("Add", [normed, constants[1]], [out])
            return
        if op.groups == 1:
            yield helper.make_node(kind, [inputs[0], *constants], [out], axis=-1, epsilon=op.eps)
            return
        split, normed = self._fresh(out), self._fresh(out)
        self._number(f"{split}.shape", 0, op.groups, -1)
        self._number(f"{normed}.shape", 0, -1)
        yield helper.make_node("Reshape", [inputs[0], f"{split}.shape"], [split])
        yield helper.make_node(kind, [split, *constants], [normed], axis=-1, epsilon=op.eps)
        yield helper.make_node("Reshape", [normed, f"{normed}.shape"], [out])

    def _weight(self, name: str, *, keep: bool = False, half: bool = False) -> str:
        """Take a constant along: float32, float16 if `half`, or, to `keep` its format, whichever the file has."""
        tensor = self.graph.constants[name]
        is_half = half or (keep and tensor.dtype is DType.FLOAT16)
        dtype = DType.FLOAT16 if is_half else DType.FLOAT32
        known = self.weights.get(name)
        if known is not None and known.dtype is not dtype:
            name = f"{name}.{dtype.value}"
        self.weights.setdefault(name, Weight(name, tensor, dtype))
        return name

    def _number(self, name: str, *values: int) -> None:
        """Whole numbers: a shape, or an offset of ids."""
        array = np.array(values, np.int64) if len(values) > 1 else np.array(values[0], np.int32)
        self.numbers.append(numpy_helper.from_array(array, name))

    def _fresh(self, out: str) -> str:
        self._made += 1
        return f"{out}.host{self._made}"


def _border(name: str, width: int) -> onnx.ValueInfoProto:
    """Rows of `width` columns; numbers if that is 0."""
    if not width:
        return helper.make_tensor_value_info(name, TensorProto.INT32, [_ROWS])
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [_ROWS, width])


def _stored(name: str, text: bytes, weights: Mapping[str, Weight]) -> Tensor:
    """The bytes of a model with its weights; their number is known without reading any."""
    has_data = all(weight.tensor.has_data for weight in weights.values())
    size = _size(text, weights) if has_data else len(text)
    if size > _LARGEST:
        message = (
            f"the host's part {name} would be an ONNX model of {size:,} bytes; {_LARGEST:,} are the most"
        )
        raise fail("E0305", message, NamedPlace(name), "--shapes-only, or --place all")

    def load() -> Array:
        return np.frombuffer(_filled(text, weights) if has_data else text, np.uint8)

    key = f"host:{name}:{sha256(text).hexdigest()[:16]}"
    return Tensor(DType.UINT8, (size,), Stored(key, load))


def _filled(text: bytes, weights: Mapping[str, Weight]) -> bytes:
    model = onnx.ModelProto.FromString(text)
    for proto in model.graph.initializer:
        if proto.name in weights:
            proto.raw_data = weights[proto.name].data()
    return bytes(model.SerializeToString(deterministic=True))


def _size(text: bytes, weights: Mapping[str, Weight]) -> int:
    """The length of `_filled`: each tensor, the graph and the model grow by what they hold, and so do their lengths."""
    model = onnx.ModelProto.FromString(text)
    more = 0
    for proto in model.graph.initializer:
        if proto.name in weights:
            count, bare = weights[proto.name].size, proto.ByteSize()
            data = 1 + _varint(count) + count
            more += data + _varint(bare + data) - _varint(bare)
    bare = model.graph.ByteSize()
    return len(text) + more + _varint(bare + more) - _varint(bare)


def _varint(number: int) -> int:
    """Bytes of a number as protobuf writes lengths."""
    return max(-(-number.bit_length() // 7), 1)
