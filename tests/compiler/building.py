"""From a canonical graph to a program without the front end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compiler.backend.build import build_program, choose_chunk, with_chunk
from compiler.ir.evaluate import evaluate
from compiler.ir.graph import Graph
from compiler.ir.mapping import Arithmetic, Mapping
from compiler.ir.mapping_verify import verify_mapping
from compiler.mapping.mapper import MapOptions
from compiler.mapping.policies import KvChoice
from compiler.mapping.problem import Problem
from compiler.mapping.replicas import with_copies
from compiler.mapping.settle import settle
from compiler.optimisations import Optimisation
from compiler.passes.attach_hosts import attached
from compiler.placement import Placement, split
from isa.hardware import Hardware, load_target
from isa.program import Limits, Origin, Program, segments_of
from runtime.machine import Machine

ONE_TILE = frozenset({Optimisation.SPLIT_CONTEXT, Optimisation.GROUP_HEADS, Optimisation.COPY_HEADS})
"""Without these a KV head is on one tile, or its projections are on others."""


@dataclass(frozen=True)
class Choices:
    """How a test wants a graph compiled."""

    context: int = 256
    arithmetic: Arithmetic = Arithmetic.INT8
    hub_width: int = 1024
    block: int = 64
    sequences: int = 1
    chunk: int | None = None
    source: int = 0
    kv_tokens: int | None = None
    without: frozenset[Optimisation] = frozenset()
    stream: bool | None = None
    ways: int = 0
    kv_block: int = 0
    together: int = 0
    copies: int = 0
    few_outputs: bool = False
    own_outputs: bool = False
    own_projections: bool = False
    projection_tiles: int = 0
    passing: int = 0
    place: Placement = Placement.ALL
    kv: KvChoice = KvChoice()  # noqa: RUF009  (frozen)


def with_quantity(hardware: Hardware, part: str, name: str, value: float) -> Hardware:
    """The target with one number changed."""
    section = getattr(hardware, part)
    quantity = getattr(section, name).model_copy(update={"value": value})
    return hardware.model_copy(update={part: section.model_copy(update={name: quantity})})


def tiny(tiles: int = 6) -> Hardware:
    """The teaching target with tiles x tiles tiles."""
    return with_quantity(
        with_quantity(load_target("tiny"), "chip", "tiles_x", tiles), "chip", "tiles_y", tiles
    )


def mapping_of(graph: Graph, hardware: Hardware, choices: Choices = Choices()) -> Mapping:
    """The mapping of a graph, verified, its chunk chosen."""
    limits = Limits(choices.context, chunk=1, sequences=choices.sequences, max_source=choices.source)
    options = MapOptions(
        choices.hub_width,
        choices.block,
        without=choices.without,
        kv=choices.kv,
        kv_tokens=choices.kv_tokens,
        page_rows=choices.block if choices.kv_tokens else 0,
        stream=choices.stream,
        context_ways=choices.ways,
        context_block=choices.kv_block,
        heads_together=choices.together,
        kv_copies=choices.copies,
        few_outputs=choices.few_outputs,
        own_outputs=choices.own_outputs,
        own_projections=choices.own_projections,
        projection_tiles=choices.projection_tiles,
        passing=choices.passing,
    )
    mapping = settle(Problem(graph, hardware, limits, choices.arithmetic), options).mapping
    verify_mapping(mapping)
    mapping = with_chunk(mapping, choose_chunk(mapping, hardware, choices.chunk))
    return mapping if Optimisation.COPY_ARRAYS in choices.without else with_copies(mapping, hardware)


def program_of(graph: Graph, hardware: Hardware, choices: Choices = Choices()) -> Program:
    """The program of a graph."""
    chip = split(graph, choices.place)
    double = Optimisation.DOUBLE_BUFFER not in choices.without
    mapping = mapping_of(chip, hardware, choices)
    program = build_program(mapping, hardware, Origin(), shapes_only=False, double=double)
    if chip.hosts:
        program = attached(program, chip, graph)
    return program


def run(
    machine: Machine, ids: NDArray[np.int64], position: int = 0, sequence: int = 0
) -> NDArray[np.float32]:
    """Logits of every token of one step."""
    chunk = machine.program.limits.chunk
    segments = segments_of(len(ids), position, chunk, last_only=False, sequence=sequence)
    result: NDArray[np.float32] = machine.step(segments, {"input_ids": ids.astype(np.int32)[:, None]})[
        "logits"
    ]
    return result


def reference(graph: Graph, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """Logits of every token by the graph's reference meaning."""
    return np.asarray(evaluate(graph, ids), dtype=np.float32)
