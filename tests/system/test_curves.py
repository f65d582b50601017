"""What `cim bench kv` sweeps over."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.mapping import curves
from compiler.passes import GRAPH_PIPELINE
from compiler.pipeline import Compilation, CompileOptions, run_pipeline


@pytest.mark.parametrize("over", ["context", "batch"])
def test_points_double(over: str, tmp_path: Path) -> None:
    points = curves.SWEEPS[over](tmp_path).points
    sizes = [point.context if over == "context" else point.batch for point in points]
    assert [float(size) for size in sizes] == [point.x for point in points]
    assert all(b == 2 * a for a, b in pairwise(sizes))


def test_groups_share_a_smaller_cache(tmp_path: Path) -> None:
    points = curves.SWEEPS["group"](tmp_path).points
    assert [point.x for point in points] == [1.0, 2.0, 4.0, 8.0]
    caches = []
    for point in points[-2:]:
        c = Compilation(point.model, CompileOptions(shapes_only=True))
        caches.append(run_pipeline(GRAPH_PIPELINE, c).require_graph().caches[0].kv_heads)
    assert caches == [2, 1]


@pytest.mark.slow
def test_a_sweep_says_where_each_policy_is_fastest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = curves.SWEEPS["context"](tmp_path)
    short = tuple(replace(point, x=256.0 * n, context=256 * n) for n, point in enumerate(whole.points[:1], 1))
    monkeypatch.setattr(curves, "SWEEPS", {"context": lambda _: replace(whole, points=short)})
    report = curves.kv(Namespace(over="context", output=tmp_path / "kv.svg"), lambda _: None)
    assert "is the fastest of the three from 256 to 256" in report.text
    assert (tmp_path / "kv.svg").read_text().startswith("<svg")
