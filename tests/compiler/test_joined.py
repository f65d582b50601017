"""A head's queries, keys and values from one array on its tile, and output projections on the heads' own tiles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compiler.ir.graph import Graph, Rotary
from compiler.ir.mapping import Arithmetic, Take
from compiler.ir.mapping_text import parse_mapping, print_mapping
from compiler.optimisations import Optimisation
from isa.program import Program, segments_of
from isa.verifier import verify
from runtime.machine import Machine
from runtime.timing import Simulator

from .building import Choices, mapping_of, program_of, reference, run, tiny
from .graphs import Shape, decoder

IDS = np.random.default_rng(1).integers(0, 64, 20)
APART = frozenset({Optimisation.JOIN_HEADS})


def _unturned(shape: Shape) -> Graph:
    """A decoder without rotary embedding: nothing stands between its projections and attention."""
    graph = decoder(shape)
    turned = {node.output.name: node.inputs[0] for node in graph.nodes if isinstance(node.op, Rotary)}
    kept = [node for node in graph.nodes if not isinstance(node.op, Rotary)]
    nodes = [replace(node, inputs=tuple(turned.get(name, name) for name in node.inputs)) for node in kept]
    return replace(graph, nodes=tuple(nodes))


GRAPHS = {
    "a head each": _unturned(Shape(bias=True, kv_heads=4)),
    "shared": _unturned(Shape(bias=True)),
    "without biases": _unturned(Shape(bias=False, kv_heads=4)),
}
BASE = Choices(32, ways=1, copies=1)


def _program(name: str, choices: Choices) -> Program:
    program = program_of(GRAPHS[name], tiny(14), choices)
    verify(program)
    return program


def _cycles(program: Program) -> int:
    return Simulator(program).step(segments_of(12, 0, program.limits.chunk)).cycles


@pytest.mark.parametrize("chunk", [1, 2, None])
@pytest.mark.parametrize("name", GRAPHS)
def test_values_are_those_of_arrays_apart(name: str, chunk: int | None) -> None:
    choices = replace(BASE, chunk=chunk)
    made = mapping_of(GRAPHS[name], tiny(14), choices)
    assert any(isinstance(block.op, Take) for template in made.templates for block in template.blocks)
    assert parse_mapping(print_mapping(made)) == made
    joined, apart = _program(name, choices), _program(name, replace(choices, without=APART))
    np.testing.assert_array_equal(run(Machine(joined), IDS), run(Machine(apart), IDS))
    assert chunk != 1 or _cycles(joined) < _cycles(apart)  # longer segments have their columns copied


@pytest.mark.parametrize("arithmetic", Arithmetic)
@pytest.mark.parametrize("name", GRAPHS)
def test_output_projections_on_the_heads_own_tiles(name: str, arithmetic: Arithmetic) -> None:
    choices = replace(BASE, arithmetic=arithmetic, together=2, own_outputs=True)
    program = _program(name, choices)
    assert not any(role.name.startswith("combine") for role in program.roles)
    expected = reference(GRAPHS[name], IDS)
    tolerance = 1e-5 if arithmetic is Arithmetic.FLOAT32 else 0.05
    np.testing.assert_allclose(run(Machine(program), IDS), expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("chunk", [1, None])
@pytest.mark.parametrize("name", GRAPHS)
def test_tiles_over_which_a_head_is_dealt_make_its_rows_themselves(name: str, chunk: int | None) -> None:
    dealt = replace(BASE, ways=2, kv_block=16, chunk=chunk)
    own, sent = _program(name, replace(dealt, own_projections=True)), _program(name, dealt)
    projects = [sum(tile.role.startswith("project") for tile in p.tiles) for p in (own, sent)]
    assert projects[0] < projects[1]
    np.testing.assert_array_equal(run(Machine(own), IDS), run(Machine(sent), IDS))


@pytest.mark.parametrize("arithmetic", Arithmetic)
@pytest.mark.parametrize("name", GRAPHS)
def test_projections_of_a_dealt_head_on_several_tiles(name: str, arithmetic: Arithmetic) -> None:
    dealt = replace(BASE, ways=2, kv_block=16, arithmetic=arithmetic)
    one, several = _program(name, dealt), _program(name, replace(dealt, projection_tiles=3))
    projects = [sum(tile.role.startswith("project") for tile in p.tiles) for p in (one, several)]
    assert projects[0] < projects[1]
    np.testing.assert_array_equal(run(Machine(one), IDS), run(Machine(several), IDS))


def test_rows_are_made_elsewhere_where_the_tiles_of_a_head_have_no_room_for_weights() -> None:
    dealt, most, projects = replace(BASE, ways=2, kv_block=16, own_projections=True), tiny(14), []
    for macros in (most.tile.macros.value, 4.0):  # 3 for queries, keys and values in one array, 2 for rows
        few = most.tile.macros.model_copy(update={"value": macros})
        hardware = most.model_copy(update={"tile": most.tile.model_copy(update={"macros": few})})
        program = program_of(GRAPHS["a head each"], hardware, dealt)
        verify(program)
        projects.append(sum(tile.role.startswith("project") for tile in program.tiles))
    assert projects[0] < projects[1]
