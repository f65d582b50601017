"""Einsum of two operands, spelled out as a product of matrices between transposes and reshapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from compiler.expansion.attention_forms import FormError
from compiler.expansion.writing import Writer
from compiler.ir.dims import Extent, Shape, size_of
from compiler.ir.tensor import symbolic
from compiler.ops.equations import spelled_out
from compiler.recognition.regions import is_onnx


@dataclass(frozen=True, slots=True)
class _Axes:
    """The letters of an equation: in both operands and the result, in one and the result, summed over.

    `spread`: letters of the left operand over which the right one, which does not have them, is repeated.
    """

    batch: str
    left: str
    right: str
    summed: str
    spread: str = ""


def einsum(w: Writer) -> list[str]:
    """`abc,cde->abde`, `...qd,...kd->...qk` and the like, of two operands whose letters all differ.

    `FormError` for anything else.
    """
    equation = spelled_out(w.attributes.text("equation", ""), [w.rank(i) for i in range(len(w.node.inputs))])
    terms, _, result = equation.partition("->")
    operands = terms.split(",")
    if len(operands) != 2 or "..." in equation or not result or any(len(set(t)) < len(t) for t in operands):
        raise FormError(f"the equation {equation!r} is no product of two operands")
    axes = _axes(operands[0], operands[1], result)
    sizes = _sizes(w, operands)
    if axes.batch and len(axes.left) > 1 and len(axes.right) == 1:
        axes = _spread(axes, operands[0] if _is_softmax(w) else result)
    a = _arranged(w, w.input(0), operands[0], (*axes.batch, *axes.spread, axes.left, axes.summed), sizes)
    b = _arranged(w, w.input(1), operands[1], (*axes.batch, axes.summed, axes.right), sizes)
    if axes.spread:
        b = w.unsqueeze(b, *(len(axes.batch) + at for at in range(len(axes.spread))))
    return [_result(w, w.op("MatMul", a, b), axes, result, sizes)]


def _axes(left: str, right: str, result: str) -> _Axes:
    both = set(left) & set(right)
    found = _Axes(
        "".join(c for c in result if c in both),
        "".join(c for c in left if c not in both),
        "".join(c for c in right if c not in both),
        "".join(c for c in left if c in both and c not in result),
    )
    if set(result) != set(found.batch + found.left + found.right):
        raise FormError(
            f"an operand of the equation has an axis that is neither kept nor shared: {left},{right}"
        )
    return found


def _spread(axes: _Axes, order: str) -> _Axes:
    """Of several letters that only the left operand has, the last one (in `order`) numbers rows of the product.

    So keys and values that all heads share stay what they are: one head, in a product over all heads.
    """
    *spread, kept = sorted(axes.left, key=order.index)
    return replace(axes, left=kept, spread="".join(spread))


def _is_softmax(w: Writer) -> bool:
    """Whether the left operand is made of probabilities: then its order is that of scores, else the result's is."""
    node = w.editor.producer(w.input(0))
    while is_onnx(node, "Cast", "Identity", "Dropout"):
        assert node is not None
        node = w.editor.producer(node.inputs[0])
    return is_onnx(node, "Softmax")


def _sizes(w: Writer, operands: Sequence[str]) -> dict[str, Extent]:
    sizes: dict[str, Extent] = {}
    for index, term in enumerate(operands):
        shape = w.shape(index)
        if shape is None or len(shape) != len(term):
            raise FormError("the shapes of its operands do not follow from the model's input shapes")
        for letter, extent in zip(term, shape, strict=True):
            if not isinstance(sizes.get(letter), int):
                sizes[letter] = extent
    return sizes


def _arranged(w: Writer, x: str, term: str, groups: Sequence[str], sizes: dict[str, Extent]) -> str:
    """`x` with its axes in the order of `groups`, each group one axis."""
    order = "".join(groups)
    perm = tuple(term.index(c) for c in order)
    if perm != tuple(range(len(term))):
        x = w.op("Transpose", x, perm=perm)
    if all(len(g) == 1 for g in groups):
        return x
    return _reshaped(w, x, tuple(size_of(sizes[c] for c in g) for g in groups))


def _result(w: Writer, x: str, axes: _Axes, result: str, sizes: dict[str, Extent]) -> str:
    order = axes.batch + axes.spread + axes.left + axes.right
    if len(axes.left) != 1 or len(axes.right) != 1:
        x = _reshaped(w, x, tuple(sizes[c] for c in order))
    perm = tuple(order.index(c) for c in result)
    return x if perm == tuple(range(len(order))) else w.op("Transpose", x, perm=perm)


def _reshaped(w: Writer, x: str, shape: Shape) -> str:
    wanted = w.editor.add_constant(f"{w.node.outputs[0].name}.shape", symbolic(shape, (len(shape),)))
    return w.op("Reshape", x, wanted)
