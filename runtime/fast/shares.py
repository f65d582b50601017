"""The segments that tiles work on, as words of a state arena."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isa.scalars import source_count
from isa.segments import Segment

from .words import Words


def share_words(segments: Sequence[Segment], place: int) -> tuple[Words, int]:
    """Words that say which segments there are, to be put at `place`, and where the share's own row then lies.

    Tables of pages come first, then the segments, then the share.
    """
    ends: dict[tuple[int, bool], int] = {}
    for s in segments:
        ends[s.sequence, s.is_source] = max(ends.get((s.sequence, s.is_source), 0), s.position + s.tokens)
    pages = [page for s in segments for page in s.pages]
    rows, first = [], place
    for s in segments:
        facts = s.tokens, s.position, s.outputs, s.sequence, s.is_source, s.source
        rows += [*facts, ends[s.sequence, s.is_source], first, len(s.pages)]
        first += len(s.pages)
    share = [first, len(segments), source_count(segments)]
    return np.array([*pages, *rows, *share], np.int64), first + len(rows)
