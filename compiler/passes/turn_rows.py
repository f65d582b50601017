"""Bring rows that a file keeps time-first back into the order of sequences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compiler.ir.graph import Attention, Embed, Node, Onnx, Rotary, Value
from compiler.ir.rewrite import Editor
from compiler.pipeline import Compilation, Pass
from compiler.recognition.layouts import (
    TURN,
    Moved,
    as_rows,
    follow,
    is_same_rows,
    leading_axes,
    rows_of,
    turned,
    turned_to,
)
from compiler.recognition.regions import Prober, Survey, is_movement, is_onnx


@dataclass(frozen=True)
class TurnRows(Pass):
    """Let operators on rows work on [batch, sequence, features] where the file turned the first two axes before.

    op(turn(x)) == turn(op(x)), for operators that treat each row by itself, and for lookups
    Modules that keep time first ([sequence, batch, features]) turn their rows on the way in and on the way out; the
    turns move along until they meet and cancel.
    """

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.graph`."""
        editor = Editor(c.require_graph())
        editor.changed = False
        survey = Survey(editor)
        prober = Prober(survey)
        for node in list(editor.nodes()):
            if isinstance(node.op, Embed) and editor.holds(node):
                _turn_lookup(survey, node)
            elif _is_by_row(node) and editor.holds(node):
                _turn(survey, prober, node)
        c.graph = editor.finish()
        return editor.changed


def _is_by_row(node: Node) -> bool:
    return not isinstance(node.op, (Onnx, Embed, Rotary, Attention))


def _turn(survey: Survey, prober: Prober, node: Node) -> None:
    """Move the turn in front of all data operands of `node` behind it, if there is one in front of each."""
    editor, roots = survey.editor, dict[str, str]()
    for name in survey.data_inputs(node):
        moved = _moved(survey, prober, name)
        if moved is None or not _is_turned(moved, prober):
            return
        roots[name] = moved.region.roots[0]
    shape = node.output.shape
    if not roots or shape is None:
        return
    inputs = tuple(as_rows(survey, roots[i], node.sources) if i in roots else i for i in node.inputs)
    lead = leading_axes(survey, inputs[0])
    rows = Value(editor.fresh(f"{node.output.name}.rows"), node.output.dtype, (*lead, shape[-1]))
    editor.remove(node)
    editor.insert(node.op, inputs, rows, node.sources)
    survey.note(rows.name)
    turned_to(survey, rows.name, node.output, node.sources)


def _turn_lookup(survey: Survey, node: Node) -> None:
    """embed(turn(ids)) == turn(embed(ids))."""
    editor, shape = survey.editor, node.output.shape
    before = editor.producer(node.inputs[0])
    if before is None or not is_onnx(before, "Transpose") or shape is None or len(shape) != 3:
        return
    rows = Value(editor.fresh(f"{node.output.name}.rows"), node.output.dtype, (shape[1], shape[0], shape[2]))
    editor.remove(node)
    editor.insert(node.op, (before.inputs[0], *node.inputs[1:]), rows, (*before.sources, *node.sources))
    survey.note(rows.name)
    editor.insert(TURN, (rows.name,), node.output, node.sources)
    survey.note(node.output.name)


def _moved(survey: Survey, prober: Prober, name: str) -> Moved | None:
    node = survey.editor.producer(name)
    if node is None or not (is_movement(node) or is_onnx(node, "Cast", "Identity")):
        return None
    return follow(survey, prober, prober.at(3, 2 if prober.has_past() else 0, batch=2), name)


def _is_turned(moved: Moved, prober: Prober) -> bool:
    """Whether a value has the rows of [batch, sequence, features] in the order of [sequence, batch, features]."""
    if len(moved.region.roots) != 1 or moved.scale != 1.0 or is_same_rows(moved):
        return False
    batch = prober.at(3, 2 if prober.has_past() else 0, batch=2).sizes["batch"]
    rows = rows_of(moved)
    if rows is None or len(rows) % batch or len(rows) != np.prod(next(iter(moved.shapes.values()))[:-1]):
        return False
    return np.array_equal(rows, turned(len(rows), batch))
