"""A collection of ONNX files with reference values, and reference values for files that come without."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compiler.frontend.importer import import_model
from compiler.ir.dims import Shape, axes_of, resolve
from compiler.ir.feeding import default_feed
from compiler.ir.graph import Graph, Input, Role
from compiler.ir.tensor import Array
from compiler.passes import GRAPH_PIPELINE
from compiler.pipeline import Compilation, CompileOptions, run_pipeline

PLACES = 32
"""Of a cache that is a buffer."""

LIMIT_S = 60
"""How long ONNX Runtime may take for a file."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the collection."""

    folder: Path
    file: str
    group: str

    @property
    def model(self) -> Path:
        """The ONNX file."""
        return self.folder / self.file

    @property
    def reference(self) -> Path:
        """The file of inputs and outputs; it need not exist."""
        return self.model.with_suffix(".io.npz")


def collection(folder: Path) -> list[Entry]:
    """The files that the manifest in `folder` lists."""
    with (folder / "MANIFEST.csv").open(newline="") as lines:
        return [Entry(folder, row["file"], row["group"]) for row in csv.DictReader(lines)]


def read_reference(path: Path) -> tuple[dict[str, Array], dict[str, Array]]:
    """Inputs and outputs, by name."""
    with np.load(path) as data:
        feeds = {name[3:]: data[name] for name in data.files if name.startswith("in:")}
        wanted = {name[4:]: data[name] for name in data.files if name.startswith("out:")}
    return feeds, wanted


def sensible_reference(entry: Entry) -> Path | None:
    """The reference values of a file, if it has any that are made with masks without padding.

    Some were made with masks of arbitrary numbers, which mean nothing to the model.
    """
    if not entry.reference.is_file():
        return None
    feeds, _ = read_reference(entry.reference)
    masks = {i.name for i in import_model(entry.model).inputs if i.role is Role.MASK}
    whole = all((feed == 1).all() for name, feed in feeds.items() if name in masks and feed.ndim > 1)
    return entry.reference if whole else None


def feature_axes(model: Path, reference: Path) -> dict[str, int]:
    """Sizes of the free last axes of rows: how many features there are has to be known."""
    feeds, _ = read_reference(reference)
    found: dict[str, int] = {}
    for given in import_model(model).inputs:
        shape = given.value.shape or ()
        last = shape[-1] if given.role in (Role.OTHER, Role.WEIGHT) and shape else 0
        if not isinstance(last, int) and given.name in feeds:
            found.setdefault(str(last), feeds[given.name].shape[-1])
    return found


def own_reference(model: Path, path: Path) -> Path | None:
    """Reference values that ONNX Runtime computes now, from inputs of ours; None if it cannot run the file.

    It runs in a process of its own: with some files it ends the process.
    """
    command = [sys.executable, "-m", "benchmarks.references", str(model), str(path)]
    subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, timeout=LIMIT_S, check=False)
    return path if path.is_file() else None


def write_own(model: Path, path: Path) -> None:
    """Run `model` on `own_feeds` and write inputs and outputs to `path`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    graph = import_model(model)
    depths = _open_depths(model, graph)
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    wanted = {i.name for i in session.get_inputs()}
    names = [o.name for o in session.get_outputs()]
    try:
        feeds = own_feeds(graph, depths)
        made = session.run(names, {n: f for n, f in feeds.items() if n in wanted})
    except onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument:
        # Some kernels want the cache as a buffer that has room for more than there is in it.
        feeds = own_feeds(graph, depths, PLACES)
        made = session.run(names, {n: f for n, f in feeds.items() if n in wanted})
    arrays = {f"in:{n}": f for n, f in feeds.items()}
    arrays |= {f"out:{n}": np.asarray(v) for n, v in zip(names, made, strict=True)}
    np.savez(path, allow_pickle=False, **arrays)


def own_feeds(graph: Graph, depths: Mapping[str, int] | None = None, places: int = 0) -> dict[str, Array]:
    """Inputs for a graph as imported: random rows, tokens and caches, positions in order, no padding.

    `depths` are those of caches whose last axis the file leaves open. With `places`, caches are buffers with that many
    places, in which there is nothing yet.
    """
    generator = np.random.default_rng(20)
    past = 3 if any(i.role is Role.PAST for i in graph.inputs) and not places else 0
    sizes = {"batch": 1, "sequence": 4, "past": past, "source": 5}
    feeds: dict[str, Array] = {}
    for given in graph.inputs:
        for name in {n for extent in given.value.shape or () for n in axes_of(extent)}:
            sizes.setdefault(name, 4 + past)
        shape = tuple(resolve(e, sizes) for e in _with_depth(given, depths or {}))
        if given.role is Role.PAST and places:
            shape = (*shape[:-2], places, shape[-1])
        if given.heads:
            shape = (shape[0], given.heads, shape[1], shape[2] // given.heads)
        dtype = given.value.dtype.numpy
        default = default_feed(given, sizes)
        if given.role in (Role.IDS, Role.SOURCE_IDS):
            # Small tables occur.
            feeds[given.name] = generator.integers(0, 2, shape).astype(dtype)
        elif default is not None and given.role is not Role.SOURCE:
            feeds[given.name] = default
        else:
            feeds[given.name] = (generator.standard_normal(shape) * 0.5).astype(dtype)
    return feeds


def _with_depth(given: Input, depths: Mapping[str, int]) -> Shape:
    shape = given.value.shape or ()
    return (*shape[:-1], depths[given.name]) if given.name in depths and shape else shape


def _open_depths(model: Path, graph: Graph) -> dict[str, int]:
    """How deep the heads of caches are where the file does not say it: what attention makes of them."""
    pasts = [i for i in graph.inputs if i.role is Role.PAST and i.value.shape]
    if all(isinstance((i.value.shape or (0,))[-1], int) for i in pasts):
        return {}
    c = run_pipeline(GRAPH_PIPELINE, Compilation(model, CompileOptions(shapes_only=True)))
    caches = c.require_graph().caches
    return {k: d for c in caches for k, d in ((c.past_key, c.head_dim), (c.past_value, c.v_head_dim))}


if __name__ == "__main__":
    write_own(Path(sys.argv[1]), Path(sys.argv[2]))
