"""Constants: dtype, shape and a way to the data, which stays where it is until asked for.

A `Tensor` compares and prints by *where its data is*, not by its data, so a graph of a 7B model is
small. Transposes and slices are lazy views.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.ir.dims import Extent
from isa.diagnostics import NamedPlace, fail

Array = NDArray[Any]
"""An array whose element type is known only at run time."""

INLINE_LIMIT = 64
"""Constants up to this many elements are kept, and printed, in the graph itself."""


class DType(Enum):
    """Element types, with the names that the text form uses."""

    FLOAT64 = "float64"
    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    INT64 = "int64"
    INT32 = "int32"
    INT16 = "int16"
    INT8 = "int8"
    INT4 = "int4"
    UINT64 = "uint64"
    UINT32 = "uint32"
    UINT16 = "uint16"
    UINT8 = "uint8"
    UINT4 = "uint4"
    BOOL = "bool"
    STRING = "string"
    OTHER = "other"

    @property
    def is_float(self) -> bool:
        """Whether it is a floating-point type."""
        return "float" in self.value

    @property
    def is_integer(self) -> bool:
        """Whether it is an integer type (bool is not)."""
        return "int" in self.value

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The NumPy type (bfloat16 and 4-bit types come from ml_dtypes)."""
        if self in (DType.BFLOAT16, DType.INT4, DType.UINT4):
            import ml_dtypes

            narrow: np.dtype[np.generic] = np.dtype(getattr(ml_dtypes, self.value))
            return narrow
        return np.dtype(object if self in (DType.STRING, DType.OTHER) else self.value)


def dtype_of(array: Array) -> DType:
    """The `DType` of a NumPy array."""
    try:
        return DType(array.dtype.name)
    except ValueError:
        return DType.OTHER


@dataclass(frozen=True, slots=True)
class Inline:
    """Data kept in the graph: the bytes, row-major."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """Data that lies elsewhere. `key` says where; two are equal if their keys are."""

    key: str
    load: Callable[[], Array] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Declared:
    """No data: the model was written with its weights left out. `name` is the weight's."""

    name: str


@dataclass(frozen=True, slots=True)
class Symbolic:
    """Integers some of which are sizes known at run time, row-major."""

    items: tuple[Extent, ...]


@dataclass(frozen=True, slots=True)
class Transposed:
    """`base` with its axes permuted."""

    base: Tensor
    perm: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sliced:
    """`base[start:stop]` along `axis`."""

    base: Tensor
    axis: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Reshaped:
    """`base` with the same elements in another shape."""

    base: Tensor


@dataclass(frozen=True, slots=True)
class Centred:
    """`base` less its mean along the last axis."""

    base: Tensor


@dataclass(frozen=True, slots=True)
class Dequantised:
    """(values - zeros) * scales: integers as the file holds them (int8, uint8, 4 bits, int32).

    `axis` None: one scale. Else one for each index along `axis`, or, with `block`, one for every `block`
    elements along it (then scales and zeros have the rank of the values). See `compiler.ir.quantised`.
    """

    values: Tensor
    scales: Tensor
    zeros: Tensor | None
    axis: int | None = None
    block: int = 0


Source = Inline | Stored | Declared | Symbolic | Transposed | Sliced | Reshaped | Centred | Dequantised


@dataclass(frozen=True, slots=True)
class Tensor:
    """A constant."""

    dtype: DType
    shape: tuple[int, ...]
    source: Source

    @property
    def count(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def is_quantised(self) -> bool:
        """Whether it is, or views, integers with scales."""
        match self.source:
            case Transposed(base) | Sliced(base) | Reshaped(base):
                return base.is_quantised
            case Dequantised():
                return True
            case _:
                return False

    @property
    def has_data(self) -> bool:
        """Whether `data` gives an array."""
        match self.source:
            case Transposed(base) | Sliced(base) | Reshaped(base) | Centred(base):
                return base.has_data
            case Stored(load=load):
                return load is not None
            case Dequantised(values, scales, zeros):
                return values.has_data and scales.has_data and (zeros is None or zeros.has_data)
            case Inline():
                return True
            case Declared() | Symbolic():
                return False

    def data(self) -> Array:
        """The elements, row-major, as a read-only view where possible. A diagnostic if there are none."""
        match self.source:
            case Inline(data):
                return np.frombuffer(data, self.dtype.numpy).reshape(self.shape)
            case Stored(load=load) if load is not None:
                return load().reshape(self.shape)
            case Transposed(base, perm):
                return base.data().transpose(perm)
            case Sliced(base, at, start, stop):
                return base.data()[(slice(None),) * at + (slice(start, stop),)]
            case Reshaped(base):
                return base.data().reshape(self.shape)
            case Centred(base):
                rows = base.data()
                mean = np.mean(rows, axis=-1, keepdims=True, dtype=np.float64)
                return np.asarray(rows - mean, dtype=rows.dtype)
            case Dequantised() if self.has_data:
                return self._dequantised(self.source)
            case _:
                raise self._no_data()

    def transpose(self, perm: tuple[int, ...]) -> Tensor:
        """The tensor with its axes permuted; two transposes compose."""
        shape = tuple(self.shape[i] for i in perm)
        if perm == tuple(range(len(perm))):
            return self
        if isinstance(self.source, Transposed):
            inner = tuple(self.source.perm[i] for i in perm)
            return self.source.base.transpose(inner)
        return Tensor(self.dtype, shape, Transposed(self, perm))

    def slice(self, at: int, start: int, stop: int) -> Tensor:
        """`self[start:stop]` along axis `at`; slices of slices compose."""
        at %= len(self.shape)
        shape = (*self.shape[:at], stop - start, *self.shape[at + 1 :])
        if shape == self.shape:
            return self
        if isinstance(self.source, Sliced) and self.source.axis == at:
            s = self.source
            return Tensor(self.dtype, shape, Sliced(s.base, at, s.start + start, s.start + stop))
        return Tensor(self.dtype, shape, Sliced(self, at, start, stop))

    def reshape(self, shape: tuple[int, ...]) -> Tensor:
        """The same elements in another shape."""
        if shape == self.shape:
            return self
        match self.source:
            case Inline() | Declared() | Symbolic() | Stored():
                return Tensor(self.dtype, shape, self.source)
            case Reshaped(base):
                return base.reshape(shape)
            case _:
                return Tensor(self.dtype, shape, Reshaped(self))

    def _dequantised(self, source: Dequantised) -> Array:
        from compiler.ir.quantised import dequantise

        zeros = None if source.zeros is None else source.zeros.data()
        return dequantise(source.values.data(), source.scales.data(), zeros, source.axis or 0, source.block)

    def _no_data(self) -> Exception:
        name = self.source.name if isinstance(self.source, Declared) else str(self.source)
        return fail(
            "E0603",
            "the values of this weight are needed, but the model only declares it",
            NamedPlace(name),
            "use a model file with its weights, or only commands that work with --shapes-only",
        )


def tensor(array: Array) -> Tensor:
    """A constant from values: inline when small, else stored under a hash of its content."""
    dtype = dtype_of(array)
    if array.size <= INLINE_LIMIT and dtype not in (DType.OTHER, DType.STRING):
        return Tensor(dtype, array.shape, Inline(array.tobytes()))
    key = "sha256:" + sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:32]
    return Tensor(dtype, array.shape, Stored(key, lambda: array))


def symbolic(items: tuple[Extent, ...], shape: tuple[int, ...]) -> Tensor:
    """An int64 constant with sizes in it; an ordinary one if all are numbers."""
    if all(isinstance(i, int) for i in items):
        return tensor(np.array(items, np.int64).reshape(shape))
    return Tensor(DType.INT64, shape, Symbolic(items))
