"""Rows by position, read off as a table: whatever slices, ranges, sines or parameters they are made of."""

from __future__ import annotations

import numpy as np

from compiler.ir.evaluate import UnavailableError
from compiler.ir.rewrite import Editor
from compiler.ir.tensor import Array
from compiler.ops.call import KernelError
from compiler.recognition.regions import Lengths

SHORTEST = 8
"""A table has at least so many rows."""


def read_table(lengths: Lengths, editor: Editor, name: str, width: int, most: int) -> Array | None:
    """[positions, width]: the rows that the control value `name` has, row p for the token at position p.

    As many as there are (a slice of a parameter ends), or `most` where they are computed and never end. None if the
    value has no row for each token, or if the rows are not those of the positions at every length.
    """
    ends = {extent for shape in _shapes(editor, name) for extent in shape}
    sizes = sorted((n for n in {most, *ends} if n >= SHORTEST), reverse=True)
    table = next((rows for n in sizes if (rows := _rows(lengths, name, width, n)) is not None), None)
    if table is None:
        return None
    for step, past in ((5, 0), (3, 4), (1, 6)):
        before = past if lengths.has_past() else 0
        rows = _rows(lengths, name, width, step, before)
        if rows is None or not np.array_equal(rows, table[before : before + step]):
            return None
    return table


def _rows(lengths: Lengths, name: str, width: int, step: int, past: int = 0) -> Array | None:
    """The rows of a step; None if there are not so many."""
    try:
        probe = lengths.at(step, past)
        value = probe.value(name)
    except (UnavailableError, KernelError, ValueError, IndexError, TypeError):
        return None
    if value.shape[-1:] != (width,) or value.size != step * width or lengths.of(probe)[0] != step:
        return None
    return value.reshape(step, width)


def _shapes(editor: Editor, name: str) -> list[tuple[int, ...]]:
    """The shapes of the constants that a value is made of."""
    todo, seen, found = [name], {name}, list[tuple[int, ...]]()
    while todo and len(seen) < 1000:
        top = todo.pop()
        constant = editor.constant(top)
        if constant is not None:
            found.append(constant.shape)
        node = editor.producer(top)
        fresh = [i for i in (node.inputs if node is not None else ()) if i and i not in seen]
        seen.update(fresh)
        todo += fresh
    return found
