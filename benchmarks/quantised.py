"""What a quantised file may differ from its reference values by, and why.

Three things keep ONNX Runtime's outputs of a quantised file from being what the file says, or what a step computes:
- its fused kernels for weights of 4 bits round activations, which the file does not ask for (`accuracy_level`
  allows it): the reference is computed again without them;
- scales found at run time are those of the whole batch: the reference is computed again for its first sequence;
- scales found beforehand round inside attention and activations, where the chip computes in float32: such a file
  may differ by twice what all its roundings together make, and no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import onnxruntime

from compiler.ir.graph import FakeQuant, Graph
from compiler.ir.tensor import Array
from compiler.passes.drop_roundings import DropRoundings
from compiler.pipeline import Compilation


def is_quantised(graph: Graph) -> bool:
    """Whether weights are integers, or activations are rounded."""
    return has_roundings(graph) or any(constant.is_quantised for constant in graph.constants.values())


def has_roundings(graph: Graph) -> bool:
    """Whether activations are rounded."""
    return any(isinstance(node.op, FakeQuant) for node in graph.nodes)


def has_fixed_scales(graph: Graph) -> bool:
    """Whether activations are rounded by scales found beforehand."""
    return any(isinstance(node.op, FakeQuant) and node.op.scale is not None for node in graph.nodes)


def without_roundings(graph: Graph) -> Graph:
    """The graph with activations as they are."""
    c = Compilation(Path(graph.model), graph=graph)
    DropRoundings().run(c)
    return c.require_graph()


def first_sequence(feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The inputs of the first sequence of a batch."""
    return {name: feed[:1] for name, feed in feeds.items()}


def exactly(model: Path, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """What the file says, by ONNX Runtime: without fused kernels, and without leave to round activations."""
    session = strict_session(model)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def strict_session(model: Path) -> onnxruntime.InferenceSession:
    """ONNX Runtime on a file, as `exactly` has it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with TemporaryDirectory() as folder:
        path = _strict(model, Path(folder))
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _strict(model: Path, folder: Path) -> Path:
    """A copy of the file in which no operator may round its activations."""
    copy = onnx.load(str(model))
    for node in copy.graph.node:
        for attribute in [a for a in node.attribute if a.name == "accuracy_level"]:
            node.attribute.remove(attribute)
    path = folder / "strict.onnx"
    onnx.save(copy, str(path))
    return path
