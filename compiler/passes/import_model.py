"""Read the ONNX file."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.pipeline import Compilation, Pass


@dataclass(frozen=True)
class ImportModel(Pass):
    """Read the ONNX file into a graph of ONNX operators, weights left where they are.

    Of a merged decoder the graph for `branch` is read (see `passes.join_branches`).
    """

    branch: bool = False

    def run(self, c: Compilation) -> bool:
        """Sets `c.graph`."""
        # The reader is imported here so that commands which read no model do not pay for it.
        from compiler.frontend.importer import import_model

        dims = dict(c.options.dims)
        c.graph = import_model(
            c.model, shapes_only=c.options.shapes_only, dims=dims, branch=self.branch, bind=c.options.bind
        )
        return True
