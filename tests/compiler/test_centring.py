"""LayerNorms of a residual stream whose parts are centred are RMS norms, and give the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from compiler.ir.evaluate import evaluate
from compiler.ir.graph import Graph, Node, Norm, NormKind
from compiler.ir.graph_text import parse_graph, print_graph
from compiler.ir.graph_verify import verify_graph
from compiler.ir.mapping import Arithmetic
from compiler.ir.quantised import dequantised
from compiler.ir.tensor import Centred, Declared, DType, Tensor, tensor
from compiler.optimisations import Optimisation
from compiler.passes.centre_rows import CentreRows
from compiler.pipeline import Compilation, CompileOptions
from isa.program import Program, segments_of
from isa.verifier import verify
from runtime.machine import Machine
from runtime.timing import simulate

from .building import Choices, program_of, run, tiny
from .graphs import Shape, decoder

IDS = np.random.default_rng(1).integers(0, 64, 20)
GRAPH = decoder(Shape(bias=True))


def centred(graph: Graph, *without: Optimisation) -> Graph:
    compilation = Compilation(Path("m.onnx"), CompileOptions(without=frozenset(without)), graph=graph)
    CentreRows().run(compilation)
    return compilation.require_graph()


def kinds(graph: Graph) -> set[NormKind]:
    return {node.op.kind for node in graph.nodes if isinstance(node.op, Norm)}


def biased(graph: Graph) -> Graph:
    """The graph with means that are large: a LayerNorm takes them away, an RMS norm does not."""
    names = {node.inputs[1] for node in graph.nodes if type(node.op).__name__ == "Embed"}
    constants = {
        name: tensor(np.asarray(t.data() + 3, np.float32)) if name in names else t
        for name, t in graph.constants.items()
    }
    return replace(graph, constants=constants)


def test_norms_of_the_stream_need_no_mean() -> None:
    graph = biased(GRAPH)
    found = centred(graph)
    verify_graph(found)
    assert kinds(graph) == {NormKind.LAYER}
    assert kinds(found) == {NormKind.RMS}
    assert kinds(centred(graph, Optimisation.CENTRE)) == {NormKind.LAYER}
    expected = np.asarray(evaluate(graph, IDS))
    np.testing.assert_allclose(np.asarray(evaluate(found, IDS)), expected, atol=1e-5 * np.abs(expected).max())


def test_what_is_printed_can_be_parsed() -> None:
    found = centred(GRAPH)
    assert any(isinstance(t.source, Centred) for t in found.constants.values())
    assert print_graph(parse_graph(print_graph(found))) == print_graph(found)


def _with_output(graph: Graph) -> Graph:
    """The residual stream is an output, too."""
    norm = next(node for node in graph.nodes if isinstance(node.op, Norm))
    return replace(graph, outputs=(*graph.outputs, norm.inputs[0]))


def _read_by_another(graph: Graph) -> Graph:
    """A linear layer reads the stream without a norm."""
    norm = next(node for node in graph.nodes if isinstance(node.op, Norm))

    def past(node: Node) -> Node:
        return replace(
            node, inputs=tuple(norm.inputs[0] if i == norm.output.name else i for i in node.inputs)
        )

    return replace(graph, nodes=tuple(past(node) for node in graph.nodes if node is not norm))


def _of_integers(graph: Graph) -> Graph:
    """One weight is of int8 in the file."""
    name = "l0.o.w"
    weight = graph.constants[name]
    values = tensor(np.zeros(weight.shape, np.int8))
    return replace(
        graph, constants={**graph.constants, name: dequantised(values, tensor(np.float32(1)), None, None)}
    )


@pytest.mark.parametrize("change", [_with_output, _read_by_another, _of_integers])
def test_a_stream_that_others_see_or_make_stays_as_it_is(change: object) -> None:
    assert callable(change)
    graph = change(GRAPH)
    found = centred(graph)
    assert not any(isinstance(t.source, Centred) for t in found.constants.values())
    assert kinds(found) == {NormKind.LAYER}


def test_weights_that_are_only_declared_are_centred() -> None:
    constants = {
        name: Tensor(t.dtype, t.shape, Declared(name)) if t.count > 64 else t
        for name, t in GRAPH.constants.items()
    }
    assert kinds(centred(replace(GRAPH, constants=constants))) == {NormKind.RMS}


def test_a_centred_constant_has_no_mean() -> None:
    base = tensor(np.random.default_rng(0).normal(2, 1, (5, 48)).astype(np.float32))
    data = Tensor(DType.FLOAT32, base.shape, Centred(base)).data()
    assert data.dtype == np.float32
    np.testing.assert_allclose(data.mean(-1), 0, atol=1e-6)
    np.testing.assert_allclose(data - data[:, :1], base.data() - base.data()[:, :1], atol=1e-6)


def _program(graph: Graph, arithmetic: Arithmetic) -> Program:
    return program_of(graph, tiny(14), Choices(32, arithmetic, hub_width=32))


def test_programs_agree_and_a_token_is_faster() -> None:
    graph = biased(GRAPH)
    for arithmetic, tolerance in ((Arithmetic.FLOAT32, 1e-5), (Arithmetic.INT8, 0.03)):
        plain, changed = _program(graph, arithmetic), _program(centred(graph), arithmetic)
        verify(changed)
        expected = run(Machine(plain), IDS)
        found = run(Machine(changed), IDS)
        assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()
        step = segments_of(1, 20, plain.limits.chunk)
        assert simulate(changed, step).cycles < simulate(plain, step).cycles
