"""Compute what does not depend on the inputs; sizes known only at run time stay symbolic."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from compiler.ir.dims import Extent, Shape, UndecidedError, size_of
from compiler.ir.graph import Node, Onnx, Value
from compiler.ir.quantised import dequantised
from compiler.ir.rewrite import Editor
from compiler.ir.tensor import Array, Declared, DType, Stored, Symbolic, Tensor, symbolic, tensor
from compiler.ops.call import Attributes, Call, KernelError, ShapeCall
from compiler.ops.registry import OFF_CHIP, Trait, entry_of, kernel_of, trait_of
from compiler.ops.shapes import infer
from compiler.pipeline import Compilation, Pass

COPY_LIMIT = 1 << 16
"""Constants with more elements are never computed with, only viewed (weights stay in their file)."""

SYMBOLIC_LIMIT = 64
"""Symbolic arithmetic is done on vectors up to this length; shapes are shorter."""


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Fold constants and shape arithmetic, and give every value a type.

    A node whose inputs are constants becomes a constant; one whose output consists of sizes becomes
    a symbolic constant, e.g. `[batch, sequence, 4, 16]`; transposes, slices and reshapes of weights
    become lazy views; nodes that change nothing go.
    """

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.graph`."""
        editor = Editor(c.require_graph())
        editor.changed = False
        folder = _Folder(editor)
        for node in list(editor.nodes()):
            folder.visit(node)
        for node in list(editor.nodes()):
            if node.output.name in editor.outputs and editor.holds(node):
                folder.output(node)
        c.graph = editor.finish()
        return editor.changed


class _Folder:
    """One walk over the nodes in order; constants and types of inputs are ready when a node is met."""

    def __init__(self, editor: Editor) -> None:
        self.editor = editor
        self.alias: dict[str, str] = {}

    def visit(self, node: Node) -> None:
        """Fold `node`, or give its outputs types."""
        if not isinstance(node.op, Onnx):
            return
        node = self._renamed(node)
        if self._fold(node):
            return
        if _is(node, "Concat"):
            self._learn(node)
        kept = self._same_as(node)
        if kept is not None and node.output.name not in self.editor.outputs:
            # Identity(x) == x, Cast of x to its own type == x, Dropout(x) == x in inference.
            self.alias[node.output.name] = kept
            self.editor.remove(node)

    def output(self, node: Node) -> None:
        """Give a value that others use, and that `node` repeats as an output, the output's name: all see one value."""
        kept = self._same_as(node)
        maker = None if kept is None else self.editor.producer(kept)
        if kept is None or maker is None or kept in self.editor.outputs or len(self.editor.users(kept)) < 2:
            return
        name = node.output.name
        self.editor.remove(node)
        values = tuple(replace(v, name=name) if v.name == kept else v for v in maker.outputs)
        sources = tuple(dict.fromkeys((*maker.sources, *node.sources)))
        self.editor.replace(maker, replace(maker, outputs=values, sources=sources))
        self.editor.redirect(kept, name)

    def _renamed(self, node: Node) -> Node:
        """`node` with aliases of its inputs replaced and its outputs typed."""
        inputs = tuple(self.alias.get(i, i) for i in node.inputs)
        new = replace(node, inputs=inputs, outputs=self._types(node, inputs))
        if new != node:
            changed = self.editor.changed
            self.editor.replace(node, new)
            self.editor.changed = changed or new.inputs != node.inputs
        return new

    def _types(self, node: Node, inputs: tuple[str, ...]) -> tuple[Value, ...]:
        assert isinstance(node.op, Onnx)
        entry = entry_of(node.op)
        values = tuple(self.editor.value(i) if i else None for i in inputs)
        known = tuple(self._integers(i) for i in inputs)
        call = ShapeCall(node.op, values, known, len(node.outputs))
        types = infer(None if entry is None else entry.shape, call)
        # A shape that no rule gives may have been measured.
        return tuple(
            Value(v.name, d, v.shape if s is None else s)
            for v, (d, s) in zip(node.outputs, types, strict=True)
        )

    def _learn(self, node: Node) -> None:
        """Inputs that are joined with values of known sizes have those sizes (a file may name the depth of a head)."""
        assert isinstance(node.op, Onnx)
        known = node.output.shape
        for name in node.inputs:
            given = next((i for i in self.editor.inputs if i.name == name), None)
            if given is None or known is None or given.value.shape is None:
                continue
            at = Attributes(node.op).integer("axis", 0) % len(known)
            pairs = enumerate(zip(given.value.shape, known, strict=True))
            shape = tuple(k if i != at and isinstance(k, int) else e for i, (e, k) in pairs)
            if shape != given.value.shape:
                self.editor.reshape_input(given, shape)

    def _integers(self, name: str) -> tuple[Extent, ...] | None:
        """The elements of a small integer constant."""
        constant = self.editor.constant(name)
        if constant is None or constant.count > SYMBOLIC_LIMIT or constant.dtype.is_float:
            return None
        if isinstance(constant.source, Symbolic):
            return constant.source.items
        if not constant.has_data:
            return None
        return tuple(int(v) for v in constant.data().reshape(-1))

    def _fold(self, node: Node) -> bool:
        """Replace `node` by constants if it can be."""
        assert isinstance(node.op, Onnx)
        results = self._shape_of(node) or self._weight(node) or self._viewed(node) or self._computed(node)
        if results is None:
            return False
        for value, result in zip(node.outputs, results, strict=False):
            if value.name:
                self.editor.constants[value.name] = result
        self.editor.remove(node)
        return True

    def _shape_of(self, node: Node) -> list[Tensor] | None:
        # Shape(x) == the sizes of x, whatever x holds.
        if not _is(node, "Shape", "Size") or (shape := self.editor.shape(node.inputs[0])) is None:
            return None
        assert isinstance(node.op, Onnx)
        if node.op.kind == "Size":
            return [symbolic((size_of(shape),), ())]
        call = ShapeCall(node.op, (), ())
        part = shape[call.integer("start", 0) : call.integer("end", len(shape))]
        return [symbolic(tuple(part), (len(part),))]

    def _weight(self, node: Node) -> list[Tensor] | None:
        """DequantizeLinear of a constant with several axes keeps its integers; QuantizeLinear of a large constant
        makes them when they are asked for."""
        if _is(node, "QuantizeLinear"):
            return self._quantised(node)
        if not _is(node, "DequantizeLinear"):
            return None
        values, scales, *rest = (self.editor.constant(i) if i else None for i in node.inputs)
        zeros = rest[0] if rest else None
        if (
            values is None
            or scales is None
            or len(values.shape) < 2
            or (any(node.inputs[2:]) and zeros is None)
        ):
            return None
        call = ShapeCall(node.op, (), ())  # type: ignore[arg-type]
        return [dequantised(values, scales, zeros, call.integer("axis", 1), call.integer("block_size", 0))]

    def _quantised(self, node: Node) -> list[Tensor] | None:
        assert isinstance(node.op, Onnx)
        op, kernel = node.op, kernel_of(node.op)
        inputs = [self.editor.constant(i) if i else None for i in node.inputs]
        shape = inputs[0].shape if inputs[0] is not None else ()
        if kernel is None or inputs[0] is None or inputs[0].count <= COPY_LIMIT:
            return None
        if any(i is None or not i.has_data for i in inputs):
            return None

        def make() -> Array:
            result = kernel(Call(op, tuple(None if i is None else i.data() for i in inputs)))
            assert not isinstance(result, tuple)
            return result

        return [Tensor(node.output.dtype, shape, Stored(f"computed:{node.output.name}", make))]

    def _viewed(self, node: Node) -> list[Tensor] | None:
        """Large constants, or such without data: movement becomes a lazy view."""
        assert isinstance(node.op, Onnx)
        source = self.editor.constant(node.inputs[0]) if node.inputs else None
        if source is None or isinstance(source.source, Symbolic):
            return None
        if source.count <= COPY_LIMIT and source.has_data and not source.is_quantised:
            return None
        known = [self._integers(i) for i in node.inputs[1:]]
        shape = node.output.shape
        if shape is None or not all(isinstance(e, int) for e in shape):
            return None
        exact = tuple(e for e in shape if isinstance(e, int))
        if any(k is None for k in known) and node.op.kind != "CastLike":
            return self._declared(node, exact)
        return _view(node, source, exact) or self._declared(node, exact)

    def _declared(self, node: Node, shape: tuple[int, ...]) -> list[Tensor] | None:
        """A small result computed from weights that are only declared is itself only declared."""
        assert isinstance(node.op, Onnx)
        inputs = [self.editor.constant(i) for i in node.inputs if i]
        absent = [
            i for i in inputs if i is not None and not i.has_data and not isinstance(i.source, Symbolic)
        ]
        if not absent or any(i is None for i in inputs) or trait_of(node.op) is Trait.OTHER:
            return None
        return [Tensor(node.output.dtype, shape, Declared(node.output.name))]

    def _computed(self, node: Node) -> list[Tensor] | None:
        assert isinstance(node.op, Onnx)
        entry = entry_of(node.op)
        if entry is None or entry.kernel is None or entry.fate in OFF_CHIP:
            return None
        arrays: list[Array | None] = []
        for name in node.inputs:
            array = self._array(name) if name else None
            if name and array is None:
                return None
            arrays.append(array)
        call = Call(node.op, tuple(arrays), len(node.outputs))
        try:
            with np.errstate(all="ignore"):
                results = entry.kernel(call)
        except (KernelError, UndecidedError, TypeError, ValueError, IndexError):
            return None
        # NumPy gives a bare element where an array of one size is meant.
        whole = [np.asarray(r) for r in (results if isinstance(results, tuple) else (results,))]
        if sum(r.size for r in whole) > 4 * COPY_LIMIT:
            return None
        return [_constant(r) for r in whole]

    def _array(self, name: str) -> Array | None:
        """A constant small enough to compute with; symbolic ones as arrays of objects."""
        constant = self.editor.constant(name)
        if constant is None or constant.count > COPY_LIMIT:
            return None
        if isinstance(constant.source, Symbolic):
            array = np.empty(constant.count, object)
            array[:] = constant.source.items
            return array.reshape(constant.shape)
        return constant.data() if constant.has_data else None

    def _drops_nothing(self, node: Node) -> bool:
        """Whether a Dropout is one of inference, or has the ratio 0."""
        ratio, training = (self.editor.constant(i) for i in (*node.inputs[1:3], "", "")[:2])
        if len(node.inputs) < 3:
            return True
        known = [t for t in (ratio, training) if t is not None and t.has_data]
        return any(not t.data().any() for t in known)

    def _same_as(self, node: Node) -> str | None:
        """The value that `node` merely repeats."""
        if not node.inputs:
            return None
        before, after = self.editor.value(node.inputs[0]), node.output
        if _is(node, "Identity") or (_is(node, "Dropout") and self._drops_nothing(node)):
            return node.inputs[0]
        if _is(node, "Cast", "CastLike") and before is not None and before.dtype is after.dtype:
            return node.inputs[0]
        if (
            _is(node, "Reshape", "Expand", "Flatten", "Concat", "Squeeze", "Unsqueeze", "Slice")
            and before is not None
        ):
            # Movement between equal, fully known shapes moves nothing.
            same = before.shape is not None and before.shape == after.shape
            return node.inputs[0] if same and not _is_reversing(node) else None
        return None


def _is(node: Node, *kinds: str) -> bool:
    return isinstance(node.op, Onnx) and not node.op.domain and node.op.kind in kinds


def _is_reversing(node: Node) -> bool:
    """Whether a Slice of full length may still reorder (a negative step)."""
    return _is(node, "Slice") and len(node.inputs) > 4


def _view(node: Node, source: Tensor, shape: Shape) -> list[Tensor] | None:
    """Movement of a large constant as a view of it."""
    assert isinstance(node.op, Onnx)
    exact = tuple(e for e in shape if isinstance(e, int))
    call = ShapeCall(node.op, (), ())
    match node.op.kind:
        case "Transpose":
            perm = call.integers("perm") or tuple(reversed(range(len(source.shape))))
            return [source.transpose(perm)]
        case "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten":
            return [source.reshape(exact)]
        case "Identity" | "Dropout":
            return [source]
        case "Cast" | "CastLike" if node.output.dtype is source.dtype:
            return [source]
        case "Split":
            return _split(node, source, call.integer("axis", 0))
        case _:
            return None


def _split(node: Node, source: Tensor, at: int) -> list[Tensor] | None:
    parts: list[Tensor] = []
    start = 0
    for value in node.outputs:
        if value.shape is None or not isinstance(size := value.shape[at], int):
            return None
        parts.append(source.slice(at, start, start + size))
        start += size
    return parts


def _constant(array: Array) -> Tensor:
    if array.dtype != object:
        return tensor(np.ascontiguousarray(array).reshape(array.shape))
    if array.size > SYMBOLIC_LIMIT:
        raise UndecidedError("too many sizes")
    return symbolic(tuple(int(i) if isinstance(i, (int, np.integer)) else i for i in array.flat), array.shape)


__all__ = ["DType", "FoldConstants"]
