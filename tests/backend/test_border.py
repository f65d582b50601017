"""What the compiler keeps of the border of a file: roles of inputs, lengths that it fixes, inputs that nobody reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from compiler.driver import compile_model
from compiler.frontend.importer import import_file
from compiler.ir.graph import Role
from compiler.pipeline import CompileOptions
from isa.hardware import load_target
from isa.interface import Use
from isa.program import Program
from runtime.inference import Inference
from tests.backend.vision import images, reference, write_vision
from tests.frontend.sketch import WIDTH, Sketch, causal, heads_of, joined


def _layer(s: Sketch, x: str, rows: str, seen: str = "") -> str:
    """Attention of rows `x` to `rows`."""
    q = heads_of(s, s.op("MatMul", x, s.weight(WIDTH, WIDTH)), 2)
    k, v = (heads_of(s, s.op("MatMul", rows, s.weight(WIDTH, WIDTH)), 2) for _ in range(2))
    scores = s.op("Mul", s.op("MatMul", q, s.op("Transpose", k, perm=[0, 1, 3, 2])), 0.3535)
    if seen:
        scores = s.op("Where", seen, scores, np.float32(-np.inf))
    context = joined(s, s.op("MatMul", s.op("Softmax", scores, axis=-1), v))
    return s.op("Add", x, s.op("MatMul", context, s.weight(WIDTH, WIDTH)))


def _compiled(path: Path, **options: int) -> Program:
    chosen = CompileOptions(weights="float32", **options)  # type: ignore[arg-type]
    return compile_model(path, chosen, load_target("tiny")).require_program()


def _fixed(path: Path) -> Path:
    """Seven tokens, a source of eleven rows."""
    s = Sketch()
    x = s.input("embedded", TensorProto.FLOAT, "batch", 7, WIDTH)
    source = s.input("encoder_hidden_states", TensorProto.FLOAT, "batch", 11, WIDTH)
    return s.save(path / "m.onnx", _layer(s, _layer(s, x, x, causal(s, x)), source))


def test_lengths_that_the_file_fixes_are_taken(tmp_path: Path) -> None:
    limits = _compiled(_fixed(tmp_path)).limits
    assert (limits.max_context, limits.max_source) == (7, 11)


def test_options_count_more_than_the_file(tmp_path: Path) -> None:
    limits = _compiled(_fixed(tmp_path), max_context=9, max_source=12).limits
    assert (limits.max_context, limits.max_source) == (9, 12)


def test_free_lengths_are_left_to_the_defaults(tmp_path: Path) -> None:
    s = Sketch()
    x = s.ids()
    path = s.save(tmp_path / "m.onnx", _layer(s, x, x, causal(s, x)))
    assert _compiled(path).limits.max_context == 512


def test_an_input_that_no_node_reads_asks_for_nothing(tmp_path: Path) -> None:
    s = Sketch()
    x = s.ids()
    s.input("attention_mask", TensorProto.INT64, "batch", "sequence")
    s.input("position_ids", TensorProto.INT64, "batch", "sequence")
    path = s.save(tmp_path / "m.onnx", _layer(s, x, x, causal(s, x)))
    border = import_file(path)[1]
    assert border.unused == {"attention_mask", "position_ids"}
    assert [i.role for i in border.inputs] == [Role.IDS, Role.MASK, Role.POSITIONS]
    program = _compiled(path, max_context=8)
    assert [v.use for v in program.interface.inputs] == [Use.IDS, Use.OTHER, Use.OTHER]
    ids = np.array([[3, 1, 2]])
    plain = Inference(program).run({"input_ids": ids})
    odd = {"attention_mask": np.array([[1, 0, 1]]), "position_ids": np.array([[7, 7, 7]])}
    np.testing.assert_array_equal(
        Inference(program).run({"input_ids": ids, **odd})["logits"], plain["logits"]
    )


@pytest.mark.parametrize("batch", [1, 2])
def test_inputs_of_host_parts_carry_no_stream(tmp_path: Path, batch: int) -> None:
    path = write_vision(tmp_path / "m.onnx")
    program = _compiled(path)
    (value,) = program.interface.inputs
    assert (value.name, value.stream) == ("pixels", "")
    assert [v.name for v in program.interface.outputs] == ["logits"]
    got = Inference(program).run(images(batch))
    np.testing.assert_allclose(got["logits"], reference(path, images(batch)), rtol=1e-4, atol=1e-5)
