"""No program is faster than its bound; the bound follows its target and its steps in the right direction."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.ir.mapping import Arithmetic
from compiler.workload import workload_of
from isa.bound import Bound, bound
from isa.hardware import Hardware, load_target
from isa.program import ArrayKind, Program, Segment, segments_of
from isa.workload import (
    AttentionWork,
    Block,
    Product,
    Repeat,
    RowWork,
    SectionWork,
    Task,
    Workload,
    folded,
)
from runtime.segments import source_segments_of
from runtime.timing import Simulator
from tests.compiler import graphs
from tests.compiler.building import Choices, program_of, tiny, with_quantity
from tests.compiler.random_graphs import random_graph

DCIM22 = load_target("dcim22")


def decoder(
    width: int = 512, layers: int = 2, heads: int = 8, kv_heads: int = 4, vocabulary: int = 1000
) -> Workload:
    """The work of a decoder with a gated feed-forward layer."""
    dim = width // heads
    attention = SectionWork(
        first=(Product(width, width + 2 * kv_heads * dim),),
        before=(RowWork(Task.ROTARY, width),),
        attention=AttentionWork(heads, kv_heads, dim, dim),
        last=Product(width, width),
    )
    ffn = SectionWork(
        first=(Product(width, 8 * width),),
        inner=(RowWork(Task.SILU, 4 * width), RowWork(Task.MUL, 4 * width)),
        last=Product(4 * width, width),
    )
    norm = RowWork(Task.RMS, width)
    blocks = [Block(hub=(RowWork(Task.EMBED, width, vocabulary),))]
    for _ in range(layers):
        blocks += [Block(hub=(norm,), sections=(attention,)), Block(hub=(norm,), sections=(ffn,))]
    output = SectionWork(first=(Product(width, vocabulary),), is_result=True)
    return Workload(folded((*blocks, Block(hub=(norm,), sections=(output,)))))


def of_step(hardware: Hardware, work: Workload, tokens: int, position: int, sequences: int = 1) -> Bound:
    """The bound of a step in which each of several sequences takes as many tokens."""
    segments = [s for n in range(sequences) for s in segments_of(tokens, position, 16, sequence=n)]
    found = bound(hardware, work, segments)
    assert found is not None
    return found


def _holds(program: Program, work: Workload, segments: tuple[Segment, ...]) -> None:
    least = bound(program.target, work, segments)
    assert least is not None
    assert Simulator(program).step(segments).cycles >= least.cycles > 0


@settings(max_examples=40)
@given(st.integers(0, 100_000), st.integers(2, 24), st.sampled_from(tuple(Arithmetic)), st.booleans())
def test_no_random_graph_is_faster(seed: int, operators: int, arithmetic: Arithmetic, is_large: bool) -> None:
    graph = random_graph(seed, operators)
    program = program_of(graph, DCIM22 if is_large else tiny(26), Choices(64, arithmetic, source=48))
    work = workload_of(graph, is_ideal=arithmetic is Arithmetic.FLOAT32)
    tokens = tuple(replace(s, source=37) for s in segments_of(29, 0, program.limits.chunk, last_only=False))
    takes_source = any(stream.source and stream.direction.value == "in" for stream in program.streams)
    front = source_segments_of(37, program.limits.chunk) if takes_source else ()
    _holds(program, work, (*front, *tokens))
    _holds(program, work, tokens[:1])


def test_a_program_without_work_has_no_bound() -> None:
    assert bound(DCIM22, Workload(), segments_of(1, 0, 16)) is None


@settings(max_examples=30)
@given(
    st.sampled_from(
        [
            ("chip", "tiles_x"),
            ("system", "chips_x"),
            ("tile", "macros"),
            ("vector", "lanes"),
            ("vector", "sfu_lanes"),
            ("buffer", "port_width"),
            ("cim", "port_width"),
            ("network", "link_width"),
            ("dram", "bandwidth"),
            ("host_link", "bandwidth"),
        ]
    ),
    st.integers(1, 64),
    st.integers(0, 448),
    st.integers(1, 4),
)
def test_more_of_anything_is_never_slower(
    what: tuple[str, str], tokens: int, position: int, sequences: int
) -> None:
    work = decoder()
    value = getattr(getattr(DCIM22, what[0]), what[1]).value
    more = with_quantity(DCIM22, *what, 2 * value)
    assert (
        of_step(more, work, tokens, position, sequences).cycles
        <= of_step(DCIM22, work, tokens, position, sequences).cycles
    )


@settings(max_examples=30)
@given(st.integers(1, 64), st.integers(0, 400), st.integers(0, 400), st.integers(1, 4))
def test_longer_contexts_and_more_rows_are_never_cheaper(
    tokens: int, position: int, further: int, sequences: int
) -> None:
    work, here = decoder(), of_step(DCIM22, decoder(), tokens, position, sequences).cycles
    assert here <= of_step(DCIM22, work, tokens, position + further, sequences).cycles
    assert here <= of_step(DCIM22, work, tokens + 1, position, sequences).cycles
    assert here <= of_step(DCIM22, work, tokens, position, sequences + 1).cycles
    assert here <= of_step(DCIM22, decoder(layers=3), tokens, position, sequences).cycles


def test_outputs_of_the_last_row_come_behind_the_rows_before_it() -> None:
    """The bytes of its logits take longer than all rows in the arrays, of which there is room for one copy."""
    work = decoder(vocabulary=50_000)
    cells = DCIM22.tiles * DCIM22.macros_per_tile * DCIM22.macro_rows * DCIM22.macro_cols
    assert work.weights <= cells < work.weights + work.weights // 10
    passes = 63 * DCIM22.cycles(DCIM22.macro.mvm_latency)
    last, many = of_step(DCIM22, work, 1, 63).cycles, of_step(DCIM22, work, 64, 0).cycles
    assert 0.9 * passes <= many - last <= passes


@pytest.mark.parametrize("layers", [1, 2, 7])
def test_equal_layers_are_stored_once(layers: int) -> None:
    work = decoder(layers=layers)
    assert len(tuple(work.blocks())) == 2 + 2 * layers
    assert sum(len(repeat.blocks) for repeat in work.repeats) <= 4
    assert all(isinstance(repeat, Repeat) for repeat in work.repeats)


def test_what_cannot_be_held_comes_from_dram() -> None:
    """Weights of 1 GB and more on one chip of 32 MB: at 51 bytes a cycle."""
    found = of_step(DCIM22, decoder(width=4096, layers=4), 1, 0)
    assert found.binding.value == "dram"
    assert found.cycles > 4 * 200e6 / 51.2


def _with_fast_kv_macros(hardware: Hardware, weights: int, kv: int) -> Hardware:
    """A target with so many macros for weights in a tile, a hundred times as slow as those for keys and values."""
    macros = hardware.tile.macros
    counts = {"macros": weights, "kv_macros": kv}
    tile = hardware.tile.model_copy(
        update={name: macros.model_copy(update={"value": count}) for name, count in counts.items()}
    )
    fast = hardware.macro.mvm_latency
    slow = fast.model_copy(update={"value": 100 * fast.value})
    macro = hardware.macro.model_copy(update={"mvm_latency": slow})
    return hardware.model_copy(update={"tile": tile, "kv": hardware.macro, "macro": macro})


@pytest.mark.parametrize(("weights", "vocabulary"), [(1, 96), (2, 96), (4, 2000), (24, 96)])
def test_weights_that_pass_through_faster_macros_are_no_slower_than_these(
    weights: int, vocabulary: int
) -> None:
    """Streamed, they lie in the macros for keys and values; resident, each row takes the time of theirs."""
    graph = graphs.decoder(graphs.Shape(vocabulary=vocabulary))
    target = _with_fast_kv_macros(with_quantity(tiny(5), "tile", "buffer", 128), weights, 24)
    program, work = program_of(graph, target, Choices(64)), workload_of(graph)
    passing = sum(array.kind is ArrayKind.STREAM for role in program.roles for array in role.arrays)
    is_resident = work.weights <= target.tiles * target.weight_cells
    assert bool(passing) is not is_resident
    _holds(program, work, segments_of(1, 63, program.limits.chunk))
    _holds(program, work, segments_of(64, 0, program.limits.chunk))
    least = of_step(target, work, 1, 63)
    products = 6 * target.mvm_cycles  # one layer's and the output's: four in a row, and the second layer's
    assert (least.cycles > products) is is_resident
