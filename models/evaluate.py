"""Measure a byte-level decoder with ONNX Runtime: bits a byte, and a sample of what it writes.

    python -m models.evaluate                               the shipped model on the shipped text
    python -m models.evaluate --library                     on all held-out files of this CPython
    python -m models.evaluate --prompt "def main(" --tokens 200 --temperature 0.7

Any ONNX decoder with a vocabulary of 256 bytes will do, with cache inputs or without.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

import models
from models.corpus import join, library_files
from models.text import VOCAB, decode, encode

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]
Cache = dict[str, Floats]

BATCH = 8
"""Windows evaluated together."""


@dataclass(slots=True)
class OnnxDecoder:
    """A decoder run by ONNX Runtime, with or without cache inputs."""

    session: onnxruntime.InferenceSession

    @classmethod
    def load(cls, path: Path, threads: int = 2) -> OnnxDecoder:
        """Open a model file; `threads` inside an operator. ValueError if that fails."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            return cls(onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]))
        except Exception as error:  # its classes are made in C++ and share no other base
            raise ValueError(f"ONNX Runtime cannot load {path}: {error}") from error

    @property
    def vocab(self) -> int | str | None:
        """Last size of the logits."""
        size: int | str | None = self.session.get_outputs()[0].shape[-1]
        return size

    def empty_cache(self, batch: int) -> Cache:
        """Past of length zero for every cache input (none for a model without)."""
        inputs = {i.name: i.shape for i in self.session.get_inputs()}
        return {
            name: np.zeros((batch, shape[1], 0, shape[3]), np.float32)
            for name, shape in inputs.items()
            if name.startswith("past_key_values.")
        }

    def step(self, ids: Ids, cache: Cache) -> tuple[Floats, Cache]:
        """Logits [B, S, vocab] of new tokens [B, S] after those in the cache, and the grown cache."""
        past = next(iter(cache.values())).shape[2] if cache else 0
        positions = np.broadcast_to(np.arange(past, past + ids.shape[1], dtype=np.int64), ids.shape)
        feeds: dict[str, NDArray[np.generic]] = {
            "input_ids": ids,
            "attention_mask": np.ones((ids.shape[0], past + ids.shape[1]), np.int64),
            "position_ids": positions,
            **cache,
        }
        names = [output.name for output in self.session.get_outputs()]
        results = dict(zip(names, self.session.run(names, feeds), strict=True))
        logits: Floats = results.pop("logits")
        return logits, {name.replace("present", "past_key_values"): x for name, x in results.items()}


def log_softmax(logits: Floats) -> Floats:
    """Natural logarithms of the probabilities, over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def bits_per_byte(decoder: OnnxDecoder, text: bytes, context: int, limit: int | None = None) -> float:
    """Mean bits a byte over non-overlapping windows of `context` bytes (at most `limit` of them).

    Each window is predicted from itself alone. ValueError for a text shorter than one window.
    """
    stream = np.frombuffer(text, np.uint8).astype(np.int64)
    count = (len(stream) - 1) // context
    count = count if limit is None else min(count, limit)
    if count < 1:
        raise ValueError(f"{len(stream)} bytes of text are less than one window of {context} + 1")
    total = 0.0
    for first in range(0, count, BATCH):
        rows = range(first, min(first + BATCH, count))
        ids = np.stack([stream[i * context : (i + 1) * context + 1] for i in rows])
        logits, _ = decoder.step(ids[:, :-1], decoder.empty_cache(len(rows)))
        picked = np.take_along_axis(log_softmax(logits), ids[:, 1:, None], axis=-1)
        total -= float(picked.sum(dtype=np.float64))
    return total / (count * context * math.log(2))


def generate(decoder: OnnxDecoder, prompt: str, tokens: int, temperature: float, seed: int) -> str:
    """Continue `prompt` by `tokens` bytes; temperature 0 takes the likeliest byte each time."""
    rng = np.random.default_rng(seed)
    ids = encode(prompt)
    new, cache = np.array([ids], np.int64), decoder.empty_cache(1)
    for _ in range(tokens):
        given = new if cache else np.array([ids], np.int64)
        logits, cache = decoder.step(given, cache)
        last = logits[0, -1]
        if temperature > 0:
            chosen = int(np.argmax(last / temperature + rng.gumbel(size=last.shape)))
        else:
            chosen = int(np.argmax(last))
        ids.append(chosen)
        new = np.array([[chosen]], np.int64)
    return decode(ids)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; exit status 0, 1 (the model or the text is wrong) or 2 (usage)."""
    options = _parser().parse_args(arguments)
    try:
        model = options.model or models.path(models.PYTINY)
        decoder = OnnxDecoder.load(model)
        if decoder.vocab != VOCAB:
            raise ValueError(f"its vocabulary has {decoder.vocab} entries, not {VOCAB} bytes")
        if options.prompt is not None:
            print(generate(decoder, options.prompt, options.tokens, options.temperature, options.seed))
            return 0
        text, origin = _text(options)
        bits = bits_per_byte(decoder, text, options.context)
    except (OSError, ValueError) as error:
        print(f"error: cannot evaluate: {error}", file=sys.stderr)
        return 1
    print(f"{model.name}: {bits:.4f} bits/byte on {origin} ({len(text):,} bytes, context {options.context})")
    return 0


def _text(options: argparse.Namespace) -> tuple[bytes, str]:
    """The text to measure on, and what to call it."""
    if options.library:
        files = [f for f in library_files() if f.held_out]
        return join(files), f"{len(files)} held-out library files"
    path: Path = options.text or models.path(models.HELD_OUT)
    return path.read_bytes(), path.name


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.evaluate", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("model", type=Path, nargs="?", help="default: the shipped model")
    parser.add_argument("--text", type=Path, help="file to measure on (default: the shipped held-out text)")
    parser.add_argument("--library", action="store_true", help="measure on this CPython's held-out files")
    parser.add_argument("--context", type=int, default=512, help="bytes a window (default 512)")
    parser.add_argument("--prompt", help="write a continuation of this text instead of measuring")
    parser.add_argument("--tokens", type=int, default=200, help="bytes to write (default 200)")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy (default)")
    parser.add_argument("--seed", type=int, default=0, help="of the sampling (default 0)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
