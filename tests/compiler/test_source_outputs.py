"""Outputs with rows of the source: the host gets what the encoder makes, beside what the decoder does."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from compiler.explain import Note
from compiler.ir.evaluate import evaluate
from compiler.ir.graph import Graph, Linear, Node, Norm, NormKind, Value
from compiler.ir.mapping import Arithmetic, Mapping, Rows
from compiler.ir.mapping_text import parse_mapping, print_mapping
from compiler.ir.mapping_verify import verify_mapping
from compiler.ir.operations import Send
from compiler.ir.tensor import DType, tensor
from compiler.mapping.mapper import MapOptions
from compiler.mapping.problem import Problem
from compiler.mapping.settle import settle
from isa.program import Direction, Limits, Program, segments_of
from isa.verifier import verify
from runtime.machine import Machine
from runtime.segments import source_segments_of

from .building import Choices, mapping_of, program_of, tiny
from .cross_graphs import Cross, cross

TOKENS, SOURCE = 11, 45
RANDOM = np.random.default_rng(8)
IDS, SOURCE_IDS = (RANDOM.integers(0, 32, n).astype(np.int32) for n in (TOKENS, SOURCE))
ROWS = RANDOM.standard_normal((SOURCE, 48)).astype(np.float32)
F32 = NDArray[np.float32]


def _choices(arithmetic: Arithmetic, hub_width: int = 1024) -> Choices:
    return Choices(64, arithmetic, hub_width, source=64)


def _made_by(graph: Graph, constant: str) -> str:
    """The value of the operator with this constant."""
    return next(n.output.name for n in graph.nodes if constant in n.inputs)


def _with_outputs(graph: Graph, *names: str) -> Graph:
    return replace(graph, outputs=(*graph.outputs, *names))


def _judged(graph: Graph) -> Graph:
    """A layer on the encoder's rows whose columns are an output, and nothing else reads them."""
    weights = np.random.default_rng(4).standard_normal((32, 70)).astype(np.float32)
    judge = Node(
        Linear(), (_made_by(graph, "encoded.gain"), "judge"), (Value("judged", DType.FLOAT32, None),)
    )
    made = replace(
        graph, nodes=(*graph.nodes, judge), constants={**graph.constants, "judge": tensor(weights)}
    )
    return _with_outputs(made, "judged")


def _normed(graph: Graph) -> Graph:
    """The norm of the source's rows as an output."""
    gain = tensor(np.linspace(0.5, 2, 48, dtype=np.float32))
    norm = Node(Norm(NormKind.RMS, 1e-6), ("source", "gain"), (Value("normed", DType.FLOAT32, None),))
    made = replace(graph, nodes=(norm, *graph.nodes), constants={**graph.constants, "gain": gain})
    return _with_outputs(made, "normed")


@cache
def model(kind: str) -> Graph:
    """A model by the outputs that it has beside its logits."""
    whole = cross(Cross(reach=50, encoder=2))
    match kind:
        case "encoded":  # what cross-attention reads too
            return _with_outputs(whole, _made_by(whole, "encoded.gain"))
        case "every layer":  # values of three rounds: ids as rows, the first layer's, all
            second = next(n.inputs[0] for n in whole.nodes if "e1.self.norm.gain" in n.inputs)
            return _with_outputs(
                whole, _made_by(whole, "source_embed"), second, _made_by(whole, "encoded.gain")
            )
        case "judged":
            return _judged(whole)
        case "both":
            whole = cross(Cross(encoder=1))
            return _with_outputs(_judged(whole), _made_by(whole, "encoded.gain"))
        case _:  # of rows that came as such, and of no interest to the tokens
            return _normed(cross(Cross()))


KINDS = ("encoded", "every layer", "judged", "both", "rows")


def _feed(graph: Graph) -> NDArray[Any]:
    given = next(i for i in graph.inputs if i.name == "source")
    return ROWS if given.value.dtype is DType.FLOAT32 else SOURCE_IDS


def _reference(graph: Graph) -> dict[str, F32]:
    rows = {"source": _feed(graph)}
    return {
        name: np.asarray(evaluate(replace(graph, outputs=(name,)), IDS, rows=rows), np.float32)
        for name in graph.outputs
    }


def _run(program: Program, graph: Graph) -> dict[str, F32]:
    """All rows of the source, and those of the last token."""
    chunk = program.limits.chunk
    own = tuple(replace(s, source=SOURCE) for s in segments_of(TOKENS, 0, chunk))
    inputs = {"input_ids": IDS, "source": _feed(graph)}
    return Machine(program).step((*source_segments_of(SOURCE, chunk), *own), inputs)


@pytest.mark.parametrize("hub_width", [1024, 16])
@pytest.mark.parametrize("kind", KINDS)
def test_ideal_arithmetic_equals_the_reference(kind: str, hub_width: int) -> None:
    graph = model(kind)
    program = program_of(graph, tiny(10), _choices(Arithmetic.FLOAT32, hub_width))
    got, expected = _run(program, graph), _reference(graph)
    expected["logits"] = expected["logits"][-1:]
    assert got.keys() == expected.keys()
    for name, rows in expected.items():
        np.testing.assert_allclose(got[name], rows, atol=2e-5 * np.abs(rows).max(), err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_int8_is_close_to_the_reference(kind: str) -> None:
    graph = model(kind)
    got = _run(program_of(graph, tiny(10), _choices(Arithmetic.INT8)), graph)
    for name, rows in _reference(graph).items():
        if name != "logits":
            assert np.sqrt(np.mean((got[name] - rows) ** 2)) / np.std(rows) < 0.04


@pytest.mark.parametrize("arithmetic", Arithmetic)
@pytest.mark.parametrize("kind", KINDS)
def test_programs_verify(kind: str, arithmetic: Arithmetic) -> None:
    mapping = mapping_of(model(kind), tiny(10), _choices(arithmetic, 16))
    verify_mapping(mapping)
    assert parse_mapping(print_mapping(mapping)) == mapping
    verify(program_of(model(kind), tiny(10), _choices(arithmetic, 16)))


def _sends(mapping: Mapping, name: str) -> list[tuple[bool, int, Rows]]:
    """Of each tile that sends an output: whether only wanted rows, in which pass, and how the value is kept."""
    (stream,) = (s for s in mapping.streams if s.name == name)
    found = []
    for part in stream.parts:
        (end,) = mapping.channels[part.channel].sources
        template = mapping.template(mapping.tiles[end.tile].template)
        port = template.ports[end.port].name
        for block in template.blocks:
            if isinstance(block.op, Send) and any(port == p[0] for p in block.op.parts):
                value = next(v for v in template.values if v.name == block.op.value)
                found.append((block.op.wanted, block.phase, value.rows))
    return found


def test_outputs_of_the_source_are_streams_of_the_source() -> None:
    graph = model("every layer")
    mapping = mapping_of(graph, tiny(10), _choices(Arithmetic.INT8))
    streams = {s.name: s.source for s in mapping.streams if s.direction is Direction.OUT}
    assert streams == {name: name != "logits" for name in graph.outputs}
    for name in graph.outputs[1:]:
        assert [wanted for wanted, _, _ in _sends(mapping, name)] == [False]
    assert _sends(mapping, "logits")[0][2] is Rows.OUTPUTS


def test_rows_of_the_source_are_made_for_an_output_whether_tokens_want_outputs_or_not() -> None:
    """Of the logits only wanted rows are made, and of a layer on the source all."""
    mapping = mapping_of(model("judged"), tiny(10), _choices(Arithmetic.INT8))
    assert {rows for _, _, rows in _sends(mapping, "judged")} == {Rows.TOKENS}
    assert {wanted for wanted, _, _ in _sends(mapping, "judged")} == {False}


@pytest.mark.parametrize("kind", ["encoded", "judged", "both"])
def test_notes_name_them(kind: str) -> None:
    notes: list[Note] = []
    limits, graph = Limits(64, chunk=1, max_source=64), model(kind)
    settle(Problem(graph, tiny(10), limits, Arithmetic.INT8), MapOptions(), notes)
    named = ", ".join(reversed(graph.outputs[1:]))
    assert f"source: its rows are an output ({named}), of the step that brings the source" in {
        n.text for n in notes
    }


def test_a_later_step_brings_no_rows_of_the_source() -> None:
    graph = model("encoded")
    program = program_of(graph, tiny(10), _choices(Arithmetic.FLOAT32))
    machine, chunk = Machine(program), program.limits.chunk
    front = source_segments_of(SOURCE, chunk)
    step = tuple(replace(s, source=SOURCE) for s in segments_of(TOKENS, 0, chunk))
    machine.step((*front, *step), {"input_ids": IDS, "source": SOURCE_IDS})
    later = tuple(replace(s, source=SOURCE) for s in segments_of(1, TOKENS, chunk))
    got = machine.step(later, {"input_ids": IDS[:1]})
    assert [got[name].shape for name in graph.outputs] == [(1, 32), (0, 32)]
