"""Curves of the mapper: latency of each KV policy over context or reuse, and compile time over layers."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.mapping.cases import LLAMA_3, Model, Phase, Setup, System
from benchmarks.mapping.measure import measure, work_of
from benchmarks.mapping.systems import hardware_for
from benchmarks.plot import Plot, Series, doublings
from benchmarks.registry import Report, Say
from compiler.driver import compile_model
from compiler.pipeline import CompileOptions
from isa.diagnostics import NamedPlace, fail
from models.make import make
from runtime.report import table

POLICIES = ("resident", "tiered", "streamed", "auto")


def kv(options: Namespace, say: Say) -> Report:
    """`cim bench kv`: decode latency of each KV policy over the context, and over the sequences of a batch."""
    by_batch = options.over == "batch"
    points = doublings(1, 16) if by_batch else doublings(256, 8192)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        make(LLAMA_3.config, path, layers=1, shapes_only=True)
        found = {policy: _latencies(policy, points, path, by_batch, say) for policy in POLICIES}
    x, y = "sequences in a batch" if by_batch else "context", "cycles a step"
    return _report(
        Plot(f"Decode, {LLAMA_3.config}, one layer", x, y, _series(found), tuple(map(float, points))), options
    )


def _latencies(
    policy: str, points: Sequence[int], path: Path, by_batch: bool, say: Say
) -> list[tuple[float, float]]:
    """Cycles of a decode step at each point at which the policy fits."""
    found = []
    for point in points:
        context, batch = (2048, point) if by_batch else (point, 1)
        say(f"{policy} at {point:,}")
        setup = Setup(Model(LLAMA_3.config, 1), context, batch, System.DCIM22, (Phase.DECODE,), policy)
        (result,) = measure(setup, path)
        if not result.refused:
            found.append((float(point), float(result.measured)))
    return found


def compile_time(options: Namespace, say: Say) -> Report:
    """`cim bench compile-time`: seconds to compile llama-2-7b, shapes only, over its layers."""
    found: list[tuple[float, float]] = []
    counts = doublings(1, options.layers)
    with TemporaryDirectory() as folder:
        for layers in counts:
            say(f"{layers} layers")
            path = Path(folder) / f"{layers}.onnx"
            make("llama-2-7b", path, layers=layers, shapes_only=True)
            hardware = hardware_for(System.DCIM22, work_of(path), 2048, 1)
            began = time.perf_counter()
            compile_model(path, CompileOptions(max_context=2048, place="all", shapes_only=True), hardware)
            found.append((float(layers), time.perf_counter() - began))
    plot = Plot(
        "Compiling llama-2-7b, shapes only",
        "layers",
        "seconds",
        (Series("compile", tuple(found)),),
        tuple(map(float, counts)),
    )
    return _report(plot, options)


def _series(found: dict[str, list[tuple[float, float]]]) -> tuple[Series, ...]:
    return tuple(Series(name, tuple(points)) for name, points in found.items() if points)


def _report(plot: Plot, options: Namespace) -> Report:
    """The curves as a table, as JSON values and, with `--output`, as an SVG."""
    xs = sorted({x for series in plot.series for x, _ in series.points})
    values = [dict(series.points) for series in plot.series]
    rows = [(f"{x:,.0f}", *(f"{v[x]:,.4g}" if x in v else "-" for v in values)) for x in xs]
    if options.output is not None:
        try:
            options.output.write_text(plot.svg(), encoding="utf-8")
        except OSError as error:
            place = NamedPlace(str(options.output))
            raise fail("E0003", f"cannot write it: {error.strerror}", place) from None
    data = {series.name: [list(point) for point in series.points] for series in plot.series}
    return Report(table((plot.x_label, *(series.name for series in plot.series)), rows), data)
