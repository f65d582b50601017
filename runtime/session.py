"""A session: a program loaded, sequences that grow token by token, text generation.

The session is the host's side of the step function: it cuts tokens into segments, runs steps on an engine, and
keeps the list of steps so that their time and energy can be computed afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isa.diagnostics import fail
from isa.program import Direction, Program, Segment, segments_of

from . import numerics
from .engine.reference import Observer
from .hostside import HostSide
from .machine import Machine, check_segments

INPUT_IDS = "input_ids"
LOGITS = "logits"

Step = tuple[Segment, ...]
Logits = NDArray[np.float32]


class EngineKind(StrEnum):
    """The engines that compute values."""

    REFERENCE = "reference"


class Stopped(StrEnum):
    """Why a generation ended."""

    LENGTH = "length"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Generation:
    """What was generated: `tokens` without the prompt, the steps it took, and why it ended.

    A stop token, if one ended it, is the last of `tokens`.
    """

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    steps: tuple[Step, ...]
    stopped: Stopped


def is_decoder(program: Program) -> bool:
    """Whether the program takes tokens alone and gives one result, without the host's help."""
    inputs = [s.name for s in program.streams if s.direction is Direction.IN]
    outputs = [s.name for s in program.streams if s.direction is Direction.OUT]
    return inputs == [INPUT_IDS] and outputs == [LOGITS] and not program.hosts


def _not_a_decoder(program: Program) -> Exception:
    streams = {d: ", ".join(s.name for s in program.streams if s.direction is d) for d in Direction}
    names = f"{streams[Direction.IN] or 'nothing'} -> {streams[Direction.OUT] or 'nothing'}"
    return fail("E0601", f"the program is not a decoder of tokens: it computes {names}")


def _host_of(program: Program) -> HostSide | None:
    """The host's side of a decoder that needs one. Raises `CimError` E0601 if the program is no decoder."""
    if is_decoder(program):
        return None
    made = {INPUT_IDS, *(name for part in program.hosts for name in part.outputs)}
    inputs = {s.name for s in program.streams if s.direction is Direction.IN}
    if not program.hosts or not inputs <= made or len(program.results) != 1:
        raise _not_a_decoder(program)
    return HostSide(program)


class Session:
    """A decoder program ready to run, with its host partitions if it has some.

    `on_step(segments)` is called after each step; `observer` after each instruction (see runtime/engine).
    Raises `CimError` E0603 for a shapes-only program, E0601 for one that is not a decoder of tokens.
    """

    def __init__(
        self,
        program: Program,
        *,
        engine: EngineKind = EngineKind.REFERENCE,
        on_step: Callable[[Step], None] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._host = _host_of(program)
        self._result = LOGITS if self._host is None else program.results[0]
        columns = {s.name: s.columns for s in program.streams if s.direction is Direction.OUT}
        self.vocabulary = columns.get(self._result) or self._width()
        self.program = program
        self.engine = engine
        self.steps: list[Step] = []
        self._on_step = on_step
        self._machine = Machine(program, observer=observer)
        self._positions = [0] * program.limits.sequences

    # ---------------------------------------------------------------------------------------------------- steps

    def position(self, sequence: int = 0) -> int:
        """How many tokens of a sequence have gone through."""
        return self._positions[sequence]

    def run(self, segments: Sequence[Segment], tokens: Sequence[int]) -> Logits:
        """One step: `tokens` are those of all segments in order; logits of the rows asked for, [rows, vocabulary].

        This is how several sequences share a step. That positions follow on one another is the caller's care.
        Raises `CimError` E0601 or E0602 if the segments or tokens do not fit.
        """
        step = tuple(segments)
        ids = self._checked_ids(tokens)
        logits = self._through(step, ids)
        for segment in step:
            self._positions[segment.sequence] = segment.position + segment.tokens
        self.steps.append(step)
        if self._on_step is not None:
            self._on_step(step)
        return logits

    def _width(self) -> int:
        assert self._host is not None
        return self._host.width(self._result)

    def _through(self, step: Step, ids: NDArray[np.int32]) -> Logits:
        """Host, chip, host: the logits of the rows asked for."""
        if self._host is None:
            logits: Logits = self._machine.step(step, {INPUT_IDS: ids})[LOGITS]
            return logits
        check_segments(self.program.limits, step)
        made = {INPUT_IDS: ids, **self._host.rows(step, ids)}
        wanted = [s.name for s in self.program.streams if s.direction is Direction.IN]
        rows = self._machine.step(step, {name: made[name] for name in wanted})
        return np.asarray(self._host.results(rows)[self._result], np.float32)

    def step(
        self, tokens: Sequence[int], position: int | None = None, *, sequence: int = 0, last_only: bool = True
    ) -> Logits:
        """Append tokens to a sequence: the logits of the last one [1, vocabulary], or of all.

        `position` is where the first goes: the end of the sequence if not given, or an earlier place, from which
        the sequence is then rewritten. Long inputs take several steps. Raises `CimError` E0601, E0602.
        """
        start = self._start(position, sequence)
        ids = self._checked_ids(tokens)
        if not ids.size:
            raise fail("E0601", "a step needs at least one token", help="give a prompt that is not empty")
        self._check_room(start + len(ids))
        segments = segments_of(
            len(ids), start, self.program.limits.chunk, last_only=last_only, sequence=sequence
        )
        rows, taken, at_most = [], 0, self.program.limits.segments
        for first in range(0, len(segments), at_most):
            some = segments[first : first + at_most]
            count = sum(segment.tokens for segment in some)
            rows.append(self.run(some, ids[taken : taken + count].tolist()))
            taken += count
        return np.concatenate(rows)

    def prefill(self, prompt: Sequence[int], *, sequence: int = 0) -> Logits:
        """Begin a sequence with a prompt: the logits of its last token, [1, vocabulary]."""
        self.reset(sequence)
        return self.step(prompt, sequence=sequence)

    def reset(self, sequence: int | None = None) -> None:
        """Forget a sequence, or all.

        Nothing needs to be erased: a new sequence overwrites the rows of the KV arrays that it can see.
        """
        for number in range(len(self._positions)) if sequence is None else (sequence,):
            self._positions[number] = 0

    def _start(self, position: int | None, sequence: int) -> int:
        if not 0 <= sequence < len(self._positions):
            raise fail("E0601", f"there is no sequence {sequence}; the program has {len(self._positions)}")
        end = self._positions[sequence]
        if position is not None and not 0 <= position <= end:
            raise fail("E0601", f"position {position} leaves a gap: the sequence has {end} tokens")
        return end if position is None else position

    def _check_room(self, tokens: int) -> None:
        most = self.program.limits.max_context
        if tokens > most:
            raise fail(
                "E0602",
                f"{tokens} tokens are needed, the program's maximum context is {most}",
                help=f"compile with --max-context {tokens} or more, or shorten the input",
            )

    def _checked_ids(self, tokens: Sequence[int]) -> NDArray[np.int32]:
        ids = np.asarray(tokens, np.int64).reshape(-1)
        wrong = ids[(ids < 0) | (ids >= self.vocabulary)]
        if wrong.size:
            raise fail("E0601", f"token {wrong[0]} is not in the vocabulary of {self.vocabulary}")
        return ids.astype(np.int32)

    # ---------------------------------------------------------------------------------------------- whole texts

    def score(self, ids: Sequence[int], *, sequence: int = 0) -> Logits:
        """The logits after each token of a new sequence, teacher-forced: [len(ids), vocabulary]."""
        self.reset(sequence)
        return self.step(ids, sequence=sequence, last_only=False)

    def generate(
        self,
        prompt: Sequence[int],
        max_new_tokens: int,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        stop: Collection[int] = (),
        on_token: Callable[[int], None] | None = None,
        sequence: int = 0,
    ) -> Generation:
        """Continue a prompt in a new sequence.

        Temperature 0 takes the likeliest token (the first of equals); otherwise tokens are drawn from
        softmax(logits / temperature) with a generator seeded by `seed`. Ends after `max_new_tokens`, or after a
        token of `stop`. Raises `CimError` E0602 beforehand if the context cannot hold it all.
        """
        if max_new_tokens < 1 or temperature < 0:
            raise fail("E0601", "at least one new token and a temperature of at least 0 are needed")
        self._check_room(len(prompt) + max_new_tokens - 1)  # the last token is not fed back
        rng = np.random.default_rng(seed)
        before, tokens = len(self.steps), list[int]()
        logits = self.prefill(prompt, sequence=sequence)
        while True:
            token = choose(logits[-1], temperature, rng)
            tokens.append(token)
            if on_token is not None:
                on_token(token)
            if token in stop or len(tokens) == max_new_tokens:
                break
            logits = self.step([token], sequence=sequence)
        stopped = Stopped.STOP if tokens[-1] in stop else Stopped.LENGTH
        return Generation(tuple(prompt), tuple(tokens), tuple(self.steps[before:]), stopped)


def choose(logits: Logits, temperature: float, rng: np.random.Generator) -> int:
    """The next token: the likeliest at temperature 0, else drawn from softmax(logits / temperature)."""
    if temperature == 0:
        return int(np.argmax(logits))
    with numerics.quiet():
        scaled = logits * np.float32(1 / temperature)
        weights = numerics.exp(scaled - scaled.max()).astype(np.float64)
    return min(
        int(np.searchsorted(np.cumsum(weights), rng.random() * weights.sum(), side="right")), logits.size - 1
    )


# -------------------------------------------------------------------------------------------- inputs from files


def _input_ids(inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """`input_ids` as [batch, tokens]. Raises `CimError` E0601 if the inputs are anything else."""
    if set(inputs) != {INPUT_IDS}:
        raise fail(
            "E0601",
            f"the program takes the input {INPUT_IDS!r}, given are {sorted(inputs)}",
            help="masks, positions and the cache are the program's own business: leave them out",
        )
    ids = np.asarray(inputs[INPUT_IDS])
    if ids.dtype.kind not in "iu" or ids.ndim not in (1, 2) or not ids.size:
        raise fail(
            "E0601", f"{INPUT_IDS} is {ids.dtype} {list(ids.shape)}; integers [tokens] or [batch, tokens] fit"
        )
    return ids.astype(np.int64)


def run_inputs(session: Session, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Logits]:
    """Whole sequences through a session: `input_ids` [tokens] or [batch, tokens] give `logits` of every token.

    The sequences of a batch run one after another. Raises `CimError` E0601, E0602.
    """
    ids = _input_ids(inputs)
    if ids.ndim == 1:
        return {LOGITS: session.score(ids.tolist())}
    return {LOGITS: np.stack([session.score(row.tolist()) for row in ids])}
