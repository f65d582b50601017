"""Verify each level after the pass that made it: what the pipeline's callback does besides what a person asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compiler.pipeline import Callback, Compilation, Moment, Pass

if TYPE_CHECKING:
    from compiler.ir.graph import Graph
    from compiler.ir.mapping import Mapping


class VerifyEach:
    """A callback that verifies the graph and the mapping whenever a pass has replaced them, then calls `inner`.

    Raises `CimError` E0205 (graph) or E0410 (mapping). Programs are verified by the pass `VerifyProgram`.
    """

    def __init__(self, inner: Callback | None = None) -> None:
        self._inner = inner
        self._graph: Graph | None = None
        self._chip: Graph | None = None
        self._mapping: Mapping | None = None

    def __call__(self, moment: Moment, step: Pass, c: Compilation) -> None:
        if moment is Moment.AFTER:
            self._verify(c)
        if self._inner is not None:
            self._inner(moment, step, c)

    def _verify(self, c: Compilation) -> None:
        from compiler.ir.graph_verify import verify_graph
        from compiler.ir.mapping_verify import verify_mapping

        if c.graph is not None and c.graph is not self._graph:
            verify_graph(c.graph)
            self._graph = c.graph
        if c.chip is not None and c.chip is not self._chip:
            verify_graph(c.chip)
            self._chip = c.chip
        if c.mapping is not None and c.mapping is not self._mapping:
            verify_mapping(c.mapping)
            self._mapping = c.mapping
