"""A KV head dealt over several tiles gives what one tile gives, however it is dealt."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.ir.mapping import Arithmetic, Mapping
from compiler.ir.operations import Attend, Finish
from compiler.mapping.policies import KvChoice
from isa import instructions as t
from isa.diagnostics import CimError
from isa.interface import KvPolicy
from isa.program import Program, Role, segments_of
from isa.verifier import findings, verify
from runtime.machine import Machine
from runtime.timing import Simulator

from .building import ONE_TILE, Choices, mapping_of, program_of, reference, run, tiny, with_quantity
from .cross_graphs import Cross, cross
from .graphs import Shape, decoder

LENGTH = 100
IDS = np.random.default_rng(1).integers(0, 64, LENGTH)
SHAPES = {
    "groups": Shape(),
    "biased": Shape(bias=True, kv_heads=4, layers=1),
    "head-norm": Shape(head_norm=True, layers=1),
    "window": Shape(window=90, softcap=5.0, layers=1),
    "encoder": Shape(causal=False, layers=1),
    "wide": Shape(width=320, layers=1, heads=4, kv_heads=4, inner=256, vocabulary=64),
}
DEALS = {  # tiles of a head, rows of a block, heads at an output projection
    "two": (2, 32, 1),
    "uneven": (3, 16, 0),
    "each": (8, 16, 2),
    "one": (1, 64, 4),
}


def _choices(deal: str, sequences: int = 1, arithmetic: Arithmetic = Arithmetic.INT8) -> Choices:
    ways, block, together = DEALS[deal]
    return Choices(
        128, arithmetic, sequences=sequences, ways=ways, kv_block=block, together=together, source=96
    )


def _dealt(mapping: Mapping) -> set[int]:
    """Over how many tiles heads are dealt."""
    return {b.op.ways for m in mapping.templates for b in m.blocks if isinstance(b.op, Attend)}


@pytest.mark.parametrize("deal", DEALS)
@pytest.mark.parametrize("name", SHAPES)
def test_ideal_arithmetic_equals_the_reference(name: str, deal: str) -> None:
    graph, choices = decoder(SHAPES[name]), replace(_choices(deal, 1, Arithmetic.FLOAT32), source=0)
    assert _dealt(mapping_of(graph, tiny(14), choices)) == {DEALS[deal][0]}
    expected = reference(graph, IDS)
    got = run(Machine(program_of(graph, tiny(14), choices)), IDS)
    np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("deal", DEALS)
@pytest.mark.parametrize("name", SHAPES)
def test_int8_is_close_to_one_tile(name: str, deal: str) -> None:
    graph, choices = decoder(SHAPES[name]), replace(_choices(deal), source=0)
    program = program_of(graph, tiny(14), choices)
    verify(program)
    one = run(Machine(program_of(graph, tiny(14), replace(choices, without=ONE_TILE))), IDS)
    error = np.sqrt(np.mean((run(Machine(program), IDS) - one) ** 2)) / np.std(one)
    assert error < 0.03


def test_output_projections_on_few_tiles_equal_the_reference() -> None:
    graph, found = decoder(SHAPES["groups"]), []
    for few in (False, True):
        choices = replace(_choices("each", 1, Arithmetic.FLOAT32), source=0, few_outputs=few)
        program = program_of(graph, tiny(14), choices)
        verify(program)
        found.append(sum(tile.role.startswith("combine") for tile in program.tiles))
        expected = reference(graph, IDS)
        np.testing.assert_allclose(run(Machine(program), IDS), expected, atol=1e-5 * np.abs(expected).max())
    assert found[0] > found[1] > 0


@pytest.mark.parametrize("arithmetic", [Arithmetic.FLOAT32, Arithmetic.INT8])
def test_heads_of_one_output_tile_are_finished_there_together(arithmetic: Arithmetic) -> None:
    graph = decoder(SHAPES["groups"])
    choices = Choices(128, arithmetic, ways=2, kv_block=32, together=2, few_outputs=True)
    mapping = mapping_of(graph, tiny(14), choices)
    (tile,) = (m for m in mapping.templates if m.name == "combine")
    (finish,) = (b.op for b in tile.blocks if isinstance(b.op, Finish))
    assert finish.heads == 4  # two KV heads with two query heads each, whose rows are quantised as one
    assert not any(port.name.endswith("_to") for port in tile.ports)
    expected, got = reference(graph, IDS), run(Machine(program_of(graph, tiny(14), choices)), IDS)
    assert np.sqrt(np.mean((got - expected) ** 2)) / np.std(expected) < (
        1e-5 if choices.arithmetic is Arithmetic.FLOAT32 else 0.1
    )


def test_output_projections_take_few_tiles_where_there_are_few() -> None:
    graph, choices = decoder(SHAPES["groups"]), replace(_choices("one"), source=0)
    most = len(mapping_of(graph, tiny(14), choices).tiles)
    side = int((most - 1) ** 0.5)
    assert len(mapping_of(graph, tiny(side), choices).tiles) <= side * side < most


@pytest.mark.parametrize("sequences", [1, 3])
@pytest.mark.parametrize("kind", ["t5", "encoder"])
@pytest.mark.parametrize("deal", DEALS)
def test_cross_attention_and_encoders_verify(deal: str, kind: str, sequences: int) -> None:
    shape = Cross(reach=12) if kind == "t5" else Cross(encoder=1)
    verify(program_of(cross(shape), tiny(14), _choices(deal, sequences)))


@pytest.fixture(scope="module", params=["uneven", "each"])
def program(request: pytest.FixtureRequest) -> Program:
    choices = replace(_choices(request.param, 3), source=0)
    return program_of(decoder(Shape(layers=1)), tiny(14), choices)


@settings(max_examples=8)
@given(st.lists(st.integers(1, LENGTH - 1), max_size=8, unique=True), st.integers(0, 2))
def test_cutting_a_sequence_into_steps_changes_no_bit(program: Program, cuts: list[int], at: int) -> None:
    whole = run(Machine(program), IDS)
    machine, borders = Machine(program), [0, *sorted(cuts), LENGTH]
    parts = [run(machine, IDS[a:b], a, at) for a, b in itertools.pairwise(borders)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_sequences_share_a_step(program: Program) -> None:
    verify(program)
    chunk, rows = program.limits.chunk, (IDS[:40], IDS[50:75], IDS[3:90])
    cuts = [segments_of(len(ids), 0, chunk, last_only=False, sequence=at) for at, ids in enumerate(rows)]
    ids = np.concatenate(rows).astype(np.int32)[:, None]
    found = Machine(program).step(list(itertools.chain(*cuts)), {"input_ids": ids})["logits"]
    expected = np.concatenate([run(Machine(program), ids) for ids in rows])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("sequence", [0, 2])
def test_caches_are_read_and_written_where_blocks_lie(sequence: int) -> None:
    graph = decoder(Shape(layers=1))
    choices = replace(_choices("uneven", 3), source=0)
    machine = Machine(program_of(graph, tiny(14), choices))
    run(machine, IDS, 0, sequence)
    keys, values = machine.read_cache(0, sequence, LENGTH)
    plain = Machine(program_of(graph, tiny(14), replace(choices, without=ONE_TILE)))
    run(plain, IDS, 0, sequence)
    for found, expected in zip((keys, values), plain.read_cache(0, sequence, LENGTH), strict=True):
        np.testing.assert_array_equal(found, expected)
    other = Machine(machine.program)
    other.write_cache(0, sequence, keys[:, :60], values[:, :60])
    whole = run(Machine(machine.program), IDS)
    np.testing.assert_allclose(
        run(other, IDS[60:], 60, sequence), whole[60:], atol=0.02 * np.abs(whole).max()
    )


def test_a_cache_too_large_for_a_tile_is_dealt_over_as_many_as_it_needs() -> None:
    graph, context = decoder(Shape(layers=1)), 4096
    with pytest.raises(CimError) as error:
        mapping_of(graph, tiny(16), Choices(context, without=ONE_TILE, kv=KvChoice(KvPolicy.RESIDENT)))
    assert error.value.diagnostics[0].code == "E0304"
    mapping = mapping_of(graph, tiny(16), Choices(context, ways=1))
    assert min(_dealt(mapping)) > 1


def test_more_tiles_a_head_make_a_long_context_faster() -> None:
    graph, cycles = decoder(Shape(layers=1)), []
    for ways in (1, 4, 16):
        program = program_of(graph, tiny(16), Choices(1024, ways=ways))
        cycles.append(Simulator(program).step(segments_of(1, 1000, program.limits.chunk)).cycles)
    assert cycles[0] > cycles[1] > cycles[2]


def test_heads_take_no_more_tiles_than_there_are() -> None:
    graph = decoder(Shape(layers=1))
    wanted = len(mapping_of(graph, tiny(16), Choices(1024)).tiles)
    least = len(mapping_of(graph, tiny(16), Choices(1024, ways=1)).tiles)
    side = int(((wanted + least) / 2) ** 0.5)
    assert least < side * side < wanted
    found = mapping_of(graph, tiny(side), Choices(1024))
    assert least < len(found.tiles) <= side * side


@pytest.mark.parametrize("arithmetic", Arithmetic)
def test_columns_too_long_for_a_tile_are_cut_by_rows(arithmetic: Arithmetic) -> None:
    graph = decoder(Shape(width=320, layers=1, heads=4, kv_heads=2, inner=64, vocabulary=64, bias=True))
    small = with_quantity(tiny(20), "tile", "macros", 16)
    choices = Choices(128, arithmetic, hub_width=64)
    assert any(b.site == "sum" for m in mapping_of(graph, small, choices).templates for b in m.blocks)
    program, expected = program_of(graph, small, choices), reference(graph, IDS)
    verify(program)
    error = np.abs(run(Machine(program), IDS) - expected).max() / np.abs(expected).max()
    assert error < (2e-5 if arithmetic is Arithmetic.FLOAT32 else 0.1)


def _dealt_program() -> Program:
    choices = replace(_choices("two", 2), source=0)
    return program_of(decoder(Shape(layers=1)), tiny(14), choices)


def _refused(program: Program) -> set[str]:
    return {finding.code for finding in findings(program)}


def test_a_tile_that_takes_itself_for_another_is_refused() -> None:
    program = _dealt_program()
    tiles = [
        replace(tile, params=(1,)) if role.params == ("way",) and tile.params == (0,) else tile
        for tile, role in ((tile, program.role(tile.role)) for tile in program.tiles)
    ]
    assert tiles != list(program.tiles)
    assert "E0404" in _refused(replace(program, tiles=tuple(tiles)))


def test_a_cache_that_names_its_tiles_in_another_order_is_refused() -> None:
    program = _dealt_program()
    caches = [replace(cache, heads=cache.heads[::-1]) for cache in program.caches]
    assert "E0404" in _refused(replace(program, caches=tuple(caches)))


@pytest.mark.parametrize("wrong", [t.Xor, t.Div, t.Mod])
def test_rows_that_go_to_another_block_are_refused(wrong: type[t.Xor | t.Div | t.Mod]) -> None:
    program = _dealt_program()

    def broken(role: Role) -> Role:
        at = next((n for n, i in enumerate(role.code) if isinstance(i, wrong)), None)
        if at is None or "way" not in role.params:
            return role
        inst = role.code[at]
        assert isinstance(inst, wrong)
        other = replace(inst, b=inst.a if isinstance(inst, t.Xor) else 48)
        return replace(role, code=(*role.code[:at], other, *role.code[at + 1 :]))

    assert _refused(replace(program, roles=tuple(map(broken, program.roles)))) & {"E0403", "E0404"}


def test_tiles_that_are_fewer_than_blocks_get_blocks_of_equal_length() -> None:
    graph, choices = decoder(Shape(layers=1)), Choices(256, block=128, ways=3)
    mapping = mapping_of(graph, tiny(14), choices)
    (op,) = {b.op for m in mapping.templates for b in m.blocks if isinstance(b.op, Attend)}
    assert (op.ways, op.block, op.blocks) == (3, 96, 3)
    step = segments_of(1, 255, 1)
    even = Simulator(program_of(graph, tiny(14), choices)).step(step).cycles
    assert even < Simulator(program_of(graph, tiny(14), replace(choices, kv_block=64))).step(step).cycles
