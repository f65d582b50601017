"""What is mapped onto what: all that the mapper is given but its options."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.ir.graph import Graph
from compiler.ir.mapping import Arithmetic
from isa.hardware import Hardware
from isa.program import Limits


@dataclass(frozen=True, slots=True)
class Problem:
    """A canonical graph, a target, limits, what arrays compute with; `chunk` is the longest segment that is asked for
    (None: as the mapper finds best), `prefill` the tokens of a sequence in the prompts that mappings are compared by
    (None: as many as the search takes)."""

    graph: Graph
    hardware: Hardware
    limits: Limits
    arithmetic: Arithmetic
    chunk: int | None = None
    prefill: int | None = None
