"""Continuous batching: requests of different lengths share the steps of a program, and its KV arrays.

A request waits until a sequence of the program is free and the KV arrays have room for all that it may become. Then
its prompt goes through, some tokens a step, beside the single tokens of requests that are further; when it has ended,
its sequence and its pages are free for the next. What a request gives does not depend on who shares its steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from isa.diagnostics import fail
from isa.program import Segment, segments_of
from isa.turns import in_turns, turns_of

from .paging import KvUse
from .session import Generation, Session, Step, Stopped, choose

PREFILL_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt to be continued by up to `max_new_tokens` tokens, from step `arrival` on.

    The other fields are those of `Session.generate`.
    """

    prompt: tuple[int, ...]
    max_new_tokens: int
    arrival: int = 0
    temperature: float = 0.0
    seed: int = 0
    stop: frozenset[int] = frozenset()

    @property
    def most(self) -> int:
        """Tokens that go through at most; the last one is not fed back."""
        return len(self.prompt) + self.max_new_tokens - 1


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of requests: a generation each, in their order; all steps, and how full KV arrays were in each."""

    generations: tuple[Generation, ...]
    steps: tuple[Step, ...]
    uses: tuple[KvUse, ...]


@dataclass(slots=True, eq=False)
class _Running:
    """A request that has a sequence: how many tokens have gone through, what has come out, the steps it was in."""

    number: int
    request: Request
    sequence: int
    rng: np.random.Generator
    at: int = 0
    tokens: list[int] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def next_tokens(self, most: int) -> tuple[int, ...]:
        """What goes through next: up to `most` tokens of the prompt, or the token that has come out last."""
        prompt = self.request.prompt
        return prompt[self.at : self.at + most] if self.at < len(prompt) else (self.tokens[-1],)

    def segments(self, count: int, chunk: int) -> tuple[Segment, ...]:
        """The segments of the next `count` tokens; logits are asked for behind the prompt's last and each later one."""
        is_whole = self.at + count >= len(self.request.prompt)
        cuts = segments_of(count, self.at, chunk, last_only=is_whole, sequence=self.sequence)
        return cuts if is_whole else tuple(replace(cut, outputs=0) for cut in cuts)

    @property
    def stopped(self) -> Stopped | None:
        """Why it has ended; None if it goes on."""
        if self.tokens and self.tokens[-1] in self.request.stop:
            return Stopped.STOP
        return Stopped.LENGTH if len(self.tokens) == self.request.max_new_tokens else None


@dataclass(frozen=True, slots=True)
class _Cut:
    """A segment of a request that runs, and its tokens."""

    running: _Running
    segment: Segment
    tokens: tuple[int, ...]


class Batcher:
    """Runs requests on a session, which is its own while it runs.

    `prefill_tokens`: tokens of prompts that go through in a step at most, of all requests together; fewer make steps
    shorter, and so the tokens of the others come sooner. `on_token(request, token)` is called for each token that
    comes out.
    """

    def __init__(
        self,
        session: Session,
        *,
        prefill_tokens: int = PREFILL_TOKENS,
        on_token: Callable[[int, int], None] | None = None,
    ) -> None:
        self.session, self.prefill_tokens = session, prefill_tokens
        self._on_token = on_token
        self._waiting: list[tuple[int, Request]] = []
        self._running: list[_Running] = []

    def run(self, requests: Sequence[Request]) -> Batch:
        """All requests to their ends. Raises `CimError` E0601 or E0602 beforehand if one cannot be served at all."""
        for request in requests:
            self._check(request)
        session = self.session
        session.reset()
        before, step = len(session.steps), 0
        self._waiting = sorted(enumerate(requests), key=lambda item: (item[1].arrival, item[0]))
        ended: dict[int, Generation] = {}
        while self._waiting or self._running:
            self._admit(step)
            if self._running:
                ended |= self._step()
            step += 1
        generations = tuple(ended[number] for number in range(len(requests)))
        return Batch(generations, tuple(session.steps[before:]), tuple(session.uses[before:]))

    def _check(self, request: Request) -> None:
        if not request.prompt or request.max_new_tokens < 1 or request.temperature < 0:
            raise fail(
                "E0601", "a request takes a prompt, a new token or more, and a temperature of at least 0"
            )
        self.session.check_room(request.most)

    def _admit(self, step: int) -> None:
        """Give those who wait sequences, in the order of arrival, as long as all have room for what they may become."""
        sequences = set(range(self.session.program.step_limits.sequences)) - {
            r.sequence for r in self._running
        }
        while self._waiting and sequences and self._waiting[0][1].arrival <= step:
            number, request = self._waiting[0]
            may_become = {r.sequence: r.request.most for r in self._running}
            fitting = [
                s for s in sorted(sequences) if self.session.pool.has_room(may_become | {s: request.most})
            ]
            if not fitting:
                return
            sequences.remove(fitting[0])
            rng = np.random.default_rng(request.seed)
            self._running.append(_Running(number, request, fitting[0], rng))
            self._waiting.pop(0)

    def _step(self) -> dict[int, Generation]:
        """One step of all that have room in it, in the order in which they began, or in turns; who has ended, by
        number."""
        limits = self.session.program.limits
        each: list[list[_Cut]] = []
        budget, left = self.prefill_tokens, limits.segments
        for running in self._running:
            is_prompt = running.at < len(running.request.prompt)
            taken = running.next_tokens(budget if is_prompt else 1)
            cuts = running.segments(len(taken), limits.chunk)
            while len(cuts) > left and taken:
                taken = taken[: len(taken) // 2]
                cuts = running.segments(len(taken), limits.chunk)
            if taken:
                left -= len(cuts)
                rest = iter(taken)
                each.append([_Cut(running, cut, tuple(islice(rest, cut.tokens))) for cut in cuts])
                budget -= len(taken) if is_prompt else 0
                running.at += len(taken)
        step = in_turns(each, turns_of(self.session.program))
        rows = iter(self.session.run([cut.segment for cut in step], [t for cut in step for t in cut.tokens]))
        last = {cuts[-1].running.sequence: cuts[-1] for cuts in each}
        served = [cut.running for cut in step if cut is last[cut.running.sequence]]
        return dict(e for r in served if (e := self._came_out(r, rows)) is not None)

    def _came_out(
        self, running: _Running, rows: Iterator[NDArray[np.float32]]
    ) -> tuple[int, Generation] | None:
        """Take the row of logits of a request that has one: the next token. The generation, if it is the last."""
        request = running.request
        running.steps.append(self.session.steps[-1])
        if running.at < len(request.prompt):
            return None
        running.tokens.append(choose(next(rows), request.temperature, running.rng))
        if self._on_token is not None:
            self._on_token(running.number, running.tokens[-1])
        stopped = running.stopped
        if stopped is None:
            return None
        self.session.reset(running.sequence)
        self._running.remove(running)
        return running.number, Generation(
            request.prompt, tuple(running.tokens), tuple(running.steps), stopped
        )
