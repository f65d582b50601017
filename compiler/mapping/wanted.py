"""Which rows have to go through: behind the last keys and values that tokens leave for later ones, only those whose
outputs are wanted. A segment's rows are wanted all or none, so a tile there has either work or none."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.ir.graph import Embed, Graph, Role
from compiler.ir.hosted import every_row, parts_within
from compiler.ir.mapping import Rows

from .sections import Domain, Layout, Section, Stage


@dataclass(frozen=True, slots=True)
class Wanted:
    """`depth` is that of the last sections whose keys and values come of tokens; None if all rows are needed
    everywhere."""

    depth: int | None = None

    def of_stage(self, stage: Stage) -> Rows:
        """The rows that a stage works on."""
        return self._rows(stage.domain, stage.depth - 1)

    def of_section(self, section: Section) -> Rows:
        """The rows that a section works on, but for its keys and values."""
        return self._rows(section.domain, section.depth)

    def _rows(self, domain: Domain, depth: int) -> Rows:
        is_behind = self.depth is not None and depth >= self.depth
        return Rows.OUTPUTS if is_behind and domain is Domain.TOKENS else Rows.TOKENS


def wanted_of(graph: Graph, layout: Layout) -> Wanted:
    """From where on only wanted rows are needed. All are where the host goes on from rows that are not wanted, where
    rows see later ones, and where values come in behind the last attention."""
    own = [section for section in layout.sections if section.domain is Domain.TOKENS]
    depths = [section.depth for section in own if _keeps(section)]
    if not depths or every_row(graph) or parts_within(graph) or not all(s.is_causal for s in layout.sections):
        return Wanted()
    last, given = max(depths), {i.name for i in graph.inputs if i.role is not Role.POSITIONS}
    behind = [s for s in layout.stages if s.domain is Domain.TOKENS and s.depth > last]
    nodes = [node for stage in behind for node in stage.nodes]
    brings = any(isinstance(node.op, Embed) or given.intersection(node.inputs) for node in nodes)
    return Wanted() if brings else Wanted(last)


def _keeps(section: Section) -> bool:
    """Whether later tokens look at keys and values that it makes of tokens."""
    return any(lane is not None and lane.domain is Domain.TOKENS for lane in section.lanes[1:])
