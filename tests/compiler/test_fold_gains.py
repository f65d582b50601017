"""Gains of norms that are taken into the weights behind them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compiler.ir.graph import Graph, Linear, Norm
from compiler.ir.operations import NormQuantise
from compiler.ir.tensor import tensor
from compiler.optimisations import Optimisation
from isa.program import Program, segments_of
from isa.verifier import verify
from runtime.machine import Machine
from runtime.timing import Simulator

from .building import Choices, mapping_of, program_of, reference, run, tiny
from .graphs import Shape, decoder

IDS = np.random.default_rng(1).integers(0, 64, 20)
WITHOUT = frozenset({Optimisation.FOLD_GAINS})
SHAPES = {"rms": Shape(), "layer": Shape(bias=True)}


def _uneven(graph: Graph) -> Graph:
    """The graph with gains that differ by a factor of four."""
    names = sorted(
        {node.inputs[1] for node in graph.nodes if isinstance(node.op, Norm)}
    )  # in one order in every run
    rng = np.random.default_rng(2)
    gains = {
        name: tensor(rng.uniform(0.5, 2, graph.constants[name].shape).astype(np.float32)) for name in names
    }
    return replace(graph, constants={**graph.constants, **gains})


def _program(graph: Graph, without: frozenset[Optimisation] = frozenset()) -> Program:
    return program_of(graph, tiny(14), Choices(32, hub_width=32, without=without))


def _gains(graph: Graph, without: frozenset[Optimisation] = frozenset()) -> set[bool]:
    """Whether norms that are quantised at once have gains of their own."""
    mapping = mapping_of(graph, tiny(14), Choices(32, hub_width=32, without=without))
    return {bool(b.op.gain) for m in mapping.templates for b in m.blocks if isinstance(b.op, NormQuantise)}


@pytest.mark.parametrize("name", SHAPES)
def test_values_are_as_close(name: str) -> None:
    graph = _uneven(decoder(SHAPES[name]))
    assert (_gains(graph), _gains(graph, WITHOUT)) == ({False}, {True})
    expected, errors = reference(graph, IDS), []
    for without in (frozenset[Optimisation](), WITHOUT):
        program = _program(graph, without)
        verify(program)
        errors.append(np.sqrt(np.mean((run(Machine(program), IDS) - expected) ** 2)))
    assert errors[0] < 1.3 * errors[1]


def test_a_token_is_faster() -> None:
    step = segments_of(1, 20, 1)
    folded, apart = (Simulator(_program(decoder(), w)).step(step).cycles for w in (frozenset(), WITHOUT))
    assert folded < apart


def test_a_weight_behind_two_norms_keeps_its_values() -> None:
    graph = _uneven(decoder())
    norms = {node.output.name for node in graph.nodes if isinstance(node.op, Norm)}
    layers = [n for n in graph.nodes if isinstance(n.op, Linear) and n.inputs[0] in norms]
    first = layers[0]
    like = next(
        n
        for n in layers
        if n.inputs[0] != first.inputs[0]
        and graph.constants[n.inputs[1]].shape == graph.constants[first.inputs[1]].shape
    )
    shared = replace(like, inputs=(like.inputs[0], first.inputs[1], *like.inputs[2:]))
    tied = replace(graph, nodes=tuple(shared if node is like else node for node in graph.nodes))
    assert _gains(tied) == {False, True}
    expected = reference(tied, IDS)
    error = np.sqrt(np.mean((run(Machine(_program(tied)), IDS) - expected) ** 2)) / np.std(expected)
    assert error < 0.03
