"""What hub tiles of a folded mapping stream: rows of sections' last layers, in a tile's columns."""

from __future__ import annotations

from isa.program import ArrayKind, ArraySpec

from .folded import Job, pieces_in_order
from .pieces import Patch, Piece
from .sections import Section


def last_arrays(job: Job, section: Section, cols: int) -> tuple[ArraySpec, ...]:
    """The arrays of a last layer: one for each head of a round, or one for the round's columns."""
    if section.lanes:
        rows, count = job.heads(section).out_columns, job.sizes.cores
    else:
        rows, count = job.sizes.front * job.sizes.columns, 1
    return tuple(ArraySpec(f"last{rows}_{i}", ArrayKind.STREAM, rows, cols, job.dtype) for i in range(count))


def last_turns(job: Job) -> list[tuple[int, int]]:
    """Rounds of each section, and bytes of a hub tile's piece."""
    width = job.sizes.width
    return [(job.rounds(s[0]), Piece(last_arrays(job, s[0], width), ()).bytes) for s in job.sections]


def last_pieces(job: Job, col: int) -> list[Piece]:
    """The pieces of the hub tile whose first column is `col`, in the order of their use."""
    body = [
        [_piece(job, section, turn, col) for section in sections for turn in range(job.rounds(sections[0]))]
        for sections in job.sections
    ]
    return list(pieces_in_order(job, body, []))


def _piece(job: Job, section: Section, turn: int, col: int) -> Piece:
    """The rows of the last layer that belong to a round, in a tile's columns; rows beyond the layer's are zeros."""
    specs, last = last_arrays(job, section, job.sizes.width), section.last
    assert last is not None
    patches: list[tuple[Patch, ...]] = []
    for index, spec in enumerate(specs):
        row = (turn * len(specs) + index) * spec.rows
        rows = min(spec.rows, job.parts.weights.shape(last)[0] - row)
        patches.append((Patch(last, (row, rows), (col, job.sizes.width)),) if rows > 0 else ())
    return Piece(specs, tuple(patches))
