"""Files that real exporters wrote: those that compile, compute what ONNX Runtime computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from compiler.ir.evaluate import KvCache, evaluate, run
from compiler.ir.graph import Role
from compiler.ir.tensor import Array
from isa.diagnostics import CimError
from tests.frontend.oracle import SHARED, compiled, difference, expected, feeds_for, raw

pytestmark = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"the collected ONNX files are not at {SHARED} (set CIM_SHARED)"
)

DECODERS = [
    *[
        f"gen_optimum__{n}_model"
        for n in ("gpt2_nopast", "gpt2_past", "llama3rope_past", "llama_nopast", "llama_past")
    ],
    *[f"gen_optimum__{n}_past_model" for n in ("opt", "qwen2", "qwen3")],
    *[f"gen_dynamo__{n}" for n in ("gemma2_op18", "gemma2_op23", "gpt2_op18", "gpt2_op23", "gpt2_op24")],
    *[f"gen_dynamo__llama_op{v}" for v in (18, 23, 24)],
    *[
        f"gen_dynamo__{n}"
        for n in ("opt_op18", "opt_op24", "qwen2_op18", "qwen2_op24", "qwen3_op18", "qwen3_op23")
    ],
    *[
        f"gen_dynamokv__{n}"
        for n in ("gpt2_past_op23", "gpt2_past_op24", "llama_past_op18", "llama_past_op23")
    ],
    *[
        f"gen_dynamokv__{n}"
        for n in ("opt_past_op18", "opt_past_op23", "qwen2_past_op18", "qwen2_past_op23", "qwen2_past_op24")
    ],
    "gen_ts__opt_op14",
]
ENCODERS = [
    "gen_optimum__bert_nopast_model",
    "gen_dynamo__bert_op18",
    "gen_dynamo__bert_op23",
    "gen_dynamo__bert_op24",
]


@pytest.mark.parametrize("name", [*DECODERS, *ENCODERS])
def test_files_of_exporters(name: str) -> None:
    path = SHARED / f"{name}.onnx"
    graph = compiled(path)
    assert bool(graph.caches) is (name in DECODERS)
    feeds = feeds_for(raw(path), sequence=4, past=3)
    assert difference(run(graph, feeds), expected(path, feeds)) < 5e-6


STEPWISE = {
    "gen_optimum__t5_past_decoder_model_merged": "gen_optimum__t5_past_decoder_model",
    "gen_optimum__t5_past_decoder_model": "gen_optimum__t5_past_decoder_model",
    "gen_optimum__whisper_past_decoder_model": "gen_optimum__whisper_past_decoder_model",
}
"""Decoders with an encoder, and the file that computes the same from scratch."""


@pytest.mark.parametrize("name", STEPWISE)
def test_decoders_with_a_source_run_token_by_token(name: str) -> None:
    """Keys and values of the source are written by the first step and only read afterwards."""
    graph = compiled(SHARED / f"{name}.onnx")
    (source,) = [i for i in graph.inputs if i.role is Role.SOURCE]
    width = (source.value.shape or (0,))[-1]
    random = np.random.default_rng(5)
    rows = random.standard_normal((6, int(str(width)))).astype(np.float32)
    ids = random.integers(0, 60, 16)
    cache = KvCache.empty(graph)
    made = [evaluate(graph, ids[:3], cache=cache, rows={source.name: rows})]
    made += [evaluate(graph, ids[at : at + 1], cache=cache) for at in range(3, 16)]
    path = SHARED / f"{STEPWISE[name]}.onnx"
    feeds: dict[str, Array] = {
        "input_ids": ids[None],
        source.name: rows[None],
        "encoder_attention_mask": np.ones((1, 6), np.int64),
    }
    inputs = {i.name for i in raw(path).inputs}
    wanted = expected(path, {n: f for n, f in feeds.items() if n in inputs})["logits"][0]
    np.testing.assert_allclose(np.concatenate(made), wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    assert [k.shape[2] for k, cross in zip(cache.keys, cache.cross, strict=True) if cross] == [6, 6]


def test_branches_that_are_not_one_model_are_refused(tmp_path: Path) -> None:
    model = onnx.load(str(SHARED / "gen_optimum__t5_past_decoder_model_merged.onnx"))
    (switch,) = [n for n in model.graph.node if n.op_type == "If"]
    past = next(a.g for a in switch.attribute if a.name == "then_branch")
    relu = next(n for n in past.node if n.op_type == "Tanh")
    relu.op_type = "Sigmoid"
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CimError, match="use_cache_branch"):
        compiled(path)
