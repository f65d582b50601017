"""Which files of other people's exporters are understood, measured: each against its reference values.

A folder holds a `MANIFEST.csv` (columns `file` and `group`), ONNX files, and beside each an `.io.npz` with its
inputs (`in:NAME`) and ONNX Runtime's outputs (`out:NAME`). Each file is imported and recognised; the reference
meaning of the canonical graph is compared with the outputs, or the refusal is recorded. This measures the
front end; what the chip computes from the canonical graph is another measurement.
"""

from __future__ import annotations

import time
import traceback
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.quantised import exactly, first_sequence, has_fixed_scales, is_quantised, without_roundings
from benchmarks.references import (
    Entry,
    collection,
    feature_axes,
    own_reference,
    read_reference,
    sensible_reference,
)
from benchmarks.registry import Report, Say, folder_of
from compiler.ir.evaluate import UnavailableError, run
from compiler.ir.graph import Graph
from compiler.ir.hosted import run_hosted
from compiler.ir.tensor import Array, DType
from compiler.ops.call import KernelError
from compiler.passes import GRAPH_PIPELINE
from compiler.pipeline import Compilation, CompileOptions, run_pipeline
from isa.diagnostics import CimError, Diagnostic, NodePlace
from runtime.host import run_part

RTOL = 1e-4
"""Largest difference, relative to the largest value of the output, of a float32 file."""

RTOL_HALF = 1e-2
"""The same with float16 weights or outputs: ONNX Runtime rounds between nodes, the canonical operator does not."""

ATOL_HALF = 2.0**-23
"""Two steps between the smallest numbers of float16."""

_HALVES = (DType.FLOAT16, DType.BFLOAT16)

NOISE = 32.0
"""Where a file amplifies rounding, the difference may be this many times that of float32 and float64 arithmetic."""


class Outcome(Enum):
    """What came of a file."""

    MATCHED = "matched"
    RECOGNISED = "recognised"
    """Understood, but there is nothing to compare with: ONNX Runtime cannot run the file."""
    REFUSED = "refused"
    DIFFERS = "differs"
    CRASHED = "crashed"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a file is refused: diagnostic code, ONNX node, operator, message."""

    code: str
    node: str
    op: str
    message: str

    def __str__(self) -> str:
        return f"{self.code} {self.node} {self.op}: {self.message}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a file.

    `error` is the largest difference in units of what is allowed, `seconds` the time of import and recognition,
    `hosted` the number of ONNX nodes that the host runs, `own` whether the reference values were computed now.
    """

    file: str
    group: str
    outcome: Outcome
    error: float = 0.0
    reasons: tuple[Reason, ...] = ()
    seconds: float = 0.0
    hosted: int = 0
    own: bool = False


def canonical(path: Path, reference: Path | None = None) -> Graph:
    """The canonical graph of a file. Raises `CimError` if it is refused.

    Weights that are inputs have the values of the reference file, and features that no name in the file fixes the
    sizes that they have there.
    """
    if reference is None:
        options = CompileOptions(shapes_only=True)
        return run_pipeline(GRAPH_PIPELINE, Compilation(path, options)).require_graph()
    options = CompileOptions(bind=str(reference), dims=tuple(feature_axes(path, reference).items()))
    return run_pipeline(GRAPH_PIPELINE, Compilation(path, options)).require_graph()


def examine(entry: Entry) -> Verdict:
    """Import, recognise and compare one file."""
    reference = sensible_reference(entry)
    if reference is not None:
        return _examined(entry, reference, own=False)
    with TemporaryDirectory() as folder:
        return _examined(entry, own_reference(entry.model, Path(folder) / "own.npz"), own=True)


def _examined(entry: Entry, reference: Path | None, own: bool) -> Verdict:
    began = time.perf_counter()
    try:
        graph = canonical(entry.model, reference)
    except CimError as refusal:
        reasons = tuple(map(reason_of, refusal.diagnostics))
        return Verdict(entry.file, entry.group, Outcome.REFUSED, 0.0, reasons, time.perf_counter() - began)
    except Exception:  # noqa: BLE001  (a defect of ours is a verdict too)
        return Verdict(entry.file, entry.group, Outcome.CRASHED, 0.0, (crash(),))
    seconds = time.perf_counter() - began
    outcome, error, reasons = _compared(graph, reference)
    hosted = sum(len(part.sources) for part in graph.hosts)
    return Verdict(entry.file, entry.group, outcome, error, reasons, seconds, hosted, own)


def _compared(graph: Graph, reference: Path | None) -> tuple[Outcome, float, tuple[Reason, ...]]:
    if reference is None:
        return Outcome.RECOGNISED, 0.0, ()
    given, wanted = read_reference(reference)
    feeds = without_empty_places(graph, given)
    wanted = _without_empty_presents(graph, given, feeds, wanted)
    rtol = RTOL_HALF if is_half(graph) else RTOL
    try:
        error = difference(values(graph, feeds), wanted, rtol)
        if 1 < error < np.inf and is_quantised(graph):
            error = _of_quantised(graph, feeds)
        elif 1 < error < np.inf and not graph.hosts:
            error = error / max(1.0, NOISE * rounding(graph, feeds, wanted))
    except (UnavailableError, KernelError, ValueError, LookupError) as problem:
        return Outcome.DIFFERS, float("inf"), (Reason("", "", "", f"cannot be evaluated: {problem!r}"),)
    except Exception:  # noqa: BLE001  (a defect of ours is a verdict too)
        return Outcome.CRASHED, float("inf"), (crash(),)
    return (Outcome.MATCHED if error <= 1 else Outcome.DIFFERS), error, ()


def is_half(graph: Graph) -> bool:
    """Whether weights have half precision."""
    return any(constant.dtype in _HALVES for constant in graph.constants.values())


def _of_quantised(graph: Graph, feeds: Mapping[str, Array]) -> float:
    """The difference of a quantised file from what it says itself (see `benchmarks.quantised`)."""
    one = first_sequence(feeds)
    wanted = exactly(Path(graph.model), one)
    error = difference(values(graph, one), wanted)
    if error <= 1 or not has_fixed_scales(graph):
        return error
    # Two roundings of the same numbers may be as far apart as both together are from the numbers.
    return error / max(1.0, 2 * difference(values(without_roundings(graph), one), wanted))


def values(graph: Graph, feeds: Mapping[str, Array], wide: bool = False) -> dict[str, Array]:
    """The outputs of the canonical graph, host partitions run by ONNX Runtime."""
    return run_hosted(graph, feeds, run_part) if graph.hosts else run(graph, feeds, wide=wide)


def without_empty_places(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Feeds whose caches hold only tokens.

    Where a cache is a buffer longer than the sequence, the mask says how many tokens it has: as many as it
    has places, less the new ones.
    """
    mask = next((f for n, f in feeds.items() if "mask" in n and "encoder" not in n and f.ndim == 2), None)
    new = next(
        (feeds[i.name].shape[1] for i in graph.inputs if i.name in feeds and feeds[i.name].ndim > 1), 0
    )
    trimmed = dict(feeds)
    own = [c for c in graph.caches if not c.cross]
    for name in {n for c in own for n in (c.past_key, c.past_value) if n in feeds}:
        if mask is not None and new and mask.shape[1] - new < feeds[name].shape[-2]:
            trimmed[name] = feeds[name][..., : mask.shape[1] - new, :]
    return trimmed


def _without_empty_presents(
    graph: Graph, given: Mapping[str, Array], trimmed: Mapping[str, Array], wanted: Mapping[str, Array]
) -> dict[str, Array]:
    """Outputs whose caches, where they are buffers as long as before, hold only tokens."""
    kept = dict(wanted)
    new = next(
        (given[i.name].shape[1] for i in graph.inputs if i.name in given and given[i.name].ndim > 1), 0
    )
    for cache in graph.caches:
        for past, present in ((cache.past_key, cache.present_key), (cache.past_value, cache.present_value)):
            if past in given and present in kept and trimmed[past].shape[-2] < given[past].shape[-2]:
                kept[present] = kept[present][..., : trimmed[past].shape[-2] + new, :]
    return kept


def rounding(graph: Graph, feeds: Mapping[str, Array], wanted: Mapping[str, Array]) -> float:
    """How far float32 arithmetic is from float64 on this graph, in the unit of `difference`."""
    exact = {n: v.astype(np.float64) if v.dtype.kind == "f" else v for n, v in feeds.items()}
    single, double = values(graph, feeds), values(graph, exact, wide=True)
    shaped = {n: double[n].reshape(v.shape).astype(v.dtype) for n, v in wanted.items()}
    return difference(single, shaped)


def difference(got: Mapping[str, Array], wanted: Mapping[str, Array], rtol: float = RTOL) -> float:
    """The largest difference of all outputs, relative to the largest value of each and to what is allowed."""
    worst = 0.0
    for name, value in wanted.items():
        if not value.size:
            continue
        if name not in got or got[name].size != value.size:
            return float("inf")
        exact = value.astype(np.float64)
        scale = max(1e-6, float(np.abs(exact).max()))
        allowed = RTOL_HALF * scale + ATOL_HALF if value.dtype.itemsize == 2 else rtol * scale
        error = np.abs(got[name].astype(np.float64).reshape(value.shape) - exact).max()
        worst = max(worst, float(error / allowed)) if np.isfinite(error) else float("inf")
    return worst


def reason_of(diagnostic: Diagnostic) -> Reason:
    """Why a file is refused."""
    place = diagnostic.place
    if isinstance(place, NodePlace):
        return Reason(diagnostic.code, place.node, place.op, diagnostic.message)
    return Reason(diagnostic.code, "", "", diagnostic.message)


def crash() -> Reason:
    """The end of the traceback of the exception that is being handled."""
    return Reason("", "", "", traceback.format_exc(limit=-3))


def examine_all(folder: Path) -> Iterator[Verdict]:
    """The verdict on each file of a collection."""
    return map(examine, collection(folder))


def table(verdicts: Iterable[Verdict]) -> str:
    """Counts by group and outcome, then every file with its verdict and the first reason."""
    verdicts = list(verdicts)
    groups = [*sorted({v.group for v in verdicts}), "all"]
    counts = Counter((group, v.outcome) for v in verdicts for group in (v.group, "all"))
    width = max(map(len, groups))
    lines = [f"{'':{width}} " + " ".join(f"{o.value:>10}" for o in Outcome)]
    lines += [f"{group:{width}} " + " ".join(f"{counts[group, o]:>10}" for o in Outcome) for group in groups]
    for v in verdicts:
        host = f"  host: {v.hosted} nodes" if v.hosted else ""
        why = f"  {v.reasons[0]}" if v.reasons else ""
        lines.append(f"{v.outcome.value:10} {v.error:8.2g} {v.seconds:6.2f} s  {v.file}{host}{why}")
    return "\n".join(lines)


ORDER = (Outcome.MATCHED, Outcome.RECOGNISED, Outcome.REFUSED, Outcome.DIFFERS, Outcome.CRASHED)
"""From best to worst."""


def in_words(outcome: str, reasons: Sequence[Reason]) -> str:
    """An outcome; of a refusal also the operator and the first reason."""
    if outcome != Outcome.REFUSED.value:
        return outcome
    return f"refused {reasons[0].code} {reasons[0].op or 'file'}: {reasons[0].message}"


def summary(verdict: Verdict) -> str:
    """A line that changes only with the verdict: what came of the file; of a refusal the operator and the reason."""
    return f"{verdict.file}: {in_words(verdict.outcome.value, verdict.reasons)}"


def bench(options: Namespace, say: Say) -> Report:
    """`cim bench graphs`: every file of a collection at the graph level."""
    verdicts = []
    for entry in collection(folder_of(options)):
        if options.only in entry.file:
            say(entry.file)
            verdicts.append(examine(entry))
    good = all(v.outcome not in (Outcome.DIFFERS, Outcome.CRASHED) for v in verdicts)
    data = [asdict(v) | {"outcome": v.outcome.value} for v in verdicts]
    return Report(table(verdicts), data, good)
