"""The split of the training text, and the conversion of a checkpoint."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from models.configs import CONFIGS, LlamaConfig
from models.corpus import SEPARATOR, SourceFile, excerpt, is_held_out, join, library_files
from models.evaluate import OnnxDecoder
from models.export import main
from models.graph import Parameter
from models.llama import build
from models.weights import RandomWeights


def test_the_split_is_by_path_and_stable() -> None:
    assert is_held_out("operator.py")
    assert is_held_out("multiprocessing/util.py")
    assert not is_held_out("argparse.py")
    share = sum(is_held_out(f"package/module{i}.py") for i in range(10_000)) / 10_000
    assert 0.04 < share < 0.06


def test_tests_tables_and_build_records_are_left_out(tmp_path: Path) -> None:
    kept = ("a.py", "pkg/b.py")
    dropped = ("test/c.py", "pkg/tests/d.py", "encodings/e.py", "_sysconfigdata_x.py", "site-packages/f.py")
    for name in (*kept, *dropped):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("x = 1\n")
    (tmp_path / "latin.py").write_bytes(b"# \xe9\n")
    assert tuple(f.path for f in library_files(tmp_path)) == kept


def test_this_library_has_both_parts() -> None:
    files = library_files()
    assert len([f for f in files if not f.held_out]) > 300
    assert any(f.held_out for f in files)
    assert not any(SEPARATOR in f.text for f in files)


def test_excerpt_takes_whole_lines_of_held_out_files_only() -> None:
    files = [SourceFile("argparse.py", b"train\n"), SourceFile("operator.py", b"one\ntwo\nthree\n")]
    assert excerpt(files, 9) == b"one\ntwo\n"
    assert excerpt(files, 100) == b"one\ntwo\nthree\n"
    assert join(files) == b"\0train\n\0one\ntwo\nthree\n"


def checkpoint(path: Path) -> dict[str, np.ndarray]:
    """A random llama-tiny as `models.train` would write it."""
    config = CONFIGS["llama-tiny"]
    assert isinstance(config, LlamaConfig)
    tensors = {}
    for p in build(config, with_cache=False).parameters:
        value = RandomWeights(9).value(p)
        tensors[p.source] = value.T if p.transposed else value
    record = json.dumps({"config": asdict(config), "steps": 7}).encode()
    np.savez(path, record=np.frombuffer(record, np.uint8), **tensors)  # type: ignore[arg-type]
    return tensors


def test_export_keeps_the_weights(tmp_path: Path) -> None:
    tensors = checkpoint(tmp_path / "c.npz")
    assert main([str(tmp_path / "c.npz"), "-o", str(tmp_path / "m.onnx"), "--no-cache"]) == 0
    decoder = OnnxDecoder.load(tmp_path / "m.onnx", 1)
    facts = decoder.session.get_modelmeta().custom_metadata_map
    assert facts["cim.train.steps"] == "7"
    logits, _ = decoder.step(np.array([[1]]), {})
    last = RandomWeights(9).value(Parameter("w", (64, 256), "lm_head.weight", transposed=True))
    np.testing.assert_array_equal(tensors["lm_head.weight"].T, last)
    assert logits.shape == (1, 1, 256)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_export_refuses_other_files(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.npz").write_bytes(content)
    assert main([str(tmp_path / "c.npz"), "-o", str(tmp_path / "m.onnx")]) == 1
    assert "cannot export" in capsys.readouterr().err
    assert not (tmp_path / "m.onnx").exists()
