"""Curves of the mapper: latency of each KV policy over context or reuse, and compile time over layers."""

from __future__ import annotations

import math
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.mapping.cases import System
from benchmarks.mapping.measure import work_of
from benchmarks.mapping.systems import hardware_for
from benchmarks.plot import doublings, plot_of, report_of, series_of
from benchmarks.registry import Report, Say
from compiler.driver import compile_model
from compiler.pipeline import CompileOptions
from isa.diagnostics import CimError
from isa.hardware import load_target
from isa.interface import KvPolicy
from isa.program import segments_of
from models import PYTINY, path
from models.configs import LlamaConfig
from models.make import architecture, make
from models.save import save
from runtime.fast import timer_of
from runtime.svg import Series

AUTO = "auto"
POLICIES = (*(policy.value for policy in KvPolicy), AUTO)
CONTEXT = 4096
"""Tokens of each sequence of a batch."""

HEADS, BATCH = 8, 8
"""Query heads of the models that differ in their KV heads, and sequences of a step."""


def kv(options: Namespace, say: Say) -> Report:
    """`cim bench kv`: decode latency of each KV policy over the context, the sequences of a batch, or the query heads
    that share keys and values.

    On one chip: not all policies have room for all points.
    """
    with TemporaryDirectory() as folder:
        sweep = SWEEPS[options.over](Path(folder))
        found = {policy: list(_latencies(policy, sweep.points, say)) for policy in POLICIES}
    xs = tuple(point.x for point in sweep.points)
    title = f"Decode, {sweep.model} on one dcim22"
    plot = plot_of(title, sweep.label, "cycles a step", series_of(found), xs)
    report = report_of(plot, options)
    return replace(report, text="\n".join([report.text, "", *_crossovers(found)]))


@dataclass(frozen=True, slots=True)
class Point:
    """Where the latency is taken: a model, its context and batch; `x` is its place on the axis."""

    x: float
    model: Path
    context: int
    batch: int


@dataclass(frozen=True, slots=True)
class Sweep:
    """The points of a plot, and what their axis and model are called."""

    label: str
    model: str
    points: tuple[Point, ...]


def _over_context(_: Path) -> Sweep:
    points = (Point(float(n), path(PYTINY), n, 1) for n in doublings(512, 65536))
    return Sweep("context", "the trained model", tuple(points))


def _over_batch(_: Path) -> Sweep:
    points = (Point(float(n), path(PYTINY), CONTEXT, n) for n in doublings(1, 32))
    return Sweep(f"sequences of {CONTEXT:,} tokens", "the trained model", tuple(points))


def _over_group(folder: Path) -> Sweep:
    """Models that differ in their KV heads alone: the fewer there are, the more queries look at each row."""
    points = []
    for group in doublings(1, HEADS):
        model, heads = folder / f"{group}.onnx", HEADS // group
        config = LlamaConfig(
            vocab=256, hidden=256, layers=2, heads=HEADS, kv_heads=heads, ffn=512, max_positions=CONTEXT
        )
        save(architecture(config), model, None, metadata={})
        points.append(Point(float(group), model, CONTEXT, BATCH))
    label = f"query heads a KV head, of {HEADS}; {BATCH} sequences of {CONTEXT:,} tokens"
    return Sweep(label, "2 layers of 256 columns", tuple(points))


SWEEPS: Mapping[str, Callable[[Path], Sweep]] = {
    "context": _over_context,
    "batch": _over_batch,
    "group": _over_group,
}


def _latencies(policy: str, points: Sequence[Point], say: Say) -> Iterator[tuple[float, float]]:
    """Cycles of a decode step of all sequences at each point where the policy fits."""
    hardware = load_target("dcim22")
    for point in points:
        context, batch = point.context, point.batch
        say(f"{policy}, {point.x:,.0f}")
        options = CompileOptions(max_context=context, batch=batch, kv=policy, place="all", shapes_only=True)
        try:
            program = compile_model(point.model, options, hardware).require_program()
        except CimError:
            continue
        each = (segments_of(1, context - 1, program.limits.chunk, sequence=at) for at in range(batch))
        step = [s for cut in each for s in cut]
        yield point.x, float(timer_of(program, [step]).step(step).cycles)


def _crossovers(found: Mapping[str, Sequence[tuple[float, float]]]) -> Iterator[str]:
    """Where each policy is the fastest, and how far `auto` is from it."""
    at: dict[float, dict[str, float]] = {}
    for policy, points in found.items():
        for x, cycles in points:
            at.setdefault(x, {})[policy] = cycles
    best: dict[str, list[float]] = {}
    worst = 0.0
    for x, each in sorted(at.items()):
        fixed = {policy: value for policy, value in each.items() if policy != AUTO}
        if fixed:
            first = min(fixed, key=lambda policy: fixed[policy])
            best.setdefault(first, []).append(x)
            worst = max(worst, each.get(AUTO, math.inf) / fixed[first])
    for policy, xs in best.items():
        yield f"{policy} is the fastest of the three from {min(xs):,.0f} to {max(xs):,.0f}"
    yield f"auto takes {worst:.3f} times as long as the fastest at most"


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
    plot = plot_of(
        "Compiling llama-2-7b, shapes only",
        "layers",
        "seconds",
        (Series("compile", tuple(found)),),
        tuple(map(float, counts)),
    )
    return report_of(plot, options)
