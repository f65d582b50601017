"""The steps by which choices are judged: a token of each sequence at the full context, and a prefill there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from compiler.ir.graph import Attention, Graph
from isa.program import Limits, Segment, segments_of
from isa.turns import in_turns

PREFILL, WHOLE = 64, 128
"""Tokens of a sequence in a prefill, if nobody says (of many the pace alone would count, and not how soon the first of
them are through all layers), and of one that attention sees as a whole."""

SAMPLES = 8, 24
"""Segments of the prefills that are predicted: more tokens take longer by what the segments between them take. Not of
sequences one after another: what the host gets of the first ones paces the others."""


@dataclass(frozen=True, slots=True)
class Prefill:
    """A step of `tokens` tokens, steps of growing length that stand for it (or that step alone), and a step of one
    segment."""

    whole: tuple[Segment, ...]
    samples: tuple[tuple[Segment, ...], ...]
    first: tuple[Segment, ...]
    tokens: int

    def extrapolated(self, cycles: Sequence[float]) -> float:
        """Cycles of the step, from those of the samples."""
        if len(self.samples) == 1:
            return float(cycles[0])
        (less, more), (few, many) = cycles, map(_tokens, self.samples)
        return more + (self.tokens - many) * (more - less) / (many - few)


@dataclass(frozen=True, slots=True)
class Standard:
    """What a choice is judged by. Without `decode` it is the prefill alone."""

    decode: tuple[Segment, ...]
    prefill: Prefill


def steps_of(graph: Graph, limits: Limits, turns: int = 1, prefill: int | None = None) -> Standard:
    """A token of each sequence at the full context, and a prefill, `turns` sequences at a time: `prefill` tokens that
    begin a sequence, or, if it is not said how many, the last ones of its context; for a graph with attention that sees
    later tokens, the first tokens of a sequence alone."""
    sequences = range(limits.sequences)
    attentions = [node.op for node in graph.nodes if isinstance(node.op, Attention)]
    if any(not op.causal and not op.cross for op in attentions):
        whole = min(prefill or WHOLE, limits.max_context)
        return Standard((), _prefill(_segments(limits, whole, 0, range(1))))
    decode = _segments(limits, 1, limits.max_context - 1, sequences)
    return Standard(decode, _prefill(_segments(limits, *prompt_of(limits, prefill), sequences, turns)))


def prompt_of(limits: Limits, prefill: int | None, usual: int = PREFILL) -> tuple[int, int]:
    """Tokens of a prompt, and where the first is: what is asked for begins a sequence, the `usual` ones end it."""
    if prefill:
        return min(prefill, limits.max_context), 0
    tokens = min(usual, limits.max_context)
    return tokens, limits.max_context - tokens


def _segments(
    limits: Limits, tokens: int, position: int, sequences: range, turns: int = 1
) -> tuple[Segment, ...]:
    """So many tokens of each sequence, as far as a step can have so many segments."""
    each = [segments_of(tokens, position, limits.chunk, sequence=q) for q in sequences]
    cut = [replace(s, source=limits.max_source) for s in in_turns(each, turns)]
    return tuple(cut[: limits.segments])


def _prefill(whole: tuple[Segment, ...]) -> Prefill:
    """A step, by its last segments if it has many of one sequence, the last of which has the outputs; by its first ones
    if it has those of several."""
    few, many = SAMPLES
    alone = len({segment.sequence for segment in whole}) == 1
    samples = (whole[-few:], whole[-many:]) if alone else (whole[:few], whole[:many])
    return Prefill(whole, samples if many < len(whole) else (whole,), whole[:1], _tokens(whole))


def _tokens(segments: Sequence[Segment]) -> int:
    return sum(segment.tokens for segment in segments)
