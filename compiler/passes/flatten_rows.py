"""Give every value the layout [tokens, features]."""

from __future__ import annotations

from dataclasses import dataclass, replace

from compiler.ir.dims import Extent, axis
from compiler.ir.graph import Embed, Input, Node, Onnx, Role, Value
from compiler.ir.rewrite import Editor
from compiler.passes.layouts import follow, is_same_rows
from compiler.passes.regions import Prober, Survey, is_movement, is_onnx
from compiler.pipeline import Compilation, Pass


@dataclass(frozen=True)
class FlattenRows(Pass):
    """Drop movement that leaves rows as they are, then write every value as [tokens, features].

    Between canonical operators, reshapes and transposes have cancelled: numbered elements arrive in
    their old order. What still moves elements stays, and `Legalise` refuses it.
    """

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.graph`."""
        editor = Editor(c.require_graph())
        editor.changed = False
        survey = Survey(editor)
        prober = Prober(survey)
        for node in list(editor.nodes()):
            if not isinstance(node.op, Onnx) and editor.holds(node):
                _rewire(survey, prober, node)
        _rewire_outputs(survey, prober)
        graph = editor.finish()
        if graph.is_canonical:
            editor = Editor(graph)
            _retype(editor)
            graph = editor.finish()
        c.graph = graph
        return editor.changed


def _straight(survey: Survey, prober: Prober, name: str) -> str:
    """The value whose rows `name` repeats, or `name`."""
    node = survey.editor.producer(name)
    if node is None or not (is_movement(node) or is_onnx(node, "Cast", "Identity")):
        return name
    moved = follow(survey, prober, prober.at(3, 2 if prober.has_past() else 0, batch=2), name)
    return moved.region.roots[0] if moved is not None and is_same_rows(moved) else name


def _rewire(survey: Survey, prober: Prober, node: Node) -> None:
    inputs = tuple(_straight(survey, prober, i) if survey.is_data(i) else i for i in node.inputs)
    if isinstance(node.op, Embed) and not survey.is_data(node.inputs[0]):
        inputs = node.inputs
    if inputs != node.inputs:
        survey.editor.replace(node, replace(node, inputs=inputs))


def _rewire_outputs(survey: Survey, prober: Prober) -> None:
    """An output that repeats the rows of a value becomes that value's name."""
    editor = survey.editor
    for output in list(editor.outputs):
        source = _straight(survey, prober, output)
        node = editor.producer(source)
        if source == output or node is None or isinstance(node.op, Onnx):
            continue
        passed = editor.producer(output)
        assert passed is not None
        editor.remove(passed)
        editor.replace(node, replace(node, outputs=(replace(node.output, name=output),)))
        for user in editor.users(source):
            renamed = tuple(output if i == source else i for i in user.inputs)
            editor.replace(user, replace(user, inputs=renamed))


def _retype(editor: Editor) -> None:
    """[batch, sequence, features] -> [tokens, features] for values, [tokens] for ids and positions."""
    for node in list(editor.nodes()):
        width: Extent = (node.output.shape or (0,))[-1]
        if isinstance(node.op, Embed):
            width = editor.constants[node.inputs[1]].shape[1]
        value = Value(node.output.name, node.output.dtype, (_tokens(), width))
        editor.replace(node, replace(node, outputs=(value,)))
    used = {i for node in editor.nodes() for i in node.inputs}
    wanted = (Role.IDS, Role.POSITIONS, Role.TOKEN_TYPES)
    editor.inputs = [
        Input(replace(i.value, shape=(_tokens(),)), i.role) if i.role in wanted else i
        for i in editor.inputs
        if i.name in used
    ]


def _tokens() -> Extent:
    return axis("tokens")
