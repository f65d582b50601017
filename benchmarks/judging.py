"""How far a program may be off what its file says, in ideal arithmetic and in int8, and how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import Enum

import numpy as np

from benchmarks.frontends import (
    NOISE,
    RTOL,
    RTOL_HALF,
    difference,
    is_half,
    rounding,
    values,
    without_empty_places,
)
from benchmarks.quantised import is_quantised, without_roundings
from compiler.ir.graph import Graph, Linear
from compiler.ir.tensor import Array, tensor

TOLERANCE = 0.06
"""Largest relative error (root mean square) in int8, for files of every class.

Rounding to 127 steps of a row's largest element m makes an error of m / (127 sqrt(12)) = m / 440: 0.6 % of a row of 64
normal numbers (m = 2.5 times its root mean square), and as much of a column of weights; a product of both has 0.8 %.
Outputs of the models here, which have 5 to 20 products one behind the other and a residual stream that adds their
errors up, have 0.4 to 3 % (measured); rows with outliers of ten times their root mean square (trained embeddings) have
4 %. Files of half precision are rounded like those of float32. Of a quantised file the integers go into the arrays as
they are, so only activations are rounded; it is compared with the float model that its integers stand for.
"""

AMPLIFIED = 2.0
"""Where a file amplifies rounding (scores so large that a softmax picks one key), the error may be this many times that
which rounding of its weights alone makes, as activations are rounded too, in each product and in the caches."""


class Arithmetic(Enum):
    """How the chip computes."""

    IDEAL = "float32"
    INT8 = "int8"


class FileClass(Enum):
    """What a file's numbers are."""

    FLOAT = "float"
    HALF = "half"
    QUANTISED = "quantised"


def class_of(graph: Graph) -> FileClass:
    """What a file's numbers are."""
    if is_quantised(graph):
        return FileClass.QUANTISED
    return FileClass.HALF if is_half(graph) else FileClass.FLOAT


def judged(
    graph: Graph,
    kind: FileClass,
    arithmetic: Arithmetic,
    feeds: Mapping[str, Array],
    got: Mapping[str, Array],
    wanted: Mapping[str, Array],
) -> tuple[float, float]:
    """The difference in units of what is allowed, and the relative one (see `chip.Verdict`).

    A quantised file is compared with what it says without its roundings of activations, so from its reference values
    it differs by as much more as those roundings make: `benchmarks/frontends.py` shows that with them it matches.
    """
    feeds = without_empty_places(graph, feeds)
    if kind is FileClass.QUANTISED:
        # Roundings of activations are the chip's own business: in ideal arithmetic there are none.
        wanted = dict(wanted) | {
            n: v for n, v in values(without_roundings(graph), feeds).items() if n in wanted
        }
    relative = relative_error(got, wanted)
    if arithmetic is Arithmetic.INT8:
        if TOLERANCE < relative < np.inf and not graph.hosts:
            return relative / max(TOLERANCE, AMPLIFIED * of_weights(graph, feeds, wanted)), relative
        return relative / TOLERANCE, relative
    error = difference(got, wanted, RTOL_HALF if is_half(graph) else RTOL)
    if 1 < error < np.inf and not graph.hosts and kind is not FileClass.QUANTISED:
        error /= max(1.0, NOISE * rounding(graph, feeds, wanted))
    return error, relative


def of_weights(graph: Graph, feeds: Mapping[str, Array], wanted: Mapping[str, Array]) -> float:
    """The relative error that rounding of weights alone makes, each column to 127 steps, all else in float32."""
    tables = {n.inputs[1] for n in graph.nodes if isinstance(n.op, Linear)}
    rounded = {
        name: tensor(_in_steps(weight.data().astype(np.float32))) if name in tables else weight
        for name, weight in graph.constants.items()
    }
    got = values(replace(graph, constants=rounded), feeds)
    return relative_error(got, wanted)


def _in_steps(weight: Array) -> Array:
    steps = np.maximum(np.abs(weight).max(axis=0), 1e-30) / np.float32(127)
    return np.asarray(np.round(weight / steps) * steps, np.float32)


def relative_error(got: Mapping[str, Array], wanted: Mapping[str, Array]) -> float:
    """The largest of all outputs' root mean square differences, relative to the root mean square of the output."""
    worst = 0.0
    for name, value in wanted.items():
        if not value.size:
            continue
        if name not in got or got[name].size != value.size:
            return float("inf")
        exact = value.astype(np.float64)
        off = got[name].astype(np.float64).reshape(value.shape) - exact
        worst = max(worst, float(np.sqrt((off**2).mean()) / max(1e-6, np.sqrt((exact**2).mean()))))
    return worst
