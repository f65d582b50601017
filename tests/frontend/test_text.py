"""The text of a graph, and its verifier."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.ir.dims import axis
from compiler.ir.graph import (
    Activation,
    Add,
    Attention,
    AttributeValue,
    Cache,
    Embed,
    FakeQuant,
    Function,
    Graph,
    Input,
    Linear,
    Node,
    Norm,
    NormKind,
    Onnx,
    Role,
    Rotary,
    Value,
)
from compiler.ir.graph_text import parse_graph, print_graph
from compiler.ir.graph_verify import verify_graph
from compiler.ir.quantised import dequantised
from compiler.ir.tensor import Declared, DType, Stored, Tensor, symbolic, tensor
from isa.diagnostics import CimError, FilePlace
from tests.frontend.oracle import SMALL, compiled, graphs_of, write_small

NAMES = st.text(min_size=1, max_size=12)
FLOATS = st.floats(width=32)
SHAPES = st.lists(
    st.one_of(st.integers(0, 9), st.sampled_from([axis("past"), axis("past") + 3, 2 * axis("tokens")])),
    max_size=3,
).map(tuple)
OPERATORS = st.one_of(
    st.builds(Embed, st.integers(-3, 3)),
    st.builds(Norm, st.sampled_from(NormKind), st.floats(0, 1), st.integers(1, 8)),
    st.builds(Linear),
    st.builds(Add),
    st.builds(
        Rotary, st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.booleans(), st.floats(0.5, 2)
    ),
    st.builds(
        Attention,
        *[st.integers(1, 9)] * 4,
        st.floats(0, 2),
        st.booleans(),
        st.none() | st.integers(1, 9),
        st.none() | st.floats(1, 60),
        st.none() | st.integers(0, 3),
    ),
    st.builds(Activation, st.sampled_from(Function)),
    st.builds(FakeQuant, st.none() | st.floats(0, 2), st.integers(-9, 9), st.just(-128), st.just(127)),
)


def _constants() -> st.SearchStrategy[Tensor]:
    numbers = st.lists(FLOATS, max_size=6).map(lambda v: tensor(np.array(v, np.float32)))
    whole = st.lists(st.integers(-9, 9), max_size=6).map(lambda v: tensor(np.array(v, np.int64)))
    stored = st.builds(lambda key: Tensor(DType.FLOAT16, (8, 6), Stored(key)), NAMES)
    declared = st.builds(lambda name: Tensor(DType.FLOAT32, (8, 6), Declared(name)), NAMES)
    sizes = st.lists(st.sampled_from([axis("past"), 3, -1]), max_size=4).map(
        lambda items: symbolic(tuple(items), (len(items),))
    )
    lazy = stored | declared
    stored_scales = Tensor(DType.FLOAT32, (8, 2), Stored("scales"))
    views = lazy.map(lambda t: t.transpose((1, 0)).slice(0, 2, 5)) | lazy.map(
        lambda t: t.slice(1, 1, 3).reshape((4, 4))
    )
    scaled = st.builds(
        lambda values, zeros, axis, block: dequantised(values, stored_scales, zeros, axis, block),
        lazy,
        st.none() | lazy,
        st.sampled_from([0, 1]),
        st.sampled_from([0, 4]),
    )
    return st.one_of(numbers, whole, lazy, sizes, views, scaled, scaled.map(lambda t: t.transpose((1, 0))))


def _onnx() -> st.SearchStrategy[Onnx]:
    value: st.SearchStrategy[AttributeValue] = st.one_of(
        st.integers(),
        st.floats(allow_nan=False),
        NAMES,
        st.lists(st.integers(), min_size=1).map(tuple),
        _constants(),
    )
    attributes = st.dictionaries(st.sampled_from(["axis", "perm", "value", "mode"]), value, max_size=3)
    return st.builds(
        lambda d, k, v, a: Onnx(d, k, v, tuple(a.items())),
        st.sampled_from(["", "com.microsoft"]),
        st.sampled_from(["MatMul", "QuickGelu"]),
        st.integers(1, 25),
        attributes,
    )


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Graphs that need not make sense, with every kind of name, constant and attribute."""
    names = draw(st.lists(NAMES, min_size=2, max_size=8, unique=True))
    values = [Value(n, draw(st.sampled_from(DType)), draw(st.none() | SHAPES)) for n in names]
    nodes = tuple(
        Node(
            draw(OPERATORS | _onnx()),
            tuple(draw(st.lists(st.sampled_from([*names, ""]), max_size=3))),
            (value,),
            tuple(draw(st.lists(NAMES, max_size=2))),
        )
        for value in values[1:]
    )
    caches = draw(
        st.lists(st.builds(Cache, *[st.integers(0, 9)] * 4, *[st.text(max_size=5)] * 4), max_size=2)
    )
    return Graph(
        draw(st.text(max_size=6)),
        (Input(values[0], draw(st.sampled_from(Role))),),
        (names[-1],),
        nodes,
        draw(st.dictionaries(NAMES, _constants(), max_size=3)),
        tuple(caches),
    )


@given(graphs())
def test_what_is_printed_can_be_parsed(graph: Graph) -> None:
    assert parse_graph(print_graph(graph)) == graph


@pytest.mark.parametrize("name", list(SMALL))
def test_graphs_of_models_round_trip_after_every_pass(name: str, tmp_path: Path) -> None:
    for step, graph in graphs_of(write_small(name, tmp_path / "model.onnx")):
        assert parse_graph(print_graph(graph)) == graph, f"after {step}"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ('graph "g" {\n  input %x: float32[4] ids\n', 2, "printer"),
        ('graph "g" {\n  input %x: float33[4] ids\n}', 2, "float33"),
        ('graph "g" {\n  input %x: int64[4] idz\n}', 2, "idz"),
        ('graph "g" {\n\n  %y: float32[4] = lineal(%x)\n}', 3, "lineal"),
        ('graph "g" {\n  %y: float32[4] = embed(%x) {offzet=1}\n}', 2, "offzet"),
        ('graph "g" {\n  %y: float32[4] = norm(%x) {eps=1.0}\n}', 2, "kind"),
    ],
)
def test_mistakes_are_shown_where_they_are(text: str, line: int, message: str) -> None:
    with pytest.raises(CimError) as caught:
        parse_graph(text, "g.txt")
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "E0204"
    assert isinstance(diagnostic.place, FilePlace)
    assert diagnostic.place.line == line
    assert message in diagnostic.message


def _broken(graph: Graph) -> list[tuple[Graph, str]]:
    first, *rest = graph.nodes
    linear = next(n for n in graph.nodes if isinstance(n.op, Linear))
    attention = next(n for n in graph.nodes if isinstance(n.op, Attention))
    assert isinstance(attention.op, Attention)

    def put(old: Node, new: Node) -> Graph:
        return replace(graph, nodes=tuple(new if n is old else n for n in graph.nodes))

    return [
        (replace(graph, nodes=(*rest, first)), "not made before"),
        (replace(graph, nodes=(*graph.nodes, first)), "made twice"),
        (replace(graph, outputs=("nothing",)), "not made"),
        (
            put(linear, replace(linear, inputs=(linear.inputs[0], linear.inputs[0]))),
            "weight is not a constant",
        ),
        (put(attention, replace(attention, op=replace(attention.op, heads=8))), "q is"),
        (put(attention, replace(attention, op=replace(attention.op, cache=7))), "no cache 7"),
        (put(attention, replace(attention, inputs=attention.inputs[:2])), "takes 3"),
    ]


def test_the_verifier_names_what_is_wrong(tmp_path: Path) -> None:
    graph = compiled(write_small("llama", tmp_path / "model.onnx"))
    verify_graph(graph)
    for broken, message in _broken(graph):
        with pytest.raises(CimError, match=message):
            verify_graph(broken)
