"""Quantised operators one at a time: kernels, and what is written in their place, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from compiler.frontend.importer import import_model
from compiler.ir.evaluate import run
from compiler.ir.graph import Attention, Onnx
from compiler.ir.tensor import Array
from isa.diagnostics import CimError
from tests.frontend.oracle import compiled
from tests.frontend.sketch import WIDTH, Sketch
from tests.quantised.making import exactly, normalised

MICROSOFT = "com.microsoft"
rng = np.random.default_rng(11)


def i8(*shape: int) -> Array:
    return rng.integers(-100, 100, shape).astype(np.int8)


def u8(*shape: int) -> Array:
    return rng.integers(0, 255, shape).astype(np.uint8)


def f32(*shape: int) -> Array:
    return rng.uniform(0.01, 0.02, shape).astype(np.float32)


@dataclass
class Bench:
    """A sketch whose input is a float [rows, 8], and what comes of it as integers with scale and zero point."""

    s: Sketch
    x: str

    def rounded(self, zero: int = 3) -> tuple[str, Array, Array]:
        """x as int8 with a scale and a zero point."""
        scale, offset = np.float32(0.02), np.int8(zero)
        return self.s.op("QuantizeLinear", self.x, scale, offset), scale, offset

    def real(self, q: str, scale: float, zero: int) -> str:
        return self.s.op("DequantizeLinear", q, np.float32(scale), np.int8(zero))


def qlinear_matmul(b: Bench) -> str:
    y = b.s.op(
        "QLinearMatMul", *b.rounded(), i8(8, 6), f32(6), np.zeros(6, np.int8), np.float32(0.1), np.int8(-4)
    )
    return b.real(y, 0.1, -4)


def matmul_asymmetric(b: Bench) -> str:
    q = b.s.op("QuantizeLinear", b.x, np.float32(0.02), np.uint8(120))
    weight = (u8(8, 6), np.float32(0.01), np.uint8(131))
    y = b.s.op("QLinearMatMul", q, np.float32(0.02), np.uint8(120), *weight, np.float32(0.1), np.uint8(100))
    return b.s.op("DequantizeLinear", y, np.float32(0.1), np.uint8(100))


def q_gemm(b: Bench) -> str:
    bias = rng.integers(-900, 900, 6).astype(np.int32)
    args = (*b.rounded(), i8(6, 8), f32(6), np.zeros(6, np.int8), bias, np.float32(0.1), np.int8(2))
    return b.real(b.s.op("QGemm", *args, domain=MICROSOFT, transB=1, alpha=1.0), 0.1, 2)


def q_gemm_to_float(b: Bench) -> str:
    args = (*b.rounded(), i8(8, 6), np.float32(0.02), np.int8(0))
    return b.s.op("QGemm", *args, domain=MICROSOFT, alpha=0.5)


def binary(kind: str) -> Callable[[Bench], str]:
    def build(b: Bench) -> str:
        other = b.s.op("QuantizeLinear", b.s.op("Neg", b.x), np.float32(0.03), np.int8(0))
        args = (*b.rounded(), other, np.float32(0.03), np.int8(0), np.float32(0.05), np.int8(1))
        return b.real(b.s.op(kind, *args, domain=MICROSOFT), 0.05, 1)

    return build


def unary(kind: str, **attributes: object) -> Callable[[Bench], str]:
    def build(b: Bench) -> str:
        args = (*b.rounded(), np.float32(1 / 128), np.int8(-100))
        return b.real(b.s.op(kind, *args, domain=MICROSOFT, **attributes), 1 / 128, -100)

    return build


def concat(b: Bench) -> str:
    q, scale, zero = b.rounded()
    args = (np.float32(0.03), np.int8(0), q, scale, zero, q, scale, zero)
    return b.real(b.s.op("QLinearConcat", *args, domain=MICROSOFT, axis=1), 0.03, 0)


def dynamic(b: Bench) -> tuple[str, str, str]:
    b.s.op("DynamicQuantizeLinear", b.x)
    node = b.s.nodes[-1]
    node.output.extend([b.s.name("scale"), b.s.name("zero")])
    return node.output[0], node.output[1], node.output[2]


def matmul_integer(b: Bench) -> str:
    q, scale, zero = dynamic(b)
    product = b.s.op("Cast", b.s.op("MatMulInteger", q, i8(8, 6), zero, np.zeros(6, np.int8)), to=1)
    return b.s.op("Mul", product, b.s.op("Mul", scale, f32(6)))


def matmul_integer_scaled_twice(b: Bench) -> str:
    q, scale, zero = dynamic(b)
    product = b.s.op("Cast", b.s.op("MatMulInteger", q, u8(8, 6), zero, np.uint8(120)), to=1)
    return b.s.op("Mul", b.s.op("Mul", np.float32(0.02), product), scale)


def static_integer(b: Bench) -> str:
    q, scale, zero = b.rounded()
    product = b.s.op("Cast", b.s.op("MatMulInteger", q, i8(8, 6), zero, np.int8(0)), to=1)
    return b.s.op("Mul", product, np.float32(scale * np.float32(0.01)))


def integer_to_float(b: Bench) -> str:
    q, scale, zero = dynamic(b)
    args = (q, i8(8, 6), scale, f32(6), zero, np.zeros(6, np.int8), f32(6))
    return b.s.op("MatMulIntegerToFloat", *args, domain=MICROSOFT)


def dynamic_matmul(b: Bench) -> str:
    args = (b.x, i8(8, 6), f32(6), np.zeros(6, np.int8), f32(6))
    return b.s.op("DynamicQuantizeMatMul", *args, domain=MICROSOFT)


def nbits(zeros: bool, bias: bool, bits: int = 4) -> Callable[[Bench], str]:
    def build(b: Bench) -> str:
        bytes_ = 16 * bits // 8
        wide = b.s.op("Concat", b.x, b.x, b.x, axis=-1)  # 24 columns: one block and a half
        packed = u8(2, -(-2 * bits // 8)) if zeros else ""
        args = (wide, u8(2, 2, bytes_), f32(4), *([packed] if zeros or bias else []))
        args = (*args, *(["", f32(2)] if bias else []))
        return b.s.op("MatMulNBits", *args, domain=MICROSOFT, K=24, N=2, bits=bits, block_size=16)

    return build


CASES: dict[str, Callable[[Bench], str]] = {
    "QLinearMatMul": qlinear_matmul,
    "QLinearMatMul uint8": matmul_asymmetric,
    "QGemm": q_gemm,
    "QGemm to float": q_gemm_to_float,
    "QLinearAdd": binary("QLinearAdd"),
    "QLinearMul": binary("QLinearMul"),
    "QLinearSigmoid": unary("QLinearSigmoid"),
    "QLinearLeakyRelu": unary("QLinearLeakyRelu", alpha=0.25),
    "QLinearSoftmax": unary("QLinearSoftmax", axis=-1, opset=13),
    "QLinearConcat": concat,
    "MatMulInteger": matmul_integer,
    "MatMulInteger scaled twice": matmul_integer_scaled_twice,
    "MatMulInteger static": static_integer,
    "MatMulIntegerToFloat": integer_to_float,
    "DynamicQuantizeMatMul": dynamic_matmul,
    "MatMulNBits": nbits(zeros=False, bias=False),
    "MatMulNBits zeros": nbits(zeros=True, bias=False),
    "MatMulNBits bias": nbits(zeros=True, bias=True),
    "MatMulNBits 8 bits": nbits(zeros=False, bias=False, bits=8),
}


@pytest.mark.parametrize("name", CASES)
def test_operators(name: str, tmp_path: Path) -> None:
    s = Sketch()
    bench = Bench(s, s.input("x", TensorProto.FLOAT, "rows", 8))
    path = s.save(tmp_path / "one.onnx", CASES[name](bench))
    feeds = {"x": rng.standard_normal((5, 8)).astype(np.float32)}
    wanted = exactly(path, feeds)["logits"]
    kernels = run(import_model(path), feeds)["logits"]
    graph = normalised(path)
    written_out = run(graph, feeds)["logits"]
    np.testing.assert_allclose(kernels, wanted, atol=2e-6 * np.abs(wanted).max())
    np.testing.assert_allclose(written_out, wanted, atol=2e-6 * np.abs(wanted).max())
    kinds = {n.op.kind for n in graph.nodes if isinstance(n.op, Onnx)}
    assert kinds <= {
        "MatMul",
        "Gemm",
        "Add",
        "Mul",
        "Neg",
        "Sigmoid",
        "LeakyRelu",
        "Softmax",
        "Concat",
        "Identity",
    }


def test_rows_of_a_table_in_blocks(tmp_path: Path) -> None:
    s = Sketch()
    ids = s.input("ids", TensorProto.INT64, "rows")
    args = (u8(10, 16), ids, f32(10, 2), u8(10, 1))
    gathered = s.op(
        "GatherBlockQuantized", *args, domain=MICROSOFT, bits=4, block_size=16, gather_axis=0, quantize_axis=1
    )
    path = s.save(tmp_path / "one.onnx", gathered)
    feeds = {"ids": np.array([3, 0, 9])}
    wanted = exactly(path, feeds)["logits"]
    assert run(import_model(path), feeds)["logits"].tolist() == wanted.tolist()
    graph = normalised(path)
    assert run(graph, feeds)["logits"].tolist() == wanted.tolist()
    assert [t.is_quantised for t in graph.constants.values()] == [True]


@pytest.mark.parametrize("per_column", [False, True])
def test_attention_of_integers(tmp_path: Path, per_column: bool) -> None:
    s = Sketch()
    rows = s.ids()
    q, scale, zero = dynamic(Bench(s, rows))
    width = 3 * WIDTH if per_column else 1
    weight = (i8(WIDTH, 3 * WIDTH), np.full(3 * WIDTH, 0.1, np.float32))
    zeros = np.zeros(width, np.int8)
    args = (q, *weight, scale, f32(width), "", zero, zeros)
    out = s.op("QAttention", *args, domain=MICROSOFT, num_heads=4, unidirectional=1)
    path = s.save(tmp_path / "one.onnx", s.op("MatMul", out, s.weight(WIDTH, 8)))
    feeds = {"input_ids": rng.integers(0, 32, (1, 6))}
    wanted = exactly(path, feeds)["logits"]
    graph = compiled(path)
    assert sum(isinstance(n.op, Attention) for n in graph.nodes) == 1
    got = run(graph, feeds)["logits"].reshape(wanted.shape)
    np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())


def test_a_scale_beyond_all_numbers_is_refused(tmp_path: Path) -> None:
    s = Sketch()
    x = s.input("x", TensorProto.FLOAT, "rows", 8)
    q = s.op("QuantizeLinear", x, np.float32(np.inf), np.int8(0))
    path = s.save(tmp_path / "one.onnx", s.op("DequantizeLinear", q, np.float32(np.inf), np.int8(0)))
    with pytest.raises(CimError, match="the scale here is inf") as caught:
        normalised(path)
    assert "n_QuantizeLinear_3" in str(caught.value)


def test_a_weight_quantised_in_the_file_is_a_constant(tmp_path: Path) -> None:
    """Some exporters leave the weight in float and quantise it in the graph."""
    s = Sketch()
    x = s.input("x", TensorProto.FLOAT, "rows", 320)
    scale, zero = np.float32(0.01), np.int8(0)
    q = s.op("QuantizeLinear", s.weight(320, 240), scale, zero)
    path = s.save(tmp_path / "one.onnx", s.op("MatMul", x, s.op("DequantizeLinear", q, scale, zero)))
    feeds = {"x": rng.standard_normal((2, 320)).astype(np.float32)}
    graph = normalised(path)
    assert [t.is_quantised for t in graph.constants.values()] == [True]
    wanted = exactly(path, feeds)["logits"]
    np.testing.assert_allclose(run(graph, feeds)["logits"], wanted, atol=1e-5 * np.abs(wanted).max())
