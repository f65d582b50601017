"""Running ONNX models on the host: ONNX Runtime first, the reference evaluator for the rest."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from isa.diagnostics import CimError
from runtime.host import SPECIFIED, HostModel, loaded, run_part


def _bytes(
    kind: str, version: int, *shape: int | str, dtype: int = TensorProto.FLOAT, **attributes: object
) -> bytes:
    x = helper.make_tensor_value_info("x", dtype, list(shape))
    node = helper.make_node(kind, ["x"], ["y"], **attributes)
    graph = helper.make_graph([node], "g", [x], [onnx.ValueInfoProto(name="y")])
    imports = [helper.make_opsetid("", version)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=imports, ir_version=10)
    return bytes(model.SerializeToString())


X = np.array([[1.0, -2.0, 3.0], [0.5, 0.0, -1.0]], np.float32)


def test_onnx_runtime_runs_what_it_knows() -> None:
    model = HostModel(_bytes("Relu", 14, 2, 3))
    assert model.engine == "onnxruntime"
    assert (model.inputs[0].name, model.inputs[0].axes, model.outputs) == ("x", (2, 3), ("y",))
    np.testing.assert_array_equal(model.run({"x": X, "other": X})["y"], np.maximum(X, 0))


def test_the_evaluator_runs_what_is_newer() -> None:
    newest = onnx.defs.onnx_opset_version()
    model = HostModel(_bytes("Relu", newest, 2, 3))
    np.testing.assert_array_equal(model.run({"x": X})["y"], np.maximum(X, 0))
    assert HostModel(_bytes("DFT", 20, 1, 4, 1), strict=True).engine == "reference"
    assert all(reason for reason in SPECIFIED.values())


def test_element_types_that_onnx_runtime_does_not_take_from_numpy() -> None:
    narrow = X.astype(helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16))
    model = HostModel(_bytes("Cast", 21, 2, 3, dtype=TensorProto.BFLOAT16, to=TensorProto.FLOAT))
    np.testing.assert_array_equal(model.run({"x": narrow})["y"], narrow.astype(np.float32))
    assert model.engine == "reference"


@pytest.mark.parametrize(
    ("axes", "given", "wanted"),
    [
        (("batch", "sequence", 3), (2, 3), (1, 2, 3)),
        (("batch*sequence", 3), (2, 4, 3), (8, 3)),
        (("batch", 1, "sequence", 3), (2, 4, 3), (2, 1, 4, 3)),
    ],
)
def test_rows_get_the_axes_of_the_file(
    axes: tuple[int | str, ...], given: tuple[int, ...], wanted: tuple[int, ...]
) -> None:
    rows = np.arange(np.prod(given), dtype=np.float32).reshape(given)
    got = HostModel(_bytes("Identity", 14, *axes)).run({"x": rows})["y"]
    assert got.shape == wanted
    np.testing.assert_array_equal(got.reshape(-1), rows.reshape(-1))


def test_numbers_get_the_element_type_of_the_file() -> None:
    made = HostModel(_bytes("Neg", 13, 2, 3)).run({"x": X.astype(np.float64)})["y"]
    assert made.dtype == np.float32


def test_a_model_is_loaded_once() -> None:
    data = _bytes("Relu", 14, 2, 3)
    run_part(np.frombuffer(data, np.uint8), {"x": X})
    assert loaded(data) is loaded(bytes(data))


def test_what_cannot_run_is_an_error_of_the_input() -> None:
    with pytest.raises(CimError) as caught:
        HostModel(_bytes("Sparkle", 14, 2, 3))
    assert caught.value.diagnostics[0].code == "E0606"
    with pytest.raises(CimError, match="E0606"):
        HostModel(_bytes("Reshape", 1, 2, 3, shape=[7])).run({"x": X})
