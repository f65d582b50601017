"""Find the shapes of masks and positions that no rule gives, by computing them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from compiler.ir.dims import Extent, Shape, axis, resolve, size_of
from compiler.ir.evaluate import Interpreter, UnavailableError
from compiler.ir.graph import Node, Onnx
from compiler.ir.rewrite import Editor
from compiler.ops.call import KernelError
from compiler.passes.fold_constants import FoldConstants
from compiler.pipeline import Compilation, Pass
from compiler.recognition.regions import Prober, Survey, is_onnx

_SIZES = ((3, 2, 2, 11), (5, 3, 1, 9), (4, 6, 3, 13), (7, 0, 1, 6))
"""Lengths of the step, of the past, of the batch and of the source, of which no two go together."""

LIMIT = 4
"""How often shapes are inferred anew: what was measured may lead to what must be measured next."""


@dataclass(frozen=True)
class MeasureShapes(Pass):
    """Compute masks, biases and positions of unknown shape at a few sizes, and read off how long their axes are.

    bias[:, max(0, 64 - n):]                  has n columns, as long as the table reaches
    """

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.graph`."""
        changed = False
        for _ in range(LIMIT):
            editor = Editor(c.require_graph())
            if not _measured(editor):
                break
            c.graph = editor.finish()
            FoldConstants().run(c)
            changed = True
        return changed


def _measured(editor: Editor) -> bool:
    """Give shapes to the first control values that have none; whether there were any that could be measured."""
    unknown = [
        n for n in editor.nodes() if isinstance(n.op, Onnx) and any(v.shape is None for v in n.outputs)
    ]
    if not unknown:
        return False
    survey = Survey(editor)
    prober = Prober(survey)
    found = False
    for node in unknown:
        if not all(_is_known(editor, i) for i in node.inputs):
            continue
        if not any(survey.is_data(i) for i in node.inputs):
            shapes = [_shape(prober, v.name) for v in node.outputs]
        elif is_onnx(node, "Reshape") and not survey.is_data(node.inputs[1]):
            shapes = [_target(editor, prober, node)]
        else:
            continue
        editor.retype(node, zip((v.dtype for v in node.outputs), shapes, strict=True))
        found = found or None not in shapes
    return found


def _is_known(editor: Editor, name: str) -> bool:
    return not name or editor.shape(name) is not None


def _shape(prober: Prober, name: str) -> Shape | None:
    """The shape of a control value as a function of the sizes; None if it is none that is known here."""
    return _fitted(prober, lambda probe: probe.value(name).shape)


def _target(editor: Editor, prober: Prober, node: Node) -> Shape | None:
    """The shape that rows are given by a Reshape whose sizes no rule follows: it has as many elements as they have."""
    data = editor.shape(node.inputs[0])
    wanted = _fitted(prober, lambda probe: tuple(int(n) for n in probe.value(node.inputs[1]).reshape(-1)))
    return wanted if wanted and data and size_of(wanted) == size_of(data) else None


def _fitted(prober: Prober, read: Callable[[Interpreter], tuple[int, ...]]) -> Shape | None:
    """Numbers that are read at several sizes as functions of the sizes; None if they are none that are known."""
    probes = [prober.at(*sizes) for sizes in _SIZES]
    try:
        found = [read(probe) for probe in probes]
    except (UnavailableError, KernelError, ValueError, IndexError, TypeError):
        return None
    if len({len(numbers) for numbers in found}) != 1:
        return None
    extents = [_extent(probes, numbers) for numbers in zip(*found, strict=True)]
    return tuple(e for e in extents if e is not None) if None not in extents else None


def _extent(probes: list[Interpreter], numbers: tuple[int, ...]) -> Extent | None:
    """What is these numbers at these probes."""
    if len(set(numbers)) == 1:
        return numbers[0]
    past, sequence = axis("past"), axis("sequence")
    for extent in (sequence, past + sequence, past, axis("batch"), axis("source")):
        sizes = [resolve(extent, probe.sizes) for probe in probes]
        factor = numbers[0] // sizes[0] if sizes[0] else 0
        if factor and all(n == factor * size for n, size in zip(numbers, sizes, strict=True)):
            return extent * factor
    return None
