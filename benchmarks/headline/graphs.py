"""Attention and feed-forward layers as small ONNX graphs on ONNX Runtime; what is large are inputs, not copied."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

F32 = NDArray[np.float32]
OPSET = 18


def _session(
    nodes: Sequence[onnx.NodeProto], feeds: Mapping[str, F32], constants: Mapping[str, F32]
) -> Callable[[], F32]:
    """What runs the nodes on these inputs, each [..] as given, and returns their output `y`."""
    import onnxruntime

    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, value.shape) for n, value in feeds.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    held = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(list(nodes), "layer", inputs, [output], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def run() -> F32:
        result: F32 = session.run(None, dict(feeds))[0]
        return result

    return run


def attention_session(q: F32, k: F32, v: F32) -> Callable[[], F32]:
    """softmax(q k / sqrt(dim)) v for q [b, h, g, d], k [b, h, d, t], v [b, h, t, d]."""
    nodes = [
        helper.make_node("Mul", ["q", "scale"], ["scaled"]),
        helper.make_node("MatMul", ["scaled", "k"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["weights"], axis=-1),
        helper.make_node("MatMul", ["weights", "v"], ["y"]),
    ]
    scale = np.array(q.shape[-1] ** -0.5, np.float32)
    return _session(nodes, {"q": q, "k": k, "v": v}, {"scale": scale})


def ffn_session(x: F32, weights: Sequence[F32]) -> Callable[[], F32]:
    """Two matrices with ReLU between them, or three with a gate (SiLU)."""
    names = [f"w{index}" for index in range(len(weights))]
    nodes = [helper.make_node("MatMul", ["x", "w0"], ["a"])]
    if len(weights) == 2:
        nodes.append(helper.make_node("Relu", ["a"], ["h"]))
    else:
        nodes += [
            helper.make_node("Sigmoid", ["a"], ["s"]),
            helper.make_node("Mul", ["a", "s"], ["g"]),
            helper.make_node("MatMul", ["x", "w1"], ["b"]),
            helper.make_node("Mul", ["g", "b"], ["h"]),
        ]
    nodes.append(helper.make_node("MatMul", ["h", names[-1]], ["y"]))
    return _session(nodes, {"x": x, **dict(zip(names, weights, strict=True))}, {})
