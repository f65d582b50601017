"""Every generator at a small size: loads, runs, agrees with itself, and has the exporter's nodes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from models.configs import CONFIGS, BertConfig, Config, Gpt2Config, LlamaConfig, OptConfig
from models.evaluate import OnnxDecoder
from models.graph import Parameter
from models.make import architecture, main, make
from models.save import SHAPES_ONLY_KEY, save
from models.weights import RandomWeights

NAMES = sorted(CONFIGS)
DECODERS = [name for name in NAMES if not isinstance(CONFIGS[name], BertConfig)]


def shrunk(name: str) -> Config:
    """The same family and options with few, narrow layers; head groups keep their ratio."""
    config = CONFIGS[name]
    small = replace(config, vocab=96, hidden=64, layers=2, ffn=80, max_positions=32)
    if isinstance(small, LlamaConfig):
        group = small.heads // small.kv_heads
        return replace(small, heads=max(group, 4), kv_heads=max(group, 4) // group)
    return replace(small, heads=4)


def ids(batch: int, length: int, vocab: int = 96) -> NDArray[np.int64]:
    return np.random.default_rng(5).integers(0, vocab, (batch, length))


@pytest.mark.parametrize("name", DECODERS)
def test_steps_with_a_cache_equal_the_whole_without(name: str, tmp_path: Path) -> None:
    for cached in (True, False):
        graph = architecture(shrunk(name), with_cache=cached)
        save(graph, tmp_path / f"{cached}.onnx", RandomWeights(3))
    stepped, whole = (OnnxDecoder.load(tmp_path / f"{cached}.onnx", 1) for cached in (True, False))
    tokens = ids(2, 12)
    expected, nothing = whole.step(tokens, whole.empty_cache(2))
    assert nothing == {}
    cache, parts = stepped.empty_cache(2), []
    for first, last in ((0, 5), (5, 6), (6, 12)):
        logits, cache = stepped.step(tokens[:, first:last], cache)
        parts.append(logits)
    assert all(x.shape[2] == 12 for x in cache.values())
    np.testing.assert_allclose(np.concatenate(parts, 1), expected, atol=2e-5)
    assert np.abs(expected).max() > 1e-3


def test_bert_ignores_padding(tmp_path: Path) -> None:
    save(architecture(shrunk("bert-base")), tmp_path / "b.onnx", RandomWeights(1))
    session = OnnxDecoder.load(tmp_path / "b.onnx", 1).session
    tokens, mask = ids(1, 8), np.ones((1, 8), np.int64)
    mask[:, 6:] = 0
    other = tokens.copy()
    other[:, 6:] = 0
    kinds = np.zeros_like(tokens)
    results = [
        session.run(None, {"input_ids": t, "attention_mask": mask, "token_type_ids": kinds})[0]
        for t in (tokens, other)
    ]
    np.testing.assert_allclose(results[0][:, :6], results[1][:, :6], atol=1e-6)


# Node counts by operator in Optimum 0.1.0 / PyTorch 2.13 exports (opset 18) of two-layer models, the llama
# with two heads to a key; `Constant` and `Identity` (equal weights merged) left out.
EXPORTED = {
    ("llama", True): (
        "Add:18 And:2 Cast:31 Concat:28 ConstantOfShape:7 Cos:1 Div:9 Equal:6 Expand:6 Flatten:1 "
        "Gather:34 IsNaN:2 LessOrEqual:1 MatMul:20 Mul:39 Neg:4 Pow:5 Range:3 ReduceMean:5 Reshape:20 "
        "Shape:39 Sigmoid:2 Sin:1 Slice:10 Softmax:2 Sqrt:5 Transpose:11 Unsqueeze:78 Where:10"
    ),
    ("llama", False): (
        "Add:16 And:2 Cast:30 Concat:24 ConstantOfShape:7 Cos:1 Div:9 Equal:6 Expand:6 Flatten:1 "
        "Gather:33 IsNaN:2 LessOrEqual:1 MatMul:20 Mul:39 Neg:4 Pow:5 Range:3 ReduceMean:5 Reshape:20 "
        "Shape:38 Sigmoid:2 Sin:1 Slice:10 Softmax:2 Sqrt:5 Transpose:11 Unsqueeze:78 Where:10"
    ),
    ("gpt2", True): (
        "Add:14 And:2 Cast:12 Concat:33 ConstantOfShape:2 Div:2 Equal:1 Expand:1 Flatten:1 Gather:40 "
        "Gemm:8 IsNaN:2 LayerNormalization:5 LessOrEqual:1 MatMul:5 Mul:14 Pow:2 Range:3 Reshape:30 "
        "Shape:50 Slice:13 Softmax:2 Split:2 Sqrt:6 Squeeze:9 Tanh:2 Transpose:10 Unsqueeze:58 Where:5"
    ),
    ("gpt2", False): (
        "Add:12 And:2 Cast:11 Concat:29 ConstantOfShape:2 Div:2 Equal:1 Expand:1 Flatten:1 Gather:39 "
        "Gemm:8 IsNaN:2 LayerNormalization:5 LessOrEqual:1 MatMul:5 Mul:14 Pow:2 Range:3 Reshape:30 "
        "Shape:49 Slice:13 Softmax:2 Split:2 Sqrt:6 Squeeze:9 Tanh:2 Transpose:10 Unsqueeze:58 Where:5"
    ),
    ("opt", True): (
        "Add:21 Cast:12 Concat:21 ConstantOfShape:6 Equal:6 Expand:6 Gather:23 Gemm:4 Greater:1 "
        "LayerNormalization:5 MatMul:13 Mul:12 Range:6 Relu:2 Reshape:19 ScatterND:1 Shape:31 Slice:9 "
        "Softmax:2 Squeeze:2 Transpose:10 Trilu:1 Unsqueeze:36 Where:6"
    ),
    ("bert", False): (
        "Add:25 Cast:7 Concat:9 ConstantOfShape:1 Div:5 Equal:1 Erf:3 Expand:1 Gather:10 "
        "LayerNormalization:6 MatMul:18 Mul:11 Reshape:9 Shape:10 Slice:3 Softmax:2 Sqrt:6 Sub:1 "
        "Transpose:8 Unsqueeze:16 Where:2"
    ),
}
FAMILIES: dict[str, Config] = {
    "llama": LlamaConfig(vocab=128, hidden=64, layers=2, heads=4, kv_heads=2, ffn=96, max_positions=64),
    "gpt2": Gpt2Config(vocab=128, hidden=64, layers=2, heads=4, ffn=256, max_positions=64),
    "opt": OptConfig(vocab=128, hidden=64, layers=2, heads=4, ffn=64, max_positions=64),
    "bert": BertConfig(vocab=128, hidden=64, layers=2, heads=4, ffn=96, max_positions=64),
}


@pytest.mark.parametrize(("family", "cached"), EXPORTED)
def test_nodes_are_those_of_an_optimum_export(family: str, cached: bool) -> None:
    graph = architecture(FAMILIES[family], with_cache=cached)
    counts = Counter(node.op_type for node in graph.nodes if node.op_type != "Constant")
    assert " ".join(f"{kind}:{n}" for kind, n in sorted(counts.items())) == EXPORTED[family, cached]


def test_names_are_hierarchical() -> None:
    graph = architecture(FAMILIES["llama"])
    names = {node.name for node in graph.nodes}
    assert {"/model/layers.1/self_attn/q_proj/MatMul", "/model/rotary_emb/Cos", "/lm_head/MatMul"} <= names
    assert "model.layers.0.self_attn.q_proj.weight" in {p.name for p in graph.parameters}
    assert [i.name for i in graph.inputs[:4]] == [
        "input_ids",
        "attention_mask",
        "position_ids",
        "past_key_values.0.key",
    ]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # An export of a tied model holds the transposed embedding a second time, so those three count more
        # than the published sizes (124,439,808; 109,514,298; 6,658,473,984).
        ("llama-2-7b", 6_738_415_616),
        ("llama-3-8b", 8_030_261_248),
        ("gpt2", 124_439_808 + 50257 * 768),
        ("bert-base", 109_514_298 + 30522 * 768),
        ("opt-6.7b", 6_658_473_984 + 50272 * 4096),
    ],
)
def test_shapes_only_declares_everything_and_writes_nothing(
    name: str, parameters: int, tmp_path: Path
) -> None:
    saved = make(name, tmp_path / "m.onnx", shapes_only=True)
    assert saved.parameters == parameters
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]
    assert saved.model.stat().st_size < 1_500_000
    model = onnx.load(saved.model, load_external_data=False)
    assert {p.key: p.value for p in model.metadata_props}[SHAPES_ONLY_KEY] == "true"
    assert sum(int(np.prod(t.dims)) for t in model.graph.initializer) == parameters
    assert all(t.data_location == onnx.TensorProto.EXTERNAL for t in model.graph.initializer)


@pytest.mark.parametrize("name", ["llama-tiny", "gpt2-tiny", "opt-6.7b"])
def test_in_float16_nothing_is_float32_and_types_agree(name: str, tmp_path: Path) -> None:
    whole, half = (
        make(name, tmp_path / f"{part}.onnx", layers=1, shapes_only=True, half=part) for part in (False, True)
    )
    assert whole.parameters == half.parameters
    model = onnx.load(half.model, load_external_data=False)
    assert {t.data_type for t in model.graph.initializer} == {onnx.TensorProto.FLOAT16}
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    found = {info.type.tensor_type.elem_type for info in inferred.graph.value_info}
    assert onnx.TensorProto.FLOAT16 in found
    assert onnx.TensorProto.FLOAT not in found


def test_float16_weights_are_the_rounded_ones(tmp_path: Path) -> None:
    for half in (False, True):
        make("gpt2-tiny", tmp_path / f"{half}.onnx", half=half)
    whole, rounded = (
        {
            t.name: onnx.numpy_helper.to_array(t)
            for t in onnx.load(tmp_path / f"{half}.onnx").graph.initializer
        }
        for half in (False, True)
    )
    for name, value in whole.items():
        np.testing.assert_array_equal(rounded[name], value.astype(np.float16))


def test_more_positions_make_a_longer_table(tmp_path: Path) -> None:
    tables = {}
    for positions in (None, 1024, 8192):
        saved = make("opt-6.7b", tmp_path / "m.onnx", layers=1, shapes_only=True, positions=positions)
        model = onnx.load(saved.model, load_external_data=False)
        tables[positions] = next(
            t.dims[0] for t in model.graph.initializer if t.name == "model.decoder.embed_positions.weight"
        )
    assert tables == {None: 2050, 1024: 2050, 8192: 8194}


def test_the_seed_decides_the_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make("llama-tiny", tmp_path / name, seed=seed)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_weights_do_not_depend_on_the_number_of_layers(tmp_path: Path) -> None:
    for layers in (1, 2):
        make("gpt2-tiny", tmp_path / f"{layers}", layers=layers, seed=4)
    one, two = (
        {t.name: t.raw_data for t in onnx.load(tmp_path / f"{layers}").graph.initializer} for layers in (1, 2)
    )
    assert one.items() <= two.items()


def test_data_next_to_the_model_gives_the_same_logits(tmp_path: Path) -> None:
    make("llama-tiny", tmp_path / "inside.onnx")
    saved = make("llama-tiny", tmp_path / "apart.onnx", external=True)
    assert saved.data is not None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["apart.onnx", "apart.onnx.data", "inside.onnx"]
    inside, apart = (OnnxDecoder.load(tmp_path / f"{name}.onnx", 1) for name in ("inside", "apart"))
    tokens = ids(1, 6)
    a, b = (d.step(tokens, d.empty_cache(1))[0] for d in (inside, apart))
    np.testing.assert_array_equal(a, b)


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    class Failing:
        def value(self, parameter: Parameter) -> NoReturn:
            raise MemoryError(parameter.name)

    for external in (True, False):
        with pytest.raises(MemoryError):
            save(architecture(FAMILIES["gpt2"]), tmp_path / "m.onnx", Failing(), external=external)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gpt5", "-o", "x.onnx"], "invalid choice: 'gpt5'"),
        (["gpt2"], "required: -o/--output"),
        (["gpt2", "-o", "x.onnx", "--layers", "0"], "0 is not at least 1"),
        (["gpt2", "-o", "x.onnx", "--seed", "-1"], "-1 is negative"),
        (["bert-base", "-o", "x.onnx", "--no-cache"], "bert-base is an encoder"),
    ],
)
def test_wrong_usage_is_exit_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["llama-tiny", "-o", str(tmp_path / "no" / "m.onnx")]) == 1
    assert "No such file or directory" in capsys.readouterr().err
