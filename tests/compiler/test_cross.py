"""Models with two sequences: what they are mapped to, and that they compute what the graph means."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compiler.explain import Heading, Note
from compiler.ir.dims import axis
from compiler.ir.evaluate import KvCache, evaluate
from compiler.ir.graph import Add, Attention, Embed, Graph, Input, Node, Role, Value
from compiler.ir.mapping import Arithmetic
from compiler.ir.mapping_text import parse_mapping, print_mapping
from compiler.ir.mapping_verify import verify_mapping
from compiler.ir.operations import Append, Attend
from compiler.ir.tensor import DType, tensor
from compiler.mapping.cutting import cut
from compiler.mapping.mapper import MapOptions
from compiler.mapping.options import learned_positions, source_rows
from compiler.mapping.problem import Problem
from compiler.mapping.sections import Domain
from compiler.mapping.settle import settle
from compiler.placement import Placement
from isa.diagnostics import CimError
from isa.hardware import Hardware
from isa.program import Limits, Program, segments_of
from isa.verifier import verify
from runtime.machine import Machine
from runtime.segments import source_segments_of

from .building import ONE_TILE, Choices, mapping_of, program_of, tiny
from .cross_graphs import Cross, cross

F32 = NDArray[np.float32]
TOKENS, SOURCE = 40, 72
SHAPES = {
    "t5": Cross(reach=12, layers=2),
    "whisper": Cross(heads=4, layers=2),
    "given": Cross(given=True),
    "spread": Cross(width=320, source_width=256, heads=4),
    "whole-t5": Cross(reach=90, encoder=2),
    "whole-whisper": Cross(encoder=1, heads=4),
    "odd": Cross(width=30, source_width=21, heads=3, inner=50),
    "spread-odd": Cross(width=330, source_width=253, heads=3),
}
RANDOM = np.random.default_rng(5)
IDS = RANDOM.integers(0, 32, TOKENS)
SOURCE_IDS = RANDOM.integers(0, 32, SOURCE).astype(np.int32)


def _choices(arithmetic: Arithmetic, hub_width: int = 1024, sequences: int = 1) -> Choices:
    return Choices(128, arithmetic, hub_width, sequences=sequences, source=96)


def _one_tile() -> Choices:
    return replace(_choices(Arithmetic.INT8), without=ONE_TILE)


def _source(graph: Graph, scale: float = 1.0) -> F32 | NDArray[np.int32]:
    """What the graph's source input is given."""
    given = graph.input(Role.SOURCE)
    if given is None or given.value.dtype.name != "FLOAT32":
        return SOURCE_IDS
    assert given.value.shape is not None
    width = given.value.shape[-1]
    assert isinstance(width, int)
    rows = np.random.default_rng(9).standard_normal((SOURCE, width)) * scale
    return rows.astype(np.float32)


def _given_cache(graph: Graph) -> KvCache:
    """A cache in which the source's keys and values are, if the graph never computes them."""
    cache = KvCache.empty(graph)
    random = np.random.default_rng(11)
    if graph.input(Role.SOURCE) is None:
        for number, layer in enumerate(graph.caches):
            if layer.cross:
                shape = 1, layer.kv_heads, SOURCE, layer.head_dim
                cache.keys[number] = random.standard_normal(shape).astype(np.float32)
                cache.values[number] = random.standard_normal(shape).astype(np.float32)
    return cache


def _reference(graph: Graph) -> F32:
    rows = {"source": _source(graph)}
    return np.asarray(evaluate(graph, IDS, cache=_given_cache(graph), rows=rows), np.float32)


def _machine(program: Program, graph: Graph) -> Machine:
    machine, cache = Machine(program), _given_cache(graph)
    for number, layer in enumerate(graph.caches):
        if layer.cross and cache.keys[number].shape[2]:
            machine.write_cache(number, 0, cache.keys[number][0], cache.values[number][0])
    return machine


def _step(
    machine: Machine, start: int, stop: int, rows: F32 | NDArray[np.int32] | None, sequence: int = 0
) -> F32:
    """Logits of the tokens start..stop-1; `rows` are the source's if this step writes them."""
    chunk = machine.program.limits.chunk
    own = segments_of(stop - start, start, chunk, last_only=False, sequence=sequence)
    segments = tuple(replace(s, source=SOURCE) for s in own)
    inputs: dict[str, NDArray[Any]] = {"input_ids": IDS[start:stop].astype(np.int32)}
    if rows is not None:
        segments = (*source_segments_of(SOURCE, chunk, sequence=sequence), *segments)
        inputs["source"] = rows
    return np.asarray(machine.step(segments, inputs)["logits"], np.float32)


def _run(program: Program, graph: Graph, cuts: tuple[int, ...] = ()) -> F32:
    machine, borders = _machine(program, graph), (0, *cuts, TOKENS)
    rows = None if graph.input(Role.SOURCE) is None else _source(graph)
    parts = [_step(machine, a, b, rows if a == 0 else None) for a, b in itertools.pairwise(borders)]
    return np.concatenate(parts)


def _target(name: str) -> Hardware:
    return tiny(15 if name.startswith("spread") else 10)


@pytest.mark.parametrize("hub_width", [1024, 32])
@pytest.mark.parametrize("name", SHAPES)
def test_ideal_arithmetic_equals_the_reference(name: str, hub_width: int) -> None:
    graph = cross(SHAPES[name])
    program = program_of(graph, _target(name), _choices(Arithmetic.FLOAT32, hub_width))
    expected = _reference(graph)
    got = _run(program, graph, (7, 8))
    np.testing.assert_allclose(got, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("place", [Placement.ATTENTION, Placement.ATTENTION_FFN])
@pytest.mark.parametrize("name", SHAPES)
def test_with_parts_on_the_host_values_equal_the_reference(name: str, place: Placement) -> None:
    graph = cross(SHAPES[name])
    choices = replace(_choices(Arithmetic.FLOAT32), place=place)
    program = program_of(graph, _target(name), choices)
    verify(program)
    expected = _reference(graph)
    got = _run(program, graph, (7, 8))
    np.testing.assert_allclose(got, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", SHAPES)
def test_int8_is_close_to_the_reference(name: str) -> None:
    graph = cross(SHAPES[name])
    logits, expected = (
        _run(program_of(graph, _target(name), _choices(Arithmetic.INT8)), graph),
        _reference(graph),
    )
    assert np.sqrt(np.mean((logits - expected) ** 2)) / np.std(expected) < 0.04


@pytest.mark.parametrize("arithmetic", Arithmetic)
@pytest.mark.parametrize("name", SHAPES)
def test_programs_verify(name: str, arithmetic: Arithmetic) -> None:
    graph = cross(SHAPES[name])
    mapping = mapping_of(graph, _target(name), _choices(arithmetic, 32))
    verify_mapping(mapping)
    assert parse_mapping(print_mapping(mapping)) == mapping
    verify(program_of(graph, _target(name), _choices(arithmetic, 32)))


@settings(max_examples=15)
@given(
    st.lists(st.integers(1, TOKENS - 1), max_size=8, unique=True), st.sampled_from(("t5", "whole-whisper"))
)
def test_cutting_a_sequence_into_steps_changes_no_bit(cuts: list[int], name: str) -> None:
    graph = cross(replace(SHAPES[name], layers=1))
    program = program_of(graph, tiny(), _choices(Arithmetic.INT8))
    np.testing.assert_array_equal(_run(program, graph, tuple(sorted(cuts))), _run(program, graph))


def test_sequences_have_sources_of_their_own() -> None:
    graph = cross(replace(SHAPES["t5"], layers=1))
    program = program_of(graph, tiny(), _choices(Arithmetic.INT8, sequences=2))
    sources = [_source(graph), _source(graph, scale=0.5)]
    alone = [_step(Machine(program), 0, TOKENS, rows) for rows in sources]
    machine, parts = Machine(program), ([], [])  # type: ignore[var-annotated]
    for start in range(0, TOKENS, 10):
        for sequence, rows in enumerate(sources):
            parts[sequence].append(_step(machine, start, start + 10, None if start else rows, sequence))
    for found, expected in zip(parts, alone, strict=True):
        np.testing.assert_array_equal(np.concatenate(found), expected)


@pytest.mark.parametrize("name", ["t5", "whisper", "encoder"])
def test_mapping_text(golden, name: str) -> None:  # type: ignore[no-untyped-def]
    kinds = {"t5": Cross(reach=12), "whisper": Cross(), "encoder": Cross(reach=12, encoder=1)}
    graph = cross(kinds[name])
    golden(f"mapping/cross-{name}.mapping", print_mapping(mapping_of(graph, tiny(), _one_tile())))


def test_stages_and_sections_belong_to_a_domain() -> None:
    layout = cut(cross(SHAPES["whole-t5"]))
    assert [(s.domain, s.depth) for s in layout.stages if s.domain is Domain.SOURCE] == [
        (Domain.SOURCE, depth) for depth in range(5)
    ]
    crossed = [s for s in layout.sections if s.lanes and s.lanes[1] and s.lanes[1].domain is not s.domain]
    assert [(s.domain, s.depth) for s in crossed] == [(Domain.TOKENS, 1)]
    assert len({s.lanes[1].input for s in crossed if s.lanes[1]}) == 1


def test_keys_and_values_of_the_source_are_written_in_its_pass() -> None:
    mapping = mapping_of(cross(SHAPES["t5"]), tiny(10), _one_tile())
    template = mapping.template("cross_attention")
    assert template.source_phases == 1
    phases = {type(b.op): b.phase for b in template.blocks if isinstance(b.op, Append | Attend)}
    assert phases == {Append: 0, Attend: 1}
    assert {a.rows for a in template.arrays if a.kind.value == "kv"} == {
        128
    }  # 96, rounded up to blocks of 64


def test_cross_attention_that_does_not_fit_a_tile_is_spread() -> None:
    mapping = mapping_of(cross(SHAPES["spread"]), tiny(15), _choices(Arithmetic.INT8))
    assert mapping.template("cross_attend").source_phases == 1
    passes = {t.source_phases for t in mapping.templates if t.name.startswith("project")}
    assert passes == {0, 1}  # queries go with the tokens, keys and values with the source


def test_given_keys_and_values_have_arrays_and_nothing_that_writes_them() -> None:
    mapping = mapping_of(cross(SHAPES["given"]), tiny(10), _one_tile())
    template = mapping.template("cross_attention")
    assert not template.source_phases
    assert not any(isinstance(b.op, Append) for b in template.blocks)
    assert not any(stream.source for stream in mapping.streams)


def test_every_cache_of_the_graph_has_its_heads() -> None:
    graph = cross(SHAPES["whisper"])
    mapping = mapping_of(graph, tiny(10), _one_tile())
    assert [(c.layer, c.cross, len(c.heads)) for c in mapping.caches] == [
        (number, cache.cross, cache.kv_heads) for number, cache in enumerate(graph.caches)
    ]
    for cache in mapping.caches:
        for head in cache.heads:
            template = mapping.template(mapping.tiles[head.tile].template)
            assert [template.arrays[i].name for i in (head.keys, head.values)] == ["keys", "values"]


def _refused(graph: Graph, choices: Choices) -> str:
    with pytest.raises(CimError) as error:
        mapping_of(graph, tiny(), choices)
    (diagnostic,) = error.value.diagnostics
    assert diagnostic.code in ("E0304", "E0306") and diagnostic.help
    return diagnostic.render()


def _with_source_positions() -> tuple[Graph, Graph]:
    """A model whose source is ids with learned positions, and the same model of rows."""
    rows = cross(Cross(source_width=32, positions=128))
    random = np.random.default_rng(2)
    tables = {
        name: random.standard_normal((size, 32)).astype(np.float32) for name, size in (("a", 32), ("b", 90))
    }
    nodes = (
        Node(Embed(), ("ids of source", "a"), (Value("a rows", DType.FLOAT32, None),)),
        Node(Embed(), ("positions", "b"), (Value("b rows", DType.FLOAT32, None),)),
        Node(Add(), ("a rows", "b rows"), (Value("source", DType.FLOAT32, None),)),
    )
    ids = Input(Value("ids of source", DType.INT64, (axis("source"),)), Role.SOURCE)
    inputs = (ids, *(given for given in rows.inputs if given.role is not Role.SOURCE))
    constants = {**rows.constants, **{name: tensor(table) for name, table in tables.items()}}
    return replace(rows, inputs=inputs, nodes=(*nodes, *rows.nodes), constants=constants), rows


def test_positions_of_the_source_are_its_own() -> None:
    graph, of_rows = _with_source_positions()
    program = program_of(graph, tiny(10), replace(_choices(Arithmetic.FLOAT32), source=90))
    tables = [np.asarray(graph.constants[name].data()) for name in "ab"]
    rows = tables[0][SOURCE_IDS] + tables[1][:SOURCE]
    chunk = program.limits.chunk
    own = tuple(replace(s, source=SOURCE) for s in segments_of(TOKENS, 0, chunk, last_only=False))
    inputs = {"input_ids": IDS.astype(np.int32), "ids of source": SOURCE_IDS}
    got = Machine(program).step((*source_segments_of(SOURCE, chunk), *own), inputs)["logits"]
    expected = np.asarray(evaluate(of_rows, IDS, rows={"source": rows}))
    np.testing.assert_allclose(got, expected, atol=2e-5 * np.abs(expected).max())


def test_what_the_source_has_learned_bounds_its_rows() -> None:
    graph, of_rows = _with_source_positions()
    assert (learned_positions(graph), learned_positions(graph, Domain.SOURCE)) == (128, 90)
    assert [source_rows(graph, asked, 128) for asked in (None, 40)] == [90, 40]
    assert source_rows(of_rows, None, 128) == 128
    with pytest.raises(CimError, match="the model has learned 90 positions, the source is 96"):
        mapping_of(graph, tiny(10), _choices(Arithmetic.INT8))


def test_a_source_that_the_file_fixes() -> None:
    graph = cross(Cross())
    inputs = tuple(
        replace(given, value=replace(given.value, shape=(50, 48))) if given.role is Role.SOURCE else given
        for given in graph.inputs
    )
    assert source_rows(replace(graph, inputs=inputs), None, 128) == 50


@pytest.mark.parametrize(
    ("shape", "expected", "caches"),
    [
        (
            Cross(reach=12, encoder=1),
            [
                "source: 3 hub stage(s) and 2 section(s) work on rows of the source, up to 96, in passes of their own "
                "before the tokens'",
                "cross-attention: keys and values of 1 layer(s) are written once, in the source's pass",
                "attention: 2 layer(s) add a bias by distance to their scores, from a table on each tile",
            ],
            3,
        ),
        (
            Cross(given=True),
            [
                "cross-attention: keys and values of 1 layer(s) come from outside, up to 96 rows: the model never "
                "computes them"
            ],
            2,
        ),
    ],
)
def test_notes(shape: Cross, expected: list[str], caches: int) -> None:
    notes: list[Note] = []
    limits = Limits(128, chunk=1, max_source=96)
    settle(Problem(cross(shape), tiny(10), limits, Arithmetic.INT8), MapOptions(), notes)
    assert [note.text for note in notes if note.heading is Heading.PLACES] == expected
    assert sum(note.text.startswith("KV cache: ") for note in notes) == caches


def test_rows_of_tokens_and_of_the_source_do_not_mix() -> None:
    graph = cross(Cross(source_width=32))
    bad = Node(Add(), ("logits", "source"), (Value("sum", DType.FLOAT32, None),), ("/bad",))
    text = _refused(replace(graph, nodes=(*graph.nodes, bad), outputs=("sum",)), _choices(Arithmetic.INT8))
    assert "node '/bad' (add)" in text and "it joins rows of the tokens with rows of the source" in text


def test_keys_of_the_tokens_are_no_source() -> None:
    graph = cross(Cross())
    nodes = tuple(
        replace(n, inputs=(*n.inputs[:1], *["v1"] * (len(n.inputs) - 1))) if _is_cross(n) else n
        for n in graph.nodes
    )
    text = _refused(replace(graph, nodes=nodes), _choices(Arithmetic.INT8))
    assert "keys or values come from rows of the tokens" in text


def _is_cross(node: Node) -> bool:
    return isinstance(node.op, Attention) and node.op.cross


def test_a_source_without_room_is_refused() -> None:
    text = _refused(cross(SHAPES["t5"]), replace(_choices(Arithmetic.INT8), source=0))
    assert "no rows are set aside for the source" in text and "--max-source" in text


def test_a_source_too_long_is_refused_with_one_that_fits() -> None:
    text = _refused(cross(SHAPES["t5"]), replace(_one_tile(), source=4096))
    assert "4,096 rows of the source" in text and "--max-source 1024 would fit" in text


def test_more_biases_than_an_instruction_takes_are_refused() -> None:
    choices = replace(_choices(Arithmetic.INT8), context=2100)
    text = _refused(cross(Cross(reach=2048)), choices)
    assert "4,097 biases by distance" in text and "--max-context 2047" in text


def test_biases_reach_no_further_than_the_context() -> None:
    mapping = mapping_of(cross(Cross(reach=2000)), tiny(), _one_tile())
    (attend,) = (b.op for b in mapping.template("attention").blocks if isinstance(b.op, Attend))
    assert attend.reach == 127
