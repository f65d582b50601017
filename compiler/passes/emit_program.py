"""Turn the mapping into a program."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.pipeline import Compilation, Pass


@dataclass(frozen=True)
class EmitProgram(Pass):
    """Allocate buffers and registers, and write every template's text: one role for all tiles that share it."""

    def run(self, c: Compilation) -> bool:
        """Sets `c.program`."""
        from compiler.backend.build import build_program
        from compiler.backend.origin import origin_of
        from compiler.optimisations import Optimisation

        c.program = build_program(
            c.require_mapping(),
            c.require_target(),
            origin_of(c),
            shapes_only=c.options.shapes_only,
            double=c.options.does(Optimisation.DOUBLE_BUFFER),
        )
        return True
