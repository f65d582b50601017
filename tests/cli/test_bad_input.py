"""Bad input of every kind: exit code 1, a diagnostic with code, place and help, and never a traceback."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import models
from isa.diagnostics import CODES
from isa.target_files import TARGETS
from models.make import make
from tests.cli.conftest import Cim, Result

Maker = Callable[[Path, Path, Path], list[object]]  # (folder, model, program) -> words of the command

TEN_MISTAKES = """\
.target tiny
.limits context=64 chunk=8
.role r
  .array a0 w weight i8[64,16]
  .port p0 x in
  li     r1, 5
  mvm    a300, [0], [64], r1, r0, 64
  frob   r1
  add    r1
  li     r99, 3
  vaddi  [2], [0], r1, 1, 1.0
  jump   nowhere
here:
  li     r1, 99999999999999999999
  recv   p9, [0], r1, 1, 0
  jump   here
  add    r1, r2 r3
  sys    r1, wrong
  halt
.end
"""
MISTAKES = {
    7: "E0103",
    8: "E0102",
    9: "E0104",
    10: "E0103",
    11: "E0103",
    12: "E0105",
    14: "E0103",
    15: "E0103",
}
MISTAKES |= {16: "E0107", 17: "E0101", 18: "E0104"}


def _refused(done: Result, *codes: str) -> None:
    """The command said what is wrong as it should."""
    assert done.code == 1, done.err
    assert "Traceback" not in done.err + done.out
    assert "internal error" not in done.err
    found = re.findall(r"^(.*?)error\[(E\d{4})\]: (.+)$", done.err, re.M)
    assert found, done.err
    for place, code, message in found:
        assert code in CODES
        assert place.rstrip(), f"no place: {message}"
    assert set(codes) <= {code for _, code, _ in found}
    assert "help: " in done.err


def _truncated(folder: Path, model: Path, program: Path) -> list[object]:
    path = folder / "truncated.onnx"
    path.write_bytes(model.read_bytes()[:100_000])
    return ["compile", path]


def _not_onnx(folder: Path, model: Path, program: Path) -> list[object]:
    path = folder / "text.onnx"
    path.write_text("this is a letter, not a model\n" * 50)
    return ["compile", path]


def _cnn(folder: Path, model: Path, program: Path) -> list[object]:
    """A small convolutional network, as an image classifier begins and ends."""
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], "conv1", kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("MaxPool", ["r1"], ["p1"], "pool1", kernel_shape=[2, 2]),
        helper.make_node("Flatten", ["p1"], ["f1"], "flatten"),
        helper.make_node("Gemm", ["f1", "w2"], ["scores"], "classifier"),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 10, 10])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 10])
    graph = helper.make_graph(
        nodes, "cnn", [image], [scores], [weight("w1", 8, 3, 3, 3), weight("w2", 128, 10)]
    )
    path = folder / "cnn.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return ["compile", path]


def _missing_data(folder: Path, model: Path, program: Path) -> list[object]:
    path = folder / "external.onnx"
    saved = make("gpt2-tiny", path, external=True)
    assert saved.data is not None
    saved.data.unlink()
    return ["compile", path]


def _mistakes(folder: Path, model: Path, program: Path) -> list[object]:
    path = folder / "mistakes.cimasm"
    path.write_text(TEN_MISTAKES)
    return ["asm", path, "-o", folder / "out.cim"]


def _other_isa(folder: Path, model: Path, program: Path) -> list[object]:
    """The program with another digest of the instruction table in its header."""
    data = program.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size])
    ours = json.loads(header["__metadata__"]["cim"])
    ours["isa"] = "0" * len(ours["isa"])
    header["__metadata__"]["cim"] = json.dumps(ours)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path = folder / "old.cim"
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])
    return ["dis", path]


def _negative_latency(folder: Path, model: Path, program: Path) -> list[object]:
    text = (TARGETS / "tiny.toml").read_text()
    path = folder / "negative.toml"
    changed = re.sub(r"^(mvm_latency = \{ value = )", r"\1-", text, count=1, flags=re.M)
    assert changed != text
    path.write_text(changed)
    return ["compile", model, "--target", path]


def _broken_target(folder: Path, model: Path, program: Path) -> list[object]:
    path = folder / "broken.toml"
    path.write_text("name = 'x'\n[macro\n")
    return ["targets", path]


def _not_a_program(folder: Path, model: Path, program: Path) -> list[object]:
    return ["verify", model]


def _cut_program(folder: Path, model: Path, program: Path) -> list[object]:
    path = folder / "cut.cim"
    path.write_bytes(program.read_bytes()[:-1000])
    return ["run", path, "--timing-only"]


def _missing_file(folder: Path, model: Path, program: Path) -> list[object]:
    return ["compile", folder / "nothing.onnx"]


def _folder(folder: Path, model: Path, program: Path) -> list[object]:
    return ["dis", folder]


def _too_long_a_context(folder: Path, model: Path, program: Path) -> list[object]:
    return ["compile", models.path(models.PYTINY), "--max-context", 10_000_000_000]


def _not_npz(folder: Path, model: Path, program: Path) -> list[object]:
    path = folder / "in.npz"
    path.write_text("1 2 3")
    return ["run", program, "--inputs", path]


def _wrong_input(folder: Path, model: Path, program: Path) -> list[object]:
    path = folder / "in.npz"
    np.savez(path, attention_mask=np.ones((1, 4)))
    return ["run", program, "--inputs", path]


def _beyond_the_context(folder: Path, model: Path, program: Path) -> list[object]:
    return ["run", program, "--timing-only", "--position", 1000]


def _not_statistics(folder: Path, model: Path, program: Path) -> list[object]:
    path = folder / "s.json"
    path.write_text('{"cycles": "many"}')
    return ["report", path]


CASES: dict[Maker, str] = {
    _truncated: "E0201",
    _not_onnx: "E0201",
    _cnn: "E0203",
    _missing_data: "E0202",
    _negative_latency: "E0502",
    _broken_target: "E0502",
    _other_isa: "E0111",
    _not_a_program: "E0110",
    _cut_program: "E0110",
    _missing_file: "E0001",
    _folder: "E0001",
    _too_long_a_context: "E0309",
    _not_npz: "E0601",
    _wrong_input: "E0601",
    _beyond_the_context: "E0602",
    _not_statistics: "E0605",
}


@pytest.mark.parametrize(("maker", "code"), CASES.items(), ids=[maker.__name__.strip("_") for maker in CASES])
def test_bad_input_is_explained(
    cim: Cim, model: Path, program: Path, tmp_path: Path, maker: Maker, code: str
) -> None:
    _refused(cim(*maker(tmp_path, model, program)), code)


def test_every_mistake_of_a_text_is_found_in_one_go(
    cim: Cim, model: Path, program: Path, tmp_path: Path
) -> None:
    words = _mistakes(tmp_path, model, program)
    done = cim(*words)
    _refused(done)
    found = {int(line): code for line, code in re.findall(r"cimasm:(\d+):\d+: error\[(E\d+)\]", done.err)}
    assert found == MISTAKES
    assert done.err.count("^") >= len(MISTAKES)
    assert not (tmp_path / "out.cim").exists()


def test_bad_input_as_json(cim: Cim, model: Path, program: Path, tmp_path: Path) -> None:
    done = cim(*_mistakes(tmp_path, model, program), "--json")
    assert [d["code"] for d in done.data["diagnostics"]] == list(MISTAKES.values())
    assert all(d["help"] and d["place"] for d in done.data["diagnostics"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("explain", "E9999"), "E0002"),
        (("isa", "mvmm"), "E0102"),
        (("targets", "nowhere"), "E0501"),
        (("compile", "x.onnx", "--print-after", "nowhere"), "E0004"),
    ],
)
def test_unknown_names_are_answered_with_known_ones(cim: Cim, words: tuple[str, ...], said: str) -> None:
    done = cim(*words)
    assert done.code == 1
    assert f"error[{said}]" in done.err
    assert "help: " in done.err
