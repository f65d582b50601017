"""Prove the program before anyone runs it."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.pipeline import Compilation, Pass


@dataclass(frozen=True)
class VerifyProgram(Pass):
    """Run the verifier: ranges, initialisation, channels, deadlock, for all positions and lengths."""

    def run(self, c: Compilation) -> bool:
        """Raises `CimError` E04xx if the program could trap, E0310 if a tile has no room for its text."""
        from compiler.backend.room import check_code
        from isa.verifier import verify

        check_code(c.require_program(), c.model.name)
        verify(c.require_program(), name=c.model.name)
        return False
