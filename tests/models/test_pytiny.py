"""The model that ships: small, intact, measured, and writing Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import models
from models.evaluate import OnnxDecoder, bits_per_byte, generate, main
from models.text import decode, encode

BOUND_BITS_PER_BYTE = 1.27
"""Just above what is measured on the sample below: 1.2610."""

WINDOW = 512
"""Bytes; the context that the model was trained with."""


@pytest.fixture(scope="module")
def pytiny() -> OnnxDecoder:
    return OnnxDecoder.load(models.path(models.PYTINY), 1)


@pytest.fixture(scope="module")
def held_out() -> bytes:
    return models.path(models.HELD_OUT).read_bytes()


def test_sizes(held_out: bytes) -> None:
    assert models.path(models.PYTINY).stat().st_size <= 10_000_000
    assert 60_000 <= len(held_out) <= 120_000
    assert b"\0" not in held_out


def test_bits_per_byte(pytiny: OnnxDecoder, held_out: bytes) -> None:
    starts = range(0, len(held_out) - WINDOW, 8 * WINDOW)
    sample = b"".join(held_out[i : i + WINDOW] for i in starts)
    assert bits_per_byte(pytiny, sample, WINDOW) <= BOUND_BITS_PER_BYTE


def test_longer_context_helps(pytiny: OnnxDecoder, held_out: bytes) -> None:
    assert bits_per_byte(pytiny, held_out, WINDOW, 8) < bits_per_byte(pytiny, held_out, 32, 8 * 16)


def test_token_by_token_equals_all_at_once(pytiny: OnnxDecoder, held_out: bytes) -> None:
    tokens = np.frombuffer(held_out[:48], np.uint8).astype(np.int64)[None]
    whole, _ = pytiny.step(tokens, pytiny.empty_cache(1))
    cache, parts = pytiny.empty_cache(1), []
    for i in range(tokens.shape[1]):
        logits, cache = pytiny.step(tokens[:, i : i + 1], cache)
        parts.append(logits)
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, atol=1e-4)


@pytest.mark.parametrize(
    ("text", "following"),
    [
        ("class Parser:\n    def __init__(sel", "f"),
        ("import os\nimport sy", "s"),
        ("    if x is None:\n        retur", "n"),
        ("def main()", ":"),
        ("try:\n    pass\nexcep", "t"),
    ],
)
def test_it_knows_python(text: str, following: str, pytiny: OnnxDecoder) -> None:
    logits, _ = pytiny.step(np.array([encode(text)]), pytiny.empty_cache(1))
    assert decode([int(logits[0, -1].argmax())]) == following


def test_it_writes_python(pytiny: OnnxDecoder) -> None:
    text = "".join(generate(pytiny, "class Parser:\n    def ", 120, 0.6, seed) for seed in range(3))
    assert text.count("(self") >= 3
    assert "\n        " in text


def test_sampling_follows_the_seed(pytiny: OnnxDecoder) -> None:
    a, b, c = (generate(pytiny, "def ", 40, 0.8, seed) for seed in (1, 1, 2))
    assert a == b != c


def test_text_round_trip() -> None:
    text = "naïve = 'λ'\n"
    assert decode(encode(text)) == text
    assert decode([0xCE]) == "�"
    assert max(encode(text)) < 256


def test_an_unknown_file_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.onnx does not ship"):
        models.path("nothing.onnx")


@pytest.mark.parametrize(
    ("text", "message"), [("short", "less than one window"), (None, "No such file or directory")]
)
def test_bad_text_is_exit_1(
    text: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.txt"
    if text is not None:
        path.write_text(text)
    assert main(["--text", str(path)]) == 1
    assert message in capsys.readouterr().err
