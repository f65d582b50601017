"""Find products of activations with weights."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.ir.dims import Shape, UndecidedError, less
from compiler.ir.graph import Add, Linear, Node, Onnx, Value
from compiler.ir.rewrite import Editor
from compiler.ir.tensor import Tensor, symbolic
from compiler.ops.call import Attributes
from compiler.pipeline import Compilation, Pass
from compiler.recognition.regions import Survey, is_onnx

RESHAPE = Onnx("", "Reshape", 18)


@dataclass(frozen=True)
class RecogniseLinear(Pass):
    """Find products of activations with weights, take in their biases, and cut fused ones apart.

    MatMul(x, W) + b, Gemm(x, W, b)            == linear(x; W, b)
    linear(Reshape(x)) (rows kept)              == Reshape(linear(x))
    Split(linear(x; [W1 W2 W3]))                == linear(x; W1), linear(x; W2), linear(x; W3)
    linear(Concat(x, y); W, b)                  == linear(x; W's upper rows, b) + linear(y; W's lower rows)
    """

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.graph`."""
        editor = Editor(c.require_graph())
        editor.changed = False
        survey = Survey(editor)
        for node in list(editor.nodes()):
            if editor.holds(node) and (found := _product(survey, node)) is not None:
                _rewrite(survey, node, found)
        for node in list(editor.nodes()):
            if editor.holds(node):
                _drop_reshape(editor, node)
        for node in list(editor.nodes()):
            if editor.holds(node) and isinstance(node.op, Linear):
                cut_apart(editor, node)
        for node in list(editor.nodes()):
            if editor.holds(node) and isinstance(node.op, Linear):
                _take_joint_apart(editor, node)
        c.graph = editor.finish()
        return editor.changed


@dataclass(frozen=True, slots=True)
class _Product:
    x: str
    weight: Tensor
    weight_name: str
    bias: str | None = None


def _product(survey: Survey, node: Node) -> _Product | None:
    """The product that `node` is, if one of its factors is a weight."""
    editor = survey.editor
    if not is_onnx(node, "MatMul", "Gemm") or not survey.is_data(node.inputs[0]):
        return None
    weight = editor.constant(node.inputs[1])
    if weight is None or len(weight.shape) != 2:
        return None
    if is_onnx(node, "MatMul"):
        return _Product(node.inputs[0], weight, node.inputs[1])
    assert isinstance(node.op, Onnx)
    attributes = Attributes(node.op)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    plain = attributes.number("alpha", 1.0) == 1.0 and (not bias or attributes.number("beta", 1.0) == 1.0)
    if attributes.integer("transA", 0) or not plain or (bias and not _is_row(editor.constant(bias))):
        return None
    # Gemm(x, W, transB=1) == x @ W^T
    flipped = bool(attributes.integer("transB", 0))
    name = f"{node.inputs[1]}.T" if flipped else node.inputs[1]
    return _Product(node.inputs[0], weight.transpose((1, 0)) if flipped else weight, name, bias)


def _is_row(bias: Tensor | None) -> bool:
    """Whether a constant adds the same to each row."""
    return bias is not None and bias.count == (bias.shape[-1] if bias.shape else 1)


def _rewrite(survey: Survey, node: Node, found: _Product) -> None:
    editor = survey.editor
    columns = found.weight.shape[1]
    nodes, output = [node], node.output
    bias = found.bias
    if bias is None and (added := _bias(editor, node, columns)) is not None:
        nodes.append(added[0])
        bias, output = added[1], added[0].output
    x, rows = _row_root(editor, found.x) if output.shape is not None else (found.x, [])
    inputs = [x, editor.add_constant(found.weight_name, found.weight)]
    if bias is not None:
        inputs.append(_as_vector(editor, bias, columns))
    sources = tuple(s for n in (*rows, *nodes) for s in n.sources)
    rows_shape = editor.shape(x)
    shape: Shape | None = output.shape if rows_shape is None else (*rows_shape[:-1], columns)
    for old in nodes[1:]:
        editor.remove(old)
    if shape == output.shape or output.shape is None or shape is None:
        editor.replace(
            node, Node(Linear(), tuple(inputs), (Value(output.name, output.dtype, shape),), sources)
        )
        return
    inner = Value(editor.fresh(f"{output.name}.rows"), output.dtype, shape)
    editor.replace(node, Node(Linear(), tuple(inputs), (inner,), sources))
    reshape_to(editor, inner.name, output, sources)


def reshape_to(editor: Editor, name: str, target: Value, sources: tuple[str, ...]) -> None:
    """Make `target` by reshaping the value `name`. The shape of `target` must be known."""
    shape = target.shape
    assert shape is not None
    wanted = editor.add_constant(f"{target.name}.shape", symbolic(shape, (len(shape),)))
    editor.insert(RESHAPE, (name, wanted), target, sources)


def _bias(editor: Editor, node: Node, columns: int) -> tuple[Node, str] | None:
    """The Add of a constant row that alone uses `node`."""
    user = editor.only_user(node.output.name)
    if user is None or not is_onnx(user, "Add"):
        return None
    other = next(i for i in user.inputs if i != node.output.name)
    constant = editor.constant(other)
    if constant is None or constant.count != columns or constant.shape[-1:] != (columns,):
        return None
    return user, other


def _as_vector(editor: Editor, name: str, columns: int) -> str:
    constant = editor.constants[name]
    if constant.shape == (columns,):
        return name
    if constant.count == columns:
        return editor.add_constant(f"{name}.row", constant.reshape((columns,)))
    import numpy as np

    from compiler.ir.tensor import tensor

    # Gemm broadcasts its bias.
    return editor.add_constant(
        f"{name}.row", tensor(np.broadcast_to(constant.data().reshape(-1), (columns,)).copy())
    )


def _row_root(editor: Editor, name: str) -> tuple[str, list[Node]]:
    """Look through reshapes that keep the rows (the last axis) as they are."""
    passed: list[Node] = []
    while is_onnx(node := editor.producer(name), "Reshape", "Flatten", "Squeeze", "Unsqueeze"):
        assert node is not None
        before, after = editor.shape(node.inputs[0]), editor.shape(name)
        if not before or not after or before[-1] != after[-1] or len(before) < 2:
            break
        passed.insert(0, node)
        name = node.inputs[0]
    return name, passed


def _take_joint_apart(editor: Editor, node: Node) -> None:
    """Give each of the rows that are joined in front of a linear layer a layer of its own; add the results."""
    joint = editor.producer(node.inputs[0])
    if joint is None or not is_onnx(joint, "Concat") or len(joint.inputs) < 2:
        return
    shapes = [editor.shape(i) for i in joint.inputs]
    widths = [s[-1] if s else None for s in shapes]
    assert isinstance(joint.op, Onnx)
    rank = len(shapes[0] or ())
    if Attributes(joint.op).integer("axis", 0) not in (-1, rank - 1):
        return
    sources = tuple(dict.fromkeys((*joint.sources, *node.sources)))
    weight, start, total = editor.constants[node.inputs[1]], 0, ""
    for number, (part, width) in enumerate(zip(joint.inputs, widths, strict=True)):
        if not isinstance(width, int):
            return
        name = f"{node.inputs[1]}[{start}:{start + width},]"
        inputs = [part, editor.add_constant(name, weight.slice(0, start, start + width))]
        inputs += node.inputs[2:] if not number else ()
        value = Value(editor.fresh(f"{node.output.name}.joint{number}"), node.output.dtype, node.output.shape)
        editor.insert(Linear(), inputs, value, sources, after=joint)
        start += width
        if number + 1 < len(widths) and total:
            total = _sum(editor, total, value, sources)
        elif not total:
            total = value.name
        else:
            editor.replace(node, Node(Add(), (total, value.name), node.outputs, sources))


def _sum(editor: Editor, total: str, value: Value, sources: tuple[str, ...]) -> str:
    made = Value(editor.fresh(f"{value.name}.sum"), value.dtype, value.shape)
    editor.insert(Add(), (total, value.name), made, sources)
    return made.name


def _drop_reshape(editor: Editor, node: Node) -> None:
    """Reshape(Reshape(x)) == x when the shapes say so."""
    if not is_onnx(node, "Reshape") or node.output.name in editor.outputs or node.output.shape is None:
        return
    root = node.inputs[0]
    while is_onnx(inner := editor.producer(root), "Reshape"):
        assert inner is not None
        root = inner.inputs[0]
    if editor.shape(root) == node.output.shape:
        editor.redirect(node.output.name, root)
        editor.remove(node)


def cut_apart(editor: Editor, linear: Node) -> None:
    """Give each column range that a Split or Slice takes from `linear` a linear of its own."""
    for user in editor.users(linear.output.name):
        rank = len(linear.output.shape or ())
        for value, start, stop in _ranges(editor, user, rank):
            columns(editor, linear, Columns(start, stop - start), value, user.sources)


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns of a weight: `count` groups of `length` columns, the first at `start`, one every `stride`."""

    start: int
    length: int
    count: int = 1
    stride: int = 0

    @property
    def total(self) -> int:
        """How many columns these are."""
        return self.length * self.count

    def of(self, tensor: Tensor) -> Tensor:
        """These columns (the last axis) of a weight or bias."""
        at = len(tensor.shape) - 1
        if self.count == 1:
            return tensor.slice(at, self.start, self.start + self.length)
        first = self.start - self.start % self.stride
        whole = tensor.slice(at, first, first + self.count * self.stride)
        groups = whole.reshape((*tensor.shape[:-1], self.count, self.stride))
        offset = self.start - first
        return groups.slice(at + 1, offset, offset + self.length).reshape((*tensor.shape[:-1], self.total))

    def __str__(self) -> str:
        grouped = f"/{self.stride}x{self.count}" if self.count > 1 else ""
        return f"[{self.start}:{self.start + self.length}{grouped}]"


def columns(editor: Editor, linear: Node, wanted: Columns, value: Value, sources: tuple[str, ...]) -> None:
    """Make `value` columns of `linear`: a linear over a part of its weight."""
    inputs = [linear.inputs[0]]
    for name in linear.inputs[1:]:
        inputs.append(editor.add_constant(f"{name}{wanted}", wanted.of(editor.constants[name])))
    lead = (linear.output.shape or ())[:-1]
    typed = Value(value.name, linear.output.dtype, (*lead, wanted.total))
    editor.insert(Linear(), inputs, typed, tuple(dict.fromkeys((*linear.sources, *sources))), after=linear)


def _ranges(editor: Editor, node: Node, rank: int) -> list[tuple[Value, int, int]]:
    """The column ranges that a Split or a Slice along the last axis takes; the node is removed."""
    assert node is not None
    sizes = [v.shape[-1] if v.shape else None for v in node.outputs]
    if not rank or not all(isinstance(s, int) for s in sizes) or not isinstance(node.op, Onnx):
        return []
    at = Attributes(node.op).integer("axis", 0)
    if is_onnx(node, "Split") and at in (-1, rank - 1):
        start, found = 0, []
        for value, size in zip(node.outputs, sizes, strict=True):
            assert isinstance(size, int)
            found.append((value, start, start + size))
            start += size
    elif is_onnx(node, "Slice") and (first := _slice_start(editor, node, rank)) is not None:
        assert isinstance(sizes[0], int)
        found = [(node.output, first, first + sizes[0])]
    else:
        return []
    editor.remove(node)
    return found


def _slice_start(editor: Editor, node: Node, rank: int) -> int | None:
    """Where a Slice of the last axis alone, by step one, begins."""
    if len(node.inputs) < 4:
        return None
    values = [editor.constant(i) for i in node.inputs[1:]]
    if any(v is None or v.count != 1 or not v.has_data for v in values):
        return None
    start, _, at, *step = (int(v.data().reshape(-1)[0]) for v in values if v is not None)
    shape = editor.shape(node.inputs[0])
    if at not in (-1, rank - 1) or step not in ([], [1]) or shape is None:
        return None
    width = shape[-1]
    if not isinstance(width, int):
        return None
    try:
        return min(start + width, width) if less(start, 0) else min(start, width)
    except UndecidedError:
        return None
