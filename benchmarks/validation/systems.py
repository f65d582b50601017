"""System rows: decoders compiled with `--place host` and simulated, prompt and tokens.

The same compiler and simulator that put a model on a chip leave all of it to the host, whose time is a roofline for
each operator with the cache of the step's position (docs/host.md).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from compiler.driver import compile_model
from compiler.pipeline import CompileOptions
from isa.hardware import load_target
from isa.program import Program, segments_of
from models.make import make
from runtime.fast import timer_of
from runtime.hostwork import with_hosts

from .rows import Figure, HostSubject

APART = 128
"""Tokens between simulated ones; those between are interpolated: what an operator takes is a line in the position."""


@cache
def program_of(target: str, model: str, context: int) -> Program:
    """A decoder in float16, all of it on the target's host."""
    options = CompileOptions(max_context=context, place="host", shapes_only=True)
    with tempfile.TemporaryDirectory(prefix="cim-") as folder:
        path = Path(folder) / f"{model}.onnx"
        make(model, path, shapes_only=True, half=True, positions=context)
        return compile_model(path, options, load_target(target)).require_program()


def _seconds(program: Program, tokens: int, position: int) -> float:
    """The time of a step."""
    step = segments_of(tokens, position, program.limits.chunk)
    cost = with_hosts(program, step, timer_of(program, [step]).step(step))
    return cost.cycles / program.target.clock.si


def _samples(first: int, last: int) -> Iterator[int]:
    yield from range(first, last, APART)
    yield last


def decode_seconds(program: Program, first: int, count: int) -> float:
    """The time of `count` tokens, one a step, the first at position `first`."""
    last = first + count - 1
    places = list(_samples(first, last))
    times = [_seconds(program, 1, at) for at in places]
    total = times[0]
    for at in range(1, len(places)):
        steps = places[at] - places[at - 1]
        rise = (times[at] - times[at - 1]) / steps
        total += times[at - 1] * steps + rise * steps * (steps + 1) / 2
    return total


def predict(subject: HostSubject, figure: Figure) -> tuple[float, tuple[str, ...]]:
    """A figure of a prompt and tokens after it, and what else was found. The prompt's step gives the first token."""
    program = program_of(subject.target, subject.model, subject.prompt + subject.tokens)
    prompt = _seconds(program, subject.prompt, 0)
    decode = decode_seconds(program, subject.prompt, subject.tokens - 1)
    each = decode / (subject.tokens - 1)
    notes = (f"{prompt * 1e3:,.4g} ms for the prompt, {each * 1e3:,.4g} ms a token after it",)
    if figure is Figure.TOKENS_PER_SECOND:
        return 1.0 / each, notes
    return (prompt + decode) * (1e3 if figure is Figure.MILLISECONDS else 1.0), notes
