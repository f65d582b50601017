"""What each instruction means: one short function each, found by the instruction's type.

    @semantics(Mvm)
    def _(tile: TileState, i: Mvm) -> None: ...

The functions say what is computed; they know nothing of time. `MEANINGS` holds all of them; a test sees to it
that no instruction of the table is without.
"""

from __future__ import annotations

from . import cim, memory, network, scalar, softmax, vector
from .registry import MEANINGS, Meaning, meaning_of, semantics

__all__ = [
    "MEANINGS",
    "Meaning",
    "cim",
    "meaning_of",
    "memory",
    "network",
    "scalar",
    "semantics",
    "softmax",
    "vector",
]
