"""Inputs for an export, by their names alone, and what ONNX Runtime makes of them.

No padding, any token, loud caches. Nothing here asks our own front end what an input means.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from tests.exports.families import WORDS

Feeds = dict[str, NDArray[np.generic]]

BATCH, TOKENS, PAST, SOURCE = 2, 4, 3, 6
IMAGE = (3, 32, 32)
"""Channels, height and width: an exporter may leave all of them open."""

_DTYPES = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(float)": np.float32,
}


def session(path: Path) -> onnxruntime.InferenceSession:
    """ONNX Runtime on a file, on one thread."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def random_feeds(
    model: Path, runner: onnxruntime.InferenceSession, seed: int = 5, batch: int = BATCH
) -> Feeds:
    """A value for each input of a file."""
    generator = np.random.default_rng(seed)
    inputs = runner.get_inputs()
    names = [given.name for given in inputs]
    sizes = {
        "batch": batch,
        "new": TOKENS,
        "past": PAST if any("past" in name for name in names) else 0,
        "source": SOURCE,
        "in": SOURCE if "decoder_input_ids" in names else TOKENS,
    } | _settings(model)
    return {given.name: _feed(given, sizes, generator) for given in inputs}


def _settings(model: Path) -> dict[str, int]:
    """The builder of onnxruntime-genai leaves the size of heads open in the graph and writes it to a file."""
    path = model.parent / "genai_config.json"
    if not path.is_file():
        return {}
    return {"head": json.loads(path.read_text())["model"]["decoder"]["head_size"]}


def _feed(
    given: onnxruntime.NodeArg, sizes: Mapping[str, int], generator: np.random.Generator
) -> NDArray[np.generic]:
    wanted = zip(given.shape, _shape(given.name, sizes), strict=True)
    shape = tuple(extent if isinstance(extent, int) else size for extent, size in wanted)
    dtype = _DTYPES[given.type]
    if given.name.endswith("input_ids"):
        return generator.integers(3, WORDS, shape).astype(dtype)
    if given.name == "position_ids":
        positions = np.arange(sizes["past"], sizes["past"] + shape[1])
        return np.broadcast_to(positions, shape).astype(dtype)
    if given.name == "token_type_ids":
        return generator.integers(0, 2, shape).astype(dtype)
    if dtype is np.float32:
        return (generator.standard_normal(shape) * 0.7).astype(dtype)
    return np.ones(shape, dtype)  # masks, and the switch of a merged decoder


def _shape(name: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """What the axes of an input are, where the file leaves them open. Raises LookupError for an unknown input."""
    batch, tokens, past, source = (sizes[n] for n in ("batch", "new", "past", "source"))
    if name.startswith("past"):
        crossed = ".encoder." in name or "_cross_" in name
        return (batch, 0, source if crossed else past, sizes.get("head", 0))
    shapes = {
        "input_ids": (batch, sizes["in"]),
        "decoder_input_ids": (batch, tokens),
        "attention_mask": (batch, past + sizes["in"]),
        "encoder_attention_mask": (batch, source),
        "encoder_hidden_states": (batch, source, 0),
        "position_ids": (batch, tokens),
        "token_type_ids": (batch, tokens),
        "pixel_values": (batch, *IMAGE),
        "input_features": (batch, 0, 0),
        "audio_features": (batch, 0, 0),
        "use_cache_branch": (1,),
    }
    return shapes[name]


def write_reference(model: Path) -> Path:
    """Inputs and ONNX Runtime's outputs, beside the model as `benchmarks.references` reads them.

    With one sequence where ONNX Runtime does not take two: GroupQueryAttention with a past and several new tokens,
    and RotaryEmbedding with angles that are the same for all sequences.
    """
    runner = session(model)
    names = [output.name for output in runner.get_outputs()]
    feeds = random_feeds(model, runner)
    try:
        made = runner.run(names, feeds)
    except InvalidArgument:
        feeds = random_feeds(model, runner, batch=1)
        made = runner.run(names, feeds)
    arrays = {f"in:{name}": value for name, value in feeds.items()}
    arrays |= {f"out:{name}": np.asarray(value) for name, value in zip(names, made, strict=True)}
    path = model.with_suffix(".io.npz")
    np.savez(path, allow_pickle=False, **arrays)
    return path
