"""Say in the program what work the model asks for, whatever the mapping."""

from __future__ import annotations

from dataclasses import dataclass, replace

from compiler.pipeline import Compilation, Pass


@dataclass(frozen=True)
class AttachWorkload(Pass):
    """Let the program carry what the model has to do, from which the least time of a step follows (docs/bound.md)."""

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.program`."""
        from compiler.ir.mapping import Arithmetic
        from compiler.mapping.options import arithmetic_of, weight_bits
        from compiler.workload import workload_of

        weights = c.options.weights
        is_ideal = arithmetic_of(weights) is not Arithmetic.INT8
        work = workload_of(c.require_graph(), weight_bits(weights), is_ideal, c.chip)
        c.program = replace(c.require_program(), workload=work)
        return True
