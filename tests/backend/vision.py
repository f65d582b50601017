"""A vision transformer in a few nodes: a convolution, one layer, a classifier on the first token."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto

from compiler.ir.tensor import Array
from compiler.passes import GRAPH_PIPELINE
from compiler.pipeline import Compilation, CompileOptions, run_pipeline
from tests.frontend.sketch import WIDTH, Sketch, joined, projections

TOKENS = 4
CLASSES = 5


def stem(s: Sketch, batch: int | str = "images") -> str:
    """[batch, 3, 8, 8] -> rows [batch, 4, WIDTH]: patches of 4 x 4 pixels, and a position embedding."""
    pixels = s.input("pixels", TensorProto.FLOAT, batch, 3, 8, 8)
    patches = s.op("Conv", pixels, s.weight(WIDTH, 3, 4, 4), strides=[4, 4], kernel_shape=[4, 4])
    rows = s.op("Transpose", s.op("Reshape", patches, np.array([0, WIDTH, -1])), perm=[0, 2, 1])
    return s.op("Add", rows, s.weight(1, TOKENS, WIDTH))


def norm(s: Sketch, x: str) -> str:
    return s.op("LayerNormalization", x, s.weight(WIDTH), s.weight(WIDTH), axis=-1, epsilon=1e-5)


def layer(s: Sketch, x: str) -> str:
    """Attention of two heads over all tokens, and a feed-forward block."""
    q, k, v = projections(s, norm(s, x), 2)
    scores = s.op("Mul", s.op("MatMul", q, s.op("Transpose", k, perm=[0, 1, 3, 2])), 0.3535)
    context = joined(s, s.op("MatMul", s.op("Softmax", scores, axis=-1), v))
    x = s.op("Add", x, s.op("MatMul", context, s.weight(WIDTH, WIDTH)))
    inner = s.op("Relu", s.op("MatMul", norm(s, x), s.weight(WIDTH, 2 * WIDTH)))
    return s.op("Add", x, s.op("MatMul", inner, s.weight(2 * WIDTH, WIDTH)))


def head(s: Sketch, x: str) -> str:
    """The class of the first token."""
    first = s.op("Gather", norm(s, x), np.int64(0), axis=1)
    return s.op("Gemm", first, s.weight(WIDTH, CLASSES), s.weight(CLASSES))


def write_vision(path: Path, batch: int | str = "images") -> Path:
    """The whole model."""
    s = Sketch()
    return s.save(path, head(s, layer(s, stem(s, batch))))


def images(batch: int) -> dict[str, Array]:
    """Inputs of the model."""
    pixels = np.random.default_rng(7).standard_normal((batch, 3, 8, 8))
    return {"pixels": pixels.astype(np.float32)}


def recognised(path: Path) -> Compilation:
    """The compilation after the graph passes."""
    return run_pipeline(GRAPH_PIPELINE, Compilation(path, CompileOptions()))


def reference(path: Path, feeds: dict[str, Array]) -> Array:
    """What ONNX Runtime makes of the file."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 4
    runs = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    return np.asarray(runs.run(None, feeds)[0])
