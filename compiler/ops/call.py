"""What a kernel or a shape rule sees of a node: its attributes and its inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from compiler.ir.dims import Extent
from compiler.ir.graph import AttributeValue, Onnx, Value
from compiler.ir.tensor import Array, DType, Tensor

ONNX_TYPES: dict[int, DType] = {
    1: DType.FLOAT32,
    2: DType.UINT8,
    3: DType.INT8,
    4: DType.UINT16,
    5: DType.INT16,
    6: DType.INT32,
    7: DType.INT64,
    8: DType.STRING,
    9: DType.BOOL,
    10: DType.FLOAT16,
    11: DType.FLOAT64,
    12: DType.UINT32,
    13: DType.UINT64,
    16: DType.BFLOAT16,
    21: DType.UINT4,
    22: DType.INT4,
}
"""`TensorProto.DataType` numbers."""


class KernelError(ValueError):
    """A node cannot be computed with these inputs (an unsupported form, or shapes that do not fit)."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """Typed access to the attributes of an ONNX node."""

    op: Onnx

    @property
    def version(self) -> int:
        """The version of the operator set."""
        return self.op.version

    def get(self, name: str) -> AttributeValue | None:
        """The attribute as it is, or None."""
        return self.op.get(name)

    def integer(self, name: str, default: int) -> int:
        """An integer attribute."""
        value = self.op.get(name)
        return value if isinstance(value, int) else default

    def number(self, name: str, default: float) -> float:
        """A float attribute."""
        value = self.op.get(name)
        return float(value) if isinstance(value, (int, float)) else default

    def text(self, name: str, default: str) -> str:
        """A string attribute."""
        value = self.op.get(name)
        return value if isinstance(value, str) else default

    def integers(self, name: str) -> tuple[int, ...] | None:
        """A list of integers, or None."""
        value = self.op.get(name)
        if not isinstance(value, tuple):
            return None
        return tuple(int(v) for v in value)

    def tensor(self, name: str) -> Tensor | None:
        """A tensor, or None."""
        value = self.op.get(name)
        return value if isinstance(value, Tensor) else None

    def dtype(self, name: str) -> DType | None:
        """A data type given as ONNX's number, or None."""
        return ONNX_TYPES.get(self.integer(name, 0))


@dataclass(frozen=True, slots=True)
class Call(Attributes):
    """One evaluation of a node. `wide` computes every float in float64, whatever the casts say: used
    to find out what a piece of graph *is*, free of rounding."""

    inputs: tuple[Array | None, ...]
    outputs: int = 1
    wide: bool = False

    def __getitem__(self, index: int) -> Array:
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None:
            raise KernelError(f"{self.op.kind} needs input {index}")
        return value

    def optional(self, index: int) -> Array | None:
        """Input `index`, or None if it is omitted."""
        return self.inputs[index] if index < len(self.inputs) else None

    def integers_at(self, index: int, name: str) -> tuple[int, ...] | None:
        """Integers that old versions give as attribute `name` and new ones as input `index`."""
        value = self.optional(index)
        if value is None:
            return Attributes.integers(self, name)
        return tuple(int(v) for v in np.atleast_1d(value))


Kernel = Callable[[Call], "Array | tuple[Array, ...]"]


@dataclass(frozen=True, slots=True)
class ShapeCall(Attributes):
    """The types of a node's inputs, and their values where they are integers known or symbolic."""

    inputs: tuple[Value | None, ...]
    known: tuple[tuple[Extent, ...] | None, ...]
    outputs: int = 1

    def shape(self, index: int) -> tuple[Extent, ...]:
        """The shape of input `index`. `UnknownShapeError` if it is not known."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None or value.shape is None:
            raise UnknownShapeError
        return value.shape

    def dtype_of(self, index: int) -> DType:
        """The element type of input `index`."""
        value = self.inputs[index] if index < len(self.inputs) else None
        return value.dtype if value is not None else DType.OTHER

    def values(self, index: int) -> tuple[Extent, ...] | None:
        """The integers of input `index`, or None if omitted. `UnknownShapeError` if not known."""
        if index >= len(self.inputs) or self.inputs[index] is None:
            return None
        values = self.known[index]
        if values is None:
            raise UnknownShapeError
        return values

    def numbers(self, index: int, name: str) -> tuple[int, ...] | None:
        """Plain integers from input `index`, or else from attribute `name`; None if neither is given."""
        values = self.values(index)
        if values is None:
            return Attributes.integers(self, name)
        if not all(isinstance(v, int) for v in values):
            raise UnknownShapeError
        return tuple(v for v in values if isinstance(v, int))


class UnknownShapeError(ValueError):
    """The shape of an output does not follow from what is known."""


OutputType = tuple[DType, "tuple[Extent, ...] | None"]
ShapeRule = Callable[[ShapeCall], "list[OutputType]"]
