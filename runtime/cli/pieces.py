"""Steps without values, from what the command line says: so many tokens at a position, of each sequence."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from runtime.arguments import natural, positive

if TYPE_CHECKING:
    from isa.program import Program, Segment

Piece = tuple[int, int]  # tokens, position


def pieces(text: str) -> tuple[Piece, ...]:
    """`32@0,1@500`: tokens and position of each sequence."""
    found = []
    for piece in text.split(","):
        tokens, at, position = piece.partition("@")
        if not at:
            raise argparse.ArgumentTypeError(f"{piece!r} is not TOKENS@POSITION")
        found.append((positive(tokens), natural(position)))
    return tuple(found)


def timing_step(program: Program, given: Sequence[Piece], source: int | None = None) -> tuple[Segment, ...]:
    """The segments of a step; with rows of the source (default: all) for sequences that begin.

    Raises `CimError` E0601, E0602 or E0607 if the program cannot take it.
    """
    from isa.diagnostics import fail
    from isa.program import Direction, segments_of
    from runtime.paging import with_pages
    from runtime.segments import check_segments, source_segments_of

    limits = program.step_limits
    rows = limits.max_source if source is None else source
    if rows and not limits.max_source:
        raise fail("E0601", "the program looks at no source", help="leave --source out")
    fed = any(stream.source and stream.direction is Direction.IN for stream in program.streams)
    front: list[Segment] = []
    step: list[Segment] = []
    for sequence, (tokens, position) in enumerate(given):
        if fed and not position:
            front += source_segments_of(rows, limits.chunk, sequence=sequence)
        cuts = segments_of(tokens, position, limits.chunk, sequence=sequence)
        step += (replace(segment, source=rows) for segment in cuts)
    check_segments(replace(limits, pages=0), [*front, *step])
    return with_pages(limits, [*front, *step])
