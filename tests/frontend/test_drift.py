"""Recognition does not hang on names, order, identities, or on which constants are shared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from compiler.ir.graph import Graph
from tests.frontend.oracle import SMALL, compiled, write_small

KEPT = ("input_ids", "attention_mask", "position_ids", "token_type_ids", "logits", "past_key", "present.")


def _renamed(model: onnx.ModelProto, random: np.random.Generator) -> None:
    """Every name that is not part of the model's interface becomes a meaningless one."""
    names: dict[str, str] = {"": ""}

    def new(name: str) -> str:
        if name.startswith(KEPT):
            return name
        return names.setdefault(name, f"t{len(names)}_{random.integers(1 << 30)}")

    for tensor in model.graph.initializer:
        tensor.name = new(tensor.name)
    for node in model.graph.node:
        node.name = ""
        node.input[:] = [new(i) for i in node.input]
        node.output[:] = [new(o) for o in node.output]


def _padded(model: onnx.ModelProto, random: np.random.Generator) -> None:
    """Identities between random nodes, and every scalar constant an initializer of its own."""
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name and random.random() < 0.2:
                fresh = f"pad{len(nodes)}_{i}"
                nodes.append(helper.make_node("Identity", [name], [fresh]))
                node.input[i] = fresh
        if node.op_type == "Constant" and random.random() < 0.5:
            tensor = node.attribute[0].t
            tensor.name = node.output[0]
            model.graph.initializer.append(tensor)
            continue
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _shuffled(model: onnx.ModelProto, random: np.random.Generator) -> None:
    nodes = [model.graph.node[i] for i in random.permutation(len(model.graph.node))]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _described(graph: Graph) -> list[object]:
    """Each node with the operators that feed it: independent of the order of independent nodes."""
    makers = graph.producers()

    def what(name: str) -> object:
        if name in makers:
            return makers[name].op
        constant = graph.constants.get(name)
        return "input" if constant is None else (constant.dtype, constant.shape)

    return [(node.op, node.output.shape, [what(i) for i in node.inputs]) for node in graph.nodes]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", list(SMALL))
def test_a_mutated_file_is_the_same_model(name: str, seed: int, tmp_path: Path) -> None:
    path = write_small(name, tmp_path / "model.onnx")
    before = compiled(path)
    model = onnx.load(str(path))
    random = np.random.default_rng(seed)
    for change in (_padded, _renamed, _shuffled):
        change(model, random)
    path.write_bytes(model.SerializeToString())
    after = compiled(path)
    assert sorted(map(str, _described(after))) == sorted(map(str, _described(before)))
    assert after.caches == before.caches
