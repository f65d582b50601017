"""How long cells last that are written while a program runs, on targets whose cells wear out.

A row of keys or values is written once while a sequence runs through its whole context, and again by the next
sequence; weights that are streamed are written anew in each step. Wear is taken to be even over the cells of a kind.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from .interface import KvPolicy
from .program import ArrayKind, Program


@dataclass(frozen=True, slots=True)
class Wear:
    """What is written, into which cells, how many writes these survive, and how often a token writes each of them."""

    what: str
    cell: str
    endurance: float
    writes_per_token: float

    def lifetime_s(self, token_s: float) -> float:
        """Seconds of decoding until the cells are worn out, if a token of each sequence takes `token_s`."""
        return self.endurance * token_s / self.writes_per_token


def wear(program: Program) -> tuple[Wear, ...]:
    """What wears out while a program decodes; nothing if its target's cells do not."""
    macro = program.target.written
    if macro.endurance is None:
        return ()
    cell, endurance = macro.cell.value, macro.endurance.si
    tiles = Counter(tile.role for tile in program.tiles)
    sizes = {kind: 0 for kind in ArrayKind}
    for role in program.roles:
        for array in role.arrays:
            sizes[array.kind] += tiles[role.name] * array.rows * array.cols
    found = []
    if any(cache.policy is not KvPolicy.STREAMED for cache in program.caches):
        rows = min((c.ring or program.limits.max_context for c in program.caches), default=1)
        found.append(Wear("keys and values", cell, endurance, 1 / max(rows, 1)))
    if sizes[ArrayKind.STREAM]:
        passing = program.workload.weights - sizes[ArrayKind.WEIGHT]
        found.append(Wear("streamed weights", cell, endurance, max(passing / sizes[ArrayKind.STREAM], 1.0)))
    return tuple(found)
