"""The CPU here: attention and feed-forward layer of a token by ONNX Runtime and by NumPy, in float32.

One layer is measured and multiplied by the number of layers. A token passes through all of them before it comes to the
first again, so small layers are measured in turn, on data of their own each, as many as caches cannot hold together. Of
what is too large for that, a part is measured and the rest scaled with it: the time is that of streaming bytes. Energy
is read from RAPL where the system lets us; else it is a thermal design power times time, and says so.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.headline.baselines import IDEAL, machine
from benchmarks.headline.cases import Cell, Scope
from benchmarks.headline.demand import cache_heads
from benchmarks.headline.graphs import attention_session, ffn_session
from benchmarks.registry import Say
from models.configs import CONFIGS, Config, LlamaConfig

F32 = NDArray[np.float32]
Work = Callable[[], object]
LARGEST = 1 << 28
"""Bytes of keys, or of values, of a layer that are measured at most; of longer ones the first so many. Layers with less
are measured in turn until they have as much together."""
IDEAL_THREADS = 112
"""Of the ideal CPU (Xeon Platinum 8480+: 56 cores)."""
SPAN_S = 0.3
"""How long something is repeated at least."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds and joules of a step; `how` says by what, and where the joules are from."""

    seconds: float
    joules: float
    how: str


@dataclass(frozen=True, slots=True)
class _Layer:
    """What was measured of one layer, by what; watts if they could be read."""

    seconds: float
    by: str
    watts: float | None


class Rapl:
    """Energy counters of the packages, and of their DRAM, in joules."""

    def __init__(self, root: Path = Path("/sys/class/powercap")) -> None:
        zones = sorted(root.glob("intel-rapl:*")) if root.is_dir() else []
        self._zones = [zone for zone in zones if self._name(zone).startswith(("package", "dram"))]

    @staticmethod
    def _name(zone: Path) -> str:
        try:
            return (zone / "name").read_text().strip()
        except OSError:
            return ""

    def read(self) -> list[tuple[float, float]] | None:
        """Of each counter its value and where it starts again; None if there is none that can be read."""
        try:
            found = [
                (int((z / "energy_uj").read_text()) / 1e6, int((z / "max_energy_range_uj").read_text()) / 1e6)
                for z in self._zones
            ]
        except (OSError, ValueError):
            return None
        return found or None

    def between(
        self, before: list[tuple[float, float]] | None, after: list[tuple[float, float]] | None
    ) -> float | None:
        """Joules between two readings; None if they could not be read."""
        if before is None or after is None:
            return None
        return sum((b - a) % most for (a, most), (b, _) in zip(before, after, strict=True))


def tdp_of_threads() -> float:
    """Watts of this machine's threads, each drawing what one of the ideal CPU does."""
    return machine(IDEAL).power / IDEAL_THREADS * _threads()


def measured(
    cells: Sequence[Cell], scopes: Sequence[Scope], tdp: float, say: Say
) -> dict[tuple[Cell, Scope], Measured]:
    """Attention and feed-forward layers of the cells; scopes beyond these are not measured."""
    attention: dict[tuple[str, int], tuple[_Layer, float]] = {}
    feeds: dict[tuple[str, int], _Layer] = {}
    found: dict[tuple[Cell, Scope], Measured] = {}
    for cell in cells:
        config = CONFIGS[cell.model]
        key = cell.model, cell.context * cell.batch
        if key not in attention:
            say(f"attention of {cell.name} on this CPU")
            attention[key] = _attention(config, cell)
        layer, times = attention[key]
        if Scope.ATTENTION in scopes:
            found[cell, Scope.ATTENTION] = _whole([(layer, times)], config.layers, tdp)
        if Scope.FFN in scopes:
            width = cell.model, cell.batch
            if width not in feeds:
                say(f"feed-forward layer of {cell.name} on this CPU")
                feeds[width] = _ffn(config, cell.batch)
            found[cell, Scope.FFN] = _whole([(layer, times), (feeds[width], 1.0)], config.layers, tdp)
    return found


def _whole(parts: Sequence[tuple[_Layer, float]], layers: int, tdp: float) -> Measured:
    seconds = sum(layer.seconds * times for layer, times in parts) * layers
    watts = [layer.watts for layer, _ in parts]
    if any(w is None for w in watts):
        joules, source = seconds * tdp, f"TDP {tdp:.3g} W"
    else:
        joules = sum(p.seconds * times * (p.watts or 0.0) for p, times in parts) * layers
        source = "RAPL"
    by = "+".join(dict.fromkeys(layer.by for layer, _ in parts))
    scaled = ", scaled" if any(times > 1 for _, times in parts) else ""
    return Measured(seconds, joules, f"{by}, {source}{scaled}")


def _fastest(candidates: Sequence[tuple[str, Work]]) -> _Layer:
    """The faster of several ways: the median of runs, with the watts meanwhile."""
    found = []
    for name, work in candidates:
        work()
        rapl = Rapl()
        spent: list[float] = []
        before, began = rapl.read(), time.perf_counter()
        while time.perf_counter() - began < SPAN_S or len(spent) < 3:
            start = time.perf_counter()
            work()
            spent.append(time.perf_counter() - start)
        joules = rapl.between(before, rapl.read())
        watts = None if joules is None else joules / (time.perf_counter() - began)
        found.append(_Layer(float(np.median(spent)), name, watts))
    return min(found, key=lambda layer: layer.seconds)


def in_turn(works: Sequence[Work]) -> Work:
    """Each call does the next of these, and after the last the first again."""
    turns = cycle(works)
    return lambda: next(turns)()


def copies(config: Config, layer_bytes: int) -> int:
    """How many layers are measured in turn: all together at least `LARGEST` bytes, where the model has so many."""
    return max(1, min(config.layers, -(-LARGEST // layer_bytes)))


def _attention(config: Config, cell: Cell) -> tuple[_Layer, float]:
    """One layer's attention, over as many tokens as are measured, and how many times these the cell has."""
    heads, dim, tokens = cache_heads(config), config.head_dim, cell.context * cell.batch
    most = max(min(tokens, LARGEST // (4 * heads * dim)), 1)
    batch = max(1, min(cell.batch, most // cell.context))
    context = min(cell.context, most)
    data = [
        attention_data(batch, heads, config.heads // heads, context, dim)
        for _ in range(copies(config, 4 * heads * dim * batch * context))
    ]
    candidates = [
        ("NumPy", in_turn([partial(attention, *layer) for layer in data])),
        ("ONNX Runtime", in_turn([attention_session(*layer) for layer in data])),
    ]
    return _fastest(candidates), tokens / (batch * context)


def attention_data(batch: int, heads: int, group: int, context: int, dim: int) -> tuple[F32, F32, F32]:
    """q [batch, heads, group, dim], keys [batch, heads, dim, context], values [batch, heads, context, dim]."""
    rng = np.random.default_rng(0)
    q = rng.standard_normal((batch, heads, group, dim), np.float32)
    k = rng.random((batch, heads, dim, context), np.float32)
    return q, k, rng.random((batch, heads, context, dim), np.float32)


def attention(q: F32, k: F32, v: F32) -> F32:
    """softmax(q k / sqrt(dim)) v, heads side by side on all processors."""
    out = np.empty((*q.shape[:3], v.shape[-1]), np.float32)
    flat = [x.reshape(-1, *x.shape[2:]) for x in (q, k, v, out)]

    def some(piece: slice) -> None:
        a, b, c, d = (x[piece] for x in flat)
        scores = np.matmul(a * np.float32(a.shape[-1] ** -0.5), b)
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        np.matmul(scores, c, out=d)
        d /= scores.sum(axis=-1, keepdims=True)

    with ThreadPoolExecutor(_threads()) as pool:
        list(pool.map(some, _pieces(len(flat[0]), _threads())))
    return out


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pieces(count: int, parts: int) -> Iterator[slice]:
    each = -(-count // parts)
    yield from (slice(first, first + each) for first in range(0, count, each))


def _ffn(config: Config, batch: int) -> _Layer:
    """One layer's feed-forward part."""
    rng = np.random.default_rng(0)
    gated = isinstance(config, LlamaConfig)
    shapes = [(config.hidden, config.ffn)] * (2 if gated else 1) + [(config.ffn, config.hidden)]
    x = rng.standard_normal((batch, config.hidden), np.float32)
    data = [
        [rng.random(shape, np.float32) / np.float32(shape[0]) for shape in shapes]
        for _ in range(copies(config, 4 * sum(rows * cols for rows, cols in shapes)))
    ]
    return _fastest(
        [
            ("NumPy", in_turn([partial(feed_forward, x, weights) for weights in data])),
            ("ONNX Runtime", in_turn([ffn_session(x, weights) for weights in data])),
        ]
    )


def feed_forward(x: F32, weights: Sequence[F32]) -> F32:
    """Two matrices with ReLU between them, or three with a gate (SiLU)."""
    y = x @ weights[0]
    y = np.maximum(y, 0) if len(weights) == 2 else y / (1 + np.exp(-y)) * (x @ weights[1])
    result: F32 = y @ weights[-1]
    return result
