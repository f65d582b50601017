"""Norms of hub values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compiler.ir.graph import Linear, Node, Norm
from compiler.ir.mapping import Arithmetic, Format, Normalise, NormQuantise, Rows
from isa.operands import WORD_BYTES
from isa.program import Reduce

from .sharing import exchange

if TYPE_CHECKING:
    from .hub import StageBuilder


def norm(stage: StageBuilder, node: Node, rows: Rows) -> None:
    """Normalise a row on a stage's tiles; what only arrays read is quantised in the same go."""
    op = node.op
    assert isinstance(op, Norm)
    if _is_joined(stage, node, op):
        _norm_quantise(stage, node, op, rows)
        return
    x = stage.bring(node.inputs[0])
    out = stage.out(node, rows)
    width = sum(cols for _, cols in stage.slots) // op.groups
    to, back = exchange(stage.builder, stage.tiles, out, Reduce.SUM) if op.groups == 1 else ("", "")
    for tile, (col, cols) in zip(stage.tiles, stage.slots, strict=True):
        groups = 1 if op.groups == 1 else cols // width  # whole groups on each tile: see `slot_width`
        size, at = cols // groups, col if op.groups == 1 else 0
        gain = tile.constant(f"{out}_gain", size, stage.weights.row(node.inputs[1], width, at))
        shift = ""
        if len(node.inputs) > 2 and node.inputs[2]:
            shift = tile.constant(f"{out}_shift", size, stage.weights.row(node.inputs[2], width, at))
        block = Normalise(out, x, op.kind, op.eps, width, gain, shift, to, back, groups)
        tile.add(block, "norm", [node])


def _is_joined(stage: StageBuilder, node: Node, op: Norm) -> bool:
    """Whether a norm is read by linear layers alone as they are sent it: then a shift can be part of their biases."""
    name = node.output.name
    readers = stage.consumers.get(name, [])
    reads = [read for read in stage.reads if read.name == name]
    return (
        stage.sizes.joins_norms
        and stage.builder.arithmetic is Arithmetic.INT8
        and op.groups == 1
        and all(cols % WORD_BYTES == 0 for _, cols in stage.slots)
        and name not in stage.sizes.carried.union(stage.graph.outputs)
        and all(isinstance(n.op, Linear) and n.inputs[0] == name for n in readers)
        and bool(reads)
        and all(read.is_whole and not read.is_late for read in reads)
    )


def _norm_quantise(stage: StageBuilder, node: Node, op: Norm, rows: Rows) -> None:
    x, name = stage.bring(node.inputs[0]), f"x{len(stage.local)}q"
    stage.local[node.output.name] = name
    width = sum(cols for _, cols in stage.slots)
    is_folded = stage.sizes.folds_gains and stage.weights.fold(
        node.inputs[1], stage.consumers[node.output.name]
    )
    to, back = exchange(stage.builder, stage.tiles, name, Reduce.SUM)
    peak, top = exchange(stage.builder, stage.tiles, f"{name}_peak", Reduce.MAX)
    for tile, (col, cols) in zip(stage.tiles, stage.slots, strict=True):
        tile.value(name, Format.Q8, cols, rows)
        gain = ""
        if not is_folded:
            gain = tile.constant(f"{name}_gain", cols, stage.weights.row(node.inputs[1], width, col))
        block = NormQuantise(name, x, op.kind, op.eps, width, gain, to, back, peak, top)
        tile.add(block, "norm", [node])
    if len(node.inputs) > 2 and node.inputs[2]:
        stage.weights.shift(node.output.name, node.inputs[2])
    stage.quantised[node.output.name] = stage.shards(name)
