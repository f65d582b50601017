"""Every pass leaves the meaning of the graph as it was, and it is what ONNX Runtime computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compiler.ir.evaluate import KvCache, evaluate, run
from compiler.ir.graph import Attention, Role
from compiler.ir.graph_verify import verify_graph
from tests.frontend.oracle import (
    CACHED,
    SMALL,
    compiled,
    difference,
    expected,
    feeds_for,
    graphs_of,
    raw,
    session,
    write_small,
)

STYLES = [*[(n, True) for n in CACHED], *[(n, False) for n in CACHED], ("bert", False)]


@pytest.mark.parametrize(("name", "with_cache"), STYLES)
def test_every_pass_keeps_the_meaning(name: str, with_cache: bool, tmp_path: Path) -> None:
    path = write_small(name, tmp_path / "model.onnx", with_cache=with_cache)
    first = raw(path)
    feeds = feeds_for(first, sequence=4, past=3)
    wanted = expected(path, feeds)
    for step, graph in graphs_of(path):
        verify_graph(graph)
        assert difference(run(graph, feeds), wanted) < 5e-6, f"after {step}"


@pytest.mark.parametrize("name", CACHED)
def test_several_sequences_before_the_rows_are_flattened(name: str, tmp_path: Path) -> None:
    path = write_small(name, tmp_path / "model.onnx")
    feeds = feeds_for(raw(path), sequence=3, past=2, batch=2)
    wanted = expected(path, feeds)
    for step, graph in graphs_of(path):
        if step == "flatten-rows":
            break
        assert difference(run(graph, feeds), wanted) < 5e-6, f"after {step}"


@pytest.mark.parametrize("name", CACHED)
def test_with_and_without_cache_inputs_is_the_same_model(name: str, tmp_path: Path) -> None:
    one = compiled(write_small(name, tmp_path / "with.onnx"))
    other = compiled(write_small(name, tmp_path / "without.onnx", with_cache=False))
    assert [node.op for node in one.nodes] == [node.op for node in other.nodes]
    assert [(c.kv_heads, c.head_dim) for c in one.caches] == [(c.kv_heads, c.head_dim) for c in other.caches]
    ids = np.arange(5)
    np.testing.assert_allclose(evaluate(one, ids), evaluate(other, ids), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CACHED)
def test_decoding_with_the_cache_equals_a_run_from_scratch(name: str, tmp_path: Path) -> None:
    path = write_small(name, tmp_path / "model.onnx")
    graph, runner, first = compiled(path), session(path), raw(path)
    ids = np.array([3, 14, 15, 9, 26, 5, 35, 8])
    cache = KvCache.empty(graph)
    rows = [evaluate(graph, part, cache=cache) for part in (ids[:3], ids[3:4], ids[4:7], ids[7:])]
    feeds = feeds_for(first, sequence=len(ids), past=0)
    feeds |= {i.name: ids[None] for i in first.inputs if i.role is Role.IDS}
    (wanted,) = runner.run(["logits"], feeds)
    np.testing.assert_allclose(np.concatenate(rows), wanted[0], rtol=1e-4, atol=1e-4)


def test_observers_see_every_node(tmp_path: Path) -> None:
    graph = compiled(write_small("llama", tmp_path / "model.onnx"))
    seen: list[str] = []
    logits = evaluate(graph, np.arange(3), observe=lambda node, value: seen.append(node.output.name))
    assert seen == [node.output.name for node in graph.nodes]
    assert logits.shape == (3, 64)
    assert logits.dtype == np.float32


@pytest.mark.parametrize("name", list(SMALL))
def test_every_canonical_node_knows_its_onnx_nodes(name: str, tmp_path: Path) -> None:
    path = write_small(name, tmp_path / "model.onnx")
    known = {s for node in raw(path).nodes for s in node.sources}
    for node in compiled(path).nodes:
        assert node.sources, node
        assert set(node.sources) <= known


def test_an_encoder_sees_both_ways_and_keeps_nothing(tmp_path: Path) -> None:
    graph = compiled(write_small("bert", tmp_path / "model.onnx"))
    found = [node.op for node in graph.nodes if isinstance(node.op, Attention)]
    assert [(op.causal, op.cache) for op in found] == [(False, None)] * 2
    assert graph.caches == ()
