"""Are the values right, of a model that does not continue text? All its outputs, on random inputs.

Encoders, encoder-decoders, models that begin with images or sound: program and ONNX Runtime get the same random
inputs, without padding, and each output is compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.ir.dims import axes_of, resolve
from compiler.ir.feeding import default_feed
from compiler.ir.graph import Graph, Input, Role
from compiler.pipeline import Compilation
from isa.program import Program
from runtime.analog.options import AnalogOptions
from runtime.inference import Inference
from runtime.values import EngineKind

from .oracle import Oracle

Array = NDArray[Any]

BATCH, TOKENS, PAST, SOURCE = 2, 16, 3, 9
"""Sizes of random inputs, as far as the file leaves them open and the program has room."""

_IDS = (Role.IDS, Role.SOURCE_IDS)

SMALL_IDS = 32
"""Ids are below this, or below the size of the smallest table."""


@dataclass(frozen=True, slots=True)
class OutputError:
    """How far an output is off: the root mean square of the difference over that of the output, and the largest."""

    name: str
    shape: tuple[int, ...]
    relative_error: float
    largest_error: float


def random_inputs(compilation: Compilation, seed: int = 0) -> dict[str, Array]:
    """Random inputs for the model file: rows, tokens, caches; positions in order, nothing hidden."""
    assert compilation.border is not None
    generator = np.random.default_rng(seed)
    limits = compilation.require_program().limits
    inputs = compilation.border.inputs
    past = PAST if any(i.role is Role.PAST for i in inputs) and limits.max_context > PAST else 0
    tokens = max(1, min(TOKENS, limits.max_context - past))
    sizes = {"batch": BATCH, "sequence": tokens, "tokens": tokens, "past": past}
    sizes["source"] = min(SOURCE, limits.max_source or SOURCE)
    known = np.arange(min([SMALL_IDS, *_tables(compilation.require_graph())]))
    ids = np.setdiff1d(known, compilation.padding)
    return {i.name: _random(i, sizes, ids, generator) for i in inputs if i.role is not Role.WEIGHT}


def _tables(graph: Graph) -> list[int]:
    """The sizes of the tables that ids look up."""
    names = {i.name for i in graph.inputs if i.role in (*_IDS, Role.TOKEN_TYPES)}
    return [
        graph.constants[n.inputs[1]].shape[0]
        for n in graph.nodes
        if n.inputs[:1] and n.inputs[0] in names and n.inputs[1] in graph.constants
    ]


def _random(given: Input, sizes: Mapping[str, int], ids: Array, generator: np.random.Generator) -> Array:
    known = dict(sizes)
    for name in {n for extent in given.value.shape or () for n in axes_of(extent)}:
        known.setdefault(name, sizes["sequence"] + sizes["past"])
    dtype = given.value.dtype.numpy
    shape = tuple(resolve(extent, known) for extent in given.value.shape or ())
    feed = default_feed(given, known)
    if given.role in _IDS:
        return generator.choice(ids, shape).astype(dtype)
    if given.role is Role.SWITCH:
        return np.ones(shape, dtype)
    if feed is not None and given.role is not Role.SOURCE:
        return feed
    return (generator.standard_normal(shape) * 0.5).astype(dtype)


def output_errors(
    program: Program,
    oracle: Oracle,
    feeds: Mapping[str, Array],
    engine: EngineKind = EngineKind.REFERENCE,
    analog: AnalogOptions = AnalogOptions(),  # noqa: B008  (frozen)
) -> tuple[OutputError, ...]:
    """Run both; every output that both have. Raises `CimError` E0601 if one of them cannot take the inputs."""
    wanted = oracle.outputs(feeds)
    got = Inference(program, engine=engine, analog=analog).run(feeds)
    return tuple(
        _error(name, got[name], value) for name, value in wanted.items() if name in got and value.size
    )


def _error(name: str, got: Array, wanted: Array) -> OutputError:
    exact = wanted.astype(np.float64)
    off = np.abs(got.astype(np.float64).reshape(exact.shape) - exact)
    scale = float(np.sqrt((exact**2).mean())) or 1.0
    return OutputError(name, exact.shape, float(np.sqrt((off**2).mean())) / scale, float(off.max()))
