"""Which segments of a long step are run, to tell how long all take.

Of many sequences with equal segments the first ones are run; the others follow at the pace of the later half of these.
Of one sequence, segments at even distances are run, its last among them: they see as many rows on average, and the same
end. Twice as many of them tell what one more takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from isa.program import Segment

Step = tuple[Segment, ...]

LONG = 96
"""Segments of a step, from which on not all are run."""

THIN = 24
"""Segments of one sequence that are run, and twice as many."""

SEQUENCES = 16
"""Sequences that are run, or half of them if that is less: the first ones are not yet at the pace of many."""


def runs_of(segments: Sequence[Segment], least: int = LONG) -> list[Step]:
    """The segments by sequence, of a step that need not be run as a whole; nothing for others: those with fewer than
    `least` segments, with rows of a source, or sequences of different kinds."""
    if len(segments) < least or any(segment.is_source for segment in segments):
        return []
    runs = [tuple(run) for _, run in groupby(segments, key=lambda segment: segment.sequence)]
    forms = {tuple(replace(s, sequence=0, pages=()) for s in run) for run in runs}
    is_equal = len(forms) == 1 and len({run[0].sequence for run in runs}) == len(runs)
    return runs if is_equal else []


def thinned(run: Step, size: int) -> Step:
    """So many of a sequence's segments at even distances, the last among them."""
    return tuple(run[(n + 1) * len(run) // size - 1] for n in range(size))


def first_of(runs: Sequence[Step]) -> int:
    """How many of the sequences are run: an even number."""
    return min(len(runs) // 2, SEQUENCES) // 2 * 2
