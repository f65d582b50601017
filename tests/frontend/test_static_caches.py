"""Caches that the file keeps in buffers of a fixed size: the same model as with caches that grow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from compiler.ir.evaluate import run
from compiler.ir.graph import Attention
from isa.diagnostics import CimError
from tests.frontend.oracle import compiled
from tests.frontend.sketch import WIDTH, Sketch, heads_of, joined

PLACES, HEADS, DEPTH = 12, 2, 8


def static_model(path: Path, flat: bool, mode: str = "linear") -> Path:
    s = Sketch(opset=24)
    x = s.ids()
    where = s.input("write_indices", TensorProto.INT64, "batch")
    count = s.input("nonpad_kv_seqlen", TensorProto.INT64, "batch")
    dims = (PLACES, WIDTH) if flat else (HEADS, PLACES, DEPTH)
    buffers = [s.input(f"{n}_cache.0", TensorProto.FLOAT, "batch", *dims) for n in ("key", "value")]
    q, *new = (s.op("MatMul", x, s.weight(WIDTH, WIDTH)) for _ in range(3))
    if not flat:
        q, *new = (heads_of(s, r, HEADS) for r in (q, *new))
    names = {"q_num_heads": HEADS, "kv_num_heads": HEADS} if flat else {}
    kept = [
        s.op("TensorScatter", b, n, where, axis=1 if flat else 2, mode=mode)
        for b, n in zip(buffers, new, strict=True)
    ]
    s.outputs += kept
    out = s.op("Attention", q, *kept, "", "", "", count, is_causal=1, **names)
    return s.save(path / "model.onnx", out if flat else joined(s, out))


@pytest.mark.parametrize("flat", [False, True])
def test_buffers_grow(flat: bool, tmp_path: Path) -> None:
    path = static_model(tmp_path, flat)
    graph = compiled(path)
    (op,) = [n.op for n in graph.nodes if isinstance(n.op, Attention)]
    assert op == Attention(HEADS, HEADS, DEPTH, DEPTH, op.scale, True, cache=0)  # type: ignore[union-attr]
    (cache,) = graph.caches
    assert (cache.past_key, cache.past_value, cache.flat) == ("key_cache.0", "value_cache.0", flat)
    model, random = onnx.load(str(path)), np.random.default_rng(3)
    for past, new in ((0, 5), (4, 3), (7, 1)):
        shape = (1, PLACES, WIDTH) if flat else (1, HEADS, PLACES, DEPTH)
        buffers = {f"{n}_cache.0": random.standard_normal(shape).astype(np.float32) for n in ("key", "value")}
        ids = {"input_ids": random.integers(0, 30, (1, new))}
        counts = {"write_indices": np.array([past]), "nonpad_kv_seqlen": np.array([past + new])}
        wanted = ReferenceEvaluator(model).run(None, {**ids, **counts, **buffers})
        tokens = {n: b[..., :past, :] for n, b in buffers.items()}
        got = run(graph, {**ids, **tokens})
        np.testing.assert_allclose(got["logits"], wanted[0], rtol=1e-4, atol=1e-5)
        for name, kept in zip((cache.present_key, cache.present_value), wanted[1:], strict=True):
            np.testing.assert_allclose(got[name], kept[..., : past + new, :], rtol=1e-5, atol=1e-6)


def test_a_ring_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CimError, match="overwritten"):
        compiled(static_model(tmp_path, flat=False, mode="circular"))
