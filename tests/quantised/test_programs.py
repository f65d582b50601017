"""Programs of quantised models: the file's integers lie in the arrays, and the chip computes with them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType

from compiler.backend.build import build_program, with_chunk
from compiler.driver import compile_model
from compiler.ir.evaluate import evaluate
from compiler.ir.mapping import Arithmetic
from compiler.ir.tensor import tensor
from compiler.mapping.mapper import MapOptions
from compiler.mapping.problem import Problem
from compiler.mapping.rounding import quantise_in_groups, quantise_weight
from compiler.mapping.settle import settle
from compiler.pipeline import Compilation, CompileOptions
from isa.assembler import assemble
from isa.binary import read_program, write_program
from isa.disassembler import listing
from isa.instructions import Vouter
from isa.program import Limits, Origin, Program, segments_of
from isa.verifier import verify
from runtime.machine import Machine
from runtime.timing import simulate
from tests.compiler.building import run, tiny
from tests.compiler.graphs import Shape, decoder
from tests.quantised.joining import apart
from tests.quantised.making import blocks, dynamic, plain, static

IDS = np.random.default_rng(5).integers(0, 60, 24)


@cache
def compilation(path: Path, weights: str = "int8") -> Compilation:
    return compile_model(path, CompileOptions(max_context=32, weights=weights), tiny(8))


def program(path: Path, weights: str = "int8") -> Program:
    return compilation(path, weights).require_program()


def noise(path: Path, weights: str = "int8") -> float:
    """How far the chip is from the graph's meaning without roundings, relative to the spread of the logits."""
    c = compilation(path, weights)
    expected = evaluate(c.require_graph(), IDS)
    error = run(Machine(c.require_program()), IDS) - expected
    return float(np.sqrt(np.mean(error**2)) / np.std(expected))


def cells(p: Program) -> dict[str, NDArray[np.generic]]:
    """For each weight, what is in the arrays that hold it, put together from all tiles; nan elsewhere."""
    shapes = {t.name: t.shape for t in p.tensors}
    whole: dict[str, NDArray[np.float32]] = {}
    for tile, state in zip(p.tiles, Machine(p).tiles, strict=True):
        for array, data in zip(state.arrays, tile.arrays, strict=True):
            if data is not None:
                name, (row, col) = data.values.tensor, data.values.start
                target = whole.setdefault(name, np.full(shapes[name], np.nan, np.float32))
                target[row : row + array.spec.rows, col : col + array.spec.cols] = array.cells
    return {name: part for tensor, values in whole.items() for name, part in apart(tensor, values).items()}


def columns_of(name: str, whole: NDArray[np.float32]) -> NDArray[np.float32]:
    """The columns of a weight that a tensor named `...[first:last].int8` holds; all, if the name says none."""
    found = re.search(r"\[(\d+):(\d+)\]\.int8$", name)
    return whole[:, int(found[1]) : int(found[2])] if found else whole


def check_integers(
    path: Path, kinds: tuple[str, ...], real: Callable[[str, onnx.GraphProto], NDArray[np.float32]]
) -> int:
    """Every array holds the integers of an initializer of the file, less its zero points. How many there were."""
    graph = onnx.load(path).graph
    names = [
        t.name
        for t in graph.initializer
        if len(t.dims) > 1 and onnx.TensorProto.DataType.Name(t.data_type) in kinds
    ]
    found = cells(program(path))
    for name, values in found.items():
        (source,) = [n for n in names if name.startswith(n.removesuffix("_quantized"))]
        assert values.tolist() == columns_of(name, real(source, graph)).tolist(), name
    return len(found)


def initializer(graph: onnx.GraphProto, name: str) -> NDArray[np.float32]:
    """A constant of the file as float32."""
    return np.asarray(numpy_helper.to_array(next(t for t in graph.initializer if t.name == name)), np.float32)


def plain_integers(name: str, graph: onnx.GraphProto) -> NDArray[np.float32]:
    """Integers with a zero point beside them."""
    stem = name.removesuffix("_quantized")
    return initializer(graph, name) - initializer(graph, f"{stem}_zero_point")


def packed_integers(name: str, graph: onnx.GraphProto) -> NDArray[np.float32]:
    """Integers of MatMulNBits, two a byte, the lower first, less their zero points."""
    node = next(n for n in graph.node if name in n.input)
    size = {a.name: a.i for a in node.attribute}
    packed = initializer(graph, name).astype(np.uint8).reshape(size["N"], -1)
    numbers = np.stack([packed % 16, packed // 16], axis=-1).reshape(size["N"], -1)[:, : size["K"]]
    zeros = np.full((size["N"], numbers.shape[1]), 8.0)
    if len(node.input) > 3:
        pairs = initializer(graph, node.input[3]).astype(np.uint8).reshape(size["N"], -1)
        each = np.stack([pairs % 16, pairs // 16], axis=-1).reshape(size["N"], -1)
        zeros = np.repeat(each, size["block_size"], axis=1)[:, : size["K"]].astype(float)
    return (numbers - zeros).T.astype(np.float32)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
def test_arrays_hold_the_integers_of_dynamic_files(family: str, per_channel: bool) -> None:
    path = dynamic(family, per_channel=per_channel)
    assert check_integers(path, ("INT8",), plain_integers) == {"llama": 15, "gpt2": 13, "opt": 13}[family]
    assert noise(path) < 0.02


@pytest.mark.parametrize("form", QuantFormat)
def test_arrays_hold_the_integers_of_static_files(form: QuantFormat) -> None:
    path = static("llama", form)
    assert check_integers(path, ("INT8",), plain_integers) == 15
    assert noise(path) < 0.02


@pytest.mark.parametrize("symmetric", [True, False])
def test_arrays_hold_the_integers_of_weights_in_blocks(symmetric: bool) -> None:
    path = blocks("llama", symmetric=symmetric)
    assert check_integers(path, ("UINT8",), packed_integers) == 15
    assert noise(path) < 0.02
    with_groups = {a.block for role in program(path).roles for a in role.arrays}
    assert with_groups == {0, 16}


def test_scales_go_into_the_program_unchanged() -> None:
    path = blocks("llama")
    graph, p = onnx.load(path).graph, program(path)
    assert p.data is not None
    name = "model.layers.0.mlp.down_proj.weight_Q4"
    node = next(n for n in graph.node if name in n.input)
    scales = initializer(graph, node.input[2]).reshape(32, 3).T
    assert p.data[f"{name}.weight.scale16"].tolist() == scales.tolist()


def shifted_integers(name: str, graph: onnx.GraphProto) -> NDArray[np.float32]:
    """uint8 less its zero point where that fits int8, else less 128."""
    real = plain_integers(name, graph)
    return real if real.min() >= -128 and real.max() <= 127 else initializer(graph, name) - 128


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_unsigned_weights_keep_their_integers_whatever_their_zero_points(
    family: str, per_channel: bool
) -> None:
    path = dynamic(family, QuantType.QUInt8, per_channel=per_channel)
    assert check_integers(path, ("UINT8",), shifted_integers) == {"llama": 15, "gpt2": 13}[family]
    used = {type(i) for role in program(path).roles for i in role.code}
    assert Vouter in used, "no zero point is far from the middle: the test tests nothing"
    assert noise(path) < 0.02


@pytest.mark.parametrize(
    "path", [dynamic("llama"), static("gpt2", QuantFormat.QDQ), blocks("opt")], ids=lambda path: path.stem
)
def test_ideal_arithmetic_computes_the_graph(path: Path) -> None:
    assert noise(path, "float32") < 1e-5


def test_float_models_with_weights_of_four_bits() -> None:
    path = plain("llama")
    coarse, fine = noise(path, "int4"), noise(path, "int8")
    assert fine < 0.02 < coarse < 0.5
    values = cells(program(path, "int4"))
    assert (min(v.min() for v in values.values()), max(v.max() for v in values.values())) == (-8, 7)


def test_programs_with_groups_round_trip(tmp_path: Path) -> None:
    p = program(blocks("llama"))
    write_program(p, tmp_path / "p.cim")
    back = read_program(tmp_path / "p.cim")
    assert back.roles == p.roles and back.tiles == p.tiles
    text = listing(p, source=False, complete=True)
    assert "block 16" in text
    assert assemble(text, target=p.target).roles == p.roles


def test_groups_cost_activations() -> None:
    """Scales by block cost time: each group of rows is an activation of its own."""
    grouped, whole = program(blocks("llama")), program(plain("llama"))
    cost = [simulate(p, segments_of(1, 8, p.limits.chunk)).cycles for p in (grouped, whole)]
    assert cost[0] > cost[1]


def test_shapes_alone_are_enough() -> None:
    options = CompileOptions(max_context=32, shapes_only=True)
    c = compile_model(blocks("llama"), options, tiny(8))
    assert c.require_program().data is None
    assert c.require_program().roles == program(blocks("llama")).roles


def test_weights_of_four_bits_in_groups_compute_what_they_stand_for() -> None:
    """Rows beyond one group: the arrays' values and scales, multiplied out, are the weights the chip uses."""
    graph = decoder(Shape(width=320, layers=1, heads=4, kv_heads=4, inner=256, vocabulary=64))
    options = MapOptions(1024, 64, weight_bits=4, heads_together=1)
    mapping = settle(Problem(graph, tiny(14), Limits(32, chunk=1), Arithmetic.INT8), options).mapping
    p = build_program(with_chunk(mapping, 8), tiny(14), Origin(), shapes_only=False)
    verify(p)
    blocks_of_rows = {a.block for role in p.roles for a in role.arrays}
    assert blocks_of_rows == {0, 16, 128}, "heads of 80 rows begin within a group: it is cut finer"
    assert p.data is not None
    rounded = dict(graph.constants)
    for name, constant in graph.constants.items():
        if f"{name}.int8" in p.data:
            scales = np.asarray(p.data[f"{name}.scale128"])
            rows = np.arange(constant.shape[0]) // 128
            rounded[name] = tensor(np.asarray(p.data[f"{name}.int8"], np.float32) * scales[rows])
    expected = evaluate(replace(graph, constants=rounded), IDS)
    error = run(Machine(p), IDS) - expected
    assert np.sqrt(np.mean(error**2)) / np.std(expected) < 0.03


def test_groups_have_scales_of_their_own() -> None:
    weight = np.random.default_rng(2).standard_normal((300, 8)).astype(np.float32)
    weight[128:256] *= 10
    values, scales = quantise_in_groups(weight, 4, 128)
    assert values.shape == (300, 8) and scales.shape == (3, 8)
    assert (values.min(), values.max()) == (-8, 7)
    whole, whole_scales = quantise_in_groups(weight, 4, 0)
    assert whole_scales.shape == (1, 8)
    small = np.r_[0:128, 256:300]
    errors = values * scales[np.arange(300) // 128] - weight, whole * whole_scales - weight
    assert np.square(errors[0][small]).sum() < 0.1 * np.square(errors[1][small]).sum()


def test_scales_are_searched() -> None:
    """No step is left that is as coarse as the largest magnitude over 7 makes it; what is exact stays so."""
    weight = np.random.default_rng(3).standard_normal((128, 16)).astype(np.float32)
    values, scales = quantise_weight(weight, 4)
    plain = np.abs(weight).max(axis=0) / 7
    rounded = np.clip(np.rint(weight / plain), -7, 7) * plain
    ours, theirs = (np.square(w - weight).sum(axis=0) for w in (values * scales, rounded))
    assert (ours <= theirs * (1 + 1e-6)).all() and ours.sum() < 0.85 * theirs.sum()
    exact = np.arange(-8, 8, dtype=np.float32)[:, None] * np.array([1, -1, 0.25, 0], np.float32)
    values, scales = quantise_weight(exact, 4)
    np.testing.assert_array_equal(values * scales, exact)
