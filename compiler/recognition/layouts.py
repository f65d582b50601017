"""How the elements of rows are arranged in a value: found by moving numbered elements through the graph.

Each element of the rows gets a number of its own; after the region has been evaluated, the numbers
show where every element of the result came from, whatever operators moved it: reshapes,
transposes, splits, repeated heads, a cache in front. A common factor (a scale) shows too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compiler.ir.dims import Shape, axis, size_of
from compiler.ir.evaluate import Interpreter, UnavailableError
from compiler.ir.graph import Linear, Node, Onnx, Value
from compiler.ir.tensor import Array, symbolic
from compiler.ops.call import KernelError
from compiler.passes.recognise_linear import RESHAPE, Columns, columns, reshape_to
from compiler.recognition.regions import (
    Prober,
    Region,
    Survey,
    is_movement,
    is_onnx,
    lead_of,
    scalar,
    source_of,
    trace,
)

Tags = NDArray[np.int64]
TRANSPOSE_HEADS = Onnx("", "Transpose", 18, (("perm", (0, 2, 1, 3)),))

TURN = Onnx("", "Transpose", 18, (("perm", (1, 0, 2)),))


@dataclass(frozen=True, slots=True)
class Moved:
    """A value all of whose elements are elements of the roots times `scale`.

    `tags` has the value's shape. Elements of root r are numbered from `starts[r]` in row-major order.
    """

    region: Region
    scale: float
    tags: Tags
    starts: dict[str, int]
    shapes: dict[str, tuple[int, ...]]


def moves(survey: Survey, node: Node) -> bool:
    """Whether a node only moves elements, or multiplies all of them by one number."""
    if is_movement(node) or is_onnx(node, "Cast", "Identity"):
        return True
    return is_onnx(node, "Mul", "Div") and _factor(survey, node) is not None


def _factor(survey: Survey, node: Node) -> float | None:
    data = survey.data_inputs(node)
    if len(data) != 1 or (is_onnx(node, "Div") and node.inputs[0] != data[0]):
        return None
    return next((scalar(survey.editor, i) for i in node.inputs if i != data[0]), None)


def follow(survey: Survey, prober: Prober, probe: Interpreter, value: str) -> Moved | None:
    """Where the elements of `value` come from at the probe's sizes; None if that cannot be told."""
    region = trace(survey, value, lambda n: moves(survey, n))
    shapes: dict[str, tuple[int, ...]] = {}
    for root in region.roots:
        shape = prober.shape(probe, root)
        if shape is None:
            return None
        shapes[root] = shape
    starts: dict[str, int] = {}
    total = 1
    for root, shape in shapes.items():
        starts[root] = total
        total += int(np.prod(shape, dtype=np.int64))
    try:
        ones = prober.evaluate(probe, region.nodes, {r: np.ones(s) for r, s in shapes.items()})[value]
        numbered = {r: np.arange(n, n + np.prod(shapes[r]), dtype=np.float64) for r, n in starts.items()}
        numbered = {r: numbers.reshape(shapes[r]) for r, numbers in numbered.items()}
        moved = prober.evaluate(probe, region.nodes, numbered)[value]
    except (UnavailableError, KernelError, ValueError, IndexError, TypeError):
        return None
    return _read(region, ones, moved, starts, shapes)


def _read(
    region: Region, ones: Array, moved: Array, starts: dict[str, int], shapes: dict[str, tuple[int, ...]]
) -> Moved | None:
    if not ones.size or not np.all(ones == ones.flat[0]) or ones.flat[0] == 0:
        return None
    scale = float(ones.flat[0])
    tags = np.rint(moved / scale)
    if np.abs(tags * scale - moved).max() > 1e-6 * abs(scale):
        return None
    return Moved(region, scale, tags.astype(np.int64), starts, shapes)


def is_same_rows(moved: Moved) -> bool:
    """Whether a value holds the elements of its only root in the same order."""
    if len(moved.region.roots) != 1 or moved.scale != 1.0:
        return False
    (shape,) = moved.shapes.values()
    flat = moved.tags.reshape(-1)
    same_width = moved.tags.shape[-1:] == shape[-1:]
    return bool(same_width and np.array_equal(flat, np.arange(1, 1 + np.prod(shape, dtype=np.int64))))


def rows_of(moved: Moved) -> Tags | None:
    """Which row of the only root each row of the value is; None if it is not made of whole rows of the same width."""
    ((root, shape),) = moved.shapes.items()
    width = shape[-1] if shape else 0
    if moved.tags.shape[-1:] != shape[-1:] or not width:
        return None
    flat = moved.tags.reshape(-1, width) - moved.starts[root]
    rows = flat[:, 0] // width
    return rows if np.array_equal(flat, rows[:, None] * width + np.arange(width)) else None


def turned(count: int, batch: int) -> Tags:
    """Which of `count` rows of [batch, sequence, features] stand where in [sequence, batch, features]."""
    return np.arange(count).reshape(batch, -1).T.reshape(-1)


def take_columns(survey: Survey, rows: str, wanted: Tags, name: str) -> str | None:
    """A value whose rows are the columns `wanted` (in that order) of `rows`; None if there is no way."""
    editor = survey.editor
    shape = editor.shape(rows)
    count = len(wanted)
    if shape and shape[-1] == count and np.array_equal(wanted, np.arange(count)):
        return rows
    linear = editor.producer(rows)
    groups = _groups(wanted)
    if linear is None or not isinstance(linear.op, Linear) or groups is None:
        return None
    value = Value(editor.fresh(name), linear.output.dtype, None)
    columns(editor, linear, groups, value, ())
    survey.note(value.name)
    return value.name


def _groups(wanted: Tags) -> Columns | None:
    """`wanted` as equal groups of successive columns at equal distances, none of which crosses a distance."""
    breaks = np.flatnonzero(np.diff(wanted) != 1) + 1
    length = int(breaks[0]) if len(breaks) else len(wanted)
    if len(wanted) % length:
        return None
    grid = wanted.reshape(-1, length)
    start, stride = int(grid[0, 0]), int(grid[1, 0] - grid[0, 0]) if len(grid) > 1 else 0
    expected = start + stride * np.arange(len(grid))[:, None] + np.arange(length)
    if not np.array_equal(grid, expected) or (stride and (stride < 0 or start % stride + length > stride)):
        return None
    return Columns(start, length, len(grid), stride)


def without_repeats(columns: Tags) -> Tags | None:
    """[heads, depth] -> [kv heads, depth], each of which serves the same number of successive heads; None if uneven."""
    heads = len(columns)
    distinct = [i for i in range(heads) if i == 0 or not np.array_equal(columns[i], columns[i - 1])]
    kept = columns[distinct]
    if heads % len(kept) or not np.array_equal(np.repeat(kept, heads // len(kept), axis=0), columns):
        return None
    return kept


def as_three_axes(survey: Survey, rows: str, sources: tuple[str, ...], time_first: bool = False) -> str:
    """`rows` as [batch, sequence (or source), features]: rows of two axes are reshaped, those that have the time first
    turned."""
    shape = survey.editor.shape(rows)
    if time_first and shape is not None:
        batch, sequence = leading_axes(survey, rows)
        apart = _reshaped(survey, rows, (sequence, batch, shape[-1]), sources)
        value = survey.editor.value(apart)
        assert value is not None
        name = survey.editor.fresh(f"{rows}.turned")
        survey.editor.insert(TURN, (apart,), Value(name, value.dtype, (batch, sequence, shape[-1])), sources)
        survey.note(name)
        return name
    if shape is None or len(shape) != 2:
        return rows
    return as_rows(survey, rows, sources)


def as_rows(survey: Survey, rows: str, sources: tuple[str, ...]) -> str:
    """Rows in the order of sequences, in any grouping, as [batch, sequence (or source), features]."""
    width = (survey.editor.shape(rows) or (0,))[-1]
    wanted = (*leading_axes(survey, rows), width)
    return rows if survey.editor.shape(rows) == wanted else _reshaped(survey, rows, wanted, sources)


def turned_to(survey: Survey, rows: str, target: Value, sources: tuple[str, ...]) -> None:
    """Make `target`, rows of [sequence, batch, features] in any grouping, from [batch, sequence, features]."""
    editor = survey.editor
    batch, sequence = leading_axes(survey, rows)
    wanted: Shape = (sequence, batch, (editor.shape(rows) or (0,))[-1])
    name = target.name if target.shape == wanted else editor.fresh(f"{target.name}.turned")
    editor.insert(TURN, (rows,), Value(name, target.dtype, wanted), sources)
    survey.note(name)
    if target.shape != wanted:
        reshape_to(editor, name, target, sources)
        survey.note(target.name)


def leading_axes(survey: Survey, rows: str) -> Shape:
    """[batch, sequence] of rows, [batch, source] if they follow from the source: names, or numbers of the file."""
    inputs = survey.editor.inputs
    batch, sequence = lead_of(inputs) or (axis("batch"), axis("sequence"))
    return batch, source_of(inputs) if survey.of_source(rows) else sequence


def sequence_axis(survey: Survey, value: Value, rows: str) -> int | None:
    """Which of the axes 1 and 2 of a value made of `rows`, [batch, ., ., d] or [batch, sequence, features], counts
    tokens."""
    shape, wanted = value.shape, leading_axes(survey, rows)[1]
    if shape is None or len(shape) not in (3, 4):
        return None
    if shape[1] == wanted:
        return 1
    return 2 if len(shape) == 4 and shape[2] == wanted else None


def from_rows(
    survey: Survey, rows: str, heads: int, target: Value, sources: tuple[str, ...], repeat: int = 1
) -> None:
    """Make `target` ([batch, heads, sequence, d] or a plain reshape) from rows [batch, sequence, heads*d].

    With `repeat` each head is there so many times, in one of the two layouts of four axes.
    """
    if repeat > 1:
        _repeated_from_rows(survey, rows, heads, target, sources, repeat)
    elif sequence_axis(survey, target, rows) == 2:
        heads_to(survey, rows, heads, target, sources)
    else:
        reshape_to(survey.editor, rows, target, sources)
        survey.note(target.name)


def _repeated_from_rows(
    survey: Survey, rows: str, heads: int, target: Value, sources: tuple[str, ...], repeat: int
) -> None:
    editor, lead = survey.editor, leading_axes(survey, rows)
    width = (editor.shape(rows) or (0,))[-1]
    assert isinstance(width, int)
    depth = width // heads
    once = Value(editor.fresh(f"{target.name}.once"), target.dtype, (lead[0], heads, lead[1], depth))
    heads_to(survey, rows, heads, once, sources)
    apart = _reshaped(survey, once.name, (lead[0], heads, 1, lead[1], depth), sources)
    wide: Shape = (lead[0], heads, repeat, lead[1], depth)
    value = Value(editor.fresh(f"{target.name}.wide"), target.dtype, wide)
    sizes = editor.add_constant(f"{value.name}.shape", symbolic(wide, (5,)))
    editor.insert(Onnx("", "Expand", 18), (apart, sizes), value, sources)
    survey.note(value.name)
    if sequence_axis(survey, target, rows) == 2:
        reshape_to(editor, value.name, target, sources)
    else:
        joined = _reshaped(survey, value.name, (lead[0], heads * repeat, lead[1], depth), sources)
        editor.insert(TRANSPOSE_HEADS, (joined,), target, sources)
    survey.note(target.name)


def heads_to(survey: Survey, rows: str, heads: int, target: Value, sources: tuple[str, ...]) -> None:
    """Make `target`, heads of [batch, heads, sequence, d] in any grouping, from rows [batch, sequence, heads*d]."""
    editor = survey.editor
    lead = leading_axes(survey, rows)
    width = (editor.shape(rows) or (0,))[-1]
    depth = size_of((width,))
    assert isinstance(depth, int)
    split = _reshaped(survey, rows, (*lead, heads, depth // heads), sources)
    four: Shape = (lead[0], heads, lead[1], depth // heads)
    name = target.name if target.shape == four else editor.fresh(f"{target.name}.heads")
    node = editor.insert(TRANSPOSE_HEADS, (split,), Value(name, target.dtype, four), sources)
    survey.note(name)
    if target.shape != four:
        wanted = target.shape
        assert wanted is not None
        shape = editor.add_constant(f"{target.name}.shape", symbolic(wanted, (len(wanted),)))
        editor.insert(RESHAPE, (node.output.name, shape), target, sources)
        survey.note(target.name)


def _reshaped(survey: Survey, name: str, shape: Shape, sources: tuple[str, ...]) -> str:
    editor = survey.editor
    value = editor.value(name)
    assert value is not None
    made = Value(editor.fresh(f"{name}.{len(shape)}d"), value.dtype, shape)
    wanted = editor.add_constant(f"{made.name}.shape", symbolic(shape, (len(shape),)))
    editor.insert(RESHAPE, (name, wanted), made, sources)
    survey.note(made.name)
    return made.name
