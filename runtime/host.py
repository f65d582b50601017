"""What the host does: run ONNX models, by ONNX Runtime where it can, else by ONNX's reference evaluator.

A host partition is an ONNX model of its own (`isa.program.HostPart`). What it costs is in `runtime/hostwork.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from isa.diagnostics import fail

if TYPE_CHECKING:
    import onnx

Array = NDArray[Any]
_Run = Callable[[dict[str, Any]], Sequence[Any]]

SPECIFIED: Mapping[str, str] = {
    "Attention": "ONNX Runtime differs from the specification in masked scores, ragged batches and float16",
    "Dropout": "ONNX Runtime draws other random numbers for the same seed",
    "DFT": "ONNX Runtime's Fourier transform is less exact than the tests allow",
    "STFT": "ONNX Runtime's Fourier transform is less exact than the tests allow",
    "MaxUnpool": "ONNX Runtime places values differently when an output shape is given",
    "Resize": "ONNX Runtime differs from the specification where an axis shrinks to one element",
}
"""Operators whose results ONNX Runtime gives otherwise than the specification, and how."""


@dataclass(frozen=True, slots=True)
class Border:
    """An input of a model: its name, NumPy type (None if it is no tensor) and axes; free ones have names."""

    name: str
    dtype: np.dtype[Any] | None
    axes: tuple[int | str, ...] | None


class HostModel:
    """An ONNX model, ready to run. Raises `CimError` E0606 if neither of the two can load it.

    `strict` prefers the specification to speed, where ONNX Runtime is known to deviate.
    """

    def __init__(self, data: bytes, *, strict: bool = False) -> None:
        import onnx

        self.model = onnx.ModelProto.FromString(data)
        weights = {t.name for t in self.model.graph.initializer}
        self.inputs = tuple(_border(i) for i in self.model.graph.input if i.name not in weights)
        self.outputs = tuple(o.name for o in self.model.graph.output)
        self._run, self.engine = _load(self.model, data, strict)

    def run(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs, by name. Of `given` it takes what it needs. Raises `CimError` E0606 if it cannot run."""
        feeds = {border.name: _fitted(given[border.name], border) for border in self.inputs}
        return dict(zip(self.outputs, self._outputs(feeds), strict=True))

    def _outputs(self, feeds: dict[str, Any]) -> list[Any]:
        try:
            return [_whole(value) for value in self._run(feeds)]
        except Exception as error:  # noqa: BLE001  (exceptions of ONNX Runtime have no class of their own)
            if self.engine == "reference":
                raise _failed(error) from None
        # Some element types exist in ONNX but not in ONNX Runtime's interface to NumPy.
        self._run, self.engine = _reference(self.model), "reference"
        return self._outputs(feeds)


def run_part(data: Array, given: Mapping[str, Array]) -> dict[str, Array]:
    """Run the ONNX model with these bytes (uint8) on those of the given values that it takes."""
    return loaded(data.tobytes()).run(given)


@lru_cache(maxsize=8)
def loaded(data: bytes) -> HostModel:
    """The model with these bytes; the last few are kept, because a step runs the same ones again."""
    return HostModel(data)


def operators(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes of a graph, those of graphs inside them too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from operators(inner)


def _border(info: onnx.ValueInfoProto) -> Border:
    import onnx

    if not info.type.HasField("tensor_type"):
        return Border(info.name, None, None)
    tensor = info.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type) if tensor.elem_type else None
    if not tensor.HasField("shape"):
        return Border(info.name, dtype, None)
    axes = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param for d in tensor.shape.dim)
    return Border(info.name, dtype, axes)


def _fitted(value: Any, border: Border) -> Any:
    """A given value with the element type and axes that the model declares. Raises `CimError` E0601."""
    if border.dtype is None or value is None:
        return value
    array = np.asarray(value)
    if array.dtype != border.dtype and array.dtype.kind in "iuf" and border.dtype.kind in "iuf":
        array = array.astype(border.dtype)
    if border.axes is None:
        return array
    shape = array.shape
    if len(shape) != len(border.axes) and shape and border.axes:
        shape = _new_shape(shape, border.axes)
    try:
        array = array.reshape(shape)
    except ValueError:
        shape = ()
    if len(shape) != len(border.axes) or any(
        isinstance(wanted, int) and wanted != found
        for wanted, found in zip(border.axes, array.shape, strict=False)
    ):
        takes = ", ".join(str(extent) or "?" for extent in border.axes)
        raise fail("E0601", f"{border.name} is {list(np.shape(value))}; the model takes [{takes}]")
    return array


def _new_shape(shape: tuple[int, ...], axes: tuple[int | str, ...]) -> tuple[int, ...]:
    """The shape of rows in a model's own axes: free axes are the batch first, then all tokens."""
    free = [at for at, extent in enumerate(axes) if isinstance(extent, str)]
    new = [-1 if isinstance(extent, str) else extent for extent in axes]
    for at in free[:-1]:
        new[at] = shape[0] if at == 0 and len(shape) > 2 else 1
    return tuple(new)


def _load(model: onnx.ModelProto, data: bytes, strict: bool) -> tuple[_Run, str]:
    """What runs the model, and its name."""
    deviates = any(node.op_type in SPECIFIED and not node.domain for node in operators(model.graph))
    if not (strict and deviates):
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        settings.log_severity_level = 4
        providers = ["CPUExecutionProvider"]
        try:
            session = onnxruntime.InferenceSession(data, settings, providers=providers)
        except Exception:  # noqa: BLE001  (as above; the model is too new or unusual for it)
            return _reference(model), "reference"
        return partial(session.run, None), "onnxruntime"
    return _reference(model), "reference"


def _reference(model: onnx.ModelProto) -> _Run:
    from onnx.reference import ReferenceEvaluator

    try:
        evaluator: Any = ReferenceEvaluator(model)
        return partial(evaluator.run, None)
    except Exception as error:  # noqa: BLE001  (it raises what its operators raise)
        raise _failed(error) from None


def _whole(value: Any) -> Any:
    """Sequences stay lists; single numbers become arrays."""
    return np.asarray(value) if isinstance(value, np.generic) else value


def _failed(error: Exception) -> Exception:
    message = f"the host cannot run its part of the model: {str(error).strip()[:300]}"
    return fail("E0606", message, help="`cim ops MODEL.onnx` lists which nodes are the host's")
