"""Who has which pages of the KV arrays: the allocator of sequences that share them, and the check of steps.

A program with `Limits.pages` keeps the keys and values of all sequences' tokens in pages of `page_rows` rows; all its
KV arrays of tokens have the same pages, so one table a sequence serves all layers and heads. Where heads are dealt over
W arrays, page b of sequence s is one of array (s xor b) mod W; each array has its own pages. So short sequences spread
over all of them, and the parts of each sequence are added up in pairs as those of any other.

Of a program without pages each sequence has its own rows, as many as the longest takes, or fewer where arrays keep only
the last ones: for the figures here that is one large page each.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from isa.diagnostics import fail
from isa.interface import KvPolicy
from isa.program import Limits, Program, Segment

Pages = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class KvUse:
    """How full the KV arrays are: `pages_used` of `pages` belong to sequences, which have `tokens` tokens in all."""

    pages: int
    page_rows: int
    pages_used: int
    tokens: int

    @property
    def capacity(self) -> int:
        """Tokens that there is room for."""
        return self.pages * self.page_rows

    @property
    def allocated(self) -> int:
        """Rows of the pages that belong to sequences."""
        return self.pages_used * self.page_rows

    @property
    def fragmentation(self) -> float:
        """The part of the allocated rows that is empty; 0 if none is allocated."""
        return 1 - self.tokens / self.allocated if self.allocated else 0.0


class PagePool:
    """The allocator: gives sequences pages as they grow, and takes them back when they end.

    Of the free pages the first are given, so that equal requests in equal order get equal pages. `peak` is the state in
    which most pages belonged to sequences. Without pages, arrays keep at most `kept` rows a sequence (0: all).
    """

    def __init__(self, limits: Limits, kept: int = 0) -> None:
        self.is_paged = limits.pages > 0
        self._most = limits.max_context if self.is_paged or not kept else kept
        self.limits = limits if self.is_paged else _one_page_each(limits, self._most)
        self._free = [list(range(self.limits.pages)) for _ in range(self.limits.page_ways)]
        self._tables: dict[int, Pages] = {}
        self._tokens: dict[int, int] = {}
        self.peak = self.use

    @property
    def free(self) -> int:
        """How many pages belong to no sequence."""
        return sum(map(len, self._free))

    @property
    def use(self) -> KvUse:
        """How full the arrays are now."""
        used = sum(map(len, self._tables.values()))
        return KvUse(self.free + used, self.limits.page_rows, used, sum(self._tokens.values()))

    def table(self, sequence: int) -> Pages:
        """The pages of a sequence, in the order of its tokens."""
        return self._tables.get(sequence, ())

    def missing(self, tokens: Mapping[int, int]) -> list[tuple[int, int]]:
        """The pages that sequences (the keys) lack for so many tokens each: sequence, and way of the page."""
        limits = self.limits
        return [
            (sequence, limits.way(sequence, index))
            for sequence, count in tokens.items()
            for index in range(len(self.table(sequence)), limits.pages_for(min(count, self._most)))
        ]

    def has_room(self, tokens: Mapping[int, int]) -> bool:
        """Whether there are pages for sequences (the keys) to have so many tokens each."""
        wanted = Counter(way for _, way in self.missing(tokens))
        return all(count <= len(self._free[way]) for way, count in wanted.items())

    def grow(self, tokens: Mapping[int, int]) -> None:
        """Give sequences (the keys) pages for so many tokens each; all of them or none.

        Raises `CimError` E0607 if there are not enough.
        """
        missing = self.missing(tokens)
        if not self.has_room(tokens):
            raise self._full(tokens, len(missing))
        for sequence, way in missing:
            self._tables[sequence] = (*self.table(sequence), heapq.heappop(self._free[way]))
        self._tokens |= {sequence: min(count, self._most) for sequence, count in tokens.items()}
        self.peak = max(self.peak, self.use, key=lambda use: (use.pages_used, use.tokens))

    def release(self, sequence: int) -> None:
        """A sequence has ended: its pages are free."""
        for index, page in enumerate(self._tables.pop(sequence, ())):
            heapq.heappush(self._free[self.limits.way(sequence, index)], page)
        self._tokens.pop(sequence, None)

    def placed(self, segments: Iterable[Segment]) -> list[Segment]:
        """Segments of tokens with the pages of their sequences, which grow as they need.

        Raises `CimError` E0607 if there are not enough.
        """
        listed, ends = list(segments), dict(self._tokens)
        for segment in listed:
            before = ends.get(segment.sequence, 0)
            ends[segment.sequence] = max(before, segment.position + segment.tokens)
        self.grow({segment.sequence: ends[segment.sequence] for segment in listed})
        if not self.is_paged:
            return listed
        return [replace(segment, pages=self.table(segment.sequence)) for segment in listed]

    def _full(self, tokens: Mapping[int, int], missing: int) -> Exception:
        use, rows = self.use, self.limits.page_rows
        names = ", ".join(f"{sequence} ({count:,} tokens)" for sequence, count in tokens.items())
        message = (
            f"the KV cache is full: {use.pages} pages of {rows} rows, {self.free} free; "
            f"{missing} more are needed for sequence {names}"
        )
        if missing <= self.free:
            message += f", and not all of the free ones lie where they belong ({self.limits.page_ways} ways)"
        wanted = max(use.pages_used + missing, use.pages + 1) * rows
        way_out = f"end a sequence (`reset`), or compile with --kv-tokens {wanted} or more"
        return fail("E0607", message, help=way_out)


def _one_page_each(limits: Limits, rows: int) -> Limits:
    """As if the rows that each sequence has of its own were one page."""
    return replace(limits, pages=limits.sequences, page_rows=rows, page_ways=1)


def kept_rows(program: Program) -> int:
    """Rows of a sequence's tokens that arrays keep from step to step, in the layers where these are most; 0 if none."""
    most = program.limits.max_context
    caches = (c for c in program.caches if not c.cross and c.policy is not KvPolicy.STREAMED)
    return max((min(cache.ring or most, most) for cache in caches), default=0)


def with_pages(limits: Limits, segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """The segments of a step with pages that are given out for it alone, if the program has pages.

    That is all that the simulation of time needs. Raises `CimError` E0607 if there are not enough.
    """
    if not limits.pages:
        return tuple(segments)
    tokens = iter(PagePool(limits).placed(s for s in segments if not s.is_source))
    return tuple(segment if segment.is_source else next(tokens) for segment in segments)


def step_tables(segments: Iterable[Segment]) -> dict[int, Pages]:
    """The pages of each sequence that has tokens in a step, as its first segment says."""
    tables: dict[int, Pages] = {}
    for segment in segments:
        if not segment.is_source:
            tables.setdefault(segment.sequence, segment.pages)
    return tables


def check_pages(limits: Limits, segments: Sequence[Segment]) -> None:
    """Raise `CimError` E0608 unless the segments' pages are there, enough, and no two sequences'.

    A program without pages takes segments without.
    """
    tables = step_tables(segments)
    owners: dict[tuple[int, int], tuple[int, int]] = {}  # way and page -> sequence and number there
    for segment in segments:
        if segment.pages and (segment.is_source or not limits.pages):
            what = "is of a source" if segment.is_source else "has pages"
            raise fail(
                "E0608", f"a segment {what}, and the program has no pages for it", help="leave pages out"
            )
        if not segment.is_source and segment.pages != tables[segment.sequence]:
            raise fail("E0608", f"segments of sequence {segment.sequence} have different pages")
    if not limits.pages:
        return
    for sequence, table in tables.items():
        end = max(s.position + s.tokens for s in segments if s.sequence == sequence and not s.is_source)
        if len(table) < limits.pages_for(end):
            message = f"sequence {sequence} has {len(table)} pages; {end} tokens take {limits.pages_for(end)}"
            raise fail("E0608", message, help="PagePool.placed, or with_pages, gives segments their pages")
        for index, page in enumerate(table):
            if not 0 <= page < limits.pages:
                raise fail("E0608", f"sequence {sequence} has page {page}; there are {limits.pages}")
            other = owners.setdefault((limits.way(sequence, index), page), (sequence, index))
            if other != (sequence, index):
                raise fail("E0608", f"page {page} is given out twice: to sequence {other[0]} and {sequence}")


class PageTables:
    """What a machine remembers of steps: which pages hold rows of which sequences.

    What the verifier leaves to the host is checked here: a sequence that goes on still has the pages with its rows.
    Pages that a step gives to another sequence are lost to the one that had them.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._tables: dict[int, Pages] = {}

    def table(self, sequence: int) -> Pages:
        """The pages of a sequence that hold its rows."""
        return self._tables.get(sequence, ())

    def take(self, segments: Sequence[Segment]) -> None:
        """Check the pages of a step against those before, and remember them. Raises `CimError` E0608."""
        if not self._limits.pages:
            return
        tables = step_tables(segments)
        for sequence, table in tables.items():
            start = min(s.position for s in segments if s.sequence == sequence and not s.is_source)
            kept = self._limits.pages_for(start)
            if table[:kept] != self.table(sequence)[:kept]:
                message = (
                    f"sequence {sequence} goes on at position {start} with pages {list(table[:kept])}; "
                    f"its rows lie in {list(self.table(sequence)[:kept])}"
                )
                way_out = "a sequence keeps its pages from step to step, and begins at position 0"
                raise fail("E0608", message, help=way_out)
        for sequence, table in tables.items():
            self.give(sequence, table)

    def give(self, sequence: int, pages: Pages) -> None:
        """A sequence has these pages now."""
        taken = set(self._places(sequence, pages))
        for other, table in self._tables.items():
            kept = [place not in taken for place in self._places(other, table)]
            if other != sequence and not all(kept):
                self._tables[other] = table[: kept.index(False)]
        self._tables[sequence] = pages

    def parts(self, sequence: int, tokens: int) -> Iterator[tuple[int, int, slice]]:
        """Where the first tokens of a sequence lie: way, first row there, which tokens. Raises `CimError` E0608."""
        limits, table = self._limits, self.table(sequence)
        if len(table) < limits.pages_for(tokens):
            message = (
                f"sequence {sequence} has {len(table)} pages; {tokens} tokens take {limits.pages_for(tokens)}"
            )
            raise fail("E0608", message, help="give it pages (`Machine.pages.give`) before its first tokens")
        for index, start in enumerate(range(0, tokens, limits.page_rows)):
            rows = slice(start, min(start + limits.page_rows, tokens))
            yield limits.way(sequence, index), table[index] * limits.page_rows, rows

    def _places(self, sequence: int, pages: Pages) -> list[tuple[int, int]]:
        return [(self._limits.way(sequence, index), page) for index, page in enumerate(pages)]
