"""Find the real values behind integers: pairs of QuantizeLinear and DequantizeLinear, integer products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compiler.expansion.quant_writing import VERSION, supplant
from compiler.ir.graph import FakeQuant, Node, Onnx, Value
from compiler.ir.quantised import dequantised, ranges
from compiler.ir.rewrite import Editor
from compiler.ir.tensor import Array, Dequantised, DType, Tensor, tensor
from compiler.passes.fold_constants import FoldConstants
from compiler.pipeline import Compilation, Finding, Pass
from compiler.recognition.regions import is_movement, is_onnx
from isa.diagnostics import NodePlace, fail

HELP = "products of integers must be DynamicQuantizeLinear or QuantizeLinear, MatMulInteger, Cast and Mul"

VAST = 1e30
"""A scale beyond this comes from calibrating on masked scores; every finite number rounds to zero."""


@dataclass(frozen=True)
class PairQuantisation(Pass):
    """Replace integers between quantising and dequantising by the rounded real numbers they stand for.

    DequantizeLinear(move(QuantizeLinear(x)))               == move(fakequant(x))
    DequantizeLinear(move(W))                               == move(W as a constant with scales)
    Cast(MatMulInteger(DynamicQuantizeLinear(x), W)) * s    == MatMul(fakequant(x), W as a constant with scales)
    """

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.graph`."""
        editor = Editor(c.require_graph())
        editor.changed = False
        twins = _Twins(editor)
        for listed in list(editor.nodes()):
            node = editor.producer(listed.outputs[0].name)
            if node is None:
                continue
            if is_onnx(node, "DequantizeLinear"):
                twins.dequantize(node)
            elif is_onnx(node, "MatMulInteger", "ConvInteger"):
                problem = twins.product(node)
                if problem is not None:
                    c.findings.append(Finding(node.sources[0], problem, HELP))
        if editor.changed:
            c.graph = editor.finish()
            FoldConstants().run(c)
        return editor.changed


@dataclass(frozen=True, slots=True)
class _Grid:
    """Scale and zero point: names, and, if they are constants of one number, what they are."""

    scale: str
    zero: str
    static: FakeQuant | None

    def agrees(self, other: _Grid) -> bool:
        """Whether both are the same numbers."""
        if self.static is not None or other.static is not None:
            return self.static == other.static
        return (self.scale, self.zero) == (other.scale, other.zero)


class _Twins:
    """For values of integers, the values of real numbers that they stand for."""

    def __init__(self, editor: Editor) -> None:
        self.editor = editor
        self._twins: dict[tuple[str, str, str], str | None] = {}
        self._rounded: dict[tuple[str, FakeQuant], str] = {}

    # The two forms.

    def dequantize(self, node: Node) -> None:
        """DequantizeLinear of something that is not a constant."""
        values, scale, *rest = node.inputs
        twin = self.twin(values, self.grid(scale, rest[0] if rest else "", values))
        if twin is not None:
            self._renamed(twin, supplant(self.editor, node, twin))

    def product(self, node: Node) -> str | None:
        """Rewrite an integer product with a constant weight, cast and multiplied by the scales; or say why not."""
        weight = self.editor.constant(node.inputs[1])
        grid = self._made_with(node.inputs[0], _at(node, 2))
        if weight is None:
            return "the weight is no constant: arrays are filled when the program is compiled"
        if grid is None:
            return "the activations are integers that the file does not make from real numbers"
        found = self._scaled(node, grid)
        if found is None:
            return "the integers of the product are not cast and multiplied by the scales of both factors"
        last, scale, passed = found
        twin = self.twin(node.inputs[0], grid)
        by_column = _as_column(scale, weight, node)
        if twin is None or by_column is None:
            return "the scales of the weight are neither one number nor one a column"
        self._rewrite(node, passed, last, twin, self._weight(node, weight, by_column))
        return None

    # Real values.

    def grid(self, scale: str, zero: str, values: str) -> _Grid:
        """The grid of a scale and a zero point, for integers of the type of `values`."""
        s, z = self._number(scale), self._number(zero) if zero else np.zeros(1)
        kind = self.editor.value(zero or values)
        if s is None or z is None or kind is None or not kind.dtype.is_integer:
            return _Grid(scale, zero, None)
        low, high = ranges(kind.dtype.numpy)
        return _Grid(scale, zero, FakeQuant(float(s[0]), int(z[0]), low, high))

    def twin(self, name: str, grid: _Grid) -> str | None:
        """The real value behind the integers `name` on `grid`; None if there is none."""
        key = (name, grid.scale, grid.zero)
        if key not in self._twins:
            self._twins[key] = self._twin(name, grid)
        return self._twins[key]

    def _twin(self, name: str, grid: _Grid) -> str | None:
        constant = self.editor.constant(name)
        if constant is not None:
            return self._constant(name, constant, grid)
        node = self.editor.producer(name)
        if node is None:
            return None
        if is_onnx(node, "QuantizeLinear"):
            own = self.grid(node.inputs[1], _at(node, 2), name)
            return self.rounded(node, grid.static) if own.static and own.agrees(grid) else None
        if is_onnx(node, "DynamicQuantizeLinear"):
            same = (grid.scale, grid.zero) == (node.outputs[1].name, node.outputs[2].name)
            return self.rounded(node, FakeQuant()) if same else None
        return self._moved(node, name, grid) if is_movement(node) or is_onnx(node, "Gather") else None

    def rounded(self, node: Node, op: FakeQuant | None) -> str | None:
        """The input of a quantising node, rounded; once for each grid."""
        assert op is not None
        x = node.inputs[0]
        self._refuse_vast(node, op)
        if self._is_on(x, op):
            return x
        if (x, op) not in self._rounded:
            value = self.editor.value(x)
            shape = None if value is None else value.shape
            made = Value(self.editor.fresh(f"{x}.rounded"), DType.FLOAT32, shape)
            self.editor.place(Node(op, (x,), (made,), node.sources), self.editor.rank(node))
            self._rounded[x, op] = made.name
        return self._rounded[x, op]

    def _is_on(self, name: str, op: FakeQuant, limit: int = 20) -> bool:
        """Whether a value is on the grid of `op` already, being moved from values that are."""
        constant, node = self.editor.constant(name), self.editor.producer(name)
        if constant is not None:
            return _is_constant_on(constant, op)
        if node is None or not limit:
            return False
        if isinstance(node.op, FakeQuant):
            return node.op == op and op.scale is not None
        if is_onnx(node, "Gather"):
            return self._is_on(node.inputs[0], op, limit - 1)
        if not is_movement(node) or is_onnx(node, "Pad"):
            return False
        return all(self._is_on(i, op, limit - 1) for i in _moved_inputs(node))

    def _refuse_vast(self, node: Node, op: FakeQuant) -> None:
        if op.scale is None or (np.isfinite(op.scale) and op.scale < VAST):
            return
        raise fail(
            "E0203",
            f"the scale here is {op.scale:g}: every value becomes zero or not a number, attention with it. The "
            "quantiser was calibrated on masked scores",
            NodePlace(self.editor.model, node.sources[0], "onnx.QuantizeLinear"),
            "quantise products alone (op_types_to_quantize: MatMul, Gemm), or dynamically",
        )

    def _renamed(self, old: str, new: str) -> None:
        if old != new:
            self._twins = {key: new if name == old else name for key, name in self._twins.items()}
            self._rounded = {key: new if name == old else name for key, name in self._rounded.items()}

    def _moved(self, node: Node, name: str, grid: _Grid) -> str | None:
        """The same movement of real values."""
        if grid.static is None and any(self.editor.constant(i) is not None for i in _moved_inputs(node)):
            return None
        real = {i: self.twin(i, grid) for i in _moved_inputs(node)}
        if any(twin is None for twin in real.values()):
            return None
        outputs = tuple(
            Value(self.editor.fresh(f"{v.name}.real"), DType.FLOAT32, v.shape) for v in node.outputs
        )
        inputs = tuple(real.get(i) or i for i in node.inputs)
        self.editor.place(Node(node.op, inputs, outputs, node.sources), self.editor.rank(node))
        for old, new in zip(node.outputs, outputs, strict=True):
            self._twins[old.name, grid.scale, grid.zero] = new.name
        return self._twins[name, grid.scale, grid.zero]

    def _constant(self, name: str, constant: Tensor, grid: _Grid) -> str | None:
        scale = self.editor.constant(grid.scale)
        zero = self.editor.constant(grid.zero) if grid.zero else None
        if grid.static is None or scale is None:
            return None
        return self.editor.add_constant(f"{name}.real", dequantised(constant, scale.reshape(()), zero))

    def _number(self, name: str) -> Array | None:
        constant = self.editor.constant(name)
        if constant is None or constant.count != 1 or not constant.has_data:
            return None
        return constant.data().reshape(-1)

    # Integer products.

    def _made_with(self, name: str, zero: str) -> _Grid | None:
        """The grid that the integers `name` were quantised with."""
        node = self.editor.producer(name)
        while node is not None and is_movement(node):
            name = node.inputs[0]
            node = self.editor.producer(name)
        if node is None:
            return None
        if is_onnx(node, "DynamicQuantizeLinear") and zero == node.outputs[2].name:
            return _Grid(node.outputs[1].name, zero, None)
        if is_onnx(node, "QuantizeLinear"):
            found = self.grid(node.inputs[1], _at(node, 2), name)
            return found if found.agrees(self.grid(node.inputs[1], zero, name)) else None
        return None

    def _scaled(self, node: Node, grid: _Grid) -> tuple[Node, Array, list[Node]] | None:
        """The node after which the product is a real number, the weight's scale, and the nodes up to there."""
        cast = self._only_user(node, "Cast")
        if cast is None:
            return None
        passed, factors = [node, cast], list[str]()
        while (last := self._only_user(passed[-1], "Mul")) is not None:
            passed.append(last)
            factors += self._factors(next(i for i in last.inputs if i != passed[-2].output.name))
            if (scale := self._weight_scale(factors, grid)) is not None:
                return last, scale, passed
        return None

    def _weight_scale(self, factors: list[str], grid: _Grid) -> Array | None:
        """The product of `factors` but for the activations' scale, if that is all they are."""
        rest = list(factors)
        divisor = np.float32(1)
        if grid.static is None:
            if rest.count(grid.scale) != 1:
                return None
            rest.remove(grid.scale)
        else:
            divisor = np.float32(grid.static.scale or 1)
        constants = [self.editor.constant(name) for name in rest]
        if not constants or any(c is None or not c.has_data for c in constants):
            return None
        product: Array = np.asarray(np.float32(1) / divisor)
        for constant in constants:
            assert constant is not None
            product = product * constant.data().astype(np.float32)
        return np.asarray(product, np.float32)

    def _factors(self, name: str) -> list[str]:
        node = self.editor.producer(name)
        if node is not None and is_onnx(node, "Mul"):
            return [f for i in node.inputs for f in self._factors(i)]
        return [name]

    def _only_user(self, node: Node, kind: str) -> Node | None:
        user = self.editor.only_user(node.output.name)
        return user if is_onnx(user, kind) else None

    def _weight(self, node: Node, weight: Tensor, scale: tuple[Array, int]) -> str:
        zero = self.editor.constant(_at(node, 3)) if _at(node, 3) else None
        real = dequantised(weight, tensor(scale[0]), zero, scale[1])
        return self.editor.add_constant(f"{node.inputs[1]}.real", real)

    def _rewrite(self, node: Node, passed: list[Node], last: Node, x: str, weight: str) -> None:
        assert isinstance(node.op, Onnx)
        kind = "MatMul" if node.op.kind == "MatMulInteger" else "Conv"
        sources = tuple(dict.fromkeys(s for n in passed for s in n.sources))
        op = Onnx("", kind, VERSION, node.op.attributes)
        self.editor.replace(last, Node(op, (x, weight), last.outputs, sources))
        for old in reversed(passed[:-1]):
            self.editor.remove(old)


def _at(node: Node, index: int) -> str:
    return node.inputs[index] if index < len(node.inputs) else ""


def _moved_inputs(node: Node) -> tuple[str, ...]:
    return node.inputs if is_onnx(node, "Concat") else node.inputs[:1]


def _as_column(scale: Array, weight: Tensor, node: Node) -> tuple[Array, int] | None:
    """A scale as one number, or one a column (an output channel), and the axis it goes along."""
    axis = 0 if is_onnx(node, "ConvInteger") else len(weight.shape) - 1
    if scale.size == 1:
        return scale.reshape(()), axis
    return (scale.reshape(-1), axis) if scale.size == weight.shape[axis] else None


def _is_constant_on(constant: Tensor, op: FakeQuant) -> bool:
    source = constant.source
    if not isinstance(source, Dequantised) or source.axis is not None or op.scale is None:
        return False
    zero = 0 if source.zeros is None else int(source.zeros.data().reshape(-1)[0])
    low, high = ranges(source.values.dtype.numpy)
    same = float(source.scales.data().reshape(-1)[0]) == op.scale and zero == op.zero
    return same and op.low <= low and high <= op.high


__all__ = ["PairQuantisation"]
