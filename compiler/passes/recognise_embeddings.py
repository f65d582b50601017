"""Find rows taken from tables by token id or by position."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from compiler.explain import Heading, Note
from compiler.ir.dims import Shape, axis
from compiler.ir.evaluate import UnavailableError
from compiler.ir.feeding import is_of_source
from compiler.ir.graph import Embed, Input, Node, Role, Value
from compiler.ir.rewrite import Editor
from compiler.ir.tensor import Array, DType, tensor
from compiler.ops.call import Attributes, KernelError
from compiler.pipeline import DEFAULT_CONTEXT, Compilation, Pass
from compiler.recognition.counting import read_count
from compiler.recognition.layouts import leading_axes, turned_to
from compiler.recognition.regions import Lengths, Prober, Region, Survey, is_movement, is_onnx
from compiler.recognition.tables import read_table


@dataclass(frozen=True)
class RecogniseEmbeddings(Pass):
    """Find embeddings: rows of a table taken by token id, or by position where they are added to rows.

    Gather(table, ids)                               == embed(ids; table)
    x + Gather(table, f(positions)), f(p) = p + offset == x + embed(positions; table) with that offset
    x + Gather(table, [r, r, ...])                    == x + row r of the table (a token type that is fixed)
    x + [row 0, row 1, ...], as many as a step has      == x + embed(positions; the rows)
    x + g(positions), a slice of rows or sines          == x + embed(positions; [g(0), g(1), ...])
    Gather(table, positions counted from the ids)     == embed(positions; table), where no id is padding
    """

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.graph`."""
        editor = Editor(c.require_graph())
        editor.changed = False
        survey = Survey(editor)
        prober = Prober(survey)
        for node in list(editor.nodes()):
            if editor.holds(node) and not _by_count(survey, prober, node, c):
                _by_token(survey, node)
        for node in list(editor.nodes()):
            if editor.holds(node) and is_onnx(node, "Add"):
                _by_position(survey, prober, node)
                _by_row(survey, prober, node)
                _by_value(survey, prober, node, c.options.max_context or DEFAULT_CONTEXT)
        c.graph = editor.finish()
        return editor.changed


def _is_lookup(editor: Editor, node: Node | None) -> bool:
    """Whether a node gathers rows of a constant table."""
    if node is None or not is_onnx(node, "Gather"):
        return False
    table = editor.constant(node.inputs[0])
    return table is not None and len(table.shape) == 2 and Attributes(node.op).integer("axis", 0) == 0  # type: ignore[arg-type]


def _by_token(survey: Survey, node: Node) -> None:
    if not _is_lookup(survey.editor, node) or not survey.is_data(node.inputs[1]):
        return
    table, ids = node.inputs
    survey.editor.replace(node, Node(Embed(), (ids, table), node.outputs, node.sources))


def _by_count(survey: Survey, prober: Prober, node: Node, c: Compilation) -> bool:
    """Replace a lookup by positions that the model counts itself."""
    editor = survey.editor
    if not _is_lookup(editor, node) or editor.producer(node.inputs[1]) is None:
        return False
    counted = read_count(survey, prober, node.inputs[1])
    shape = node.output.shape
    if counted is None or shape is None:
        return False
    inputs = (_positions(editor, shape, counted.of_source), node.inputs[0])
    sources = (*node.sources, *counted.region.sources)
    editor.replace(node, Node(Embed(counted.offset), inputs, node.outputs, sources))
    if counted.padding:
        ids = ", ".join(map(str, counted.padding))
        c.padding = tuple(sorted({*c.padding, *counted.padding}))
        said = f"Positions are counted, taking for granted that no token is padding (id {ids})."
        c.notes.append(Note(Heading.NEEDS, said))
    return True


def _by_position(survey: Survey, prober: Prober, add: Node) -> None:
    """A control operand of an addition to rows, if it is rows of a table by position."""
    editor = survey.editor
    for at, name in enumerate(add.inputs):
        other = add.inputs[1 - at]
        if survey.is_data(name) or editor.constant(name) is not None or not survey.is_data(other):
            continue
        region = trace_control(editor, name)
        gather = editor.producer(region.roots[0]) if len(region.roots) == 1 else None
        rows = editor.shape(other)
        if gather is None or not _is_lookup(editor, gather) or rows is None:
            continue
        index = _index(Lengths(prober, survey.of_source(other)), gather.inputs[1])
        if index is None:
            continue
        new = _row(survey, gather, index) if index.fixed else _rows(survey, gather, region, index, other)
        operands = tuple(new if i == name else i for i in add.inputs)
        editor.replace(add, replace(add, inputs=operands))
        return


def _by_row(survey: Survey, prober: Prober, add: Node) -> None:
    """A constant with a row for every token of a step whose length the file fixes: a table by position."""
    editor = survey.editor
    if not editor.holds(add):
        return
    for at, name in enumerate(add.inputs):
        other = add.inputs[1 - at]
        constant, shape, of_source = editor.constant(name), editor.shape(other), survey.of_source(other)
        if constant is None or shape is None or len(shape) not in (2, 3) or not survey.is_data(other):
            continue
        if prober.has_past() and not of_source:
            return
        count, width = shape[-2:]
        time_first = constant.has_data and constant.shape == (shape[0], 1, width)
        if time_first and leading_axes(survey, other)[::-1] == shape[:2] and count != shape[0]:
            turned = constant.data().reshape(-1, constant.shape[-1])
            rows = _looked_up(survey, turned, Value(name, constant.dtype, shape), add)
            editor.replace(add, replace(add, inputs=tuple(rows if i == name else i for i in add.inputs)))
            return
        if constant.shape[-2:] != (count, width) or constant.count != count * width or count == 1:
            continue
        table = editor.add_constant(f"{name}.table", constant.reshape(constant.shape[-2:]))
        value = Value(editor.fresh(f"{name}.rows"), constant.dtype, shape)
        editor.insert(Embed(), (_positions(editor, shape, of_source), table), value, add.sources)
        survey.note(value.name)
        editor.replace(add, replace(add, inputs=tuple(value.name if i == name else i for i in add.inputs)))
        return


def _by_value(survey: Survey, prober: Prober, add: Node, most: int) -> None:
    """A control operand of an addition to rows, whatever it is made of, that has a row for every position."""
    editor = survey.editor
    if not editor.holds(add):
        return
    for at, name in enumerate(add.inputs):
        other = editor.value(add.inputs[1 - at])
        shape = other.shape if other is not None else None
        if other is None or shape is None or survey.is_data(name) or not survey.is_data(other.name):
            continue
        if editor.constant(name) is not None or len(shape) not in (2, 3) or not isinstance(shape[-1], int):
            continue
        lengths = Lengths(prober, survey.of_source(other.name))
        table = read_table(lengths, editor, name, shape[-1], most)
        if table is None:
            continue
        rows = _looked_up(survey, table, replace(other, name=name), add)
        editor.replace(add, replace(add, inputs=tuple(rows if i == name else i for i in add.inputs)))
        return


def _looked_up(survey: Survey, table: Array, like: Value, add: Node) -> str:
    """Rows of a table by position, shaped `like` rows that it is added to, which may have the time first."""
    editor, of_source = survey.editor, survey.of_source(next(i for i in add.inputs if survey.is_data(i)))
    batch, sequence = leading_axes(survey, next(i for i in add.inputs if survey.is_data(i)))
    shape = like.shape or ()
    time_first = shape[:2] == (sequence, batch) and len(shape) == 3 and sequence != batch
    lead = (batch, sequence) if time_first else shape[:-1]
    rows = Value(editor.fresh(f"{like.name}.rows"), like.dtype, (*lead, shape[-1]))
    constant = editor.shared_constant(f"{like.name}.table", tensor(table.astype(like.dtype.numpy)))
    editor.insert(Embed(), (_positions(editor, (*lead, shape[-1]), of_source), constant), rows, add.sources)
    survey.note(rows.name)
    if not time_first:
        return rows.name
    turned = Value(editor.fresh(f"{like.name}.turned"), like.dtype, shape)
    turned_to(survey, rows.name, turned, add.sources)
    survey.note(turned.name)
    return turned.name


def _row(survey: Survey, gather: Node, index: _Index) -> str:
    """The same row for every token: a constant."""
    table = survey.editor.constants[gather.inputs[0]]
    row = table.slice(0, index.offset, index.offset + 1).reshape((table.shape[1],))
    return survey.editor.add_constant(f"{gather.inputs[0]}[{index.offset}]", row)


def _rows(survey: Survey, gather: Node, region: Region, index: _Index, other: str) -> str:
    """Rows by position, to be added to the rows `other`: an embedding of the positions."""
    editor = survey.editor
    like = editor.shape(other) or ()
    table = editor.constants[gather.inputs[0]]
    output = Value(editor.fresh(f"{gather.output.name}.rows"), table.dtype, (*like[:-1], table.shape[1]))
    inputs = (_positions(editor, like, survey.of_source(other)), gather.inputs[0])
    editor.insert(Embed(index.offset), inputs, output, (*gather.sources, *region.sources), after=gather)
    survey.note(output.name)
    return output.name


def trace_control(editor: Editor, name: str) -> Region:
    """Back from a control value through casts and movement of a single operand."""
    nodes: list[Node] = []
    while (node := editor.producer(name)) is not None:
        if _is_lookup(editor, node) or not (is_onnx(node, "Cast") or is_movement(node)):
            break
        nodes.append(node)
        name = node.inputs[0]
    return Region(name, (name,), tuple(reversed(nodes)))


@dataclass(frozen=True, slots=True)
class _Index:
    """Row `offset` for every token (`fixed`), or row position + offset."""

    offset: int
    fixed: bool


def _index(lengths: Lengths, index: str) -> _Index | None:
    """Which rows `index` takes, the same way for every probe; None if in no such way."""
    found: set[_Index] = set()
    for sequence, past in ((5, 0), (3, 4), (6, 7)):
        probe = lengths.at(sequence, past)
        try:
            values = _of_each(probe.value(index)).astype(np.int64)
        except (UnavailableError, KernelError, ValueError, IndexError):
            return None
        step, before = lengths.of(probe)
        positions = np.arange(before, before + step)
        if values.shape != positions.shape:
            return None
        if not np.ptp(values - positions):
            found.add(_Index(int(values[0] - positions[0]), fixed=False))
        elif not np.ptp(values):
            found.add(_Index(int(values[0]), fixed=True))
        else:
            return None
    return found.pop() if len(found) == 1 else None


def _of_each(index: Array) -> Array:
    """The indices of one sequence, if all have the same; else of all in a row."""
    alike = index.ndim == 2 and bool((index == index[:1]).all())
    return index[0] if alike else index.reshape(-1)


def _positions(editor: Editor, rows: Shape, of_source: bool) -> str:
    """The input that holds positions, of the tokens or of the source's rows; made if the file has none."""
    mine = (i for i in editor.inputs if i.role is Role.POSITIONS and is_of_source(i) is of_source)
    existing = next(mine, None)
    if existing is not None:
        return existing.name
    name, length = ("source_positions", axis("source")) if of_source else ("positions", axis("sequence"))
    shape: Shape = rows[:-1] if len(rows) == 3 and not of_source else (axis("batch"), length)
    made = Input(Value(editor.fresh(name), DType.INT64, shape), Role.POSITIONS)
    editor.inputs.append(made)
    return made.name
