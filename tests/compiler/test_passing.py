"""Output layers whose weights pass through arrays, from DRAM and from the tile's buffer: values, cuts, time."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from compiler.explain import Note
from compiler.ir.graph import Graph
from compiler.ir.mapping import Arithmetic, MultiplyPieces
from compiler.ir.mapping_text import parse_mapping, print_mapping
from compiler.mapping.mapper import MapOptions
from compiler.mapping.problem import Problem
from compiler.mapping.result_sizes import ResultCut, ResultShape, choose_cut
from compiler.mapping.settle import Settled, settle
from compiler.optimisations import Optimisation
from isa.events import Event
from isa.hardware import Hardware
from isa.instruction import DType
from isa.program import Limits, Program, segments_of
from isa.verifier import findings
from runtime.machine import Machine
from runtime.timing import Simulator
from runtime.timing.result import StepCost

from .building import Choices, mapping_of, program_of, run, tiny, with_quantity
from .graphs import Shape, decoder

LARGE = Shape(vocabulary=2000)
SHORT = Choices(context=64)
IDS = np.arange(7, 31) % 96


def roomy(buffer: int) -> Hardware:
    """The teaching target with tiles of `buffer` KiB."""
    return with_quantity(tiny(8), "tile", "buffer", buffer)


@cache
def program(shape: Shape, choices: Choices, buffer: int = 64) -> Program:
    return program_of(decoder(shape), roomy(buffer), choices)


def pieces(program_of_: Graph, choices: Choices, buffer: int) -> MultiplyPieces:
    mapping = mapping_of(program_of_, roomy(buffer), choices)
    ops = (block.op for template in mapping.templates for block in template.blocks)
    return next(op for op in ops if isinstance(op, MultiplyPieces))


def logits(made: Program, ids: NDArray[np.int64] = IDS) -> NDArray[np.float32]:
    return run(Machine(made), ids)


@pytest.mark.parametrize("arithmetic", Arithmetic)
@pytest.mark.parametrize("tiles", [2, 3, 4])
@pytest.mark.parametrize("shape", [LARGE, replace(LARGE, bias=True)], ids=["plain", "bias"])
def test_values_are_those_of_weights_that_stay(arithmetic: Arithmetic, tiles: int, shape: Shape) -> None:
    chosen = replace(SHORT, arithmetic=arithmetic)
    passing = program(shape, replace(chosen, passing=tiles))
    assert not findings(passing)
    np.testing.assert_array_equal(logits(passing), logits(program(shape, chosen)))


@pytest.mark.parametrize(
    ("tiles", "buffer", "loads", "keeps"),
    [(2, 44, True, False), (2, 56, True, True), (2, 512, False, True)],
    ids=["all from DRAM", "both", "all in the buffer"],
)
def test_pieces_lie_in_the_buffer_as_far_as_it_goes(
    tiles: int, buffer: int, loads: bool, keeps: bool
) -> None:
    chosen = replace(SHORT, passing=tiles)
    op = pieces(decoder(LARGE), chosen, buffer)
    assert (op.loaded > 0, op.kept > 0) == (loads, keeps)
    np.testing.assert_array_equal(logits(program(LARGE, chosen, buffer)), logits(program(LARGE, SHORT, 64)))


def test_how_a_sequence_is_cut_changes_no_bit() -> None:
    whole = logits(program(LARGE, replace(SHORT, passing=3)))
    machine = Machine(program(LARGE, replace(SHORT, passing=3, chunk=2)))
    parts = [run(machine, IDS[at : at + 5], position=at) for at in range(0, len(IDS), 5)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def loaded(cost: StepCost) -> int:
    """Bytes that come from DRAM."""
    return sum(count for (event, _), count in cost.events.items() if event is Event.DRAM_READ_BYTE)


def test_only_segments_with_outputs_load() -> None:
    made = program(LARGE, replace(SHORT, passing=2, chunk=4))
    simulator, chunk = Simulator(made), made.limits.chunk
    start = 40 - 40 % chunk
    steps = (
        segments_of(1, 40, chunk),
        segments_of(3 * chunk, start, chunk),
        segments_of(3 * chunk, start, chunk, last_only=False),
    )
    one, last, every = (loaded(simulator.step(step)) for step in steps)
    assert one <= last < 1.5 * one
    assert every > 2.5 * one


def test_the_mapping_reads_back_equal() -> None:
    mapping = mapping_of(decoder(LARGE), roomy(64), replace(SHORT, passing=3))
    assert parse_mapping(print_mapping(mapping)) == mapping


def small_enough(shape: Shape, tiles: int, **options: object) -> tuple[Settled, list[Note]]:
    notes: list[Note] = []
    chosen = replace(MapOptions(block=64), **options)  # type: ignore[arg-type]
    target = with_quantity(tiny(tiles), "dram", "bandwidth", 0.25)
    return settle(Problem(decoder(shape), target, Limits(64, chunk=1), Arithmetic.INT8), chosen, notes), notes


def test_layers_that_fit_stay() -> None:
    shape = replace(LARGE, vocabulary=30_000)
    settled, notes = small_enough(shape, 6)
    assert settled.options.passing and not settled.options.stream
    assert any("stay in arrays of" in note.text and "in DRAM" in note.text for note in notes)
    folded, _ = small_enough(shape, 6, without=frozenset({Optimisation.KEEP_LAYERS}))
    assert folded.options.stream and not folded.options.passing


def test_more_tiles_load_less() -> None:
    shape = replace(LARGE, vocabulary=30_000)

    def cut_of(tiles: int) -> ResultCut:
        found = choose_cut(tiny(6), ResultShape(64, shape.vocabulary, False, tiles, 4), DType.I8)
        assert found is not None
        return found

    loaded = [tiles * cut_of(tiles).loaded * cut_of(tiles).bytes for tiles in (18, 20, 24, 28)]
    assert loaded == sorted(loaded, reverse=True) and loaded[-1] < 0.7 * loaded[0]


@pytest.mark.parametrize("tiles", range(2, 30, 3))
def test_a_cut_covers_all_columns(tiles: int) -> None:
    shape = ResultShape(64, 30_001, True, tiles, 4)
    found = choose_cut(tiny(6), shape, DType.I8)
    if found is not None:
        passing = (found.loaded + found.kept) * found.columns
        last = shape.cols - (tiles - 1) * found.width
        assert 0 < passing < last <= found.width


def test_streaming_less_takes_less_time() -> None:
    shape = replace(LARGE, vocabulary=12_000)
    slow = with_quantity(tiny(6), "dram", "bandwidth", 0.25)
    step = segments_of(1, 40, 1)
    kept, folded = (
        Simulator(program_of(decoder(shape), slow, replace(SHORT, chunk=1, without=without))).step(step)
        for without in (frozenset[Optimisation](), frozenset({Optimisation.KEEP_LAYERS}))
    )
    assert kept.cycles < folded.cycles
