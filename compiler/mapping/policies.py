"""Where the KV cache of a layer lies, and how many of its rows arrays keep.

A layer with a sliding window needs no row that lies further back than the window: its arrays keep a ring of rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compiler.ir.graph import Attention
from compiler.optimisations import Optimisation

from .sections import Domain

if TYPE_CHECKING:
    from .parts import Geometry

LONGEST_SEGMENT = 16
"""Tokens that a segment has at most: a ring has room for them beside the window."""


def skips(geometry: Geometry, op: Attention) -> bool:
    """Whether attention passes over the blocks that lie wholly before its window."""
    return bool(op.window) and not op.cross and geometry.does(Optimisation.SKIP_WINDOW)


def ring_rows(geometry: Geometry, op: Attention, rows_of: Domain) -> int:
    """Rows of the ring in which a sequence's keys and values lie; 0 if every position has a row of its own.

    A segment's first token sees `window` rows, its last one up to `LONGEST_SEGMENT` - 1 more; blocks are whole.
    Attention that sees later tokens has all rows appended before it looks at the first, so it has no ring.
    """
    if not skips(geometry, op) or not op.causal or not geometry.does(Optimisation.RING):
        return 0
    assert op.window is not None
    block = geometry.block(rows_of)
    rows = -(-(op.window + LONGEST_SEGMENT - 1) // block) * block
    fits = block % LONGEST_SEGMENT == 0  # a segment must not cross the end of the ring
    return rows if fits and rows < geometry.longest(rows_of) else 0


def kept_rows(geometry: Geometry, op: Attention, rows_of: Domain) -> int:
    """Rows of the KV arrays of a head, for all sequences."""
    ring = ring_rows(geometry, op, rows_of)
    return ring * geometry.limits.sequences if ring else geometry.kv_rows(rows_of)
