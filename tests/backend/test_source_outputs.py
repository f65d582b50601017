"""Encoder-decoders whose files give the encoder's rows too: against ONNX Runtime on the same inputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from compiler.driver import compile_model
from compiler.frontend.importer import import_model
from compiler.ir.evaluate import run
from compiler.pipeline import CompileOptions
from isa.binary import read_program, write_program
from isa.diagnostics import CimError
from isa.hardware import load_target
from isa.interface import ModelValue, Use
from isa.program import Program, segments_of
from runtime.borders import logits_of
from runtime.hostwork import part_cost, with_hosts
from runtime.inference import Inference
from runtime.segments import source_segments_of
from runtime.session import Session
from runtime.timing import Simulator
from tests.backend.vision import norm
from tests.frontend.oracle import compiled, expected
from tests.frontend.sketch import WIDTH, Sketch, causal, heads_of, joined, projections

HEADS, ENCODED = 2, "encoder_last_hidden_state"
Feeds = dict[str, np.ndarray]


def _attended(s: Sketch, q: str, k: str, v: str, seen: str = "", hidden: str = "") -> str:
    scores = s.op("Mul", s.op("MatMul", q, s.op("Transpose", k, perm=[0, 1, 3, 2])), 0.3535)
    scores = s.op("Where", seen, scores, np.float32(-np.inf)) if seen else scores
    scores = s.op("Add", scores, hidden) if hidden else scores
    return joined(s, s.op("MatMul", s.op("Softmax", scores, axis=-1), v))


def _rms(s: Sketch, x: str) -> str:
    """A norm written out, as T5 has it."""
    mean = s.op("ReduceMean", s.op("Pow", x, 2.0), np.array([-1]))
    root = s.op("Reciprocal", s.op("Sqrt", s.op("Add", mean, 1e-6)))
    return s.op("Mul", s.weight(WIDTH), s.op("Mul", x, root))


def _encoder_decoder(s: Sketch) -> tuple[str, str]:
    """Two layers of an encoder with padding, one of a decoder: logits, and the encoder's rows."""
    s.input("input_ids", TensorProto.INT64, "batch", "rows")
    mask = s.op("Cast", s.input("attention_mask", TensorProto.INT64, "batch", "rows"), to=TensorProto.FLOAT)
    hidden = s.op("Mul", s.op("Unsqueeze", s.op("Sub", 1.0, mask), np.array([1, 2])), -1e9)
    s.input("decoder_input_ids", TensorProto.INT64, "batch", "tokens")
    table = s.weight(32, WIDTH)
    x, y = (s.op("Gather", table, ids, axis=0) for ids in ("input_ids", "decoder_input_ids"))
    for _ in range(2):
        x = s.op("Add", x, _attended(s, *projections(s, norm(s, x), HEADS), hidden=hidden))
    x = _rms(s, x)
    y = s.op("Add", y, _attended(s, *projections(s, y, HEADS), seen=causal(s, y)))
    q = heads_of(s, s.op("MatMul", y, s.weight(WIDTH, WIDTH)), HEADS)
    k, v = (heads_of(s, s.op("MatMul", x, s.weight(WIDTH, WIDTH)), HEADS) for _ in range(2))
    y = s.op("Add", y, _attended(s, q, k, v, hidden=hidden))
    return s.op("MatMul", y, s.weight(WIDTH, 32)), x


def _model(folder: Path, kind: str) -> tuple[Path, str]:
    """The file, and what it calls its second output: the rows, a copy of them, or what the host makes of them."""
    s = Sketch()
    logits, x = _encoder_decoder(s)
    name = x if kind == "rows" else s.op("Identity" if kind == "copy" else "Softsign", x)
    s.outputs.append(name)
    return s.save(folder / "m.onnx", logits), name


def _compiled(path: Path, weights: str = "float32") -> Program:
    options = CompileOptions(max_context=12, max_source=12, weights=weights)  # type: ignore[arg-type]
    return compile_model(path, options, load_target("tiny")).require_program()


def _feeds(rows: int = 9, tokens: int = 5) -> Feeds:
    random = np.random.default_rng(rows)
    mask = np.ones((3, rows), np.int64)
    mask[1, rows // 2 :] = 0
    return {
        "input_ids": random.integers(0, 32, (3, rows)),
        "attention_mask": mask,
        "decoder_input_ids": random.integers(0, 32, (3, tokens)),
    }


def _wanted(path: Path, feeds: Feeds, name: str) -> Feeds:
    """What ONNX Runtime gives, zeros for padding."""
    found = expected(path, feeds)
    return {"logits": found["logits"], name: found[name] * feeds["attention_mask"][..., None]}


@pytest.mark.parametrize(("rows", "tokens"), [(9, 5), (2, 12), (12, 1)])
@pytest.mark.parametrize("kind", ["rows", "copy", "host"])
def test_the_encoders_rows_come_back_with_batches(kind: str, rows: int, tokens: int, tmp_path: Path) -> None:
    path, name = _model(tmp_path, kind)
    feeds = _feeds(rows, tokens)
    got, wanted = Inference(_compiled(path)).run(feeds), _wanted(path, feeds, name)
    assert got.keys() == wanted.keys()
    for output, value in wanted.items():
        np.testing.assert_allclose(got[output], value, rtol=1e-4, atol=1e-4, err_msg=output)


@pytest.mark.parametrize("kind", ["rows", "copy"])
def test_the_graph_means_the_same(kind: str, tmp_path: Path) -> None:
    path, name = _model(tmp_path, kind)
    feeds = {n: v[[0, 2]] for n, v in _feeds().items()}
    got, wanted = run(compiled(path), feeds), expected(path, feeds)
    assert [i.name for i in import_model(path).inputs] == list(feeds)
    for output in ("logits", name):
        np.testing.assert_allclose(got[output], wanted[output], atol=1e-5)


def test_a_single_sequence_needs_no_batch_axis(tmp_path: Path) -> None:
    path, name = _model(tmp_path, "rows")
    feeds = {n: v[:1] for n, v in _feeds().items()}
    assert Inference(_compiled(path)).run(feeds)[name].shape == (1, 9, WIDTH)
    alone = {n: v[0] for n, v in feeds.items()}
    got = Inference(_compiled(path)).run(alone)
    assert (got[name].shape, got["logits"].shape) == ((9, WIDTH), (5, 32))


def test_padding_may_stand_among_rows_that_are_given(tmp_path: Path) -> None:
    s = Sketch()
    y, x = s.ids(), norm(s, s.input("encoder_hidden_states", TensorProto.FLOAT, "batch", "rows", WIDTH))
    mask = s.op(
        "Cast", s.input("encoder_attention_mask", TensorProto.INT64, "batch", "rows"), to=TensorProto.FLOAT
    )
    hidden = s.op("Mul", s.op("Unsqueeze", s.op("Sub", 1.0, mask), np.array([1, 2])), -1e9)
    y = s.op("Add", y, _attended(s, *projections(s, y, HEADS), seen=causal(s, y)))
    q = heads_of(s, s.op("MatMul", y, s.weight(WIDTH, WIDTH)), HEADS)
    k, v = (heads_of(s, s.op("MatMul", x, s.weight(WIDTH, WIDTH)), HEADS) for _ in range(2))
    s.outputs.append(x)
    logits = s.op("MatMul", s.op("Add", y, _attended(s, q, k, v, hidden=hidden)), s.weight(WIDTH, 32))
    path, random = s.save(tmp_path / "m.onnx", logits), np.random.default_rng(2)
    seen = np.array([[1, 0, 1, 1, 0], [0, 1, 1, 1, 1]])
    feeds = {
        "input_ids": random.integers(0, 32, (2, 4)),
        "encoder_hidden_states": random.standard_normal((2, 5, WIDTH)).astype(np.float32),
        "encoder_attention_mask": seen,
    }
    got, wanted = Inference(_compiled(path)).run(feeds), expected(path, feeds)
    np.testing.assert_allclose(got["logits"], wanted["logits"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(got[x], wanted[x] * seen[..., None], rtol=1e-4, atol=1e-4)


def test_int8_is_near(tmp_path: Path) -> None:
    path, name = _model(tmp_path, "rows")
    feeds = _feeds()
    got, wanted = Inference(_compiled(path, "int8")).run(feeds), _wanted(path, feeds, name)
    for output, value in wanted.items():
        assert np.sqrt(np.mean((got[output] - value) ** 2)) < 0.03 * np.std(value)


def test_the_program_says_what_the_output_is(tmp_path: Path) -> None:
    path, name = _model(tmp_path, "copy")
    write_program(_compiled(path), tmp_path / "m.cim")
    program = read_program(tmp_path / "m.cim")
    assert program.interface.outputs == (
        ModelValue("logits", Use.ROWS, "logits"),
        ModelValue(name, Use.SOURCE, name),
    )
    unnamed = (program.interface.outputs[1], ModelValue("y", Use.ROWS, "logits"))
    told = logits_of(replace(program, interface=replace(program.interface, outputs=unnamed)))
    assert told is not None and told.name == "y"
    assert {s.name: s.source for s in program.streams if s.name in ("logits", name)} == {
        "logits": False,
        name: True,
    }
    feeds = _feeds()
    np.testing.assert_allclose(
        Inference(program).run(feeds)[name], _wanted(path, feeds, name)[name], atol=1e-4
    )


def test_text_goes_on_beside_it(tmp_path: Path) -> None:
    path, _ = _model(tmp_path, "copy")
    feeds = {n: v[:1] for n, v in _feeds().items()}
    session = Session(_compiled(path))
    session.set_source(feeds["input_ids"][0])
    ids = feeds["decoder_input_ids"][0].tolist()
    got = np.concatenate([session.prefill(ids[:2]), *(session.step([i]) for i in ids[2:])])
    np.testing.assert_allclose(got, expected(path, feeds)["logits"][0, 1:], rtol=1e-4, atol=1e-4)


def test_what_the_host_makes_of_the_source_costs_once(tmp_path: Path) -> None:
    path, name = _model(tmp_path, "host")
    program = _compiled(path)
    (part,) = program.hosts
    assert part.outputs == (name,)
    step = tuple(replace(s, source=9) for s in segments_of(1, 4, program.limits.chunk))
    simulator, front = Simulator(program), source_segments_of(9, program.limits.chunk)
    first, later = (simulator.step(segments) for segments in ((*front, *step), step))
    assert with_hosts(program, step, later) == later
    cost = part_cost(part, 9, program.target, 0, 9)
    assert cost.cycles > 0
    assert with_hosts(program, (*front, *step), first).cycles == first.cycles + cost.cycles
    with pytest.raises(CimError, match="the host works on rows of the source"):
        Session(program)
