"""The steps that stand for a program, wherever one number has to."""

from __future__ import annotations

from dataclasses import replace

from isa.program import Limits, Program, Segment, segments_of


def standard_steps(program: Program) -> tuple[tuple[str, tuple[Segment, ...]], ...]:
    """The steps that stand for a program: a token at the full context, and a segment of tokens there; for an encoder, a
    whole sequence. Every sequence takes part.
    """
    limits, longest = program.step_limits, program.limits.max_context
    attended = [s.attention for s in program.workload.sections() if s.attention is not None]
    if any(not a.causal and not a.cross for a in attended):
        steps = {f"a sequence of {longest:,} tokens": (longest, 0)}
    else:
        start = (longest - 1) // limits.chunk * limits.chunk
        steps = {"a token": (1, longest - 1), f"{longest - start} tokens": (longest - start, start)}
    return tuple((name, _step(limits, *step)) for name, step in steps.items())


def _step(limits: Limits, tokens: int, position: int) -> tuple[Segment, ...]:
    """So many tokens of every sequence, each with all rows of a source."""
    one_by_one = (
        segments_of(tokens, position, limits.chunk, last_only=tokens == 1, sequence=sequence)
        for sequence in range(limits.sequences)
    )
    return tuple(replace(s, source=limits.max_source) for cut in one_by_one for s in cut)
