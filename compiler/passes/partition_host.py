"""Give the host what has no place on the chip: what is in front of all attention, pooling and classifiers behind it.

This pass, and that for stems, cut whole pieces out of the ONNX file (`compiler.frontend.submodel`) and leave a graph
for the chip whose inputs are rows that the host makes and whose outputs are rows that it takes. What lies between two
attention layers stays, and `Legalise` refuses it: rows would cross the link twice in every layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from compiler.ir.graph import Attention, Graph, Input, Node, Onnx, Partition, Role, Value
from compiler.ir.rewrite import Editor
from compiler.ops.hosting import host_refusal
from compiler.passes.flatten_rows import FlattenRows
from compiler.pipeline import Compilation, Finding, Pass
from compiler.recognition.regions import Survey, is_single
from isa.diagnostics import CimError
from isa.program import Moment

if TYPE_CHECKING:
    from compiler.frontend.submodel import ModelFile, Submodel


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
            c.graph = _Split(graph, open_file(c), *cut).graph()
        except _StuckError:
            return False
        c.findings += [Finding(s, _cause(n)) for n in _leftovers(graph) for s in n.sources[:1]]
        FlattenRows().run(c)
        return True


def open_file(c: Compilation) -> ModelFile:
    """The model's file, to cut pieces from."""
    # The reader is imported here so that commands which read no model do not pay for it.
    from compiler.frontend.submodel import ModelFile

    return ModelFile(c.model, shapes_only=c.options.shapes_only)


def only_used_inputs(graph: Graph) -> Graph:
    """Inputs that only the host reads are not the chip's."""
    used = {i for node in graph.nodes for i in node.inputs} | set(graph.outputs)
    hosted = {i for part in graph.hosts for i in part.inputs}
    kept = tuple(i for i in graph.inputs if i.name in used or i.name not in hosted)
    return replace(graph, inputs=kept)


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
        (before if name in below else after).add(name)
    before, after = closure(graph, before, forward=False), closure(graph, after, forward=True)
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
    return closure(graph, seeds, forward=forward)


def closure(graph: Graph, seeds: set[str], *, forward: bool) -> set[str]:
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
        self._after = self._back(after)

    def _back(self, after: set[str]) -> list[Node]:
        """The nodes after the chip: those named, and what makes values for them that the file has no name for."""
        nodes = [n for n in self._graph.nodes if n.output.name in after]
        made = _outputs(nodes)
        unnamed = {
            i for n in nodes for i in n.inputs if self._is_chips(i) and i not in made and not self._crosses(i)
        }
        more = closure(self._graph, after | unnamed, forward=True)
        attends = any(isinstance(n.op, Attention) for n in self._graph.nodes if n.output.name in more)
        return self._back(more) if unnamed and not attends else nodes

    def graph(self) -> Graph:
        """The chip's part, with the others as partitions."""
        editor = Editor(self._graph)
        editor.results = editor.results or self._graph.outputs
        if self._before:
            self._cut_front(editor)
        if self._after:
            self._cut_back(editor)
        return only_used_inputs(editor.finish())

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
        if value is None or not self._crosses(name):
            raise _StuckError(name)
        return value

    def _crosses(self, name: str) -> bool:
        """Whether a value can cross the border: rows of known width, under a name of the file.

        Where inputs have an axis of sequences the rows have one too: flat rows would not say where one ends.
        """
        value = self._survey.editor.value(name)
        shape = None if value is None else value.shape
        if shape is not None and len(shape) < 3 and not is_single(self._graph.inputs):
            return False
        return shape is not None and bool(shape) and isinstance(shape[-1], int) and self._file.makes(name)

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
