"""What cannot be read or compiled is refused with a code, a place, a reason and a way out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from compiler.frontend.importer import import_model
from compiler.ir.graph import Activation, Function, Role
from compiler.ops.explain import Verdict, explain_model
from compiler.passes import GRAPH_PIPELINE
from compiler.pipeline import Compilation, CompileOptions, run_pipeline
from isa.diagnostics import CODES, CimError, Diagnostic, NodePlace
from models.make import make
from tests.frontend.oracle import compiled, write_small
from tests.frontend.sketch import WIDTH, Sketch, causal, joined, projections


def refusals(path: Path, **options: object) -> tuple[Diagnostic, ...]:
    """The diagnostics of a file that cannot be compiled."""
    with pytest.raises(CimError) as caught:
        run_pipeline(GRAPH_PIPELINE, Compilation(path, CompileOptions(**options)))  # type: ignore[arg-type]
    assert all(d.code in CODES and d.place is not None for d in caught.value.diagnostics)
    return caught.value.diagnostics


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    (d,) = refusals(tmp_path / "none.onnx")
    assert d.code == "E0001"


@pytest.mark.parametrize("content", [b"", b"not an ONNX file", b"\x08\x08"])
def test_a_file_that_is_not_onnx(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    (d,) = refusals(path)
    assert d.code == "E0201"
    assert d.help


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file(part: float, tmp_path: Path) -> None:
    path = write_small("llama", tmp_path / "model.onnx")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    (d,) = refusals(path)
    assert d.code == "E0201"
    assert "truncated" in d.message


def test_external_data_that_is_missing_or_short(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    saved = make("llama-tiny", path, external=True)
    assert saved.data is not None
    assert compiled(path).is_canonical
    data = saved.data.read_bytes()
    saved.data.write_bytes(data[:-100])
    (d,) = refusals(path)
    assert (d.code, saved.data.name in d.message) == ("E0202", True)
    saved.data.unlink()
    (d,) = refusals(path)
    assert d.code == "E0202"
    assert str(saved.data) in d.message
    assert d.help is not None
    assert "--shapes-only" in d.help


def test_external_data_outside_the_folder(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    path = tmp_path / "inner" / "model.onnx"
    make("llama-tiny", path, external=True)
    model = onnx.load(str(path), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../secret"
    path.write_bytes(model.SerializeToString())
    (d,) = refusals(path)
    assert d.code == "E0202"
    assert "outside" in d.message


def test_a_model_without_weights_says_so(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    make("llama-tiny", path, shapes_only=True)
    (d,) = refusals(path)
    assert d.code == "E0202"
    assert d.help is not None
    assert "--shapes-only" in d.help
    c = run_pipeline(GRAPH_PIPELINE, Compilation(path, CompileOptions(shapes_only=True)))
    graph = c.require_graph()
    weight = next(t for t in graph.constants.values() if not t.has_data)
    with pytest.raises(CimError, match="only declares"):
        weight.data()


def test_every_convolution_of_a_cnn_is_named(tmp_path: Path) -> None:
    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return helper.make_tensor(name, TensorProto.FLOAT, shape, np.zeros(int(np.prod(shape)), np.float32))

    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["a"], name="conv1"),
        helper.make_node("Relu", ["a"], ["b"], name="relu1"),
        helper.make_node("MaxPool", ["b"], ["c"], name="pool1", kernel_shape=[2, 2]),
        helper.make_node("Conv", ["c", "w2"], ["d"], name="conv2"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], name="pool2"),
        helper.make_node("Flatten", ["e"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "w3"], ["out"], name="fc"),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 32, 32])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 10])
    constants = [weights("w1", 8, 3, 3, 3), weights("w2", 16, 8, 3, 3), weights("w3", 16, 10)]
    path = tmp_path / "cnn.onnx"
    onnx.save(helper.make_model(helper.make_graph(nodes, "cnn", [image], [out], constants)), str(path))
    found = refusals(path)
    assert [d.place.node for d in found if isinstance(d.place, NodePlace)] == [
        "conv1",
        "pool1",
        "conv2",
        "pool2",
    ]
    assert all(d.code == "E0203" and d.help for d in found)
    assert "convolution" in found[0].message
    verdicts = {v.node: v.verdict for v in explain_model(path)}
    assert verdicts["conv1"] is Verdict.REFUSED


def test_an_unknown_operator_is_named(tmp_path: Path) -> None:
    s = Sketch()
    path = s.save(tmp_path / "m.onnx", s.op("Sparkle", s.ids(), domain="com.example"))
    (d,) = refusals(path)
    assert "Sparkle of com.example is not known" in d.message
    assert isinstance(d.place, NodePlace)
    assert d.place.op == "com.example.Sparkle"


def _attention(s: Sketch, change: str) -> str:
    """A causal attention with one thing that cannot be expressed."""
    x = s.ids()
    q, k, v = projections(s, x, 2)
    scores = s.op("MatMul", q, s.op("Transpose", k, perm=[0, 1, 3, 2]))
    mask = s.op("Where", causal(s, x), 0.0, -np.inf)
    n = s.op("Cast", s.op("Range", np.int64(0), s.length(x), np.int64(1)), to=TensorProto.FLOAT)
    if change == "a bias by position":
        mask = s.op("Add", mask, s.op("Mul", s.op("Mul", n, n), 0.01))
    if change == "a bias that never settles":
        distance = s.op("Sub", n, s.op("Unsqueeze", n, np.array([1])))
        mask = s.op("Add", mask, s.op("Mul", s.op("Mul", distance, distance), 0.01))
    if change == "reversed keys":
        scores = s.op("Slice", scores, np.array([-1]), np.array([-(1 << 40)]), np.array([3]), np.array([-1]))
    if change == "queries of two rows":
        q = s.op("Add", q, s.op("Slice", q, np.array([0]), np.array([1]), np.array([2]), np.array([1])))
        scores = s.op("MatMul", q, s.op("Transpose", k, perm=[0, 1, 3, 2]))
    return joined(s, s.op("MatMul", s.op("Softmax", s.op("Add", scores, mask), axis=-1), v))


@pytest.mark.parametrize(
    "change", ["a bias by position", "a bias that never settles", "reversed keys", "queries of two rows"]
)
def test_attention_of_other_kinds_is_refused_not_misread(change: str, tmp_path: Path) -> None:
    s = Sketch()
    found = refusals(s.save(tmp_path / "m.onnx", _attention(s, change)))
    assert any(isinstance(d.place, NodePlace) and d.place.op == "onnx.Softmax" and d.help for d in found)


def test_a_refusal_names_the_operator_of_the_file_not_what_it_is_made_of(tmp_path: Path) -> None:
    s = Sketch()
    rows = [s.op("MatMul", s.ids() if not i else "Gather_2", s.weight(WIDTH, WIDTH)) for i in range(3)]
    bias = s.input("bias", TensorProto.FLOAT, 1, 2, "sequence", "sequence")
    out = s.op("MultiHeadAttention", *rows, "", "", bias, num_heads=2, domain="com.microsoft")
    (d,) = refusals(s.save(tmp_path / "m.onnx", out))
    assert isinstance(d.place, NodePlace)
    assert d.place.op == "com.microsoft.MultiHeadAttention"
    assert "made of the input 'bias'" in d.message


def test_an_output_that_only_training_needs(tmp_path: Path) -> None:
    s = Sketch()
    x = s.ids()
    outs = s.many(2, "SkipLayerNormalization", x, x, s.weight(WIDTH), s.weight(WIDTH), domain="com.microsoft")
    s.outputs.append(outs[1])
    (d,) = refusals(s.save(tmp_path / "m.onnx", outs[0]))
    assert f"its output {outs[1]!r} is used" in d.message


def test_keys_that_no_attention_reads(tmp_path: Path) -> None:
    s = Sketch()
    x = s.ids()
    past = s.input("past_key_values.0.key", TensorProto.FLOAT, "batch", 2, "past", 8)
    s.outputs.append(s.op("Concat", past, projections(s, x, 2)[1], axis=2))
    (d,) = refusals(s.save(tmp_path / "m.onnx", x))
    assert "'past_key_values.0.key' that no attention reads" in d.message


def test_a_weight_without_a_type(tmp_path: Path) -> None:
    s = Sketch()
    path = s.save(tmp_path / "m.onnx", s.op("Add", s.ids(), s.weight(WIDTH)))
    model = onnx.load(str(path))
    model.graph.initializer[0].data_type = TensorProto.UNDEFINED
    path.write_bytes(model.SerializeToString())
    (d,) = refusals(path)
    assert d.code == "E0201"
    assert "no element type" in d.message


def test_all_refusals_come_at_once(tmp_path: Path) -> None:
    s = Sketch()
    x = s.ids()
    a = s.op("Sparkle", x, domain="com.example")
    b = s.op("LSTM", x, s.weight(1, 64, WIDTH), s.weight(1, 64, 16))
    assert len(refusals(s.save(tmp_path / "m.onnx", s.op("Add", a, b)))) == 2


def test_a_value_that_nobody_makes(tmp_path: Path) -> None:
    s = Sketch()
    path = s.save(tmp_path / "m.onnx", s.op("Relu", "nowhere"))
    (d,) = refusals(path)
    assert d.code == "E0201"
    assert "'nowhere'" in d.message


def test_the_reader_is_forgiving(tmp_path: Path) -> None:
    """Nodes in any order, the default domain by its other name: ONNX Runtime takes them."""
    path = write_small("llama", tmp_path / "model.onnx")
    before = compiled(path)
    model = onnx.load(str(path))
    order = np.random.default_rng(5).permutation(len(model.graph.node))
    nodes = [model.graph.node[i] for i in order]
    del model.graph.node[:], model.opset_import[:]
    model.graph.node.extend(nodes)
    model.opset_import.append(helper.make_opsetid("ai.onnx", 18))
    path.write_bytes(model.SerializeToString())
    after = compiled(path)
    assert sorted(str(n.op) for n in after.nodes) == sorted(str(n.op) for n in before.nodes)


def test_a_name_that_is_made_twice_means_the_latest(tmp_path: Path) -> None:
    s = Sketch()
    x = s.ids()
    for kind in ("Relu", "Tanh"):
        s.nodes.append(helper.make_node(kind, [x], ["twice"], name=kind))
        x = s.op("Add", x, "twice")
    ops = [n.op for n in compiled(s.save(tmp_path / "m.onnx", x)).nodes]
    assert [op.kind for op in ops if isinstance(op, Activation)] == [Function.RELU, Function.TANH]


def test_axes_can_be_fixed_by_either_name(tmp_path: Path) -> None:
    path = write_small("llama", tmp_path / "model.onnx")
    for name in ("batch_size", "batch"):
        graph = import_model(path, dims={name: 1, "sequence_length": 4})
        ids = graph.input(Role.IDS)
        assert ids is not None
        assert ids.value.shape == (1, 4)
    c = run_pipeline(GRAPH_PIPELINE, Compilation(path, CompileOptions(dims=(("batch", 1),))))
    assert c.require_graph().is_canonical
    (d,) = refusals(path, dims=(("bath", 1),))
    assert d.code == "E0206"
    assert d.help is not None
    assert "batch_size" in d.help
    (d,) = refusals(path, dims=(("batch", 0),))
    assert d.code == "E0206"


def test_rotations_that_depend_on_the_length_are_refused(tmp_path: Path) -> None:
    """Frequencies that change when the sequence grows beyond some length."""
    s = Sketch()
    x = s.ids()
    q, k, v = projections(s, x, 2)
    n = s.length(x)
    position = s.op("Cast", s.op("Range", np.int64(0), n, np.int64(1)), to=TensorProto.FLOAT)
    stretch = s.op("Where", s.op("Greater", n, np.int64(50)), 0.5, 1.0)
    angle = s.op("Mul", s.op("Unsqueeze", position, np.array([1])), s.op("Mul", stretch, np.full(4, 0.1)))
    cos, sin = s.op("Cos", angle), s.op("Sin", angle)
    a, b = (s.op("Slice", q, np.array([i]), np.array([i + 4]), np.array([-1]), np.array([1])) for i in (0, 4))
    first = s.op("Sub", s.op("Mul", a, cos), s.op("Mul", b, sin))
    second = s.op("Add", s.op("Mul", b, cos), s.op("Mul", a, sin))
    q = s.op("Concat", first, second, axis=-1)
    scores = s.op("MatMul", q, s.op("Transpose", k, perm=[0, 1, 3, 2]))
    out = joined(s, s.op("MatMul", s.op("Softmax", scores, axis=-1), v))
    found = refusals(s.save(tmp_path / "m.onnx", out))
    assert any("no rotary embedding" in d.message for d in found)
