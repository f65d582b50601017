"""Writing a model: weights inside the file, in a file next to it, or declared without values."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from onnx import StringStringEntryProto, TensorProto, helper

from models.graph import IR_VERSION, OPSET, Architecture, Parameter
from models.weights import Weights

INLINE_LIMIT_BYTES = 1_500_000_000
"""Above this the weights go to a file of their own (a protobuf cannot exceed 2 GiB)."""

ALIGNMENT_BYTES = 64
"""Every tensor of a data file starts at a multiple of this, so that it can be mapped."""

SHAPES_ONLY_KEY = "cim.shapes_only"
SHAPES_ONLY_LOCATION = "cim.shapes-only"
"""The data file that a shapes-only model names; there is never a file of that name."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What was written: the model file, and the data file if there is one."""

    model: Path
    data: Path | None
    parameters: int


def save(
    architecture: Architecture,
    path: Path,
    weights: Weights | None,
    *,
    metadata: Mapping[str, str] | None = None,
    external: bool | None = None,
) -> Saved:
    """Write the model to `path`; `weights` None writes shapes only.

    `external` says whether weights go to `path` + ".data" (default: only if they must). Files
    appear under their names when they are complete, never half written.
    """
    total = sum(p.bytes for p in architecture.parameters)
    apart = total > INLINE_LIMIT_BYTES if external is None else external
    facts = dict(metadata or {})
    data: Path | None = None
    part = path.with_name(path.name + ".part")
    try:
        if weights is None:
            facts[SHAPES_ONLY_KEY] = "true"
            tensors = _declared(architecture.parameters)
        elif apart:
            data = path.with_name(path.name + ".data")
            tensors = _written(architecture.parameters, weights, data)
        else:
            tensors = [_inline(p, weights) for p in architecture.parameters]
        part.write_bytes(_model(architecture, tensors, facts).SerializeToString())
    except BaseException:
        _discard(part, data)
        raise
    if data is not None:
        _part(data).replace(data)
    part.replace(path)
    return Saved(path, data, sum(p.count for p in architecture.parameters))


def _model(a: Architecture, tensors: list[TensorProto], facts: Mapping[str, str]) -> onnx.ModelProto:
    graph = helper.make_graph(a.nodes, "main_graph", a.inputs, a.outputs, initializer=tensors)
    model = helper.make_model(
        graph,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="cim.models",
    )
    model.metadata_props.extend(StringStringEntryProto(key=k, value=v) for k, v in facts.items())
    return model


def _empty(parameter: Parameter) -> TensorProto:
    elements = TensorProto.FLOAT16 if parameter.half else TensorProto.FLOAT
    return TensorProto(name=parameter.name, dims=parameter.shape, data_type=elements)


def _inline(parameter: Parameter, weights: Weights) -> TensorProto:
    tensor = _empty(parameter)
    tensor.raw_data = _little_endian(parameter, weights).tobytes()
    return tensor


def _little_endian(parameter: Parameter, weights: Weights) -> np.ndarray:
    return weights.value(parameter).astype("<f2" if parameter.half else "<f4", copy=False)


def _pointer(parameter: Parameter, location: str, offset: int) -> TensorProto:
    """An initializer whose bytes lie at `offset` of the file `location`."""
    tensor = _empty(parameter)
    tensor.data_location = TensorProto.EXTERNAL
    entries = {"location": location, "offset": str(offset), "length": str(parameter.bytes)}
    tensor.external_data.extend(StringStringEntryProto(key=k, value=v) for k, v in entries.items())
    return tensor


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _declared(parameters: tuple[Parameter, ...]) -> list[TensorProto]:
    """Pointers into a data file that does not exist."""
    tensors, offset = [], 0
    for parameter in parameters:
        tensors.append(_pointer(parameter, SHAPES_ONLY_LOCATION, offset))
        offset = _aligned(offset + parameter.bytes)
    return tensors


def _written(parameters: tuple[Parameter, ...], weights: Weights, data: Path) -> list[TensorProto]:
    """Stream all values into the (unfinished) data file, one tensor in memory at a time."""
    tensors = []
    with _part(data).open("wb") as f:
        for parameter in parameters:
            offset = _pad(f)
            tensors.append(_pointer(parameter, data.name, offset))
            _little_endian(parameter, weights).tofile(f)
    return tensors


def _pad(f: BinaryIO) -> int:
    """Fill up to the next aligned offset and return it."""
    offset = f.tell()
    f.write(bytes(_aligned(offset) - offset))
    return _aligned(offset)


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _discard(part: Path, data: Path | None) -> None:
    """Remove unfinished files."""
    for unfinished in (part, _part(data) if data is not None else None):
        if unfinished is not None:
            with suppress(FileNotFoundError):
                unfinished.unlink()
