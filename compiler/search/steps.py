"""The steps by which choices are judged: a token of each sequence at the full context, and a prefill there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from compiler.ir.graph import Attention, Graph
from isa.program import Limits, Segment, segments_of

PREFILL = 128
"""Tokens of a prefill."""

SAMPLES = 6, 12
"""Segments of the prefills that are predicted: more tokens take longer by what the segments between them take."""


@dataclass(frozen=True, slots=True)
class Prefill:
    """Steps of growing length that stand for one of `tokens` tokens (or that step alone), and a step of one segment."""

    samples: tuple[tuple[Segment, ...], ...]
    first: tuple[Segment, ...]
    tokens: int

    def extrapolated(self, cycles: Sequence[float]) -> float:
        """Cycles of the step, from those of the samples."""
        if len(self.samples) == 1:
            return float(cycles[0]) * max(self.tokens / _tokens(self.samples[0]), 1)
        (less, more), (few, many) = cycles, map(_tokens, self.samples)
        return more + (self.tokens - many) * (more - less) / (many - few)


@dataclass(frozen=True, slots=True)
class Standard:
    """What a choice is judged by. Without `decode` it is the prefill alone."""

    decode: tuple[Segment, ...]
    prefill: Prefill


def steps_of(graph: Graph, limits: Limits) -> Standard:
    """A token of each sequence at the full context, and the last tokens of a context; for a graph with attention that
    sees later tokens, the first tokens of a sequence."""
    tokens = min(PREFILL, limits.max_context)
    attentions = [node.op for node in graph.nodes if isinstance(node.op, Attention)]
    if any(not op.causal and not op.cross for op in attentions):
        return Standard((), _prefill(limits, tokens, 0))
    last = limits.max_context - 1
    each = (segments_of(1, last, limits.chunk, sequence=q) for q in range(limits.sequences))
    decode = tuple(_with_source(limits, s) for cut in each for s in cut)
    return Standard(decode, _prefill(limits, tokens, limits.max_context - tokens))


def _prefill(limits: Limits, tokens: int, position: int) -> Prefill:
    """A step of so many tokens of one sequence, as far as a step can be so long."""
    chunk = limits.chunk
    most = min(tokens, max(limits.segments - 1, 1) * chunk)  # the last token is a segment of its own
    few, many = (samples * chunk for samples in SAMPLES)
    lengths = (few, many) if many < most else (most,)
    cut = [tuple(_with_source(limits, s) for s in segments_of(n, position, chunk)) for n in lengths]
    return Prefill(tuple(cut), cut[0][:1], tokens)


def _with_source(limits: Limits, segment: Segment) -> Segment:
    return replace(segment, source=limits.max_source)


def _tokens(segments: Sequence[Segment]) -> int:
    return sum(segment.tokens for segment in segments)
