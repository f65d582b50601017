"""What is worth saying of how a graph was cut, for `--explain`."""

from __future__ import annotations

from compiler.explain import Heading, Note
from compiler.ir.graph import Attention, Graph
from isa.program import Limits

from .sections import Domain, Layout


def notes_on(graph: Graph, layout: Layout, limits: Limits) -> list[Note]:
    """Notes on the source's rows, cross-attention, biases, and attention without linear layers."""
    notes: list[str] = []
    cross = [s for s in layout.sections if s.attention is not None and _op(s.attention.op).cross]
    stages = [s for s in layout.stages if s.domain is Domain.SOURCE]
    if stages:
        own = sum(s.domain is Domain.SOURCE for s in layout.sections)
        notes.append(
            f"source: {len(stages)} hub stage(s) and {own} section(s) work on rows of the source, up to "
            f"{limits.max_source:,}, in passes of their own before the tokens'"
        )
    told = [name for stage in stages for name in stage.outputs]
    told += [s.output for s in layout.sections if s.domain is Domain.SOURCE and s.is_result]
    if told:
        notes.append(
            f"source: its rows are an output ({', '.join(told)}), of the step that brings the source"
        )
    computed = sum(s.lanes[1] is not None for s in cross)
    if computed:
        notes.append(
            f"cross-attention: keys and values of {computed} layer(s) are written once, in the source's pass"
        )
    if len(cross) > computed:
        notes.append(
            f"cross-attention: keys and values of {len(cross) - computed} layer(s) come from outside, up to "
            f"{limits.max_source:,} rows: the model never computes them"
        )
    bare = [s for s in layout.sections if any(lane is not None and lane.linear is None for lane in s.lanes)]
    if bare:
        notes.append(
            f"attention: {len(bare)} layer(s) take heads as float32 columns, with no linear layer before them"
        )
    biased = sum(
        len(s.inner[0].inputs) > 3 and bool(s.inner[0].inputs[3]) for s in layout.sections if s.lanes
    )
    if biased:
        notes.append(
            f"attention: {biased} layer(s) add a bias by distance to their scores, from a table on each tile"
        )
    return [Note(Heading.PLACES, text) for text in notes]


def _op(op: object) -> Attention:
    assert isinstance(op, Attention)
    return op
