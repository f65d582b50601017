"""Leave roundings of activations to the chip."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.expansion.quant_writing import supplant
from compiler.explain import Heading, Note
from compiler.ir.graph import FakeQuant
from compiler.ir.rewrite import Editor
from compiler.pipeline import Compilation, Pass


@dataclass(frozen=True)
class DropRoundings(Pass):
    """Take the roundings of activations that a quantised file asks for out of what is placed on the chip.

    Activations that enter an array are rounded there anyway, to int8 with a scale for each token, which is finer
    than one scale for all; elsewhere the chip computes in float32. Ideal arithmetic rounds nothing. The file's
    weights stay the integers that they are.
    """

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.graph`."""
        graph = c.require_graph()
        roundings = [node for node in graph.nodes if isinstance(node.op, FakeQuant)]
        if not roundings:
            return False
        editor = Editor(graph)
        for node in roundings:
            current = editor.producer(node.output.name)
            assert current is not None
            supplant(editor, current, current.inputs[0])
        c.graph = editor.finish()
        said = (
            f"Quantisation: {len(roundings)} roundings of activations are left to the chip, whose arrays take int8 "
            "with a scale for each token."
        )
        c.notes.append(Note(Heading.NEEDS, said))
        return True
