"""Compiled programs cost what a person expects: more work is never cheaper, slower parts are never faster."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isa.hardware import Hardware
from isa.program import Program, segments_of
from runtime.energy import energy
from runtime.timing import StepCost, simulate
from tests.compiler.building import Choices, program_of, tiny, with_quantity
from tests.compiler.graphs import Shape, decoder

GRAPH = decoder(Shape(layers=1))


def compile_for(hardware: Hardware, context: int = 256) -> Program:
    return program_of(GRAPH, hardware, Choices(context=context))


def decode(program: Program, position: int) -> StepCost:
    return simulate(program, segments_of(1, position, program.limits.chunk))


@pytest.fixture(scope="module")
def program() -> Program:
    return compile_for(tiny())


@settings(max_examples=20)
@given(st.integers(0, 7), st.integers(0, 31), st.integers(0, 31))
def test_a_longer_context_is_never_cheaper(program: Program, block: int, one: int, other: int) -> None:
    """In one block of the cache: the block that begins after it lies on a tile of its own, which has one row to look
    at, and the tile of the block before no longer waits for the row that it appends."""
    assert (program.caches[0].block, program.caches[0].ways) == (32, 8)
    short, long = (decode(program, block * 32 + row) for row in sorted((one, other)))
    assert short.cycles <= long.cycles
    assert energy(program.target, program, [short]).total <= energy(program.target, program, [long]).total


def test_a_full_context_costs_more_than_an_empty_one(program: Program) -> None:
    assert decode(program, 0).cycles < decode(program, 255).cycles


@settings(max_examples=15)
@given(st.integers(1, 60), st.integers(1, 40))
def test_more_tokens_are_never_cheaper(program: Program, tokens: int, more: int) -> None:
    few, many = (simulate(program, segments_of(n, 0, program.limits.chunk)) for n in (tokens, tokens + more))
    assert few.cycles < many.cycles
    assert energy(program.target, program, [few]).total < energy(program.target, program, [many]).total


SLOWER = [
    ("macro", "mvm_latency", 40),
    ("macro", "row_write_latency", 50),
    ("vector", "startup", 20),
    ("network", "hop_latency", 7),
    ("gbuf", "latency", 500),
    ("host_link", "latency", 5000),
]


@pytest.mark.parametrize(
    ("part", "name", "value"), SLOWER, ids=[f"{part}.{name}" for part, name, _ in SLOWER]
)
@pytest.mark.parametrize("position", [0, 100])
def test_a_slower_part_is_never_faster(
    program: Program, part: str, name: str, value: float, position: int
) -> None:
    slow = compile_for(with_quantity(tiny(), part, name, value))
    assert decode(program, position).cycles <= decode(slow, position).cycles


WIDER = [
    ("network", "link_width", 64),
    ("cim", "port_width", 256),
    ("vector", "lanes", 64),
    ("buffer", "port_width", 256),
]


@pytest.mark.parametrize(("part", "name", "value"), WIDER, ids=[f"{part}.{name}" for part, name, _ in WIDER])
def test_a_wider_part_is_never_slower(program: Program, part: str, name: str, value: float) -> None:
    wide = compile_for(with_quantity(tiny(), part, name, value))
    assert decode(wide, 100).cycles <= decode(program, 100).cycles


def test_energy_is_the_sum_of_its_parts(program: Program) -> None:
    steps = [decode(program, position) for position in (0, 10, 200)]
    spent = energy(program.target, program, steps)
    assert spent.total > 0
    for sums in (spent.by_category, spent.by_component, spent.by_node, spent.by_cause):
        assert sum(sums.values()) == spent.total
    nodes = {source for node in GRAPH.nodes for source in node.sources}
    assert nodes <= {name for key in spent.by_node for name in key.split()}


def test_timing_needs_no_weights(program: Program) -> None:
    from dataclasses import replace

    bare = replace(program, data=None)
    assert decode(bare, 100).cycles == decode(program, 100).cycles


def test_cost_does_not_depend_on_what_was_run_before(program: Program) -> None:
    first = decode(program, 100)
    decode(program, 3)
    again = decode(program, 100)
    assert (first.cycles, first.events) == (again.cycles, again.events)
