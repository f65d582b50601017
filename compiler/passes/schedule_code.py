"""Reorder role texts so that units work side by side."""

from __future__ import annotations

from dataclasses import dataclass, replace

from compiler.pipeline import Compilation, Pass


@dataclass(frozen=True)
class ScheduleCode(Pass):
    """List-schedule every straight piece of every role."""

    def run(self, c: Compilation) -> bool:
        """Replaces `c.program`."""
        from compiler.backend.schedule import schedule
        from compiler.optimisations import Optimisation

        if not c.options.does(Optimisation.SCHEDULE):
            return False
        program = c.require_program()
        roles = tuple(schedule(role, program.target) for role in program.roles)
        c.program = replace(program, roles=roles)
        return roles != program.roles
