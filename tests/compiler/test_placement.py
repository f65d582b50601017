"""Models of which the host runs a part within each step: values, programs, what crosses the link, time and energy."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compiler.ir.evaluate import evaluate
from compiler.ir.graph import Linear
from compiler.ir.mapping import Arithmetic
from compiler.placement import Placement, split
from isa.asm_print import program_text
from isa.assembler import assemble
from isa.diagnostics import CimError
from isa.events import Bound, Component, Event, Resource
from isa.hardware import load_target
from isa.hostcount import work_of
from isa.program import Direction, Moment, Program, Segment, segments_of
from isa.verifier import verify
from runtime.energy import energy
from runtime.machine import Machine
from runtime.timing import Simulator

from .building import Choices, program_of, reference, run, tiny
from .graphs import Shape, decoder
from .structures import STRUCTURES, VOCABULARY, structure

LENGTH = 60
SHAPES = {
    "llama": Shape(),
    "gpt": Shape(bias=True, kv_heads=4),
    "head-norm": Shape(head_norm=True),
    "window": Shape(window=20, softcap=5.0),
    "encoder": Shape(causal=False, bias=True, kv_heads=4),
    "encoder-groups": Shape(causal=False),
}
PLACES = [Placement.ATTENTION, Placement.ATTENTION_FFN]
IDS = np.random.default_rng(1).integers(0, 64, LENGTH)


def _program(shape: Shape, place: Placement, arithmetic: Arithmetic, sequences: int = 1) -> Program:
    return program_of(decoder(shape), tiny(14), Choices(128, arithmetic, place=place, sequences=sequences))


@pytest.fixture(scope="module", params=PLACES, ids=lambda place: place.value)
def program(request: pytest.FixtureRequest) -> Program:
    return _program(Shape(), request.param, Arithmetic.INT8, sequences=2)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", SHAPES)
def test_ideal_arithmetic_equals_the_reference(name: str, place: Placement) -> None:
    program = _program(SHAPES[name], place, Arithmetic.FLOAT32)
    verify(program)
    expected = reference(decoder(SHAPES[name]), IDS)
    np.testing.assert_allclose(run(Machine(program), IDS), expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", SHAPES)
def test_int8_is_close_to_the_reference(name: str, place: Placement) -> None:
    program = _program(SHAPES[name], place, Arithmetic.INT8)
    verify(program)
    logits, expected = run(Machine(program), IDS), reference(decoder(SHAPES[name]), IDS)
    assert np.sqrt(np.mean((logits - expected) ** 2)) / np.std(expected) < 0.03


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", STRUCTURES)
def test_whatever_reads_what(name: str, place: Placement) -> None:
    """Structures beyond the usual layers: right, or refused because there is nothing for the chip."""
    graph, ids = structure(name), np.random.default_rng(3).integers(0, VOCABULARY, 37)
    try:
        program = program_of(graph, tiny(10), Choices(64, Arithmetic.FLOAT32, 32, place=place))
    except CimError as error:
        assert error.diagnostics[0].code == "E0305"
        return
    verify(program)
    segments = segments_of(len(ids), 0, program.limits.chunk, last_only=False)
    results = Machine(program).step(segments, {"input_ids": ids.astype(np.int32)})
    assert set(results) == set(graph.outputs)
    expected = np.asarray(evaluate(graph, ids))
    np.testing.assert_allclose(results[graph.outputs[0]], expected, atol=2e-5 * np.abs(expected).max())


# ------------------------------------------------------------------------------------------------------ the parts


def test_the_chip_keeps_what_it_is_asked_to_keep() -> None:
    graph = decoder(Shape(layers=3))
    chip = split(graph, Placement.ATTENTION)
    assert not any(isinstance(node.op, Linear) for node in chip.nodes)
    assert [p.name for p in chip.hosts] == ["part0", "part1", "part2", "part3"]
    more = split(graph, Placement.ATTENTION_FFN)
    assert sum(isinstance(node.op, Linear) for node in more.nodes) == 3 * 3
    assert len(more.hosts) == 2 * 3 + 1
    assert split(graph, Placement.ALL) is graph


def test_a_model_without_attention_is_refused() -> None:
    graph = decoder(Shape(layers=0))
    with pytest.raises(CimError, match="the model has no attention"):
        split(graph, Placement.ATTENTION)


def test_weights_are_read_once_they_are_asked_for() -> None:
    chip = split(decoder(Shape(bias=True)), Placement.ATTENTION)
    for part in chip.hosts:
        assert part.model.data().shape == part.model.shape


def test_text_round_trip(program: Program) -> None:
    named = replace(program, target=load_target("tiny"))  # a text names its target
    again = assemble(program_text(named))
    assert again == named
    assert {part.moment for part in again.hosts} == {Moment.WITHIN}
    assert any(stream.every for stream in again.streams)
    assert {s.name for s in again.streams if not s.parts} == {"input_ids", "logits"}


# --------------------------------------------------------------------------------------------------------- values


@settings(max_examples=15)
@given(st.lists(st.integers(1, LENGTH - 1), max_size=6, unique=True))
def test_cutting_a_sequence_into_steps_changes_nothing(program: Program, cuts: list[int]) -> None:
    """The chip's arithmetic does not change by a bit; the host's products may, with the number of their rows."""
    whole = run(Machine(program), IDS)
    machine = Machine(program)
    parts = [run(machine, IDS[a:b], a) for a, b in itertools.pairwise([0, *sorted(cuts), LENGTH])]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=0.02 * np.abs(whole).max())


def _both(program: Program, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float32]:
    """Logits of two sequences that share a step."""
    chunk = program.limits.chunk
    segments = [
        *segments_of(len(first), 0, chunk, last_only=False),
        *segments_of(len(second), 0, chunk, last_only=False, sequence=1),
    ]
    ids = np.concatenate([first, second]).astype(np.int32)
    return np.asarray(Machine(program).step(segments, {"input_ids": ids})["logits"])


@pytest.mark.parametrize("place", PLACES)
def test_sequences_share_a_step(place: Placement) -> None:
    program = _program(Shape(), place, Arithmetic.FLOAT32, sequences=2)
    first, second = IDS[:37], IDS[20:31]
    alone = np.concatenate([run(Machine(program), ids) for ids in (first, second)])
    together = _both(program, first, second)
    np.testing.assert_allclose(together, alone, atol=1e-5 * np.abs(alone).max())


def test_only_wanted_rows_are_made_at_the_end(program: Program) -> None:
    segments = segments_of(LENGTH, 0, program.limits.chunk, last_only=True)
    logits = Machine(program).step(segments, {"input_ids": IDS.astype(np.int32)})["logits"]
    whole = run(Machine(program), IDS)
    assert logits.shape[0] == 1
    np.testing.assert_allclose(logits[0], whole[-1], atol=1e-4 * np.abs(whole).max())


def test_the_order_in_which_tiles_take_turns_does_not_show() -> None:
    program = _program(Shape(), Placement.ATTENTION_FFN, Arithmetic.INT8)
    random = np.random.default_rng(4)
    mixed = Machine(program, pick=lambda ready: int(random.integers(ready)))
    np.testing.assert_array_equal(run(mixed, IDS), run(Machine(program), IDS))


# ----------------------------------------------------------------------------------------------- time and energy


def _prefill(program: Program, tokens: int, *, last_only: bool = True) -> tuple[Segment, ...]:
    return segments_of(tokens, 0, program.limits.chunk, last_only=last_only)


def test_time_of_the_host_appears_and_adds_up(program: Program) -> None:
    segments = _prefill(program, LENGTH)
    cost = Simulator(program).step(segments)
    assert sum(cost.critical.values()) == cost.cycles == sum(cost.critical_nodes.values())
    assert cost.critical[Bound.HOST] == cost.busy[Resource.HOST] > 0
    whole = Simulator(_program(Shape(), Placement.ALL, Arithmetic.INT8)).step(segments)
    assert whole.busy[Resource.HOST] == 0
    nodes = {node for (event, node) in cost.events if event is Event.HOST_BUSY_NS}
    assert nodes <= {node for part in program.hosts for node in part.nodes}


def test_the_host_works_for_the_roofline_of_its_parts(program: Program) -> None:
    """All rows go through a part at once; the last part has those whose outputs are wanted."""
    target, tokens = program.target, 23
    cost = Simulator(program).step(_prefill(program, tokens))
    *others, last = program.hosts
    works = [work for part in others for work in work_of(part.definition, tokens)]
    works += work_of(last.definition, 1)
    seconds = sum(work.seconds(target) for work in works)
    assert cost.busy[Resource.HOST] == pytest.approx(seconds * target.clock.si, abs=len(program.hosts))
    assert cost.count(Event.HOST_BUSY_NS) == pytest.approx(seconds * 1e9, abs=len(works))
    spent = energy(target, program, [cost])
    host = spent.by_component[Component.HOST]
    memory = sum(work.bytes for work in works) * target.host.memory_energy.si
    assert host == pytest.approx(seconds * target.host.power.si + memory, rel=1e-3)
    assert math.fsum(spent.by_component.values()) == pytest.approx(spent.total)


def test_without_wanted_rows_the_last_part_does_not_run(program: Program) -> None:
    asked = Simulator(program).step([Segment(8, 0, 8)])
    silent = Simulator(program).step([Segment(8, 0, 0)])
    last = work_of(program.hosts[-1].definition, 8)
    cycles = sum(work.seconds(program.target) for work in last) * program.target.clock.si
    assert asked.busy[Resource.HOST] - silent.busy[Resource.HOST] == pytest.approx(cycles, abs=1)


def test_sequences_go_through_the_host_together(program: Program) -> None:
    """Weights are read once: two sequences cost the host less than twice one."""
    one = Simulator(program).step([Segment(1, 9, 1)])
    two = Simulator(program).step([Segment(1, 9, 1), Segment(1, 5, 1, 1)])
    assert one.busy[Resource.HOST] <= two.busy[Resource.HOST] < 1.2 * one.busy[Resource.HOST]
    rows = [work_of(part.definition, 2) for part in program.hosts]
    expected = sum(w.seconds(program.target) for works in rows for w in works) * program.target.clock.si
    assert two.busy[Resource.HOST] == pytest.approx(expected, abs=len(program.hosts))


def test_bytes_over_the_link_are_those_of_a_closed_form() -> None:
    """A token sends q, k, v to the chip and gets what attention makes of it, float32, in every layer; of the last
    layer only rows whose outputs are wanted come back. With feed-forward layers on the chip, their rows too."""
    shape, tokens, wanted = Shape(layers=3), 40, 1
    dim = shape.width // shape.heads
    there, back = (shape.heads + 2 * shape.kv_heads) * dim, shape.heads * dim
    program = _program(shape, Placement.ATTENTION, Arithmetic.INT8)
    cost = Simulator(program).step(_prefill(program, tokens))
    rows = tokens * (shape.layers * there + (shape.layers - 1) * back) + wanted * back
    assert cost.count(Event.HOST_LINK_BYTE) == 4 * rows

    program = _program(shape, Placement.ATTENTION_FFN, Arithmetic.INT8)
    cost = Simulator(program).step(_prefill(program, tokens))
    ffn = shape.width * (tokens * (2 * shape.layers - 1) + wanted)
    assert cost.count(Event.HOST_LINK_BYTE) == 4 * (tokens * shape.layers * (there + back) + ffn)


def test_attention_needs_no_tiles_but_its_own() -> None:
    program = _program(Shape(layers=2), Placement.ATTENTION, Arithmetic.INT8)
    kinds = {tile.role.partition("_")[0] for tile in program.tiles}
    assert kinds <= {"attention", "take", "attend"}
    going = {s.name: s for s in program.streams if s.direction is Direction.OUT and s.parts}
    assert [stream.every for stream in going.values()] == [True, False]


def test_heads_that_come_as_they_are_go_over_several_tiles() -> None:
    """A cache that is too long for a tile, and the values of one that is dealt or not."""
    graph, asked = decoder(Shape()), Choices(128, Arithmetic.FLOAT32, place=Placement.ATTENTION)
    one, two = (program_of(graph, tiny(14), replace(asked, ways=ways)) for ways in (1, 2))
    assert len(one.tiles) < len(two.tiles)
    expected = run(Machine(one), IDS)
    np.testing.assert_allclose(run(Machine(two), IDS), expected, atol=1e-5 * np.abs(expected).max())
    long = program_of(graph, tiny(14), replace(asked, context=2048, arithmetic=Arithmetic.INT8))
    verify(long)
    assert {tile.role.partition("_")[0] for tile in long.tiles} == {"take", "attend"}
