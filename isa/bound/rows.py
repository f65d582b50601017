"""The rows of a step, and how many of them each block surely works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from isa.program import Segment
from isa.workload import AttentionWork, Block


@dataclass(frozen=True, slots=True)
class Rows:
    """What goes through in a step: rows of the tokens or of the source.

    `context` is what the row that looks furthest looks at, `first` what the row that looks least far does, `shortest`
    what the last row of the shortest sequence looks at; `longest` are the rows of the longest sequence, `wanted` those
    whose outputs go to the host.
    """

    count: int
    context: int
    first: int
    shortest: int
    longest: int
    wanted: int
    segments: tuple[Segment, ...]

    def looked(self, attention: AttentionWork, wanted: bool) -> int:
        """Rows that all rows look at, added up; with `wanted`, all rows whose outputs are wanted."""
        chosen = [s for s in self.segments if s.outputs or s.is_source or not wanted]
        return sum(_looked(segment, attention) for segment in chosen)

    @property
    def sequences(self) -> int:
        """How many sequences they belong to."""
        return len({segment.sequence for segment in self.segments})


def _looked(segment: Segment, attention: AttentionWork) -> int:
    end = segment.position + segment.tokens
    if attention.cross and not segment.is_source:
        return segment.tokens * segment.source
    if not attention.causal:
        return segment.tokens * attention.seen(end)
    return sum(attention.seen(at + 1) for at in range(segment.position, end))


def rows_of(segments: Sequence[Segment], is_source: bool) -> Rows:
    """The rows of the tokens or of the source in a step."""
    own = tuple(segment for segment in segments if segment.is_source is is_source)
    by_sequence: dict[int, int] = {}
    ends: dict[int, int] = {}
    for segment in own:
        by_sequence[segment.sequence] = by_sequence.get(segment.sequence, 0) + segment.tokens
        ends[segment.sequence] = max(ends.get(segment.sequence, 0), segment.position + segment.tokens)
    wanted = [s for s in own if s.outputs or is_source]
    return Rows(
        sum(s.tokens for s in own),
        max((s.position + s.tokens for s in wanted or own), default=0),
        min((s.position + 1 for s in own), default=0),
        min(ends.values(), default=0),
        max(by_sequence.values(), default=0),
        sum(s.tokens for s in wanted),
        own,
    )


@dataclass(frozen=True, slots=True)
class Stretch:
    """A block that occurs `times` times, how many rows its operators on whole rows surely work on, and its sections."""

    block: Block
    rows: int
    section_rows: int
    times: int = 1

    @property
    def weights(self) -> int:
        """Weights on the chip, of one occurrence."""
        return sum(p.rows * p.cols for section in self.block.sections for p in section.on_chip)


def attends(block: Block) -> bool:
    """Whether its rows look at each other."""
    return any(s.attention is not None and not s.attention.cross for s in block.sections)


def stretches_of(blocks: list[Block], rows: Rows) -> list[Stretch]:
    """The blocks of a domain.

    From the last attention on only rows are needed whose outputs are wanted, but for its keys and values.
    """
    attending = [attends(block) for block in blocks]
    last = max((index for index, does in enumerate(attending) if does), default=0)
    found: dict[tuple[Block, int, int], int] = {}
    for index, block in enumerate(blocks):
        needed = rows.count if index < last else rows.wanted
        key = block, rows.count if index == last and attending[last] else needed, needed
        found[key] = found.get(key, 0) + 1
    return [Stretch(*key, times) for key, times in found.items()]
