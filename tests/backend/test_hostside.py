"""Decoders with parts on the host: step by step the same as ONNX Runtime on the whole sequence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compiler.driver import compile_model
from compiler.frontend.submodel import ModelFile
from compiler.pipeline import CompileOptions
from isa.diagnostics import CimError
from isa.hardware import load_target
from isa.program import Program, Segment
from runtime.hostwork import Work, cost_of, part_cost, with_hosts
from runtime.session import Session
from tests.backend.vision import norm, reference
from tests.frontend.sketch import WIDTH, Sketch, causal, joined, projections

VOCABULARY = 32
IDS = [3, 1, 4, 1, 5, 9, 2]


def _decoder(s: Sketch, x: str) -> str:
    """A layer of causal attention on rows, and logits."""
    q, k, v = projections(s, norm(s, x), 2)
    scores = s.op("Mul", s.op("MatMul", q, s.op("Transpose", k, perm=[0, 1, 3, 2])), 0.3535)
    masked = s.op("Where", causal(s, x), scores, np.float32(-np.inf))
    context = joined(s, s.op("MatMul", s.op("Softmax", masked, axis=-1), v))
    x = s.op("Add", x, s.op("MatMul", context, s.weight(WIDTH, WIDTH)))
    return s.op("MatMul", norm(s, x), s.weight(WIDTH, VOCABULARY))


def _compiled(path: Path) -> Program:
    options = CompileOptions(max_context=16, weights="float32")
    return compile_model(path, options, load_target("tiny")).require_program()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Elements of the embedding, and of the logits, go through a function that the chip does not have."""
    s = Sketch()
    logits = _decoder(s, s.op("HardSwish", s.ids()))
    return s.save(tmp_path_factory.mktemp("d") / "m.onnx", s.op("Softsign", logits))


@pytest.fixture(scope="module")
def program(path: Path) -> Program:
    return _compiled(path)


def test_tokens_go_through_host_chip_and_host(path: Path, program: Program) -> None:
    assert [part.name for part in program.hosts] == ["front", "back"]
    session = Session(program)
    assert session.vocabulary == VOCABULARY
    wanted = reference(path, {"input_ids": np.array([IDS])})[0]
    np.testing.assert_allclose(session.score(IDS), wanted, rtol=1e-4, atol=1e-5)
    last = session.prefill(IDS[:3])
    np.testing.assert_allclose(last[0], wanted[2], rtol=1e-4, atol=1e-5)
    for at in range(3, len(IDS)):
        np.testing.assert_allclose(session.step([IDS[at]])[0], wanted[at], rtol=1e-4, atol=1e-5)


def test_generation_and_shared_steps(program: Program) -> None:
    session = Session(program)
    made = session.generate(IDS[:2], 4)
    assert made.tokens == Session(program).generate(IDS[:2], 4).tokens
    rows = Session(program).run([Segment(2, 0, 0), Segment(1, 2, 1)], IDS[:3])
    np.testing.assert_array_equal(rows, Session(program).prefill(IDS[:3]))


def test_behind_the_chip_only_rows_asked_for_cost(program: Program) -> None:
    chip = cost_of([Work("x", 0, 0)], program.target)
    front, back = (part_cost(part, 3, program.target).cycles for part in program.hosts)
    silent = with_hosts(program, [Segment(3, 0, 0)], chip)
    asked = with_hosts(program, [Segment(3, 0, 3)], chip)
    assert silent.cycles == chip.cycles + front
    assert asked.cycles == silent.cycles + back
    shared = with_hosts(program, [Segment(3, 0, 0), Segment(3, 0, 0, 1)], chip)
    assert shared.cycles == chip.cycles + 2 * front


def test_what_needs_the_whole_sequence_is_no_decoder(tmp_path: Path) -> None:
    s = Sketch()
    summed = s.op("CumSum", _decoder(s, s.ids()), np.int64(1))
    with pytest.raises(CimError, match="depends on the whole sequence"):
        Session(_compiled(s.save(tmp_path / "m.onnx", summed)))


def test_of_caches_a_part_may_only_read_the_shape(tmp_path: Path) -> None:
    s = Sketch()
    past = s.input("past_key_values.0.key", 1, "batch", 2, "past", 8)
    shape = s.op("Shape", past)
    file = ModelFile(s.save(tmp_path / "m.onnx", s.op("Cast", shape, to=1)))
    sources = [node.name for node in file.nodes]
    assert file.reads_shape_only(past, sources)
    s = Sketch()
    s.input("past_key_values.0.key", 1, "batch", 2, "past", 8)
    file = ModelFile(s.save(tmp_path / "n.onnx", s.op("Neg", past)))
    assert not file.reads_shape_only(past, [node.name for node in file.nodes])
