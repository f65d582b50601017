"""Give every value the layout [tokens, features]."""

from __future__ import annotations

from dataclasses import dataclass, replace

from compiler.ir.dims import Dim, Extent, axis
from compiler.ir.feeding import is_of_source
from compiler.ir.graph import Embed, Input, Node, Onnx, Role, Rotary, Value
from compiler.ir.rewrite import Editor
from compiler.pipeline import Compilation, Pass
from compiler.recognition.layouts import Moved, follow, is_same_rows
from compiler.recognition.regions import SOURCES, Prober, Survey, is_movement, is_onnx


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
    moved = _moved(survey, prober, name)
    return moved.region.roots[0] if moved is not None and is_same_rows(moved) else name


def _moved(survey: Survey, prober: Prober, name: str) -> Moved | None:
    node = survey.editor.producer(name)
    if node is None or not (is_movement(node) or is_onnx(node, "Cast", "Identity")):
        return None
    return follow(survey, prober, prober.at(3, 2 if prober.has_past() else 0, batch=2), name)


def _straight_heads(survey: Survey, prober: Prober, name: str) -> tuple[str, int]:
    """The value whose rows `name` has as [batch, heads, tokens, depth], and the number of heads; or `name`."""
    moved = _moved(survey, prober, name)
    if moved is None or moved.tags.ndim != 4:
        return name, 0
    batch, heads, tokens, depth = moved.tags.shape
    rows = moved.tags.swapaxes(1, 2).reshape(batch, tokens, heads * depth)
    same = is_same_rows(replace(moved, tags=rows))
    return (moved.region.roots[0], heads) if same else (name, 0)


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
        source, heads = _straight(survey, prober, output), 0
        if source == output:
            source, heads = _straight_heads(survey, prober, output)
        node = editor.producer(source)
        if source == output or node is None or isinstance(node.op, Onnx):
            continue
        if heads:
            editor.by_head[output] = heads
        passed = editor.producer(output)
        assert passed is not None
        editor.remove(passed)
        editor.replace(node, replace(node, outputs=(replace(node.output, name=output),)))
        for user in editor.users(source):
            renamed = tuple(output if i == source else i for i in user.inputs)
            editor.replace(user, replace(user, inputs=renamed))


def _retype(editor: Editor) -> None:
    """[batch, sequence, features] -> [tokens, features] for values, [tokens] for ids and positions."""
    lengths = {i.name: axis("source") for i in editor.inputs if i.role in SOURCES or is_of_source(i)}
    for node in list(editor.nodes()):
        width: Extent = (node.output.shape or (0,))[-1]
        if isinstance(node.op, Embed):
            width = editor.constants[node.inputs[1]].shape[1]
        count = lengths.setdefault(node.output.name, lengths.get(node.inputs[0], _tokens()))
        value = Value(node.output.name, node.output.dtype, (count, width))
        editor.replace(node, replace(node, outputs=(value,)))
    used = {i for node in editor.nodes() for i in node.inputs}
    turns = any(isinstance(node.op, Rotary) for node in editor.nodes())
    wanted = {Role.SWITCH, *((Role.POSITIONS,) if turns else ())}
    kept = [i for i in editor.inputs if i.name in used or (i.role in wanted and not is_of_source(i))]
    editor.inputs = [_flat(i) for i in kept]


def _flat(given: Input) -> Input:
    """An input as one number, or one row, a token."""
    shape = given.value.shape or ()
    if given.role is Role.SOURCE_IDS or (given.role is Role.POSITIONS and is_of_source(given)):
        return replace(given, value=replace(given.value, shape=(axis("source"),)))
    if given.role in (Role.IDS, Role.POSITIONS, Role.TOKEN_TYPES):
        return replace(given, value=replace(given.value, shape=(_tokens(),)))
    if given.role is Role.OTHER and len(shape) > 1:
        return replace(given, value=replace(given.value, shape=(_tokens(), shape[-1])))
    if given.role is Role.SOURCE:
        count = shape[-2] if isinstance(shape[-2], int) else axis("source")
        return replace(given, value=replace(given.value, shape=(count, shape[-1])))
    return given


def _tokens() -> Dim:
    return axis("tokens")
