"""Write quantised operators out as float operators between QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from compiler.expansion.quant_writing import Writer
from compiler.ir.graph import AttributeValue, Node, Onnx, Value
from compiler.ir.quantised import dequantised
from compiler.ir.rewrite import Editor
from compiler.ir.tensor import Declared, DType, Stored, Tensor, tensor
from compiler.ops.call import Attributes
from compiler.ops.quantised import nbits_zeros, unpack
from compiler.ops.registry import MICROSOFT
from compiler.passes.fold_constants import FoldConstants
from compiler.pipeline import Compilation, Pass

Rule = Callable[[Writer], "str | None"]
"""Writes a node out and names its result; None if it cannot be."""


@dataclass(frozen=True)
class ExpandQuantised(Pass):
    """Write operators on integers out, so that one form of quantisation is left: QDQ.

    QLinearX(a, b; y scale) == QuantizeLinear(X(DequantizeLinear(a), DequantizeLinear(b)))
    MatMulNBits(x, B)       == MatMul(x, B^T), B a constant of integers with scales by block
    """

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.graph`."""
        editor = Editor(c.require_graph())
        editor.changed = False
        for node in list(editor.nodes()):
            rule = _rule(node)
            if rule is not None:
                writer = Writer(editor, node)
                result = rule(writer)
                if result is not None:
                    writer.done(result)
        if editor.changed:
            c.graph = editor.finish()
            FoldConstants().run(c)
        return editor.changed


def _rule(node: Node) -> Rule | None:
    if not isinstance(node.op, Onnx):
        return None
    return _RULES.get((node.op.domain, node.op.kind))


# Operands and results.


def _real(w: Writer, at: int, axis: int | None = None) -> str:
    """The real numbers that inputs at (values), at + 1 (scale) and at + 2 (zero point) stand for."""
    return _real_of(w, w.input(at), w.input(at + 1), w.input(at + 2), axis)


def _real_of(w: Writer, values: str, scale: str, zero: str, axis: int | None = None) -> str:
    attributes = () if axis is None else (("axis", axis),)
    output: Value | None = None
    if w.editor.constant(values) is not None:
        output = Value(w.editor.fresh(f"{values}.real"), DType.OTHER, None)
        w.editor.reserve(output)
    inputs = (values, scale, zero) if zero else (values, scale)
    return w.op("DequantizeLinear", inputs, attributes, output=output)


def _rounded(w: Writer, x: str, at: int) -> str:
    """x on the grid whose scale and zero point are inputs `at` and `at` + 1."""
    zero = w.input(at + 1)
    return w.op("QuantizeLinear", (x, w.input(at), zero) if zero else (x, w.input(at)))


def _last_axis(w: Writer, at: int) -> int | None:
    """The column axis of weight input `at`, if its scale (the next input) goes by column."""
    values, scale = w.editor.constant(w.input(at)), w.editor.constant(w.input(at + 1))
    by_column = values is not None and scale is not None and scale.count > 1
    return len(values.shape) - 1 if by_column and values is not None else None


def _attributes(w: Writer, *names: str) -> tuple[tuple[str, AttributeValue], ...]:
    assert isinstance(w.node.op, Onnx)
    return tuple((k, v) for k, v in w.node.op.attributes if k in names)


# Operators of integers with scales.


def _binary(kind: str) -> Rule:
    return lambda w: _rounded(w, w.op(kind, (_real(w, 0), _real(w, 3))), 6)


def _unary(kind: str) -> Rule:
    def rule(w: Writer) -> str:
        assert isinstance(w.node.op, Onnx)
        version = Attributes(w.node.op).integer("opset", 13)
        x = w.op(kind, (_real(w, 0),), _attributes(w, "axis", "alpha"), version=version)
        return _rounded(w, x, 3)

    return rule


def _matmul(w: Writer) -> str:
    return _rounded(w, w.op("MatMul", (_real(w, 0), _real(w, 3, _last_axis(w, 3)))), 6)


def _concat(w: Writer) -> str:
    parts = [_real(w, at) for at in range(2, len(w.node.inputs), 3)]
    return _rounded(w, w.op("Concat", parts, _attributes(w, "axis")), 0)


def _where(w: Writer) -> str:
    return _rounded(w, w.op("Where", (w.input(0), _real(w, 1), _real(w, 4))), 7)


def _product_scale(w: Writer, a: int, b: int, factor: float = 1.0) -> str | None:
    """The scale of a sum of products: that of both operands multiplied."""
    first, second = w.data(a), w.data(b)
    if first is None or second is None:
        return None
    scale = np.asarray(np.float32(factor) * first.data() * second.data(), np.float32)
    return w.constant(f"{w.node.output.name}.scale", tensor(scale.reshape(-1) if scale.size > 1 else scale))


def _gemm(w: Writer) -> str | None:
    assert isinstance(w.node.op, Onnx)
    flags = Attributes(w.node.op)
    b_scale, bias = w.editor.constant(w.input(4)), w.input(6)
    columns = 0 if flags.integer("transB", 0) else 1
    inputs = [_real(w, 0), _real(w, 3, columns if b_scale is not None and b_scale.count > 1 else None)]
    if bias:
        scale = _product_scale(w, 1, 4, flags.number("alpha", 1.0))
        if scale is None:
            return None
        inputs.append(_real_of(w, bias, scale, "", 0))
    x = w.op("Gemm", inputs, _attributes(w, "alpha", "transA", "transB"))
    return _rounded(w, x, 7) if w.input(7) else x


def _conv(w: Writer) -> str | None:
    names = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    inputs = [_real(w, 0), _real(w, 3, 0)]
    if w.input(8):
        scale = _product_scale(w, 1, 4)
        if scale is None:
            return None
        inputs.append(_real_of(w, w.input(8), scale, "", 0))
    return _rounded(w, w.op("Conv", inputs, _attributes(w, *names)), 6)


def _plus_bias(w: Writer, x: str, bias: str) -> str:
    return w.op("Add", (x, bias)) if bias else x


def _integer_to_float(w: Writer) -> str:
    a = _real_of(w, w.input(0), w.input(2), w.input(4))
    b = _real_of(w, w.input(1), w.input(3), w.input(5), 1)
    return _plus_bias(w, w.op("MatMul", (a, b)), w.input(6))


def _dynamic_matmul(w: Writer) -> str:
    values, scale, zero = w.nodes("DynamicQuantizeLinear", (w.input(0),), ("values", "scale", "zero"))
    b = _real_of(w, w.input(1), w.input(2), w.input(3), 1)
    return _plus_bias(w, w.op("MatMul", (_real_of(w, values, scale, zero), b)), w.input(4))


def _attention(w: Writer) -> str:
    """QAttention: input, weight, bias, their scales, mask, zero points, past."""
    assert isinstance(w.node.op, Onnx)
    x = _real_of(w, w.input(0), w.input(3), w.input(6))
    weight = _real_of(w, w.input(1), w.input(4), w.input(7), 1)
    inputs = [x, weight, w.input(2), w.input(5), w.input(8)]
    while not inputs[-1]:
        inputs.pop()
    name = w.op("Attention", inputs, w.node.op.attributes, domain=MICROSOFT, version=1)
    last = w.made[-1]
    w.made[-1] = Node(last.op, last.inputs, (*last.outputs, *w.node.outputs[1:]), last.sources)
    return name


def _plain(w: Writer) -> str:
    """QuantizeLinear and DequantizeLinear of com.microsoft are those of ai.onnx."""
    assert isinstance(w.node.op, Onnx)
    return w.op(w.node.op.kind, w.node.inputs, w.node.op.attributes)


# Packed weights.


def _lazy(
    name: str, dtype: DType, shape: tuple[int, ...], base: Tensor, make: Callable[[], np.ndarray]
) -> Tensor:
    """A constant made from the data of `base`, when asked for."""
    if not base.has_data:
        return Tensor(dtype, shape, Declared(name))
    return Tensor(dtype, shape, Stored(name, make))


def _nbits(w: Writer) -> str | None:
    assert isinstance(w.node.op, Onnx)
    flags = Attributes(w.node.op)
    packed, scales = w.editor.constant(w.input(1)), w.editor.constant(w.input(2))
    if packed is None or scales is None or (w.input(3) and w.editor.constant(w.input(3)) is None):
        return None
    n, k = flags.integer("N", 0), flags.integer("K", 0)
    bits, block = flags.integer("bits", 4), flags.integer("block_size", 32)
    if bits not in (2, 4, 8) or not _in_order(w, k, block):
        return None
    blocks = -(-k // block)

    kind = DType.UINT8 if bits == 8 else DType.UINT4

    def values() -> np.ndarray:
        numbers = unpack(packed.data().reshape(n, -1).view(np.uint8), bits, blocks * block)[:, :k]
        return numbers.astype(kind.numpy)

    stem = w.input(1)
    integers = _lazy(f"{bits}bit:{stem}", kind, (n, k), packed, values)
    zeros = _zeros(w, n, blocks, bits)
    weight = dequantised(integers, scales.reshape((n, blocks)), zeros, 1, block).transpose((1, 0))
    name = w.constant(f"{stem}.weight", weight)
    return _plus_bias(w, w.op("MatMul", (w.input(0), name)), w.input(5))


def _in_order(w: Writer, k: int, block: int) -> bool:
    """Whether the rows of the weight are in the order of their blocks (no g_idx that says otherwise)."""
    if not w.input(4):
        return True
    index = w.data(4)
    return index is not None and np.array_equal(index.data()[:k], np.arange(k) // block)


def _zeros(w: Writer, rows: int, blocks: int, bits: int) -> Tensor:
    given = w.editor.constant(w.input(3)) if w.input(3) else None
    if given is None:
        return tensor(np.array(1 << (bits - 1), np.uint8))
    dtype = given.dtype
    name = f"{bits}bit:{w.input(3)}"
    return _lazy(name, dtype, (rows, blocks), given, lambda: nbits_zeros(given.data(), rows, blocks, bits))


def _gather(w: Writer) -> str | None:
    """GatherBlockQuantized: rows of a table of integers with scales by block."""
    assert isinstance(w.node.op, Onnx)
    flags = Attributes(w.node.op)
    data, scales = w.editor.constant(w.input(0)), w.editor.constant(w.input(2))
    if data is None or scales is None or (w.input(3) and w.editor.constant(w.input(3)) is None):
        return None
    bits, block = flags.integer("bits", 4), flags.integer("block_size", 128)
    axis = flags.integer("quantize_axis", 1)
    zeros = w.editor.constant(w.input(3)) if w.input(3) else None
    if data.dtype is DType.UINT8:
        rows, width = data.shape[0], data.shape[-1] * 8 // bits
        zeros = _zeros(w, rows, scales.shape[-1], bits)
        name = f"{bits}bit:{w.input(0)}"
        packed, kind = data, DType.UINT8 if bits == 8 else DType.UINT4
        data = _lazy(
            name, kind, (rows, width), packed, lambda: unpack(packed.data(), bits, width).astype(kind.numpy)
        )
    table = w.constant(f"{w.input(0)}.table", dequantised(data, scales, zeros, axis, block))
    return w.op("Gather", (table, w.input(1)), (("axis", flags.integer("gather_axis", 0)),))


_RULES: dict[tuple[str, str], Rule] = {
    ("", "QLinearMatMul"): _matmul,
    ("", "QLinearConv"): _conv,
    (MICROSOFT, "QLinearConv"): _conv,
    (MICROSOFT, "QGemm"): _gemm,
    (MICROSOFT, "QLinearAdd"): _binary("Add"),
    (MICROSOFT, "QLinearMul"): _binary("Mul"),
    (MICROSOFT, "QLinearSigmoid"): _unary("Sigmoid"),
    (MICROSOFT, "QLinearLeakyRelu"): _unary("LeakyRelu"),
    (MICROSOFT, "QLinearSoftmax"): _unary("Softmax"),
    (MICROSOFT, "QLinearConcat"): _concat,
    (MICROSOFT, "QLinearWhere"): _where,
    (MICROSOFT, "MatMulIntegerToFloat"): _integer_to_float,
    (MICROSOFT, "DynamicQuantizeMatMul"): _dynamic_matmul,
    (MICROSOFT, "QAttention"): _attention,
    (MICROSOFT, "QuantizeLinear"): _plain,
    (MICROSOFT, "DequantizeLinear"): _plain,
    (MICROSOFT, "MatMulNBits"): _nbits,
    (MICROSOFT, "GatherBlockQuantized"): _gather,
}
"""How each is written out."""
