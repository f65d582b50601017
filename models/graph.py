"""A small recorder of ONNX nodes that names and shapes its patterns as PyTorch's exporter does.

`Recorder` offers the handful of tensor methods that transformer code calls (`size`, `view`,
`expand`, `slice` ...) and records for each the chain of ONNX nodes which the TorchScript exporter
writes for it, with the exporter's hierarchical names: `/model/layers.0/self_attn/Reshape_2`,
output `/model/layers.0/self_attn/Reshape_2_output_0`. Weights are only *declared* here
(`Parameter`); `models.weights` gives them values and `models.save` writes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

OPSET = 18
IR_VERSION = 8
INT64_MAX = 9223372036854775807

Dim = int | str
"""A size in a shape: a number, or the name of a value (in `view`) or of a free axis (in inputs)."""


class Init(Enum):
    """How a weight without given values is filled."""

    NORMAL = "normal"
    ONES = "ones"
    ZEROS = "zeros"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A weight: the initializer `name` of `shape`, float32, or float16 if `half`.

    `source` is the tensor it comes from, named as in a Hugging Face checkpoint; `transposed` says
    that the initializer is that tensor's transpose. Two parameters may share a source (tied head).
    """

    name: str
    shape: tuple[int, ...]
    source: str
    transposed: bool = False
    init: Init = Init.NORMAL
    half: bool = False

    @property
    def count(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        return (2 if self.half else 4) * self.count


@dataclass(frozen=True, slots=True)
class Architecture:
    """A finished graph without its weights."""

    nodes: tuple[onnx.NodeProto, ...]
    inputs: tuple[onnx.ValueInfoProto, ...]
    outputs: tuple[onnx.ValueInfoProto, ...]
    parameters: tuple[Parameter, ...]


@dataclass(slots=True)
class Recorder:
    """Records nodes; every method returns the name of the value that it makes."""

    _nodes: list[onnx.NodeProto] = field(default_factory=list)
    _inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    _outputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    _parameters: list[Parameter] = field(default_factory=list)
    _path: tuple[str, ...] = ()
    _used: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def scope(self, *names: str) -> Iterator[None]:
        """Enter the module `names[0]`, then `names[1]` inside it, and so on."""
        before = self._path
        self._path = (*before, *names)
        try:
            yield
        finally:
            self._path = before

    def op(self, kind: str, *inputs: str, out: str | None = None, results: int = 1, **attributes: Any) -> str:
        """Record one node and return its first output (named `out` if given)."""
        base = "/".join(("", *self._path, kind))
        name = f"{base}_{self._used[base]}" if self._used[base] else base
        self._used[base] += 1
        outputs = [out or f"{name}_output_0"] + [f"{name}_output_{i}" for i in range(1, results)]
        self._nodes.append(helper.make_node(kind, list(inputs), outputs, name=name, **attributes))
        return outputs[0]

    def constant(self, value: NDArray[np.generic]) -> str:
        """A `Constant` node."""
        return self.op("Constant", value=numpy_helper.from_array(np.asarray(value)))

    def number(self, value: float) -> str:
        """A float32 scalar."""
        return self.constant(np.array(value, np.float32))

    def index(self, value: int) -> str:
        """An int64 scalar."""
        return self.constant(np.array(value, np.int64))

    def axes(self, *values: int) -> str:
        """An int64 vector."""
        return self.constant(np.array(values, np.int64))

    def cast(self, x: str, dtype: int) -> str:
        """`x` as an `onnx.TensorProto` type."""
        return self.op("Cast", x, to=dtype)

    def size(self, x: str, axis: int) -> str:
        """`x.size(axis)`: an int64 scalar."""
        return self.op("Gather", self.op("Shape", x), self.index(axis), axis=0)

    def unsqueeze(self, x: str, axis: int) -> str:
        """Insert an axis of size one."""
        return self.op("Unsqueeze", x, self.axes(axis))

    def stack(self, dims: Sequence[Dim]) -> str:
        """A shape from numbers and int64 scalars: an int64 vector."""
        parts = [self.axes(d) if isinstance(d, int) else self.unsqueeze(d, 0) for d in dims]
        return self.op("Concat", *parts, axis=0)

    def view(self, x: str, dims: Sequence[Dim]) -> str:
        """`x.view(*dims)`."""
        return self.op("Reshape", x, self.stack(dims), allowzero=0)

    def transpose(self, x: str, *perm: int) -> str:
        """`x.permute(*perm)`."""
        return self.op("Transpose", x, perm=list(perm))

    def expand(self, x: str, dims: Sequence[Dim]) -> str:
        """`x.expand(*dims)`, -1 keeping a size: the chain that replaces -1 by 1 at run time."""
        wanted = self.op("Reshape", self.stack(dims), self.axes(-1), allowzero=0)
        return self.expand_to(x, wanted)

    def expand_to(self, x: str, wanted: str) -> str:
        """`x` expanded to the int64 vector `wanted`, in which -1 keeps a size."""
        one = numpy_helper.from_array(np.array([1], np.int64))
        ones = self.op("ConstantOfShape", self.op("Shape", wanted), value=one)
        keeps = self.op("Equal", wanted, self.op("Mul", ones, self.index(-1)))
        return self.op("Expand", x, self.op("Where", keeps, ones, wanted))

    def slice(self, x: str, axis: int, start: Dim, end: Dim) -> str:
        """`x[..., start:end, ...]` on one axis; bounds are numbers or int64 scalars."""
        axes = self.axes(axis)
        first, last = (self.axes(b) if isinstance(b, int) else self.unsqueeze(b, 0) for b in (start, end))
        return self.op("Slice", x, first, last, axes, self.axes(1))

    def arange(self, end: str, start: str | None = None) -> str:
        """`torch.arange(start, end)` on int64 scalars; from zero without a start."""
        int64 = onnx.TensorProto.INT64
        first = self.index(0) if start is None else self.cast(start, int64)
        return self.op("Range", first, self.cast(end, int64), self.index(1))

    def parameter(
        self,
        name: str,
        shape: tuple[int, ...],
        *,
        init: Init = Init.NORMAL,
        transposed: bool = False,
        source: str | None = None,
    ) -> str:
        """Declare the weight `name` of the current module; `shape` is that of the initializer.

        `source` is the checkpoint tensor if it is another module's.
        """
        full = ".".join((*self._path, name))
        self._parameters.append(Parameter(full, shape, source or full, transposed, init))
        return full

    def input(self, name: str, dtype: int, dims: Sequence[Dim]) -> str:
        """Declare a graph input; a string is a free axis."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, list(dims)))
        return name

    def output(self, name: str, dtype: int, dims: Sequence[Dim]) -> None:
        """Declare a graph output."""
        self._outputs.append(helper.make_tensor_value_info(name, dtype, list(dims)))

    def finish(self) -> Architecture:
        """The graph recorded so far."""
        return Architecture(
            tuple(self._nodes), tuple(self._inputs), tuple(self._outputs), tuple(self._parameters)
        )
