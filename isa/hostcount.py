"""What the nodes of a host partition do: operations and bytes, counted from shapes alone, and their time by a roofline.

The time of a node is the cost of calling it plus the longer of its arithmetic and its memory traffic. Views (reshapes,
shape arithmetic) move nothing. No weights are needed: see docs/host.md.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, prod
from typing import TYPE_CHECKING

from isa.diagnostics import fail
from isa.events import Event
from isa.hardware import Hardware

if TYPE_CHECKING:
    import onnx

Shape = tuple[int, ...]

SOURCE_NODE = "cim.node"
"""The note of a node that stands for another one of the file; the compiler writes it."""

VIEWS = frozenset(
    [
        *("Constant", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Shape", "Size", "Dropout"),
        *("If", "SequenceConstruct", "SequenceAt"),
    ]
)
"""Operators that move no data, or only that of graphs inside them."""


MOVES = frozenset(
    [
        *("Transpose", "Concat", "Split", "Slice", "Gather", "GatherND", "GatherElements", "Expand", "Tile"),
        *("Pad", "ScatterND", "ScatterElements", "DepthToSpace", "SpaceToDepth", "Where"),
    ]
)
"""Operators that move data and compute nothing."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one node of a host partition does: float operations, and bytes read and written."""

    node: str
    flops: int
    bytes: int

    def seconds(self, target: Hardware) -> float:
        """How long the target's host takes."""
        host = target.host
        return host.dispatch.si + max(self.flops / host.flops.si, self.bytes / host.bandwidth.si)


@dataclass(frozen=True, slots=True)
class HostTime:
    """How long nodes that run one after another take the host: cycles of the chip's clock; by node, nanoseconds,
    bytes of memory and whole cycles that sum to `cycles`."""

    cycles: int
    nanoseconds: Mapping[str, int]
    bytes: Mapping[str, int]
    shares: Mapping[str, int]

    def events(self) -> Iterator[tuple[tuple[Event, str], int]]:
        """What is counted for it, on behalf of which node."""
        for node, nanoseconds in self.nanoseconds.items():
            yield (Event.HOST_BUSY_NS, node), nanoseconds
            yield (Event.HOST_MEMORY_BYTE, node), self.bytes[node]


def time_of(works: Sequence[Work], target: Hardware) -> HostTime:
    """The time of nodes that run one after another."""
    times, moved = {w.node: 0.0 for w in works}, {w.node: 0 for w in works}
    for work in works:
        times[work.node] += work.seconds(target)
        moved[work.node] += work.bytes
    cycles = ceil(round(sum(times.values()) * target.clock.si, 6))
    nanoseconds = {node: round(s * 1e9) for node, s in times.items()}
    return HostTime(cycles, nanoseconds, moved, share_out(times, cycles))


def share_out(times: Mapping[str, float], cycles: int) -> dict[str, int]:
    """Whole cycles for each node, which sum to `cycles`."""
    total, done, before = sum(times.values()), 0.0, 0
    shares: dict[str, int] = {}
    for node, seconds in times.items():
        done += seconds
        until = round(done / total * cycles) if total else cycles
        shares[node], before = until - before, until
    return shares


@lru_cache(maxsize=1024)
def work_of(definition: str, tokens: int, past: int = 0, source: int = 0) -> tuple[Work, ...]:
    """The work of a partition from its definition (`HostPart.definition`).

    The free axes are `batch` (1), `sequence`, `past` and `source`. Raises `CimError` E0601 if there are others.
    """
    import onnx

    model = onnx.ModelProto.FromString(b64decode(definition))
    sizes = {"batch": 1, "sequence": tokens, "tokens": tokens, "past": past, "source": source}
    for given in model.graph.input:
        for dim in given.type.tensor_type.shape.dim:
            if not dim.HasField("dim_value"):
                dim.dim_value = _size(dim.dim_param, sizes, given.name)
    return tuple(count(model))


def _size(text: str, sizes: Mapping[str, int], given: str) -> int:
    """The size of an axis, written as a sum of products: `past + sequence`."""
    factors = [[factor.strip() for factor in term.split("*")] for term in text.split("+")]
    unknown = [name for term in factors for name in term if name not in sizes and not name.isdecimal()]
    if unknown:
        message = (
            f"what the host does depends on axis {unknown[0]!r} of input {given!r}, whose size is not known"
        )
        raise fail("E0601", message, help=f"compile with --dim {unknown[0] or 'AXIS'}=SIZE")
    return sum(prod(sizes[f] if f in sizes else int(f) for f in term) for term in factors)


def count(model: onnx.ModelProto) -> Iterator[Work]:
    """The work of each node of a model, whose inputs have known shapes. What ONNX cannot infer counts as empty."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    yield from _Counter(inferred.graph, {}).works(inferred.graph)


class _Counter:
    """Counts the nodes of a graph, given the shapes around it."""

    def __init__(self, graph: onnx.GraphProto, outer: Mapping[str, tuple[Shape, int]]) -> None:
        self._types: dict[str, tuple[Shape, int]] = dict(outer)
        for info in (*graph.input, *graph.value_info, *graph.output):
            tensor = info.type.tensor_type
            if tensor.HasField("shape"):
                shape = tuple(d.dim_value for d in tensor.shape.dim)
                self._types[info.name] = shape, _bits(tensor.elem_type)
        for weight in graph.initializer:
            self._types[weight.name] = tuple(weight.dims), _bits(weight.data_type)

    def works(self, graph: onnx.GraphProto) -> Iterator[Work]:
        """The work of the nodes; of branches the larger, of scans all steps."""
        for node in graph.node:
            name = _name(node)
            yield Work(name, self._flops(node), self._bytes(node))
            inner = [a.g for a in node.attribute if a.g.node]
            bodies = [list(_Counter(g, self._types).works(g)) for g in inner]
            if node.op_type == "If" and bodies:
                yield from _under(name, max(bodies, key=_size_of), 1)
            else:
                for body in bodies:
                    yield from _under(name, body, self._steps(node))

    def _shape(self, name: str) -> Shape:
        return self._types.get(name, ((0,), 0))[0]

    def _elements(self, name: str) -> int:
        return prod(self._shape(name)) if name in self._types else 0

    def _bytes(self, node: onnx.NodeProto) -> int:
        if node.op_type in VIEWS:
            return 0
        names = [n for n in (*node.input, *node.output) if n in self._types]
        if node.op_type in ("Gather", "GatherND", "GatherElements", "Slice") and names:
            # Only what is taken is read.
            names = [*names[1:], *(o for o in node.output if o in self._types)]
        if node.op_type == "Attention":  # new keys and values are written behind those that are there
            names += [n for n in node.input[1:3] if n in self._types]
        return sum(self._elements(n) * self._types[n][1] for n in names) // 8

    def _flops(self, node: onnx.NodeProto) -> int:
        out = self._elements(node.output[0]) if node.output else 0
        kind = node.op_type
        if kind in MOVES or kind in VIEWS:
            return 0
        if kind in ("Conv", "ConvInteger", "QLinearConv"):
            weight = self._shape(node.input[3 if kind == "QLinearConv" else 1])
            return 2 * out * prod(weight[1:])
        if kind == "ConvTranspose":
            return 2 * self._elements(node.input[0]) * prod(self._shape(node.input[1])[1:])
        if kind in ("MatMul", "Gemm", "MatMulInteger", "QLinearMatMul", "MatMulNBits"):
            return 2 * out * self._inner(node)
        if kind == "Attention":
            return self._attention(node)
        inputs = [self._elements(n) for n in node.input]
        return max([out, *inputs], default=0)

    def _attention(self, node: onnx.NodeProto) -> int:
        """Both products, with all keys and with all values; the softmax is nothing beside them."""
        rows = [self._shape(n) for n in (node.input[1], *node.input[4:5]) if n]
        keys = sum(shape[-2] for shape in rows if len(shape) > 1)
        return 2 * keys * (self._elements(node.input[0]) + self._elements(node.output[0]))

    def _inner(self, node: onnx.NodeProto) -> int:
        """The length of the sums of a product."""
        shape = self._shape(node.input[0])
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return shape[0 if transposed else -1] if shape else 1

    def _steps(self, node: onnx.NodeProto) -> int:
        """How often a scan runs its body: along the first axis of its last input."""
        shape = self._shape(node.input[-1]) if node.input else ()
        return shape[0] if node.op_type == "Scan" and shape else 1


def _name(node: onnx.NodeProto) -> str:
    """The node of the file: its name, or what a note says it stands for."""
    return next((note.value for note in node.metadata_props if note.key == SOURCE_NODE), node.name)


def _under(name: str, works: Sequence[Work], times: int) -> Iterator[Work]:
    for work in works:
        yield Work(name, work.flops * times, work.bytes * times)


def _size_of(works: Sequence[Work]) -> int:
    return sum(w.flops + w.bytes for w in works)


def _bits(elements: int) -> int:
    """Bits of an element of ONNX's type number; 0 where that makes no sense."""
    import onnx

    if elements in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
        return 0
    if elements in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4):
        return 4
    return 8 * int(onnx.helper.tensor_dtype_to_np_dtype(elements).itemsize)
