"""Give the host what turns images or sound into rows: a stem in front of the first layer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from compiler.ir.dims import Extent, Shape, axis
from compiler.ir.graph import Graph, Input, Node, Onnx, Partition, Role, Value, op_name
from compiler.ir.rewrite import Editor
from compiler.ir.tensor import DType, Symbolic, Tensor
from compiler.ops.hosting import host_refusal
from compiler.ops.registry import Fate, entry_of
from compiler.passes.expand_pooling import ExpandPooling
from compiler.passes.fold_constants import FoldConstants
from compiler.passes.partition_host import closure, only_used_inputs, open_file
from compiler.pipeline import Compilation, Pass
from compiler.recognition.regions import Survey, is_onnx
from compiler.recognition.sequences import Step, apart
from isa.diagnostics import NodePlace, fail
from isa.program import Moment

if TYPE_CHECKING:
    from compiler.frontend.submodel import Submodel

_ANCHORS = frozenset(
    [
        *("MatMul", "Gemm", "LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"),
        *(
            "ReduceMean",
            "GlobalAveragePool",
            "Softmax",
            "Attention",
            "MatMulInteger",
            "QLinearMatMul",
            "MatMulNBits",
        ),
        *("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "MultiHeadAttention"),
        *("GroupQueryAttention", "QAttention", "DecoderMaskedMultiHeadAttention", "QGemm"),
    ]
)
"""Operators with which a transformer layer may begin: a stem ends before the first of them."""

_ATTENTIONS = frozenset(
    ["Softmax", "Attention", "MultiHeadAttention", "GroupQueryAttention", "QLinearSoftmax"]
)
"""Without one of these behind it, what follows a stem is no transformer."""


_SCALING = frozenset(
    [
        *("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"),
        *("Mul", "Add", "QLinearMul", "QLinearAdd"),
    ]
)
"""Operators that meet rows with one number for each feature."""

LOOK = 16
"""How many operators behind a stem are asked how wide its rows are."""


@dataclass(frozen=True)
class PartitionStem(Pass):
    """Cut off a stem: what turns images or sound into rows before the first layer.

    It runs before recognition, so that the layers behind it are seen as what they are: functions of rows.
    """

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.graph`."""
        graph = c.require_graph()
        border = _stem_border(graph)
        if border is None:
            return False
        graph, border = _in_reals(graph, border)
        file = open_file(c)
        if not file.makes(border):
            return False
        part = file.cut("stem", (), (border,), {i.name: _batched(i.value) for i in graph.inputs})
        shape = _rows_shape(graph, border, part.outputs[0].shape)
        if shape is None:
            return False
        batch = _batch_axis(graph, part)
        c.graph = _without_stem(graph, Value(border, DType.FLOAT32, shape), part, batch)
        FoldConstants().run(c)
        if ExpandPooling().run(c):
            FoldConstants().run(c)
        return True


def _is_hopeless(node: Node) -> bool:
    """Whether a node can only be the host's. What pools may be the mean of a norm: its rank will show."""
    if is_onnx(node, "GlobalAveragePool"):
        return False
    if not isinstance(node.op, Onnx) or host_refusal(node.op.domain, node.op.kind) is not None:
        return False
    entry = entry_of(node.op)
    return entry is None or entry.fate is Fate.HOST


def _stem_border(graph: Graph) -> str | None:
    """The value in which a stem ends: all that follows is computed from it and not from the stem's inside."""
    survey = Survey(Editor(graph))
    behind: set[str] = set()  # values that depend on a layer
    stem: list[Node] = []
    inside = _before_hopeless(graph)
    for node in graph.nodes:
        anchored = isinstance(node.op, Onnx) and node.op.kind in _ANCHORS and node.output.name not in inside
        if anchored or any(i in behind for i in node.inputs):
            behind.update(v.name for v in node.outputs)
        elif any(survey.is_data(v.name) for v in node.outputs):
            stem.append(node)
    hopeless = [at for at, node in enumerate(stem) if _is_hopeless(node)]
    if not hopeless or not any(isinstance(n.op, Onnx) and n.op.kind in _ATTENTIONS for n in graph.nodes):
        return None
    return _narrowest(graph, survey, stem, hopeless)


def _before_hopeless(graph: Graph) -> set[str]:
    """The first outputs of nodes from which something hopeless is computed in front of all attention.

    A norm or a product among convolutions is a part of the stem (wav2vec 2).
    """
    attended: set[str] = set()
    hopeless: set[str] = set()
    for node in graph.nodes:
        attends = isinstance(node.op, Onnx) and node.op.kind in _ATTENTIONS
        if attends or any(i in attended for i in node.inputs):
            attended.update(v.name for v in node.outputs)
        elif _is_hopeless(node):
            hopeless.add(node.output.name)
    return closure(graph, hopeless, forward=False)


def _narrowest(graph: Graph, survey: Survey, stem: list[Node], hopeless: list[int]) -> str | None:
    """The last value of the stem on which everything after it hangs."""
    users = graph.consumers()
    waiting = {
        v.name: {id(n) for n in users.get(v.name, ()) if any(survey.is_data(o.name) for o in n.outputs)}
        for node in stem
        for v in node.outputs
    }
    tracked: set[str] = set()
    found: str | None = None
    for at, node in enumerate(stem):
        if at in hopeless or any(i in tracked for i in node.inputs):
            tracked.update(v.name for v in node.outputs)
        for name in node.inputs:
            waiting.get(name, set()).discard(id(node))
        open_ = [n for n in tracked if waiting[n] or n in graph.outputs]
        if at >= hopeless[-1] and len(open_) == 1:
            found = open_[0]
    return found


def _in_reals(graph: Graph, border: str) -> tuple[Graph, str]:
    """The border as real numbers where it is one of integers: x == quantise(dequantise(x)), on the same grid."""
    users = graph.consumers().get(border, [])
    real = next((n for n in users if is_onnx(n, "DequantizeLinear") and n.inputs[0] == border), None)
    if real is None or len(real.inputs) < 3:
        return graph, border
    editor = Editor(graph)
    value = Value(editor.fresh(f"{border}.again"), DType.OTHER, None)
    again = Onnx("", "QuantizeLinear", 21, real.op.attributes if isinstance(real.op, Onnx) else ())
    made = editor.insert(again, (real.output.name, *real.inputs[1:]), value, real.sources)
    for user in users:
        if user is not real:
            inputs = tuple(made.output.name if i == border else i for i in user.inputs)
            editor.replace(user, replace(user, inputs=inputs))
    return editor.finish(), real.output.name


def _rows_shape(graph: Graph, name: str, inferred: Shape | None) -> Shape | None:
    """[batch, sequence, width] of a border; None if it is none of rows."""
    if inferred is not None and len(inferred) != 3:
        return None
    tokens: Extent = axis("sequence")
    width: Extent | None = None
    if inferred is not None:
        tokens = inferred[1] if isinstance(inferred[1], int) else tokens
        width = inferred[2]
    if not isinstance(width, int):
        width = _width_by_users(graph, name)
    batch = inferred[0] if inferred is not None and isinstance(inferred[0], int) else axis("batch")
    return None if width is None else (batch, tokens, width)


def _width_by_users(graph: Graph, name: str) -> int | None:
    """The width of rows as the constants say it that they, or what is made of them, meet first."""
    users, todo = graph.consumers(), [name]
    for _ in range(LOOK):
        nodes = [node for value in todo for node in users.get(value, ())]
        widths = [w for node in nodes if (w := _width(graph, node)) is not None]
        if widths or not nodes:
            return widths[0] if widths else None
        todo = [v.name for node in nodes for v in node.outputs]
    return None


def _width(graph: Graph, node: Node) -> int | None:
    kind = node.op.kind if isinstance(node.op, Onnx) else ""
    constants = [graph.constants[i] for i in node.inputs if i in graph.constants]
    if kind in _SCALING:
        return next((t.count for t in constants if len(t.shape) == 1 and t.count > 1), None)
    if kind in ("MatMul", "QLinearMatMul", "MatMulInteger"):
        return next((t.shape[0] for t in constants if len(t.shape) == 2), None)
    return None


def _batched(value: Value) -> Value:
    """The type of an input whose first axis, if free, is the batch."""
    if not value.shape or isinstance(value.shape[0], int):
        return value
    return replace(value, shape=(axis("batch"), *value.shape[1:]))


def _batch_axis(graph: Graph, part: Submodel) -> Extent | None:
    """What the file calls the batch, by the first input of the stem."""
    first = part.inputs[0].name if part.inputs else ""
    shape = next((i.value.shape for i in graph.inputs if i.name == first), None)
    return shape[0] if shape else None


def _without_stem(graph: Graph, border: Value, part: Submodel, batch: Extent | None) -> Graph:
    """The graph from `border` on, with the stem as a partition. The file's name of the batch becomes ours."""
    editor = Editor(graph)
    editor.results = editor.results or graph.outputs
    producer = editor.producer(border.name)
    assert producer is not None
    editor.remove(producer)
    editor.inputs.append(_border_input(editor, border, producer))
    for name, constant in editor.constants.items():
        editor.constants[name] = _renamed(constant, batch, border.shape[0] if border.shape else 1)
    inputs = tuple(v.name for v in part.inputs)
    editor.hosts.append(Partition("stem", Moment.BEFORE, inputs, (border.name,), part.model, part.sources))
    return only_used_inputs(editor.finish())


def _border_input(editor: Editor, border: Value, maker: Node) -> Input:
    """The rows that a stem makes in `maker`: those of the tokens, or, beside tokens that attend to them, of a source.

    Raises `CimError` E0203 if they are rows of a model of its own.
    """
    steps = [Step(op_name(n.op), n.inputs, tuple(v.name for v in n.outputs)) for n in editor.nodes()]
    steps = [replace(s, kind=s.kind.rpartition(".")[2]) for s in steps]
    rivals = frozenset(i.name for i in editor.inputs if i.role is Role.IDS)
    alone = apart(steps, rivals | {border.name})
    if rivals and alone == rivals | {border.name}:
        raise fail(
            "E0203",
            f"the file holds models side by side: rows of {', '.join(sorted(rivals))} and {border.name} never meet "
            "before both are made",
            NodePlace(editor.model, maker.sources[0], op_name(maker.op)),
            "compile each as a file of its own",
        )
    if border.name not in alone or not border.shape:
        return Input(border, Role.OTHER)
    batch, rows, width = border.shape
    shape: Shape = (batch, rows if isinstance(rows, int) else axis("source"), width)
    return Input(replace(border, shape=shape), Role.SOURCE)


def _renamed(constant: Tensor, old: Extent | None, new: Extent) -> Tensor:
    if old is None or isinstance(old, int) or not isinstance(constant.source, Symbolic):
        return constant
    items = tuple(new if item == old else item for item in constant.source.items)
    return replace(constant, source=Symbolic(items))
