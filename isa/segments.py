"""Segments: what a step is a list of, and who works on which of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive tokens of one sequence: `tokens` of them from `position` on; `outputs` is 0 or `tokens`.

    A source segment (`is_source`) has rows of another sequence, which the tokens of `sequence` look at through
    cross-attention; a step takes its source segments before the others. `source` is how many rows of it the sequence
    has after this step: those of this step's source segments, or those that an earlier step has written.
    Where sequences share KV arrays, `pages` says which pages the sequence's tokens lie in, in their order.
    """

    tokens: int
    position: int
    outputs: int
    sequence: int = 0
    is_source: bool = False
    source: int = 0
    pages: tuple[int, ...] = ()


def segments_of(
    tokens: int, position: int, chunk: int, *, last_only: bool = True, sequence: int = 0
) -> tuple[Segment, ...]:
    """Cut `tokens` tokens at `position` into segments that do not cross multiples of `chunk`.

    With `last_only`, logits are asked for the last token alone, which then is a segment of its own.
    """
    cuts: list[Segment] = []
    end = position + tokens
    body_end = end - 1 if last_only else end
    at = position
    while at < body_end:
        stop = min(body_end, (at // chunk + 1) * chunk)
        cuts.append(Segment(stop - at, at, 0 if last_only else stop - at, sequence))
        at = stop
    if last_only and tokens:
        cuts.append(Segment(1, end - 1, 1, sequence))
    return tuple(cuts)


def replica_of(sequence: int, replicas: int) -> tuple[int, int]:
    """Which of so many replicas a sequence belongs to, and its number there."""
    number, replica = divmod(sequence, replicas)
    return replica, number


def dealt(segments: Sequence[Segment], replicas: int) -> tuple[tuple[Segment, ...], ...]:
    """The segments of each replica, in the order of the step, their sequences numbered as the replica does it."""
    if replicas == 1:
        return (tuple(segments),)
    shares: tuple[list[Segment], ...] = tuple([] for _ in range(replicas))
    for segment in segments:
        replica, number = replica_of(segment.sequence, replicas)
        shares[replica].append(replace(segment, sequence=number))
    return tuple(map(tuple, shares))
