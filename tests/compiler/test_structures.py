"""Whatever reads what: structures beyond the usual layers are mapped, and compute what the graph means."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from compiler.ir.dims import axis
from compiler.ir.evaluate import evaluate
from compiler.ir.graph import Add, Attention, Graph, Input, Node, Norm, NormKind, Role, Value
from compiler.ir.mapping import Arithmetic, Rows
from compiler.ir.operations import Quantise
from compiler.ir.tensor import DType, tensor
from compiler.mapping.cutting import cut
from isa.diagnostics import CimError
from isa.program import Program, segments_of
from isa.verifier import verify
from runtime.machine import Machine

from .building import Choices, mapping_of, program_of, tiny
from .graphs import Shape, decoder
from .structures import STRUCTURES, VOCABULARY, structure

IDS = np.random.default_rng(3).integers(0, VOCABULARY, 37)


def _run(program: Program, graph: Graph) -> NDArray[np.float32]:
    segments = segments_of(len(IDS), 0, program.limits.chunk, last_only=False)
    results = Machine(program).step(segments, {"input_ids": IDS.astype(np.int32)[:, None]})
    assert set(results) == set(graph.outputs)
    return np.asarray(results[graph.outputs[0]], np.float32)


@pytest.mark.parametrize("hub_width", [1024, 32])
@pytest.mark.parametrize("name", STRUCTURES)
def test_ideal_arithmetic_equals_the_reference(name: str, hub_width: int) -> None:
    graph = structure(name)
    program = program_of(graph, tiny(10), Choices(64, Arithmetic.FLOAT32, hub_width))
    expected = np.asarray(evaluate(graph, IDS))
    np.testing.assert_allclose(_run(program, graph), expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", STRUCTURES)
def test_int8_verifies_and_is_close_to_the_reference(name: str) -> None:
    graph = structure(name)
    program = program_of(graph, tiny(10), Choices(64, Arithmetic.INT8, 32))
    verify(program)
    expected = np.asarray(evaluate(graph, IDS))
    assert np.sqrt(np.mean((_run(program, graph) - expected) ** 2)) / np.std(expected) < 0.03


def _shapes(name: str) -> list[tuple[int, bool, int, bool]]:
    """Depth, whether it is attention, first layers and whether there is a last one, of each section."""
    return [(s.depth, bool(s.lanes), len(s.first), s.last is not None) for s in cut(structure(name)).sections]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bare", [(0, True, 0, False)]),
        ("lanes_of_two_values", [(0, True, 3, True)]),
        ("one_layer_for_keys_and_values", [(0, True, 2, True)]),
        ("gathered_attention", [(0, True, 3, False)]),
        ("attention_read_twice", [(0, True, 3, False), (1, False, 1, False), (1, False, 1, False)]),
        ("gate_at_the_end", [(0, False, 2, False)]),
        ("layers_in_a_row", [(0, False, 1, True), (1, False, 1, True)]),
        ("keys_are_an_output", [(0, False, 1, False), (1, True, 2, True)]),
        ("inside_read_by_two_layers", [(0, False, 1, False), (1, False, 1, False), (1, False, 1, False)]),
    ],
)
def test_sections(name: str, expected: list[tuple[int, bool, int, bool]]) -> None:
    assert _shapes(name) == expected


def test_bare_lanes_take_the_columns_of_their_heads() -> None:
    (section,) = cut(structure("bare_turned")).sections
    q, k, v = section.lanes
    assert q is not None and k is not None and v is not None
    assert (q.linear, len(q.chain)) == (None, 2)
    assert k.linear is not None and v.linear is not None
    assert [read.is_whole for read in section.reads] == [False, True]


def test_what_late_sections_read_is_kept_beside_the_residual_stream() -> None:
    mapping = mapping_of(structure("parallel_layers"), tiny(14), Choices(512))
    template = mapping.template("embed")
    assert [v.name for v in template.values if v.rows is Rows.SEQUENCE] == ["x0", "x2"]
    (late,) = (b.op for b in template.blocks if isinstance(b.op, Quantise) and b.phase)
    assert (late.out, late.x) == ("x2lateq", "x2")


def test_attention_that_nothing_reads_still_fills_its_cache() -> None:
    graph = decoder(Shape(layers=2))
    (n,) = (node for node in graph.nodes if "l1.norm1.gain" in node.inputs)
    graph = replace(graph, outputs=(n.output.name,))
    mapping = mapping_of(graph, tiny(10), Choices(64))
    assert [cache.layer for cache in mapping.caches] == [0, 1]
    verify(program_of(graph, tiny(10), Choices(64)))


def test_an_input_may_be_the_output() -> None:
    rows = Input(Value("x", DType.FLOAT32, (axis("tokens"), 12)), Role.OTHER)
    program = program_of(Graph("same", (rows,), ("x",), (), {}), tiny(), Choices(64))
    x = np.random.default_rng(1).standard_normal((7, 12)).astype(np.float32)
    segments = segments_of(7, 0, program.limits.chunk, last_only=False)
    np.testing.assert_array_equal(Machine(program).step(segments, {"x": x})["x"], x)


def test_rows_of_two_widths_are_not_added() -> None:
    inputs = tuple(
        Input(Value(name, DType.FLOAT32, (axis("tokens"), width)), Role.OTHER)
        for name, width in (("a", 8), ("b", 1))
    )
    node = Node(Add(), ("a", "b"), (_value("c"),), ("/sum",))
    with pytest.raises(CimError, match=r"node '/sum' \(add\): .*rows of 1 and 8 columns"):
        mapping_of(Graph("widths", inputs, ("c",), (node,), {}), tiny())


def test_many_heads_take_narrow_hub_tiles() -> None:
    """A tile has 64 ports; attention without linear layers takes three for each head."""
    heads, dim = 32, 4
    rows = Input(Value("x", DType.FLOAT32, (axis("tokens"), heads * dim)), Role.OTHER)
    node = Node(Attention(heads, heads, dim, dim, 0.5, causal=True), ("x", "x", "x"), (_value("y"),))
    after = Node(Norm(NormKind.RMS, 1e-6), ("y", "gain"), (_value("z"),))
    gain = tensor(np.ones(heads * dim, np.float32))
    graph = Graph("heads", (rows,), ("z",), (node, after), {"gain": gain})
    mapping = mapping_of(graph, tiny(10), Choices(64))
    assert max(len(template.ports) for template in mapping.templates) <= 64
    verify(program_of(graph, tiny(10), Choices(64)))


def _value(name: str) -> Value:
    return Value(name, DType.FLOAT32, None)
