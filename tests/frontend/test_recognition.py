"""One meaning, many ways to write it: each is recognised, and computes what ONNX Runtime computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from compiler.ir.evaluate import run
from compiler.ir.graph import Activation, Function, Graph, Norm, NormKind, Rotary
from tests.frontend.oracle import compiled, difference, expected, feeds_for, raw
from tests.frontend.sketch import WIDTH, Sketch, joined, projections

Write = Callable[[Sketch, str], str]


def checked(s: Sketch, output: str, path: Path, tolerance: float = 1e-5) -> Graph:
    """The canonical graph of a sketch, whose values agree with ONNX Runtime's."""
    s.save(path / "model.onnx", output)
    graph = compiled(path / "model.onnx")
    for sequence in (1, 6):
        feeds = feeds_for(raw(path / "model.onnx"), sequence, past=3, vocab=32)
        assert difference(run(graph, feeds), expected(path / "model.onnx", feeds)) < tolerance
    return graph


def of(graph: Graph, kind: type) -> list[object]:
    return [node.op for node in graph.nodes if isinstance(node.op, kind)]


# Activations.

ROOT2 = float(np.sqrt(2))
TANH = float(np.sqrt(2 / np.pi))


def _tanh_gelu(s: Sketch, x: str, cubed: str) -> str:
    inner = s.op("Mul", s.op("Add", x, s.op("Mul", cubed, 0.044715)), TANH)
    return s.op("Mul", s.op("Mul", x, 0.5), s.op("Add", s.op("Tanh", inner), 1.0))


FUNCTIONS: dict[str, tuple[Function, Write]] = {
    "gelu by division": (
        Function.GELU,
        lambda s, x: s.op("Mul", s.op("Mul", x, s.op("Add", s.op("Erf", s.op("Div", x, ROOT2)), 1.0)), 0.5),
    ),
    "gelu half first": (
        Function.GELU,
        lambda s, x: s.op(
            "Mul", s.op("Mul", x, 0.5), s.op("Add", 1.0, s.op("Erf", s.op("Mul", x, 1 / ROOT2)))
        ),
    ),
    "gelu node": (Function.GELU, lambda s, x: s.op("Gelu", x, domain="com.microsoft")),
    "tanh gelu by pow": (Function.GELU_TANH, lambda s, x: _tanh_gelu(s, x, s.op("Pow", x, 3.0))),
    "tanh gelu by products": (
        Function.GELU_TANH,
        lambda s, x: _tanh_gelu(s, x, s.op("Mul", x, s.op("Mul", x, x))),
    ),
    "quick gelu": (
        Function.QUICK_GELU,
        lambda s, x: s.op("Mul", x, s.op("Sigmoid", s.op("Mul", x, 1.702))),
    ),
    "silu": (Function.SILU, lambda s, x: s.op("Mul", s.op("Sigmoid", x), x)),
    "silu by exp": (
        Function.SILU,
        lambda s, x: s.op("Div", x, s.op("Add", s.op("Exp", s.op("Neg", x)), 1.0)),
    ),
    "relu": (Function.RELU, lambda s, x: s.op("Relu", x)),
    "relu by max": (Function.RELU, lambda s, x: s.op("Max", x, 0.0)),
    "relu by clip": (Function.RELU, lambda s, x: s.op("Clip", x, np.float32(0.0))),
    "tanh": (Function.TANH, lambda s, x: s.op("Tanh", x)),
    "sigmoid": (Function.SIGMOID, lambda s, x: s.op("Sigmoid", x)),
}


@pytest.mark.parametrize("form", list(FUNCTIONS))
def test_activations(form: str, tmp_path: Path) -> None:
    kind, write = FUNCTIONS[form]
    s = Sketch()
    x = s.op("MatMul", s.ids(), s.weight(WIDTH, 24))
    graph = checked(s, s.op("MatMul", write(s, x), s.weight(24, 8)), tmp_path)
    assert of(graph, Activation) == [Activation(kind)]
    assert len(graph.nodes) == 4


def test_a_gate_beside_its_activation(tmp_path: Path) -> None:
    s = Sketch()
    both = s.op("MatMul", s.ids(), s.weight(WIDTH, 48))
    gate, up = (
        s.op("Slice", both, np.array([a]), np.array([b]), np.array([2]), np.array([1]))
        for a, b in ((0, 24), (24, 48))
    )
    silu = s.op("Mul", gate, s.op("Sigmoid", gate))
    graph = checked(s, s.op("Mul", up, silu), tmp_path)
    assert [type(n.op).__name__ for n in graph.nodes] == ["Embed", "Linear", "Linear", "Activation", "Mul"]


# Norms.


def _rms(s: Sketch, x: str, invert: Write) -> str:
    square = s.op("ReduceMean", s.op("Pow", x, 2.0), np.array([-1]), keepdims=1)
    return s.op("Mul", s.weight(WIDTH), invert(s, s.op("Add", square, 1e-5)))


def _layer(s: Sketch, x: str, square: Write) -> str:
    centred = s.op("Sub", x, s.op("ReduceMean", x, np.array([-1]), keepdims=1))
    variance = s.op("ReduceMean", square(s, centred), np.array([-1]), keepdims=1)
    scaled = s.op("Div", centred, s.op("Sqrt", s.op("Add", variance, 1e-5)))
    return s.op("Add", s.op("Mul", scaled, s.weight(WIDTH)), s.weight(1, 1, WIDTH))


NORMS: dict[str, tuple[NormKind, Write]] = {
    "rms by division": (NormKind.RMS, lambda s, x: _rms(s, x, lambda s, m: s.op("Div", x, s.op("Sqrt", m)))),
    "rms by 1/x": (
        NormKind.RMS,
        lambda s, x: _rms(s, x, lambda s, m: s.op("Mul", x, s.op("Div", 1.0, s.op("Sqrt", m)))),
    ),
    "rms by reciprocal": (
        NormKind.RMS,
        lambda s, x: _rms(s, x, lambda s, m: s.op("Mul", s.op("Reciprocal", s.op("Sqrt", m)), x)),
    ),
    "rms by power": (
        NormKind.RMS,
        lambda s, x: _rms(s, x, lambda s, m: s.op("Mul", x, s.op("Pow", m, -0.5))),
    ),
    "rms, weight + 1": (
        NormKind.RMS,
        lambda s, x: s.op(
            "Mul",
            s.op(
                "Div",
                x,
                s.op(
                    "Sqrt",
                    s.op("Add", s.op("ReduceMean", s.op("Mul", x, x), np.array([-1]), keepdims=1), 1e-6),
                ),
            ),
            s.op("Add", 1.0, s.weight(WIDTH)),
        ),
    ),
    "layer by pow": (NormKind.LAYER, lambda s, x: _layer(s, x, lambda s, c: s.op("Pow", c, 2.0))),
    "layer by product": (NormKind.LAYER, lambda s, x: _layer(s, x, lambda s, c: s.op("Mul", c, c))),
    "layer node": (
        NormKind.LAYER,
        lambda s, x: s.op("LayerNormalization", x, s.weight(WIDTH), s.weight(WIDTH), epsilon=1e-5),
    ),
}


@pytest.mark.parametrize("form", list(NORMS))
def test_norms(form: str, tmp_path: Path) -> None:
    kind, write = NORMS[form]
    s = Sketch()
    x = s.ids()
    graph = checked(s, s.op("Add", x, s.op("MatMul", write(s, x), s.weight(WIDTH, WIDTH))), tmp_path)
    (op,) = of(graph, Norm)
    assert isinstance(op, Norm)
    assert op.kind is kind
    assert op.eps == pytest.approx(1e-6 if "+ 1" in form else 1e-5)
    assert len(graph.nodes) == 4


# Rotations.

HEADS, DEPTH = 2, 8
FREQUENCIES = (10.0 ** -np.arange(0, 2, 0.5)).astype(np.float32)


def _angles(s: Sketch, x: str, count: int = 4) -> str:
    """[1, sequence, count]: position times frequency."""
    position = s.op("Cast", s.op("Range", np.int64(0), s.length(x), np.int64(1)), to=TensorProto.FLOAT)
    return s.op("Mul", s.op("Unsqueeze", position, np.array([0, 2])), FREQUENCIES[None, None, :count])


def _part(s: Sketch, x: str, start: int, end: int, step: int = 1) -> str:
    return s.op("Slice", x, np.array([start]), np.array([end]), np.array([-1]), np.array([step]))


def _rotate_half(s: Sketch, x: str, q: str) -> str:
    angles = _angles(s, x)
    both = s.op("Unsqueeze", s.op("Concat", angles, angles, axis=-1), np.array([1]))
    turned = s.op("Concat", s.op("Neg", _part(s, q, 4, 8)), _part(s, q, 0, 4), axis=-1)
    return s.op("Add", s.op("Mul", q, s.op("Cos", both)), s.op("Mul", turned, s.op("Sin", both)))


def _by_halves(s: Sketch, x: str, q: str) -> str:
    angles = s.op("Unsqueeze", _angles(s, x), np.array([1]))
    cos, sin, a, b = s.op("Cos", angles), s.op("Sin", angles), _part(s, q, 0, 4), _part(s, q, 4, 8)
    first = s.op("Sub", s.op("Mul", a, cos), s.op("Mul", b, sin))
    second = s.op("Add", s.op("Mul", b, cos), s.op("Mul", a, sin))
    return s.op("Concat", first, second, axis=-1)


def _partial(s: Sketch, x: str, q: str) -> str:
    angles = s.op("Unsqueeze", _angles(s, x, 2), np.array([1]))
    cos, sin, a, b = s.op("Cos", angles), s.op("Sin", angles), _part(s, q, 0, 2), _part(s, q, 2, 4)
    first = s.op("Sub", s.op("Mul", a, cos), s.op("Mul", b, sin))
    second = s.op("Add", s.op("Mul", b, cos), s.op("Mul", a, sin))
    return s.op("Concat", first, second, _part(s, q, 4, 8), axis=-1)


def _from_tables(s: Sketch, x: str, q: str) -> str:
    """cos and sin taken from tables by position, scaled by 1.25."""
    angles = np.arange(32)[:, None] * FREQUENCIES
    position = s.op("Range", np.int64(0), s.length(x), np.int64(1))
    cos, sin = (
        s.op("Gather", s.const((1.25 * table).astype(np.float32)), position, axis=0)
        for table in (np.cos(angles), np.sin(angles))
    )
    a, b = _part(s, q, 0, 4), _part(s, q, 4, 8)
    first = s.op("Sub", s.op("Mul", a, cos), s.op("Mul", b, sin))
    second = s.op("Add", s.op("Mul", b, cos), s.op("Mul", a, sin))
    return s.op("Concat", first, second, axis=-1)


def _interleaved(s: Sketch, x: str, q: str) -> str:
    angles = s.op("Unsqueeze", _angles(s, x), np.array([1]))
    cos, sin, a, b = s.op("Cos", angles), s.op("Sin", angles), _part(s, q, 0, 8, 2), _part(s, q, 1, 8, 2)
    first = s.op("Sub", s.op("Mul", a, cos), s.op("Mul", b, sin))
    second = s.op("Add", s.op("Mul", b, cos), s.op("Mul", a, sin))
    pairs = s.op("Concat", *(s.op("Unsqueeze", t, np.array([-1])) for t in (first, second)), axis=-1)
    return s.op("Reshape", pairs, np.array([0, 0, 0, DEPTH]))


ROTATIONS: dict[str, tuple[Rotary, Callable[[Sketch, str, str], str]]] = {
    "rotate half": (Rotary(HEADS, DEPTH, DEPTH), _rotate_half),
    "by halves": (Rotary(HEADS, DEPTH, DEPTH), _by_halves),
    "partial": (Rotary(HEADS, DEPTH, 4), _partial),
    "interleaved": (Rotary(HEADS, DEPTH, DEPTH, True), _interleaved),
    "tables, scaled": (Rotary(HEADS, DEPTH, DEPTH, False, 1.25), _from_tables),
}


@pytest.mark.parametrize("form", list(ROTATIONS))
def test_rotations(form: str, tmp_path: Path) -> None:
    wanted, write = ROTATIONS[form]
    s = Sketch()
    x = s.ids()
    q, k, v = projections(s, x, HEADS)
    q, k = write(s, x, q), write(s, x, k)
    scores = s.op("MatMul", q, s.op("Transpose", k, perm=[0, 1, 3, 2]))
    graph = checked(s, joined(s, s.op("MatMul", s.op("Softmax", scores, axis=-1), v)), tmp_path)
    assert of(graph, Rotary) == [wanted, wanted]
    (inv_freq,) = {n.inputs[1] for n in graph.nodes if isinstance(n.op, Rotary)}
    np.testing.assert_allclose(
        graph.constants[inv_freq].data(), FREQUENCIES[: wanted.rotary_dim // 2], rtol=2e-7
    )


def test_positions_with_an_offset(tmp_path: Path) -> None:
    s = Sketch()
    x = s.ids()
    position = s.op("Add", s.op("Range", np.int64(0), s.length(x), np.int64(1)), np.int64(2))
    graph = checked(s, s.op("Add", x, s.op("Gather", s.weight(40, WIDTH), position, axis=0)), tmp_path)
    assert sorted(getattr(n.op, "offset", -1) for n in graph.nodes) == [-1, 0, 2]
