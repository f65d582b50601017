"""Steps as lists of segments: which of them a program can take, and which belong to a stream."""

from __future__ import annotations

from collections.abc import Sequence

from isa.diagnostics import fail
from isa.program import Direction, Limits, Program, Segment, Stream
from isa.scalars import source_count

from .paging import check_pages


def carried(stream: Stream, segments: Sequence[Segment]) -> list[Segment]:
    """The segments for which a stream carries a message each: a source stream those of the source."""
    return [segment for segment in segments if segment.is_source is stream.source]


def rows_in(stream: Stream, segment: Segment) -> int:
    """How many rows a stream's message for a segment has: of what the host gets of tokens, those that are wanted, or
    `every` one."""
    only_wanted = stream.direction is Direction.OUT and not (stream.source or stream.every)
    return segment.outputs if only_wanted else segment.tokens


def source_channels(program: Program) -> frozenset[int]:
    """The channels on which the host exchanges rows of sources."""
    return frozenset(part.channel for stream in program.streams if stream.source for part in stream.parts)


def rows_of(segments: Sequence[Segment]) -> tuple[int, int]:
    """How many tokens, and how many source rows, go through in a step."""
    tokens = sum(segment.tokens for segment in segments)
    sources = sum(segment.tokens for segment in segments if segment.is_source)
    return tokens - sources, sources


def label(segments: Sequence[Segment], current: int) -> str:
    """What `segments[current]` is called: `segment 3`, `source segment 0`; numbers are those of `seg` and `sseg`."""
    sources = source_count(segments)
    return f"source segment {current}" if current < sources else f"segment {current - sources}"


def source_segments_of(rows: int, chunk: int, *, position: int = 0, sequence: int = 0) -> tuple[Segment, ...]:
    """Cut `rows` rows of the source of a sequence into segments that do not cross multiples of `chunk`."""
    end = position + rows
    starts = [position, *range((position // chunk + 1) * chunk, end, chunk)] if rows else []
    stops = [*starts[1:], end]
    return tuple(
        Segment(stop - start, start, 0, sequence, is_source=True, source=end)
        for start, stop in zip(starts, stops, strict=False)
    )


def check_segments(limits: Limits, segments: Sequence[Segment]) -> None:
    """Raise `CimError` E0601, E0602 or E0608 unless a program of these limits can take the segments as one step."""
    sources = source_count(segments)
    _check_counts(limits, len(segments) - sources, sources)
    ends = _source_ends(segments[:sources])
    for current, segment in enumerate(segments):
        if segment.is_source and current > sources:
            raise fail("E0601", f"segment {current} is of the source; source segments come before the others")
        name = label(segments, current)
        problem = _problem(limits, segment) or _source_problem(segment, ends)
        if problem:
            raise fail("E0601", f"{name} {problem}")
        _check_length(limits, segment, name)
    check_pages(limits, segments)


def check_step(program: Program, segments: Sequence[Segment]) -> None:
    """Raise `CimError` E0601, E0602 or E0608 unless the program can take the segments as one step."""
    check_segments(program.step_limits, segments)
    takes = any(stream.source and stream.direction is Direction.IN for stream in program.streams)
    if segments[0].is_source and not takes:
        raise fail("E0601", "the step has source segments, but no input of the program has rows of a source")


def _check_counts(limits: Limits, tokens: int, sources: int) -> None:
    if not 1 <= tokens <= limits.segments:
        raise fail("E0601", f"a step has 1..{limits.segments} segments, not {tokens}")
    if sources > limits.segments:
        raise fail("E0601", f"a step has at most {limits.segments} source segments, not {sources}")
    if sources and not limits.max_source:
        raise fail("E0601", "the step has source segments, but the program looks at no source")


def _source_ends(sources: Sequence[Segment]) -> dict[int, int]:
    """Rows that the sources of this step's sequences have after it."""
    ends: dict[int, int] = {}
    for segment in sources:
        ends[segment.sequence] = max(ends.get(segment.sequence, 0), segment.position + segment.tokens)
    return ends


def _problem(limits: Limits, segment: Segment) -> str | None:
    first, tokens = segment.position, segment.tokens
    if not 1 <= tokens <= limits.chunk:
        return f"has {tokens} tokens; a segment has 1..{limits.chunk}"
    if first < 0 or first // limits.chunk != (first + tokens - 1) // limits.chunk:
        return f"crosses a multiple of {limits.chunk} (positions {first}..{first + tokens - 1})"
    if not 0 <= segment.sequence < limits.sequences:
        return f"is of sequence {segment.sequence}; there are {limits.sequences}"
    if segment.is_source and segment.outputs:
        return f"asks for {segment.outputs} rows of output; source rows have none"
    if segment.outputs not in (0, tokens):
        return f"asks for {segment.outputs} rows of output; it is 0 or {tokens}"
    return None


def _source_problem(segment: Segment, ends: dict[int, int]) -> str | None:
    if segment.is_source:
        return None
    if segment.source < 0:
        return f"looks at {segment.source} source rows"
    end = ends.get(segment.sequence, segment.source)
    if segment.source != end:
        return f"looks at {segment.source} source rows; with this step its sequence has {end}"
    return None


def _check_length(limits: Limits, segment: Segment, name: str) -> None:
    end = segment.position + segment.tokens
    source = end if segment.is_source else segment.source
    if source > limits.max_source:
        raise fail(
            "E0602",
            f"{name} has {source} source rows, the program's maximum is {limits.max_source}",
            help="compile with a larger --max-source, or give a shorter source",
        )
    if end > limits.max_context and not segment.is_source:
        raise fail(
            "E0602",
            f"{name} ends at position {end}, the program's maximum context is {limits.max_context}",
            help="compile with a larger --max-context, or begin a new sequence",
        )
