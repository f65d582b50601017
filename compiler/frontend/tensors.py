"""Weights of an ONNX file as lazy `Tensor`s: inside the file, in external files (mapped), or absent."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from compiler.ir.tensor import INLINE_LIMIT, Array, Declared, DType, Stored, Tensor, tensor
from compiler.ops.call import ONNX_TYPES
from isa.diagnostics import NamedPlace, fail

_Loader = Callable[[], Array]

_BITS = {DType.INT4: 4, DType.UINT4: 4}


class TensorReader:
    """Reads `TensorProto`s of one model file."""

    def __init__(self, model: Path, shapes_only: bool, declared: bool) -> None:
        """`shapes_only`: absent weights are wanted as declarations. `declared`: the file says that
        it was written without them."""
        self._model = model
        self._shapes_only = shapes_only
        self._declared = declared

    def read(self, proto: onnx.TensorProto) -> Tensor:
        """The constant that `proto` stands for. Data is neither copied nor, if external, touched."""
        dtype = ONNX_TYPES.get(proto.data_type, DType.OTHER)
        shape = tuple(int(d) for d in proto.dims)
        if proto.data_type == onnx.TensorProto.UNDEFINED:
            message = f"the weight {proto.name!r} has no element type"
            raise fail("E0201", message, NamedPlace(str(self._model)), "export the model again")
        if proto.data_location == onnx.TensorProto.EXTERNAL:
            return self._external(proto, dtype, shape)
        count = int(np.prod(shape, dtype=np.int64))
        if count <= INLINE_LIMIT and dtype not in (DType.OTHER, DType.STRING):
            return tensor(np.ascontiguousarray(_array(proto, dtype)).reshape(shape))
        return Tensor(dtype, shape, Stored(f"initializer:{proto.name}", _once(proto, dtype)))

    def _external(self, proto: onnx.TensorProto, dtype: DType, shape: tuple[int, ...]) -> Tensor:
        where = {e.key: e.value for e in proto.external_data}
        location, offset = where.get("location", ""), int(where.get("offset", 0))
        bits = _BITS.get(dtype, 8 * dtype.numpy.itemsize)
        size = (int(np.prod(shape, dtype=np.int64)) * bits + 7) // 8
        path = self._contained(location, proto.name)
        if not path.is_file():
            if self._shapes_only:
                return Tensor(dtype, shape, Declared(proto.name))
            raise self._absent(path, proto.name)
        if path.stat().st_size < offset + size:
            message = (
                f"weight {proto.name!r} needs bytes {offset} to {offset + size} of {path}, which is shorter"
            )
            raise fail("E0202", message, NamedPlace(str(self._model)), "the external data file is truncated")
        key = f"file:{location}:{offset}:{size}"
        return Tensor(dtype, shape, Stored(key, _mapped(path, offset, size, dtype, shape)))

    def _contained(self, location: str, name: str) -> Path:
        """The path of external data, which must lie in the model's folder."""
        folder = self._model.resolve().parent
        path = (folder / location).resolve()
        if not path.is_relative_to(folder):
            message = f"weight {name!r} points outside the folder of the model: {location!r}"
            raise fail("E0202", message, NamedPlace(str(self._model)), "put the data file beside the model")
        return path

    def _absent(self, path: Path, name: str) -> Exception:
        if self._declared:
            way_out = "this model was written without weights; compile it with --shapes-only"
        else:
            way_out = f"put {path.name} beside the model file, or use --shapes-only to go on without weights"
        message = f"weight {name!r} is in {path}, which does not exist"
        return fail("E0202", message, NamedPlace(str(self._model)), way_out)


def _once(proto: onnx.TensorProto, dtype: DType) -> _Loader:
    @cache
    def load() -> Array:
        return _array(proto, dtype)

    return load


def _array(proto: onnx.TensorProto, dtype: DType) -> Array:
    if proto.raw_data and dtype not in _BITS and dtype is not DType.STRING:
        return np.frombuffer(proto.raw_data, dtype.numpy)
    return np.asarray(numpy_helper.to_array(proto))


def _mapped(path: Path, offset: int, size: int, dtype: DType, shape: tuple[int, ...]) -> _Loader:
    def load() -> Array:
        if not size:
            return np.empty(shape, dtype.numpy)
        data = np.memmap(path, np.uint8, "r", offset, (size,))
        if dtype in _BITS:
            low_high = np.stack([data & 15, data >> 4], axis=-1).reshape(-1)[: int(np.prod(shape))]
            if dtype is DType.INT4:
                low_high = (low_high.astype(np.int8) << 4) >> 4
            return low_high.astype(dtype.numpy)
        return data.view(dtype.numpy)

    return load
