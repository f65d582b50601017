"""Read the ONNX file."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.ir.graph import op_name
from compiler.pipeline import Compilation, Pass


@dataclass(frozen=True)
class ImportModel(Pass):
    """Read the ONNX file into a graph of ONNX operators, weights left where they are.

    Of a merged decoder the graph for `branch` is read (see `passes.join_branches`).
    """

    branch: bool = False

    def run(self, c: Compilation) -> bool:
        """Sets `c.graph`, `c.border` and `c.operators`."""
        # The reader is imported here so that commands which read no model do not pay for it.
        from compiler.frontend.importer import import_file

        dims = dict(c.options.dims)
        c.graph, c.border = import_file(
            c.model, shapes_only=c.options.shapes_only, dims=dims, branch=self.branch, bind=c.options.bind
        )
        c.operators = {source: op_name(node.op) for node in c.graph.nodes for source in node.sources}
        return True
