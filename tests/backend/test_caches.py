"""Decoders by the inputs of their files: pasts, padding, buffers, sources; against ONNX Runtime on the same inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from compiler.driver import compile_model
from compiler.frontend.importer import import_model
from compiler.pipeline import CompileOptions
from isa.binary import read_program, write_program
from isa.diagnostics import CimError
from isa.hardware import load_target
from isa.interface import Use
from isa.program import Program
from runtime.inference import Inference
from runtime.session import Session
from tests.frontend.oracle import CACHED, expected, feeds_for, write_small
from tests.frontend.sketch import WIDTH, Sketch, causal, heads_of, joined
from tests.frontend.test_static_caches import DEPTH, HEADS, PLACES, static_model

CONTEXT = 16

Feeds = dict[str, np.ndarray]


def _compiled(path: Path, weights: str = "float32", **options: int) -> Program:
    chosen = CompileOptions(max_context=CONTEXT, weights=weights, **options)  # type: ignore[arg-type]
    return compile_model(path, chosen, load_target("tiny")).require_program()


def _close(got: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray], tolerance: float = 1e-4) -> None:
    assert set(got) == set(wanted)
    for name, value in wanted.items():
        assert got[name].shape == value.shape, name
        if value.size:
            assert np.abs(got[name] - value).max() <= tolerance * max(1.0, np.abs(value).max()), name


@pytest.fixture(scope="module", params=CACHED)
def decoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Program]:
    """A small decoder with a cache, and its program."""
    path = write_small(request.param, tmp_path_factory.mktemp("decoder") / "m.onnx")
    return path, _compiled(path)


@pytest.mark.parametrize(("new", "past"), [(4, 0), (3, 5), (1, 7)])
def test_all_outputs_are_those_of_the_file(decoder: tuple[Path, Program], new: int, past: int) -> None:
    path, program = decoder
    feeds = feeds_for(import_model(path), new, past, batch=2)
    _close(Inference(program).run(feeds), expected(path, feeds))


def test_presents_are_the_pasts_of_the_next_step(decoder: tuple[Path, Program]) -> None:
    path, program = decoder
    graph, whole = import_model(path), feeds_for(import_model(path), 6, batch=2)
    inference, ids = Inference(program), whole["input_ids"]
    first = inference.run({**feeds_for(graph, 4, batch=2), "input_ids": ids[:, :4]})
    past = {n.replace("present", "past_key_values"): v for n, v in first.items() if n.startswith("present")}
    second = inference.run({**feeds_for(graph, 2, 4, batch=2), "input_ids": ids[:, 4:], **past})
    wanted = expected(path, whole)["logits"]
    got = np.concatenate([first["logits"], second["logits"]], axis=1)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_int8_is_near(tmp_path: Path) -> None:
    path = write_small("llama", tmp_path / "m.onnx")
    feeds = feeds_for(import_model(path), 3, 5, batch=2)
    wanted = expected(path, feeds)
    for name, got in Inference(_compiled(path, "int8")).run(feeds).items():
        error = np.sqrt(((got - wanted[name]) ** 2).mean() / (wanted[name] ** 2).mean())
        assert 0 < error < 0.06, name


# ------------------------------------------------------------------------------------------------------- padding


def _padded(path: Path, mask: Sequence[Sequence[int]], past: int) -> tuple[Feeds, np.ndarray]:
    """Inputs with a mask, positions counted over tokens; and which new places are tokens."""
    flags = np.array(mask)
    new = flags.shape[1] - past
    feeds = feeds_for(import_model(path), new, past, batch=len(flags))
    feeds["attention_mask"] = flags
    if "position_ids" in feeds:
        feeds["position_ids"] = np.maximum(np.cumsum(flags, axis=1) - 1, 0)[:, past:]
    return feeds, flags[:, past:] == 1


@pytest.mark.parametrize("past", [0, 2])
@pytest.mark.parametrize("mask", [[[1] * 6, [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 0]]])
def test_padding_at_the_end(decoder: tuple[Path, Program], mask: list[list[int]], past: int) -> None:
    path, program = decoder
    feeds, real = _padded(path, mask, past)
    got = Inference(program).run(feeds)
    wanted = expected(path, feeds)["logits"]
    np.testing.assert_allclose(got["logits"][real], wanted[real], rtol=1e-4, atol=1e-4)
    assert not got["logits"][~real].any()
    presents = [v for n, v in got.items() if n.startswith("present")]
    assert all(not v[1, :, 3:].any() and v[1, :, 2].any() for v in presents)


@pytest.mark.parametrize("past", [0, 3])
def test_padding_at_the_beginning(tmp_path: Path, past: int) -> None:
    path = write_small("gpt2", tmp_path / "m.onnx")
    feeds, real = _padded(path, [[0, 0, 1, 1, 1, 1], [1] * 6], past)
    inference = Inference(_compiled(path))
    got = inference.run(feeds)
    wanted = expected(path, feeds)
    np.testing.assert_allclose(got["logits"][real], wanted["logits"][real], rtol=1e-4, atol=1e-4)
    assert [sum(s.tokens for s in step) for step in inference.steps] == real.sum(axis=1).tolist()
    kept = np.array([[0, 0, 1, 1, 1, 1], [1] * 6]) == 1
    for name in (n for n in wanted if n.startswith("present")):
        ours, theirs = (v.swapaxes(1, 2)[kept] for v in (got[name], wanted[name]))
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_sequence_of_padding_alone_is_not_run(tmp_path: Path) -> None:
    path = write_small("gpt2", tmp_path / "m.onnx")
    feeds, _ = _padded(path, [[1, 1, 1], [0, 0, 0]], 0)
    inference = Inference(_compiled(path))
    assert not inference.run(feeds)["logits"][1].any()
    assert len(inference.steps) == 1


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"attention_mask": np.array([[1, 1, 0, 1, 1]])}, "E0601", "between tokens"),
        ({"attention_mask": np.array([[2, 1, 1, 1, 1]])}, "E0601", "ones and zeros"),
        ({"attention_mask": np.ones((1, 9), int)}, "E0601", "9 entries"),
        ({"position_ids": np.array([[3, 4, 5]])}, "E0601", "counts on from 2"),
        ({"position_ids": np.array([[2, 3]])}, "E0601", "2 positions for 3 tokens"),
        ({"past_key_values.0.key": np.zeros((1, 4, 3, 8))}, "E0601", "same tokens"),
        ({"past_key_values.0.key": np.zeros((1, 3, 2, 8))}, "E0601", "has 4 heads"),
        ({"tokens": np.zeros((1, 3))}, "E0601", "no input 'tokens'"),
        ({"attention_mask": np.triu(np.ones((2, 5), int))}, "E0601", "is for 2 sequences, 1 are given"),
        ({"past_key_values.1.value": np.zeros((3, 4, 2, 8))}, "E0601", "is for 3 sequences"),
        ({"input_ids": np.zeros((1, 15), int)}, "E0601", "5 entries for a sequence"),
    ],
)
def test_inputs_that_do_not_fit(tmp_path: Path, change: Feeds, code: str, words: str) -> None:
    path = write_small("gpt2", tmp_path / "m.onnx")
    feeds = feeds_for(import_model(path), 3, 2) | change
    with pytest.raises(CimError, match=words) as caught:
        Inference(_compiled(path)).run(feeds)
    assert caught.value.diagnostics[0].code == code


def test_more_tokens_than_there_is_room_for(tmp_path: Path) -> None:
    path = write_small("gpt2", tmp_path / "m.onnx")
    with pytest.raises(CimError, match="17 tokens are needed") as caught:
        Inference(_compiled(path)).run(feeds_for(import_model(path), 15, 2))
    assert caught.value.diagnostics[0].code == "E0602"


# ------------------------------------------------------------------------------------------- forms of caches


def _stacked_model(path: Path) -> Path:
    """Keys and values in one input [2, batch, heads, past, depth], and in one output."""
    s = Sketch()
    x = s.ids()
    past = s.input("past_0", TensorProto.FLOAT, 2, "batch", HEADS, "past", DEPTH)
    q, *new = (heads_of(s, s.op("MatMul", x, s.weight(WIDTH, WIDTH)), HEADS) for _ in range(3))
    halves = [s.op("Gather", past, np.int64(at), axis=0) for at in (0, 1)]
    k, v = (s.op("Concat", old, own, axis=2) for old, own in zip(halves, new, strict=True))
    s.outputs.append(s.op("Concat", *(s.op("Unsqueeze", one, np.array([0])) for one in (k, v)), axis=0))
    rows, total = s.length(q, 2), s.length(k, 2)
    first = s.op("Sub", total, rows)
    at = s.op("Add", s.op("Range", np.int64(0), rows, np.int64(1)), first)
    seen = s.op(
        "LessOrEqual", s.op("Range", np.int64(0), total, np.int64(1)), s.op("Unsqueeze", at, np.array([1]))
    )
    scores = s.op("Mul", s.op("MatMul", q, s.op("Transpose", k, perm=[0, 1, 3, 2])), 0.3535)
    masked = s.op("Where", seen, scores, np.float32(-np.inf))
    out = joined(s, s.op("MatMul", s.op("Softmax", masked, axis=-1), v))
    return s.save(path / "m.onnx", out)


@pytest.mark.parametrize("past", [0, 4])
def test_keys_and_values_in_one_tensor(tmp_path: Path, past: int) -> None:
    path, random = _stacked_model(tmp_path), np.random.default_rng(2)
    program = _compiled(path)
    assert [v.use for v in program.interface.inputs] == [Use.IDS, Use.KEYS_VALUES]
    feeds = {
        "input_ids": random.integers(0, 30, (3, 2)),
        "past_0": random.standard_normal((2, 3, HEADS, past, DEPTH)).astype(np.float32),
    }
    _close(Inference(program).run(feeds), expected(path, feeds))


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(("past", "new"), [(0, 5), (4, 3), (7, 1)])
def test_buffers_of_a_fixed_size(tmp_path: Path, flat: bool, past: int, new: int) -> None:
    path, random = static_model(tmp_path, flat), np.random.default_rng(past)
    shape = (1, PLACES, WIDTH) if flat else (1, HEADS, PLACES, DEPTH)
    feeds = {f"{n}_cache.0": random.standard_normal(shape).astype(np.float32) for n in ("key", "value")}
    feeds["input_ids"] = random.integers(0, 30, (1, new))
    feeds |= {"write_indices": np.array([past]), "nonpad_kv_seqlen": np.array([past + new])}
    model = onnx.load(str(path))
    made = ReferenceEvaluator(model).run(None, feeds)
    wanted = dict(zip([o.name for o in model.graph.output], made, strict=True))
    _close(Inference(_compiled(path)).run(feeds), wanted)


# ------------------------------------------------------------------------------------------------------ sources


def with_source(path: Path, *, mask: bool = False) -> Path:
    """A causal layer, and one that looks at rows of a source; keys and values of both are outputs."""
    s = Sketch()
    x = s.ids()
    source = s.input("encoder_hidden_states", TensorProto.FLOAT, "batch", "rows", WIDTH)
    for rows, seen in ((x, causal(s, x)), (source, "")):
        q = heads_of(s, s.op("MatMul", x, s.weight(WIDTH, WIDTH)), HEADS)
        k, v = (heads_of(s, s.op("MatMul", rows, s.weight(WIDTH, WIDTH)), HEADS) for _ in range(2))
        s.outputs += [k, v]
        scores = s.op("Mul", s.op("MatMul", q, s.op("Transpose", k, perm=[0, 1, 3, 2])), 0.3535)
        if seen:
            scores = s.op("Where", seen, scores, np.float32(-np.inf))
        elif mask:
            hidden = s.op("Sub", 1.0, s.op("Cast", _source_mask(s), to=TensorProto.FLOAT))
            scores = s.op("Add", scores, s.op("Mul", s.op("Unsqueeze", hidden, np.array([1, 2])), -1e9))
        context = joined(s, s.op("MatMul", s.op("Softmax", scores, axis=-1), v))
        x = s.op("Add", x, s.op("MatMul", context, s.weight(WIDTH, WIDTH)))
    return s.save(path / "m.onnx", s.op("MatMul", x, s.weight(WIDTH, 32)))


def _source_mask(s: Sketch) -> str:
    return s.input("encoder_attention_mask", TensorProto.INT64, "batch", "rows")


def _source_feeds(rows: int, new: int) -> Feeds:
    random = np.random.default_rng(rows)
    source = random.standard_normal((2, rows, WIDTH)).astype(np.float32)
    return {"input_ids": random.integers(0, 30, (2, new)), "encoder_hidden_states": source}


@pytest.mark.parametrize("rows", [1, 5, 9])
def test_rows_of_a_source(tmp_path: Path, rows: int) -> None:
    path, feeds = with_source(tmp_path), _source_feeds(rows, 4)
    program = _compiled(path, max_source=9)
    _close(Inference(program).run(feeds), expected(path, feeds))


def test_a_source_with_padding(tmp_path: Path) -> None:
    path, feeds = with_source(tmp_path, mask=True), _source_feeds(5, 4)
    feeds["encoder_attention_mask"] = np.array([[1, 1, 1, 0, 0], [0, 1, 1, 1, 1]])
    got = Inference(_compiled(path, max_source=5)).run(feeds)
    np.testing.assert_allclose(got["logits"], expected(path, feeds)["logits"], rtol=1e-4, atol=1e-4)


def test_a_session_writes_its_source_once(tmp_path: Path) -> None:
    path, feeds = with_source(tmp_path), _source_feeds(5, 6)
    wanted = expected(path, feeds)["logits"]
    program = _compiled(path, max_source=8, batch=2)
    session = Session(program)
    with pytest.raises(CimError, match="has no source"):
        session.prefill([1])
    with pytest.raises(CimError, match="the program takes 8"):
        session.set_source(np.zeros((9, WIDTH)))
    with pytest.raises(CimError, match="rows"):
        session.set_source(np.zeros((3, WIDTH + 1)))
    for at in (0, 1):
        session.set_source(feeds["encoder_hidden_states"][at], sequence=at)
    for _ in range(2):
        for at in (0, 1):
            ids = feeds["input_ids"][at].tolist()
            rows = [session.prefill(ids[:3], sequence=at)] + [session.step([i], sequence=at) for i in ids[3:]]
            np.testing.assert_allclose(np.concatenate(rows), wanted[at, 2:], rtol=1e-4, atol=1e-4)
    sourced = [any(s.is_source for s in step) for step in session.steps]
    assert sourced == [True, False, False, False] * 2 + [False] * 8
    assert {s.source for step in session.steps for s in step} == {5}


def test_a_source_by_the_names_of_the_file(tmp_path: Path) -> None:
    path, feeds = with_source(tmp_path), _source_feeds(5, 3)
    session = Session(_compiled(path, max_source=5))
    with pytest.raises(CimError, match="'encoder_hidden_states' is missing"):
        session.set_source_inputs({"rows": feeds["encoder_hidden_states"]})
    session.set_source_inputs({"encoder_hidden_states": feeds["encoder_hidden_states"][:1]})
    got = session.score(feeds["input_ids"][0].tolist())
    np.testing.assert_allclose(got, expected(path, feeds)["logits"][0], rtol=1e-4, atol=1e-4)


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    program = _compiled(with_source(tmp_path))
    with pytest.raises(CimError, match="'encoder_hidden_states' is missing"):
        Inference(program).run({"input_ids": np.array([[1, 2]])})
    with pytest.raises(CimError, match="--max-source 20"):
        Inference(program).run(_source_feeds(20, 2))


# ---------------------------------------------------------------------------------------------- the interface


def test_a_program_file_says_what_inputs_are(tmp_path: Path) -> None:
    program = _compiled(with_source(tmp_path, mask=True), max_source=4)
    uses = [(v.name, v.use, v.stream) for v in program.interface.inputs]
    assert uses == [
        ("input_ids", Use.IDS, "input_ids"),
        ("encoder_hidden_states", Use.SOURCE, "encoder_hidden_states"),
        ("encoder_attention_mask", Use.SOURCE_MASK, ""),
    ]
    assert [(v.use, v.cache) for v in program.interface.outputs] == [
        (Use.ROWS, -1),
        *((use, cache) for cache in (0, 1) for use in (Use.KEYS, Use.VALUES)),
    ]
    write_program(program, tmp_path / "m.cim")
    again = read_program(tmp_path / "m.cim")
    assert (again.interface, again.caches) == (program.interface, program.caches)
    feeds = _source_feeds(3, 2)
    _close(Inference(again).run(feeds), Inference(program).run(feeds), 0.0)
