"""What a chip makes of a real model, beside its peak: the decoder that ships, compiled for it and simulated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from compiler.driver import compile_model
from compiler.optimisations import Optimisation
from compiler.pipeline import CompileOptions
from isa.events import Bound
from isa.hardware import load_target
from isa.program import ArrayKind, segments_of
from runtime.fast import timer_of

MODEL = Path(__file__).parents[2] / "models" / "pytiny.onnx"
PROMPT = 128


@dataclass(frozen=True, slots=True)
class Stack:
    """A prompt of the model on a chip."""

    tops: float
    bound: Bound  # what most of the critical path is


def note(target: str, peak_tops: float) -> str:
    """What the decoder that ships makes of a chip, beside its peak; or that it does not fit."""
    found = stack(target)
    if found is None:
        return "the decoder that ships does not fit the arrays of one chip, so that nothing is compared with the peak"
    share = found.tops / peak_tops
    what = f"a prompt of {PROMPT} tokens of the decoder that ships (int8, mapped by rule)"
    return f"{what} comes to {found.tops:.3g} TOPS, {share:.1%} of the peak; {found.bound.value} binds"


@cache
def stack(target: str) -> Stack | None:
    """The decoder that ships, compiled for a target by the mapper's rules and simulated; None if weights do not stay in
    the chip's arrays."""
    options = CompileOptions(
        max_context=2 * PROMPT, shapes_only=True, prefill=PROMPT, without=frozenset([Optimisation.SEARCH])
    )
    program = compile_model(MODEL, options, load_target(target)).require_program()
    if program.hosts or any(a.kind is ArrayKind.STREAM for role in program.roles for a in role.arrays):
        return None
    step = segments_of(PROMPT, 0, program.limits.chunk)
    cost = timer_of(program, [step]).step(step)
    seconds = cost.cycles / program.target.clock.si
    return Stack(2 * cost.macs / seconds * 1e-12, max(cost.critical, key=lambda bound: cost.critical[bound]))
