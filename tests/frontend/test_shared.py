"""Files that real exporters wrote: those that compile, compute what ONNX Runtime computes."""

from __future__ import annotations

import pytest

from compiler.ir.evaluate import run
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
