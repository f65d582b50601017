"""Recognition does not hang on names, order, identities, or on which constants are shared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from benchmarks.references import collection
from compiler.ir.graph import Graph
from isa.diagnostics import CimError
from tests.frontend.oracle import SHARED, SMALL, compiled, write_small

KEPT = ("input_ids", "attention_mask", "position_ids", "token_type_ids", "logits", "past_key", "present.")


def _renamed(model: onnx.ModelProto, random: np.random.Generator, kept: tuple[str, ...] = KEPT) -> None:
    """Every name that is not part of the model's interface becomes a meaningless one."""
    names: dict[str, str] = {"": ""}

    def new(name: str) -> str:
        if name.startswith(kept) if kept is KEPT else name in kept:
            return name
        return names.setdefault(name, f"t{len(names)}_{random.integers(1 << 30)}")

    for tensor in model.graph.initializer:
        tensor.name = new(tensor.name)
    for node in model.graph.node:
        node.name = ""
        node.input[:] = [new(i) for i in node.input]
        node.output[:] = [new(o) for o in node.output]


def _split(model: onnx.ModelProto, random: np.random.Generator) -> None:
    """Small initializers that several nodes use become one for each use."""
    small = {t.name: t for t in model.graph.initializer if np.prod(t.dims, dtype=np.int64) <= 16}
    for number, node in enumerate(model.graph.node):
        for i, name in enumerate(node.input):
            if name in small and random.random() < 0.7:
                copy = onnx.TensorProto()
                copy.CopyFrom(small[name])
                copy.name = f"{name}~{number}~{i}"
                model.graph.initializer.append(copy)
                node.input[i] = copy.name


def _merged(model: onnx.ModelProto, random: np.random.Generator) -> None:
    """Equal small initializers become one."""
    del random
    first: dict[tuple[object, ...], str] = {}
    names: dict[str, str] = {}
    for tensor in list(model.graph.initializer):
        if np.prod(tensor.dims, dtype=np.int64) > 1:
            continue
        key = (tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor).tobytes())
        names[tensor.name] = first.setdefault(key, tensor.name)
    for node in model.graph.node:
        node.input[:] = [names.get(i, i) for i in node.input]


def _padded(model: onnx.ModelProto, random: np.random.Generator) -> None:
    """Identities between random nodes, and every scalar constant an initializer of its own."""
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name and random.random() < 0.2:
                fresh = f"pad{len(nodes)}_{i}"
                nodes.append(helper.make_node("Identity", [name], [fresh]))
                node.input[i] = fresh
        if node.op_type == "Constant" and node.attribute[0].name == "value" and random.random() < 0.5:
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


EXPORTED = [
    "gen_optimum__gpt2_past_model",
    "gen_optimum__qwen3_past_model",
    "gen_optimum__t5_past_decoder_model",
    "gen_optimum__vit_nopast_model",
    "gen_optimum__whisper_past_decoder_with_past_model",
    "gen_dynamo__gemma2_op18",
    "gen_dynamo__llama_op24",
    "gen_dynamokv__llama_past_op23",
    "gen_dynamokv__opt_past_op18",
    "gen_ts__bert_op17",
    "gen_ortopt__bert",
    "gen_ortopt__t5dec",
    "gen_quant__bert_static_qop",
    "gen_quant__llama_past_dyn_u8s8",
    "gen_quant__llama_past_int4qdq",
    "gen_quant__vit_static_qdq",
    "genai__tiny-qwen35-cuda_decoder",
    "onnxscript__bart_encoder_test",
    "ort__attention_past_unidir",
    "ort__gpt2_embedlayer_one_attn_exp",
    "ort__hf_fp32_decoder_attention_no_past",
]
"""Files of every exporter of the collection; the slow test takes all of them."""

needs_collection = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"the collected ONNX files are not at {SHARED} (set CIM_SHARED)"
)


@needs_collection
@pytest.mark.parametrize("name", EXPORTED)
def test_a_mutated_export_is_the_same_model(name: str, tmp_path: Path) -> None:
    assert not _drifts(SHARED / f"{name}.onnx", tmp_path / "model.onnx")


@needs_collection
@pytest.mark.slow
def test_no_file_of_the_collection_drifts(tmp_path: Path) -> None:
    files = [entry.model for entry in collection(SHARED) if _can_change(entry.model)]
    assert len(files) > 80
    assert [path.name for path in files if _drifts(path, tmp_path / "model.onnx")] == []


def _can_change(path: Path) -> bool:
    """Whether a file compiles as it is, and is one flat graph, which the mutations can change."""
    model = onnx.load(str(path), load_external_data=False)
    nested = any(a.type == onnx.AttributeProto.GRAPH for node in model.graph.node for a in node.attribute)
    if nested or model.functions:
        return False
    try:
        return bool(compiled(path).nodes)
    except CimError:
        return False


def _drifts(path: Path, changed: Path) -> bool:
    """Whether the file, with names, order, identities and constants changed, is another model; it goes to `changed`."""
    model = onnx.load(str(path))
    inputs = {v.name for v in (*model.graph.input, *model.graph.output)}
    before = compiled(path)
    random = np.random.default_rng(len(path.stem))
    for change in (_split, _merged, _padded, _renamed, _shuffled):
        change(model, random, *((tuple(inputs),) if change is _renamed else ()))
    changed.write_bytes(model.SerializeToString())
    after = compiled(changed)
    same = sorted(map(str, _described(after))) == sorted(map(str, _described(before)))
    return not same or after.caches != before.caches
