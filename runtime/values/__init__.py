"""The fast engine of values: what the reference (`runtime.engine`, `runtime.semantics`) computes, to the bit, compiled.

numba is imported when a program is run, not with this package.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isa.program import Program

__all__ = ["FEW", "EngineKind", "is_large"]

FEW = 5_000  # segments x tiles that the reference runs, in seconds, before loops could be compiled
_LARGE = 8_000_000  # weights of a program that the reference would take seconds to load, and for each step


class EngineKind(StrEnum):
    """The engines that compute values; they agree."""

    AUTO = "auto"
    FAST = "fast"
    REFERENCE = "reference"


def is_large(program: Program) -> bool:
    """Whether a program is for the fast engine from its first step on."""
    arrays = {role.name: sum(a.rows * a.cols for a in role.arrays) for role in program.roles}
    return sum(arrays[tile.role] for tile in program.tiles) >= _LARGE
