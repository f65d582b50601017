"""Say what a program came to, and why."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.pipeline import Compilation, Pass


@dataclass(frozen=True)
class ExplainProgram(Pass):
    """Write what `--explain` says of needs, places, what binds, how full the target is, and what would help."""

    def run(self, c: Compilation) -> bool:
        """Appends to `c.notes`, if an explanation was asked for."""
        if c.options.explain and c.require_program().tiles:
            from compiler.explain.program import explanation

            c.notes[:0] = explanation(c.require_chip(), c.require_mapping(), c.require_program())
        return False
