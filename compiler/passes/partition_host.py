"""Give the host what has no place on the chip: a stem in front of it, pooling and classifiers behind it.

Both passes cut whole pieces out of the ONNX file (`compiler.frontend.submodel`) and leave a graph for the chip whose
inputs are rows that the host makes and whose outputs are rows that it takes. What lies between two attention
layers stays, and `Legalise` refuses it: rows would cross the link twice in every layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from compiler.ir.dims import Extent, Shape, axis
from compiler.ir.graph import Attention, Graph, Input, Node, Onnx, Partition, Role, Value
from compiler.ir.rewrite import Editor
from compiler.ir.tensor import DType, Symbolic, Tensor
from compiler.ops.hosting import host_refusal
from compiler.ops.registry import Fate, entry_of
from compiler.passes.flatten_rows import FlattenRows
from compiler.passes.fold_constants import FoldConstants
from compiler.pipeline import Compilation, Finding, Pass
from compiler.recognition.regions import Survey, is_onnx
from isa.diagnostics import CimError
from isa.program import Moment

if TYPE_CHECKING:
    from compiler.frontend.submodel import ModelFile, Submodel

_ANCHORS = frozenset(
    [
        *("MatMul", "Gemm", "LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"),
        *("ReduceMean", "Softmax", "Attention", "MatMulInteger", "QLinearMatMul", "MatMulNBits"),
        *("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "MultiHeadAttention"),
        *("GroupQueryAttention", "QAttention", "DecoderMaskedMultiHeadAttention", "QGemm"),
    ]
)
"""Operators with which a transformer layer may begin: a stem ends before the first of them."""

_ATTENTIONS = frozenset(
    ["Softmax", "Attention", "MultiHeadAttention", "GroupQueryAttention", "QLinearSoftmax"]
)
"""Without one of these behind it, what follows a stem is no transformer."""


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
        file = _open(c)
        if not file.makes(border):
            return False
        part = file.cut("stem", (), (border,), {i.name: _batched(i.value) for i in graph.inputs})
        shape = _rows_shape(graph, border, part.outputs[0].shape)
        if shape is None:
            return False
        batch = _batch_axis(graph, part)
        c.graph = _without_stem(graph, Value(border, DType.FLOAT32, shape), part, batch)
        FoldConstants().run(c)
        return True


@dataclass(frozen=True)
class PartitionHost(Pass):
    """Give the host what recognition left over in front of all attention or behind it.

    chip(x) then odd(y) == chip part on the chip, odd part of the file on the host
    """

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.graph`; does nothing if some of what is left can go nowhere."""
        graph = c.require_graph()
        cut = _plan(graph)
        if cut is None:
            return False
        try:
            c.graph = _Split(graph, _open(c), *cut).graph()
        except _StuckError:
            return False
        c.findings += [Finding(s, _cause(n)) for n in _leftovers(graph) for s in n.sources[:1]]
        FlattenRows().run(c)
        return True


def _open(c: Compilation) -> ModelFile:
    # The reader is imported here so that commands which read no model do not pay for it.
    from compiler.frontend.submodel import ModelFile

    return ModelFile(c.model, shapes_only=c.options.shapes_only)


# ------------------------------------------------------------------------------------------------------- stems


def _is_hopeless(node: Node) -> bool:
    """Whether a node can only be the host's."""
    if not isinstance(node.op, Onnx) or host_refusal(node.op.domain, node.op.kind) is not None:
        return False
    entry = entry_of(node.op)
    return entry is None or entry.fate is Fate.HOST


def _stem_border(graph: Graph) -> str | None:
    """The value in which a stem ends: all that follows is computed from it and not from the stem's inside."""
    survey = Survey(Editor(graph))
    behind: set[str] = set()  # values that depend on a layer
    stem: list[Node] = []
    for node in graph.nodes:
        anchored = isinstance(node.op, Onnx) and node.op.kind in _ANCHORS
        if anchored or any(i in behind for i in node.inputs):
            behind.update(v.name for v in node.outputs)
        elif any(survey.is_data(v.name) for v in node.outputs):
            stem.append(node)
    hopeless = [at for at, node in enumerate(stem) if _is_hopeless(node)]
    if not hopeless or not any(isinstance(n.op, Onnx) and n.op.kind in _ATTENTIONS for n in graph.nodes):
        return None
    return _narrowest(graph, survey, stem, hopeless)


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
    """The width of rows as the constants that they meet say it."""
    for node in graph.consumers().get(name, ()):
        constants = [graph.constants[i] for i in node.inputs if i in graph.constants]
        if (
            is_onnx(node, "LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
            and constants
        ):
            return constants[0].count
        if is_onnx(node, "MatMul") and constants and len(constants[0].shape) == 2:
            return constants[0].shape[0]
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
    editor.inputs.append(Input(border, Role.OTHER))
    for name, constant in editor.constants.items():
        editor.constants[name] = _renamed(constant, batch, border.shape[0] if border.shape else 1)
    inputs = tuple(v.name for v in part.inputs)
    editor.hosts.append(Partition("stem", Moment.BEFORE, inputs, (border.name,), part.model, part.sources))
    return _only_used_inputs(editor.finish())


def _renamed(constant: Tensor, old: Extent | None, new: Extent) -> Tensor:
    if old is None or isinstance(old, int) or not isinstance(constant.source, Symbolic):
        return constant
    items = tuple(new if item == old else item for item in constant.source.items)
    return replace(constant, source=Symbolic(items))


def _only_used_inputs(graph: Graph) -> Graph:
    """Inputs that only the host reads are not the chip's."""
    used = {i for node in graph.nodes for i in node.inputs} | set(graph.outputs)
    hosted = {i for part in graph.hosts for i in part.inputs}
    kept = tuple(i for i in graph.inputs if i.name in used or i.name not in hosted)
    return replace(graph, inputs=kept)


# ------------------------------------------------------------------------------------------- after recognition


class _StuckError(Exception):
    """The piece cannot be cut out of the file."""


def _plan(graph: Graph) -> tuple[set[str], set[str]] | None:
    """The outputs of the nodes that go before and after the chip; None if there are none, or others are left."""
    left = _leftovers(graph)
    if not left or any(_refused(node) for node in left):
        return None
    above, below = _near_attention(graph, forward=True), _near_attention(graph, forward=False)
    before: set[str] = set()
    after: set[str] = set()
    for node in left:
        name = node.output.name
        if name in above and name in below:
            return None
        (after if name in above else before).add(name)
    before, after = _closure(graph, before, forward=False), _closure(graph, after, forward=True)
    kept = [n for n in graph.nodes if n.output.name not in before | after]
    if before & after or not any(isinstance(n.op, Attention) for n in kept):
        return None
    return before, after


def _leftovers(graph: Graph) -> list[Node]:
    """The ONNX nodes on data that recognition left."""
    survey = Survey(Editor(graph))
    return [
        n for n in graph.nodes if isinstance(n.op, Onnx) and any(survey.is_data(v.name) for v in n.outputs)
    ]


def _cause(node: Node) -> str:
    assert isinstance(node.op, Onnx)
    return f"this use of {node.op.kind} has no place on the chip"


def _refused(node: Node) -> bool:
    return isinstance(node.op, Onnx) and host_refusal(node.op.domain, node.op.kind) is not None


def _near_attention(graph: Graph, *, forward: bool) -> set[str]:
    """The first outputs of nodes that are computed from an attention (or, backward, lead to one)."""
    seeds = {n.output.name for n in graph.nodes if isinstance(n.op, Attention)}
    return _closure(graph, seeds, forward=forward)


def _closure(graph: Graph, seeds: set[str], *, forward: bool) -> set[str]:
    """The first outputs of the nodes named by `seeds` and of all nodes after (or before) them."""
    found = set(seeds)
    if forward:
        reached: set[str] = set()
        for node in graph.nodes:
            if node.output.name in found or any(i in reached for i in node.inputs):
                found.add(node.output.name)
                reached.update(v.name for v in node.outputs)
        return found
    wanted: set[str] = set()
    for node in reversed(graph.nodes):
        if node.output.name in found or any(v.name in wanted for v in node.outputs):
            found.add(node.output.name)
            wanted.update(node.inputs)
    return found


class _Split:
    """Cuts a graph in three."""

    def __init__(self, graph: Graph, file: ModelFile, before: set[str], after: set[str]) -> None:
        self._graph, self._file = graph, file
        self._survey = Survey(Editor(graph))
        self._before = [n for n in graph.nodes if n.output.name in before]
        self._after = [n for n in graph.nodes if n.output.name in after]

    def graph(self) -> Graph:
        """The chip's part, with the others as partitions."""
        editor = Editor(self._graph)
        editor.results = editor.results or self._graph.outputs
        if self._before:
            self._cut_front(editor)
        if self._after:
            self._cut_back(editor)
        return _only_used_inputs(editor.finish())

    def _cut_front(self, editor: Editor) -> None:
        made = _outputs(self._before)
        inside = {id(n) for n in self._before}
        outside = [n for n in self._graph.nodes if id(n) not in inside]
        border = _ordered(i for n in outside for i in n.inputs if i in made)
        part = self._cut("front", (), border)
        for name in border:
            producer = editor.producer(name)
            assert producer is not None
            editor.remove(producer)
            editor.inputs.append(Input(self._rows(name), Role.OTHER))
        inputs = tuple(v.name for v in part.inputs)
        editor.hosts.append(Partition("front", Moment.BEFORE, inputs, border, part.model, part.sources))

    def _cut_back(self, editor: Editor) -> None:
        made = _outputs(self._after)
        wanted = tuple(o for o in self._graph.outputs if o in made)
        reads = _ordered(i for n in self._after for i in n.inputs)
        border = tuple(i for i in reads if self._is_chips(i) and i not in made)
        part = self._cut("back", tuple(map(self._rows, border)), wanted)
        inputs = tuple(v.name for v in part.inputs)
        editor.outputs = [*(o for o in self._graph.outputs if o not in made), *border]
        editor.hosts.append(Partition("back", Moment.AFTER, inputs, wanted, part.model, part.sources))

    def _is_chips(self, name: str) -> bool:
        """Whether a value is made by a node of the chip."""
        node = self._survey.editor.producer(name)
        return node is not None and not isinstance(node.op, Onnx)

    def _rows(self, name: str) -> Value:
        """The type of a value at the border, as the file has it."""
        value = self._survey.editor.value(name)
        if (
            value is None
            or not value.shape
            or not isinstance(value.shape[-1], int)
            or not self._file.makes(name)
        ):
            raise _StuckError(name)
        return value

    def _cut(self, name: str, given: tuple[Value, ...], outputs: tuple[str, ...]) -> Submodel:
        if not outputs or not all(map(self._file.makes, outputs)):
            raise _StuckError(name)
        try:
            part = self._file.cut(name, given, outputs, {i.name: i.value for i in self._graph.inputs})
        except CimError:
            raise _StuckError(name) from None
        kept = {i.name for i in self._graph.inputs if i.role in (Role.PAST, Role.CROSS)}
        if any(v.name in kept and not self._file.reads_shape_only(v.name, part.sources) for v in part.inputs):
            raise _StuckError(name)  # keys and values are on the chip
        return part


def _outputs(nodes: Iterable[Node]) -> set[str]:
    return {v.name for node in nodes for v in node.outputs}


def _ordered(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
