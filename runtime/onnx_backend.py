"""The ONNX backend interface: `prepare`, `run_model`, `run_node`, for tools and tests that know it.

A model runs on the simulated chip if the compiler takes it, in ideal arithmetic unless asked otherwise; else on the
host. Chip programs hold weights: a model that takes its weights as inputs is compiled when they are known, when it is
run. Refused is only what the host may not run either (`compiler.ops.hosting`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any
from unittest import SkipTest

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.backend.base import Backend, BackendRep

from compiler.driver import compile_model
from compiler.ops.hosting import host_refusal
from compiler.pipeline import CompileOptions
from isa.diagnostics import CimError, Diagnostic, NodePlace
from isa.hardware import Hardware, load_target
from isa.program import Direction, Program

from .borders import streams_of
from .host import HostModel, operators
from .inference import Inference

Array = NDArray[Any]

TARGET = "dcim22"
MOST_ROWS = 512
"""Longer inputs run on the host: simulating them takes long, and nobody asked for a sequence."""


class RefusedError(CimError, SkipTest):
    """The model cannot run here at all. Test runners count it as skipped, with the reason."""


class Place(Enum):
    """Where a model ran."""

    CHIP = "chip"
    HOST = "host"


class CimRep(BackendRep):  # type: ignore[misc, unused-ignore]
    """A model, ready to run. After `run`, `place` says where it ran, and `why` why not on the chip.

    `defect` is True if the compiler made a program that the verifier refused: a defect of ours, not a limit.
    """

    def __init__(self, model: onnx.ModelProto, target: Hardware, weights: str) -> None:
        self._model, self._target, self._weights = model, target, weights
        self._host: HostModel | None = None
        self.place = Place.HOST
        self.why = ""
        self.defect = False

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs, in the model's order. `inputs` are in the model's order, or by name."""
        feeds = self._feeds(inputs)
        try:
            outputs = _on_chip(self._model, feeds, self._target, self._weights)
            self.place, self.why, self.defect = Place.CHIP, "", False
        except CimError as error:
            first = error.diagnostics[0]
            self.place, self.why, self.defect = Place.HOST, first.message, first.code.startswith("E04")
            self._host = self._host or HostModel(self._model.SerializeToString(), strict=True)
            outputs = self._host.run(feeds)
        return tuple(outputs[o.name] for o in self._model.graph.output)

    def _feeds(self, inputs: Any) -> dict[str, Any]:
        if isinstance(inputs, Mapping):
            return dict(inputs)
        listed = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        return dict(zip(_input_names(self._model), listed, strict=False))


class CimBackend(Backend):  # type: ignore[misc, unused-ignore]
    """The backend. It needs no device: chip and host are simulated or used on the CPU."""

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether `prepare` would take the model."""
        return cls.supports_device(device) and not refusals(model)

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> CimRep:
        """Get a model ready. Keywords: `target` (a name or file), `weights` ("float32", "int8").

        Raises `RefusedError`, a `CimError` E0203, if some node can run nowhere.
        """
        refused = refusals(model)
        if refused:
            raise RefusedError(refused)
        target = load_target(str(kwargs.get("target", TARGET)))
        return CimRep(model, target, str(kwargs.get("weights", "float32")))

    @classmethod
    def run_model(
        cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any
    ) -> tuple[Any, ...]:
        """Run a model once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype[Any], tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Run one operator. Keyword `opset_version`: of the node's domain, by default the newest known."""
        version = int(kwargs.pop("opset_version", onnx.defs.onnx_opset_version()))
        model = _model_of(node, _by_name(node, inputs), outputs_info, version)
        return cls.run_model(model, inputs, device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Only the CPU."""
        return device.partition(":")[0] == "CPU"


def refusals(model: onnx.ModelProto) -> list[Diagnostic]:
    """Every node that can run neither on the chip nor on the host."""
    functions = {(f.domain, f.name) for f in model.functions}
    bodies = [node for f in model.functions for node in f.node]
    found = []
    for node in (*operators(model.graph), *bodies):
        refusal = host_refusal(node.domain, node.op_type)
        if refusal is not None and (node.domain, node.op_type) not in functions:
            place = NodePlace(model.graph.name, node.name or node.op_type, node.op_type)
            found.append(Diagnostic("E0203", refusal.reason, place, refusal.help))
    return found


# ---------------------------------------------------------------------------------------------------- the chip


def _on_chip(
    model: onnx.ModelProto, feeds: Mapping[str, Any], target: Hardware, weights: str
) -> dict[str, Array]:
    """The outputs as the chip computes them. Raises `CimError` if it cannot."""
    rows = _chip_rows(model, feeds)
    problem: CimError | None = None
    for data in _data_inputs(rows):
        constants = {name: array for name, array in feeds.items() if name not in data}
        try:
            program = _compiled(_with_constants(model, constants), _tokens(data, feeds), target, weights)
            return _simulated(model, program, {name: feeds[name] for name in data})
        except CimError as error:
            problem = problem or error
    raise problem or _host_only("it has no inputs of float rows")


def _host_only(why: str) -> CimError:
    return CimError(Diagnostic("E0203", why))


def _chip_rows(model: onnx.ModelProto, feeds: Mapping[str, Any]) -> list[str]:
    """The inputs that may be rows of tokens. Raises `CimError` if there can be no chip program."""
    for array in feeds.values():
        if not isinstance(array, (np.ndarray, np.generic)) or array.dtype == object:
            raise _host_only("sequences, optional values and strings have no place on the chip")
        if array.dtype == np.float64:
            raise _host_only("the chip computes in float32, not in float64")
    for output in model.graph.output:
        if output.type.tensor_type.elem_type not in _FLOATS:
            raise _host_only("the chip's results are float32 rows, not integers, booleans or wider floats")
    rows = [n for n, a in feeds.items() if a.dtype.kind == "f" and a.ndim >= 2 and a.size > 0]
    if any(feeds[name].size // feeds[name].shape[-1] > MOST_ROWS for name in rows):
        raise _host_only(f"more than {MOST_ROWS} rows are not simulated")
    return rows


_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


def _data_inputs(rows: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Which inputs may be data, the others being weights: all of them, or the first."""
    if rows:
        yield tuple(rows)
    if len(rows) > 1:
        yield (rows[0],)


def _tokens(data: Sequence[str], feeds: Mapping[str, Any]) -> int:
    return max(int(feeds[name].size) // int(feeds[name].shape[-1]) for name in data)


def _with_constants(model: onnx.ModelProto, constants: Mapping[str, Any]) -> onnx.ModelProto:
    """The model with some of its inputs turned into weights."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    kept = [i for i in fixed.graph.input if i.name not in constants]
    del fixed.graph.input[:]
    fixed.graph.input.extend(kept)
    fixed.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items())
    return fixed


def _compiled(model: onnx.ModelProto, tokens: int, target: Hardware, weights: str) -> Program:
    options = CompileOptions(max_context=tokens, weights=weights)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return compile_model(path, options, target).require_program()


def _simulated(model: onnx.ModelProto, program: Program, data: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of a program, with the types and shapes that the model declares."""
    streams = {s.name for s in streams_of(program, Direction.IN)}
    attends = any(array.kind.value == "kv" for role in program.roles for array in role.arrays)
    results = {s.name for s in streams_of(program, Direction.OUT)}
    if streams != set(data) or not results >= {o.name for o in model.graph.output}:
        raise _host_only("its inputs and outputs are not all rows of tokens")
    if not attends:  # then rows have nothing to do with each other
        data = {name: array.reshape(-1, array.shape[-1]) for name, array in data.items()}
    made = Inference(program).run({name: array.astype(np.float32) for name, array in data.items()})
    return {o.name: _declared(made[o.name], o) for o in model.graph.output}


def _declared(value: Array, output: onnx.ValueInfoProto) -> Array:
    tensor = output.type.tensor_type
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    sizes = [d.dim_value for d in tensor.shape.dim]
    if not all(sizes) or int(np.prod(sizes)) != value.size:
        raise _host_only("the shape of its output is not known beforehand")
    return value.reshape(sizes).astype(dtype)


# ----------------------------------------------------------------------------------------------------- models


def _input_names(model: onnx.ModelProto) -> list[str]:
    weights = {t.name for t in model.graph.initializer}
    return [i.name for i in model.graph.input if i.name not in weights]


def _by_name(node: onnx.NodeProto, inputs: Any) -> dict[str, Array]:
    if isinstance(inputs, Mapping):
        return {name: np.asarray(array) for name, array in inputs.items()}
    listed = inputs if isinstance(inputs, (list, tuple)) else [inputs]
    names = list(dict.fromkeys(name for name in node.input if name))
    return dict(zip(names, map(np.asarray, listed), strict=True))


def _model_of(
    node: onnx.NodeProto,
    feeds: Mapping[str, Array],
    outputs_info: Sequence[tuple[np.dtype[Any], tuple[int, ...]]] | None,
    version: int,
) -> onnx.ModelProto:
    """A model of one node."""
    element = helper.np_dtype_to_tensor_dtype
    inputs = [helper.make_tensor_value_info(n, element(a.dtype), a.shape) for n, a in feeds.items()]
    names = [name for name in node.output if name]
    if outputs_info is None:
        outputs = [onnx.ValueInfoProto(name=name) for name in names]
    else:
        typed = zip(names, outputs_info, strict=True)
        outputs = [helper.make_tensor_value_info(n, element(np.dtype(d)), s) for n, (d, s) in typed]
    graph = helper.make_graph([node], "node", inputs, outputs)
    opsets = [helper.make_opsetid("", version if not node.domain else onnx.defs.onnx_opset_version())]
    if node.domain:
        opsets.append(helper.make_opsetid(node.domain, version))
    model: onnx.ModelProto = onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=opsets, ir_version=10)
    )
    return model
