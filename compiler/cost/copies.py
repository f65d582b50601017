"""Steps of a program that lies on the mesh in several copies: each works as if alone, and all share the host's link."""

from __future__ import annotations

from collections.abc import Sequence

from isa.hardware import Hardware
from isa.program import Stream
from isa.turns import row_cycles


def side_by_side(target: Hardware, streams: Sequence[Stream], cycles: float, rows: int, copies: int) -> float:
    """Cycles of a step with so many rows of outputs, in which the slowest of the copies at work takes `cycles`.

    The link needs the time of all rows. The copies' last rows come at about the same time and follow each other.
    """
    row = row_cycles(target, streams)
    return max(cycles + (copies - 1) * row, rows * row)
