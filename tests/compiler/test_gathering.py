"""Rows of embeddings that are looked up on other chips: in pieces, added up where they are found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.backend.layout import LEAD, plan_buffer
from compiler.ir.evaluate import evaluate
from compiler.ir.graph import Add, Embed, Graph, Input, Linear, Role, Value
from compiler.ir.mapping import FOUND, Arithmetic, Receive
from compiler.ir.tensor import DType
from compiler.mapping.rules import gather_columns
from compiler.optimisations import Optimisation
from isa.hardware import Hardware, load_target
from isa.instructions import Gather, Load, Recv
from isa.program import Program
from isa.timing.rates import ceil_div
from isa.verifier import verify
from runtime.machine import Machine

from .building import Choices, mapping_of, program_of, run, with_quantity
from .graphs import Sketch

VOCABULARY, WIDTH, CONTEXT = 40, 128, 32
IDS = np.random.default_rng(3).integers(0, VOCABULARY, 21)


def system(chips: int, gbuf_kib: float = 1, gigabytes: float = 1.6) -> Hardware:
    """A row of small chips; each of two DRAM channels gives so many GB/s."""
    hardware = load_target("tiny")
    for part, name, value in (
        ("system", "chips_x", chips),
        ("gbuf", "capacity", gbuf_kib),
        ("dram", "bandwidth", gigabytes),
    ):
        hardware = with_quantity(hardware, part, name, value)
    return hardware


def embeddings() -> Graph:
    """Logits of a token and its position."""
    s = Sketch(0)
    tokens = s.add(Embed(), "ids", s.weight("tokens", VOCABULARY, WIDTH, scale=1.0))
    positions = s.add(Embed(), "positions", s.weight("places", CONTEXT, WIDTH, scale=1.0))
    x = s.add(Add(), tokens, positions)
    logits = s.add(Linear(), x, s.weight("head", WIDTH, VOCABULARY), name="logits")
    inputs = (
        Input(Value("ids", DType.INT64, None), Role.IDS),
        Input(Value("positions", DType.INT64, None), Role.POSITIONS),
    )
    return Graph("embeddings", inputs, (logits,), tuple(s.nodes), s.constants)


def gatherers(program: Program) -> list[int]:
    """The chips of the tiles that look up for others."""
    return [
        program.target.chip_of(tile.x, tile.y) for tile in program.tiles if tile.role.startswith("gather")
    ]


@pytest.mark.parametrize("arithmetic", Arithmetic)
def test_values_do_not_depend_on_where_rows_are_looked_up(arithmetic: Arithmetic) -> None:
    graph, choices = embeddings(), Choices(CONTEXT, arithmetic, hub_width=64)
    here = Choices(CONTEXT, arithmetic, 64, without=frozenset({Optimisation.GATHER}))
    base = program_of(graph, system(4), here)
    assert not gatherers(base)
    expected = run(Machine(base), IDS)
    meant = np.asarray(evaluate(graph, IDS))
    np.testing.assert_allclose(expected, meant, atol=0.02 * np.abs(meant).max())
    for chips in (2, 4):
        program = program_of(graph, system(chips), choices)
        verify(program)
        assert len(set(gatherers(program))) == len(gatherers(program)) == chips
        np.testing.assert_array_equal(run(Machine(program), IDS), expected)


def test_tables_that_fit_the_global_buffer_are_looked_up_by_the_hub() -> None:
    assert not gatherers(program_of(embeddings(), system(4, gbuf_kib=64), Choices(CONTEXT, hub_width=64)))


@given(
    cols=st.integers(1, 2048),
    tiles=st.integers(1, 16),
    chips=st.integers(2, 40),
    gigabytes=st.sampled_from([0.8, 6.4, 25.6, 100.0]),
    rows=st.lists(st.sampled_from([10, 500, 50_000]), min_size=1, max_size=3),
)
@settings(max_examples=100)
def test_pieces_have_a_chip_each_and_whole_granules(
    cols: int, tiles: int, chips: int, gigabytes: float, rows: list[int]
) -> None:
    hardware = system(chips, gigabytes=gigabytes)
    each = gather_columns(cols, tiles, hardware, rows)
    assert each * 4 % hardware.granule_bytes == 0
    assert ceil_div(cols, each) * tiles <= max(chips, tiles)
    assert gather_columns(cols, tiles, hardware, [*rows, 50_000]) <= each


def test_rows_by_position_do_not_wait_for_ids() -> None:
    program = program_of(embeddings(), system(3), Choices(CONTEXT))
    roles = [role for role in program.roles if role.name.startswith("gather")]
    assert roles
    for role in roles:
        kinds = [type(inst) for inst in role.code]
        assert kinds.index(Load) < kinds.index(Recv) < kinds.index(Gather)


def test_positions_beyond_the_context_are_not_kept() -> None:
    program = program_of(embeddings(), system(4), Choices(CONTEXT // 2, hub_width=64))
    tables = {tensor.shape for tensor in program.tensors if tensor.name.startswith("places")}
    assert {shape[0] for shape in tables} == {CONTEXT // 2}


def test_memories_run_little_ahead_of_what_waits_for_them() -> None:
    """Tiles that get looked-up rows have few places for them, though they have room for more: others fill links."""
    mapping = mapping_of(embeddings(), system(4), Choices(CONTEXT, Arithmetic.INT8, hub_width=64, chunk=1))
    found = {
        template.name: any(block.site == FOUND and isinstance(block.op, Receive) for block in template.blocks)
        for template in mapping.templates
    }
    places = {
        template.name: plan_buffer(template, mapping.arithmetic, mapping.limits, system(4)).places
        for template in mapping.templates
    }
    assert {places[name] for name, gets in found.items() if gets} == {LEAD}
    assert max(places[name] for name, gets in found.items() if not gets) > LEAD
