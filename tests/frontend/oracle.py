"""Models for tests of the front end, inputs for them, and what ONNX Runtime makes of both."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from compiler.frontend.importer import import_model
from compiler.ir.dims import axes_of, resolve
from compiler.ir.evaluate import default_feed
from compiler.ir.graph import Graph, Role
from compiler.ir.tensor import Array
from compiler.passes import GRAPH_PIPELINE
from compiler.pipeline import Compilation, Moment, Pass, run_pipeline
from models.configs import BertConfig, Config, Gpt2Config, LlamaConfig, OptConfig
from models.graph import Parameter
from models.make import architecture
from models.save import save

SHARED = Path(os.environ.get("CIM_SHARED", Path(__file__).parents[3] / "shared")) / "onnx"
"""Files that real exporters wrote; not part of this repository."""

SMALL: dict[str, Config] = {
    "llama": LlamaConfig(vocab=64, hidden=32, layers=2, heads=4, kv_heads=2, ffn=48, max_positions=64),
    "gpt2": Gpt2Config(vocab=64, hidden=32, layers=2, heads=4, ffn=64, max_positions=64),
    "opt": OptConfig(vocab=64, hidden=32, layers=2, heads=4, ffn=64, max_positions=64),
    "bert": BertConfig(vocab=64, hidden=32, layers=2, heads=4, ffn=64, max_positions=64),
}
"""One small model of each family that `models` can write."""

CACHED = ("llama", "gpt2", "opt")


@dataclass(frozen=True)
class LoudWeights:
    """Random values for everything, gammas and biases too: ones and zeros would hide mistakes."""

    def value(self, parameter: Parameter) -> NDArray[np.float32]:
        """See `models.weights.Weights`."""
        generator = np.random.default_rng(crc32(parameter.source.encode()))
        stored = parameter.shape[::-1] if parameter.transposed else parameter.shape
        values = generator.standard_normal(stored).astype(np.float32) * np.float32(0.3)
        return np.ascontiguousarray(values.T) if parameter.transposed else values


def write_small(name: str, path: Path, *, with_cache: bool = True) -> Path:
    """Write one of `SMALL` to `path`."""
    save(architecture(SMALL[name], with_cache=with_cache), path, LoudWeights())
    return path


def feeds_for(
    graph: Graph, sequence: int, past: int = 0, batch: int = 1, vocab: int = 60
) -> dict[str, Array]:
    """Inputs of a raw graph: random tokens and caches, positions in order, no padding."""
    generator = np.random.default_rng(sequence * 100 + past)
    past = past if any(i.role is Role.PAST for i in graph.inputs) else 0
    sizes = {"batch": batch, "sequence": sequence, "past": past, "source": 6}
    feeds: dict[str, Array] = {}
    for given in graph.inputs:
        for extent in given.value.shape or ():
            for axis in axes_of(extent):
                sizes.setdefault(axis, sequence + past)
        shape = tuple(resolve(e, sizes) for e in given.value.shape or ())
        dtype = given.value.dtype.numpy
        default = default_feed(given, sizes)
        if given.role in (Role.IDS, Role.SOURCE_IDS):
            feeds[given.name] = generator.integers(0, vocab, shape).astype(dtype)
        elif given.role is Role.TOKEN_TYPES:
            feeds[given.name] = generator.integers(0, 2, shape).astype(dtype)
        elif default is not None and given.role is not Role.SOURCE:
            feeds[given.name] = default
        else:
            feeds[given.name] = generator.standard_normal(shape).astype(dtype)
    return feeds


def session(path: Path) -> onnxruntime.InferenceSession:
    """ONNX Runtime on a file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def expected(path: Path, feeds: dict[str, Array]) -> dict[str, Array]:
    """What ONNX Runtime computes."""
    runner = session(path)
    names = [o.name for o in runner.get_outputs()]
    return dict(zip(names, runner.run(names, feeds), strict=True))


def graphs_of(path: Path) -> list[tuple[str, Graph]]:
    """The graph after each graph pass, by the name of the pass."""
    found: list[tuple[str, Graph]] = []

    def keep(moment: Moment, step: Pass, c: Compilation) -> None:
        if moment is Moment.AFTER:
            found.append((step.name, c.require_graph()))

    run_pipeline(GRAPH_PIPELINE, Compilation(path), keep)
    return found


def compiled(path: Path) -> Graph:
    """The canonical graph of a file."""
    return graphs_of(path)[-1][1]


def raw(path: Path) -> Graph:
    """The graph of a file as imported."""
    return import_model(path)


def difference(got: dict[str, Array], wanted: dict[str, Array]) -> float:
    """The largest difference of all outputs, relative to the largest value of each."""
    worst = 0.0
    for name, value in wanted.items():
        error = np.abs(got[name].reshape(value.shape) - value).max(initial=0.0)
        worst = max(worst, float(error / max(1e-6, np.abs(value).max(initial=0.0))))
    return worst
