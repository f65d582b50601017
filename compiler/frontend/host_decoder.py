"""A whole decoder written back to ONNX, attention and its cache included: what the host costs that runs it by itself.

The model is a definition without weights, from which `isa/hostcount.py` counts operations and bytes; nobody runs it.
Rows are [1, tokens, features]; attention is one node with its cache of `past` tokens. Where the file's weights are
float16, all numbers are, as in a model that a GPU serves.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
import onnx
from onnx import TensorProto, helper

from compiler.ir.graph import Attention, Embed, Graph, Linear, Node, Rotary
from compiler.ir.tensor import Array, DType, Stored, Tensor

from .host_model import OPSET, Writer

_IR_VERSION = 10


def host_decoder(
    name: str, graph: Graph, numbers: Sequence[str], outputs: Sequence[str], widths: Mapping[str, int]
) -> tuple[Tensor, str]:
    """The bytes of the model that computes `outputs`, and its definition. `numbers` are the inputs of ids or positions.

    Keys and values of each cache are inputs, too, [1, heads, past, width]. Raises `CimError` E0305 for an operator
    that the host has no form of.
    """
    writer = _Decoder(graph, is_half=_is_half(graph))
    protos = [proto for node in graph.nodes for proto in writer.node(node)]
    rows = writer.elements
    given = [helper.make_tensor_value_info(n, TensorProto.INT32, [1, "tokens"]) for n in numbers]
    given += [helper.make_tensor_value_info(n, rows, shape) for n, shape in writer.extra.items()]
    made = [helper.make_tensor_value_info(o, rows, [1, "tokens", widths[o]]) for o in outputs]
    bare = [weight.declared() for weight in writer.weights.values()]
    proto = helper.make_graph(protos, name, given, made, [*bare, *writer.numbers])
    imports = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(proto, opset_imports=imports, ir_version=_IR_VERSION)
    text = model.SerializeToString(deterministic=True)

    def load() -> Array:
        return np.frombuffer(text, np.uint8)

    key = f"host:{name}:{sha256(text).hexdigest()[:16]}"
    return Tensor(DType.UINT8, (len(text),), Stored(key, load)), b64encode(text).decode("ascii")


def _is_half(graph: Graph) -> bool:
    weights = [n.inputs[1] for n in graph.nodes if isinstance(n.op, Linear)]
    return any(graph.constants[name].dtype is DType.FLOAT16 for name in weights)


@dataclass(slots=True)
class _Decoder(Writer):
    """Writes the operators of a decoder on rows [1, tokens, features]."""

    is_half: bool = False
    extra: dict[str, list[int | str]] = field(default_factory=dict)
    """Inputs that are neither ids nor positions: angles, keys and values."""

    @property
    def elements(self) -> int:
        """ONNX's number of the type of all rows."""
        return int(TensorProto.FLOAT16 if self.is_half else TensorProto.FLOAT)

    def _nodes(self, node: Node) -> Iterator[onnx.NodeProto]:
        inputs, out = node.inputs, node.output.name
        match node.op:
            case Embed(offset=offset):
                ids = inputs[0]
                if offset:
                    ids = self._fresh(out)
                    self._number(f"{ids}.offset", offset)
                    yield helper.make_node("Add", [inputs[0], f"{ids}.offset"], [ids])
                yield helper.make_node("Gather", [self._weight(inputs[1]), ids], [out], axis=0)
            case Linear():
                made = self._fresh(out) if len(inputs) > 2 and inputs[2] else out
                yield helper.make_node("MatMul", [inputs[0], self._weight(inputs[1])], [made])
                if made != out:
                    yield helper.make_node("Add", [made, self._weight(inputs[2])], [out])
            case Rotary():
                yield self._rotary(node.op, inputs[0], out)
            case Attention():
                yield self._attention(node.op, inputs, out)
            case _:
                yield from Writer._nodes(self, node)

    def _rotary(self, op: Rotary, rows: str, out: str) -> onnx.NodeProto:
        angles: list[int | str] = [1, "tokens", op.rotary_dim // 2]
        self.extra |= {"cos": angles, "sin": angles}
        return helper.make_node(
            "RotaryEmbedding",
            [rows, "cos", "sin"],
            [out],
            num_heads=op.heads,
            rotary_embedding_dim=op.rotary_dim,
            interleaved=int(op.interleaved),
        )

    def _attention(self, op: Attention, inputs: Sequence[str], out: str) -> onnx.NodeProto:
        cache = self.graph.caches[op.cache or 0]
        past = [f"past.{cache.layer}.key", f"past.{cache.layer}.value"]
        for name, width in zip(past, (cache.head_dim, cache.v_head_dim), strict=True):
            self.extra[name] = [1, cache.kv_heads, "past", width]
        return helper.make_node(
            "Attention",
            [*inputs[:3], "", *past],
            [out],
            q_num_heads=op.heads,
            kv_num_heads=op.kv_heads,
            is_causal=1,
            scale=op.scale,
        )

    def _weight(self, name: str, *, keep: bool = False, half: bool = False) -> str:
        return Writer._weight(self, name, half=self.is_half)
