"""Values that are rows cut into heads: what works on single heads can be put on the whole rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compiler.ir.dims import Shape
from compiler.ir.graph import Canonical, Node, Value
from compiler.recognition.layouts import Tags, follow, from_rows, sequence_axis, take_columns
from compiler.recognition.regions import Prober, Survey


@dataclass(frozen=True, slots=True)
class Parts:
    """`rows` of this shape, [batch, tokens, heads*depth], of which a value holds the heads.

    `tokens_at` is the value's axis of tokens: 1, 2, or 0 where heads are counted with the tokens.
    """

    rows: str
    shape: Shape
    heads: int
    tokens_at: int
    sources: tuple[str, ...]


def parts_of(survey: Survey, prober: Prober, name: str, output: Value) -> Parts | None:
    """The rows whose heads are in `name`, a value shaped like `output`; None if it holds no heads."""
    if output.shape is None or len(output.shape) not in (3, 4):
        return None
    probe = prober.at(3, batch=2)
    moved = follow(survey, prober, probe, name)
    if moved is None or len(moved.region.roots) != 1 or moved.scale != 1.0:
        return None
    (rows,) = moved.region.roots
    shape = survey.editor.shape(rows)
    at = sequence_axis(survey, output, rows) if len(output.shape) == 4 else 0
    numbers = _by_token(moved.tags, probe.sizes["source" if survey.of_source(rows) else "sequence"], at)
    if numbers is None or shape is None or len(shape) != 3 or not isinstance(width := shape[-1], int):
        return None
    columns = numbers.reshape(-1, numbers.shape[2] * numbers.shape[3]) - 1
    columns = columns - width * np.arange(len(columns))[:, None]
    if not np.array_equal(columns, np.broadcast_to(columns[0], columns.shape)):
        return None
    part = take_columns(survey, rows, columns[0], f"{output.name}.input")
    whole = (*shape[:-1], columns.shape[1])
    return None if part is None else Parts(part, whole, numbers.shape[2], at or 0, moved.region.sources)


def put_on_rows(survey: Survey, parts: Parts, old: Node, op: Canonical, constants: tuple[str, ...]) -> None:
    """Replace `old`, which works on heads, by `op(rows; constants)`, cut into heads again."""
    editor, output = survey.editor, old.output
    sources = tuple(dict.fromkeys((*parts.sources, *old.sources)))
    made = Value(editor.fresh(f"{output.name}.rows"), output.dtype, parts.shape)
    editor.remove(old)
    editor.insert(op, (parts.rows, *constants), made, sources)
    survey.note(made.name)
    from_rows(survey, made.name, parts.heads, output, sources)


def _by_token(tags: Tags, count: int, at: int | None) -> Tags | None:
    """[batch, tokens, heads, depth] from what has heads, or heads among the tokens; None if it has neither."""
    if tags.ndim == 4:
        return tags.swapaxes(1, at) if at else None
    batch, parts, depth = tags.shape
    return tags.reshape(batch, count, -1, depth) if parts > count and parts % count == 0 else None
