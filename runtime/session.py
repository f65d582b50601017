"""A session: a program loaded, sequences that grow token by token, text generation.

The session is the host's side of the step function: it cuts tokens into segments, runs steps on an engine, and
keeps the list of steps so that their time and energy can be computed afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isa.diagnostics import fail
from isa.interface import Use
from isa.program import Direction, Program, Segment, segments_of

from . import numerics
from .activity import Meter
from .analog.options import AnalogOptions
from .borders import ids_of, interface_of, is_numbers, logits_of, streams_of
from .engine.reference import Observer
from .hostside import HostSide
from .inputs import cross_caches
from .machine import Machine
from .padding import check_ids
from .paging import KvUse, PagePool, kept_rows
from .segments import check_segments, source_segments_of
from .values import EngineKind
from .within import parts_around

Step = tuple[Segment, ...]
Logits = NDArray[np.float32]


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


@dataclass(frozen=True, slots=True)
class _Ends:
    """Names of the streams that a decoder has: token ids, token types, rows of a source; and of its logits."""

    ids: str
    types: tuple[str, ...]
    sources: tuple[str, ...]
    logits: str


def is_decoder(program: Program) -> bool:
    """Whether the program takes tokens alone (and what a source says), without the host's help."""
    return not parts_around(program) and _ends_of(program) is not None


def _ends_of(program: Program) -> _Ends | None:
    """What a decoder takes and gives, host partitions aside; None if the program is none."""
    hosted = {name for part in parts_around(program) for name in part.outputs}
    ids, logits = ids_of(program), logits_of(program)
    uses = {v.stream: v.use for v in interface_of(program).inputs if v.stream}
    streams = streams_of(program, Direction.IN)
    types = tuple(s.name for s in streams if uses.get(s.name) is Use.TOKEN_TYPES)
    sources = tuple(s.name for s in streams if s.source)
    known = {*types, *sources, *hosted, *([ids.stream] if ids is not None else [])}
    if logits is None or not (logits.stream or logits.name in hosted) or not streams:
        return None
    if any(s.name not in known for s in streams) or (ids is None and not hosted):
        return None
    return _Ends("" if ids is None else ids.stream, types, sources, logits.name)


def _not_a_decoder(program: Program) -> Exception:
    streams = {d: ", ".join(s.name for s in program.streams if s.direction is d) for d in Direction}
    names = f"{streams[Direction.IN] or 'nothing'} -> {streams[Direction.OUT] or 'nothing'}"
    return fail("E0601", f"the program is not a decoder of tokens: it computes {names}")


@dataclass(frozen=True, slots=True)
class _Source:
    """The source of a sequence: `count` rows; `rows` as long as they have not gone to the chip."""

    rows: NDArray[Any] | None = None
    count: int = 0

    def part(self, segment: Segment) -> NDArray[Any]:
        """The rows of one of its segments."""
        assert self.rows is not None
        return self.rows[segment.position : segment.position + segment.tokens]


class Session:
    """A decoder program ready to run, with its host partitions if it has some.

    `steps` are those it has made, `uses` how full the KV arrays were in each. `on_step(segments)` is called after each
    step; `observer` after each instruction (see runtime/engine). `analog` says how analog macros compute.
    Raises `CimError` E0603 for a shapes-only program, E0601 for one that is not a decoder of tokens.
    """

    def __init__(
        self,
        program: Program,
        *,
        engine: EngineKind = EngineKind.REFERENCE,
        on_step: Callable[[Step], None] | None = None,
        observer: Observer | None = None,
        analog: AnalogOptions = AnalogOptions(),  # noqa: B008  (frozen)
        meter: Meter | None = None,
    ) -> None:
        ends = _ends_of(program)
        if ends is None:
            raise _not_a_decoder(program)
        self._ends = ends
        self._host = HostSide(program) if parts_around(program) else None
        columns = {s.name: s.columns for s in program.streams if s.direction is Direction.OUT}
        self.vocabulary = columns.get(ends.logits) or self._width()
        self.program, self.analog = program, analog
        self.steps: list[Step] = []
        self.uses: list[KvUse] = []
        self._on_step = on_step
        self._machine = Machine(program, engine=engine, observer=observer, analog=analog, meter=meter)
        self._positions = [0] * program.step_limits.sequences
        self.pool = PagePool(program.step_limits, kept_rows(program))
        self._sources = [_Source() for _ in self._positions]

    # ---------------------------------------------------------------------------------------------------- steps

    @property
    def engine(self) -> EngineKind:
        """The engine that the latest step ran on."""
        return self._machine.engine

    def position(self, sequence: int = 0) -> int:
        """How many tokens of a sequence have gone through."""
        return self._positions[sequence]

    def set_source(self, rows: NDArray[Any], sequence: int = 0) -> None:
        """What a sequence looks at through cross-attention: rows [source, columns] that an encoder made.

        Where the program has the encoder too, they are its token ids, [source]. They go to the chip with the next step
        of the sequence; later steps, and later texts, only read what it made of them. Raises `CimError` E0601 if the
        program looks at no source, or the rows do not fit; E0602 if they are more than it can hold.
        """
        if not self._ends.sources:
            raise fail("E0601", "the program looks at no rows of a source", help="leave the source out")
        self._check_sequence(sequence)
        stream = next(s for s in self.program.streams if s.name == self._ends.sources[0])
        given = np.asarray(rows, stream.dtype.value)
        wanted = (len(given),) if is_numbers(stream) else (len(given), stream.columns)
        if given.shape != wanted or not len(given):
            raise fail("E0601", f"the source is {list(given.shape)}; rows {list(wanted)} fit")
        most = self.program.limits.max_source
        if len(given) > most:
            message = f"the source has {len(given)} rows, the program takes {most}"
            raise fail("E0602", message, help=f"compile with --max-source {len(given)} or more")
        self._sources[sequence] = _Source(given, len(given))

    def set_source_inputs(self, inputs: Mapping[str, NDArray[Any]], sequence: int = 0) -> None:
        """The same by the names of the ONNX file's inputs: rows of a source, or keys and values made of it.

        Rows are [source, columns] or [1, source, columns], keys and values as in the file, of a batch of 1. Raises
        `CimError` E0601 if something is missing or does not fit, E0602 if it is more than the program can hold.
        """
        rows = [v.name for v in interface_of(self.program).inputs if v.stream in self._ends.sources]
        if rows and rows[0] in inputs:
            given = np.asarray(inputs[rows[0]])
            kind = next(s for s in self.program.streams if s.name == self._ends.sources[0])
            single = given.ndim == (2 if is_numbers(kind) else 3) and len(given) == 1
            return self.set_source(given[0] if single else given, sequence)
        if rows:
            raise fail("E0601", f"input {rows[0]!r} is missing", help=f"given are {sorted(inputs)}")
        self._check_sequence(sequence)
        found = cross_caches(self.program, inputs)
        for number, kept in found.items():
            self._machine.write_cache(number, sequence, kept.keys, kept.values)
        count = next((kept.keys.shape[1] for kept in found.values()), 0)
        self._sources[sequence] = _Source(None, count)
        return None

    def run(self, segments: Sequence[Segment], tokens: Sequence[int]) -> Logits:
        """One step: `tokens` are those of all segments in order; logits of the rows asked for, [rows, vocabulary].

        This is how several sequences share a step. That positions follow on one another is the caller's care; the
        segments of sources are the session's, and so are pages: `pool` gives them, and refuses (E0607) when it has no
        more. Raises `CimError` E0601 or E0602 if the segments or tokens do not fit.
        """
        step = self._with_sources(segments)
        ids = self._checked_ids(tokens)
        logits = self._through(step, ids)
        for segment in step:
            if segment.is_source:
                self._sources[segment.sequence] = _Source(None, segment.source)
            else:
                self._positions[segment.sequence] = segment.position + segment.tokens
        self.steps.append(step)
        self.uses.append(self.pool.use)
        if self._on_step is not None:
            self._on_step(step)
        return logits

    def _with_sources(self, segments: Sequence[Segment]) -> Step:
        """A step's segments, behind those of sources that have not gone to the chip yet."""
        limits, front = self.program.step_limits, list[Segment]()
        check_segments(
            replace(limits, max_source=0, pages=0), [replace(s, source=0, pages=()) for s in segments]
        )
        segments = self.pool.placed(segments)
        for number in dict.fromkeys(s.sequence for s in segments):
            source = self._sources[number]
            if source.rows is not None:
                front += source_segments_of(source.count, limits.chunk, sequence=number)
            elif limits.max_source and not source.count:
                way_out = "set_source(rows), or --source FILE.npz of `cim generate`, comes first"
                raise fail("E0601", f"sequence {number} has no source", help=way_out)
        return (*front, *(replace(s, source=self._sources[s.sequence].count) for s in segments))

    def _width(self) -> int:
        assert self._host is not None
        return self._host.width(self._ends.logits)

    def _through(self, step: Step, ids: NDArray[np.int32]) -> Logits:
        """Host, chip, host: the logits of the rows asked for."""
        ends = self._ends
        made: dict[str, NDArray[Any]] = {ends.ids: ids, **{name: np.zeros_like(ids) for name in ends.types}}
        rows = [self._sources[s.sequence].part(s) for s in step if s.is_source]
        if rows:
            made |= dict.fromkeys(ends.sources, np.concatenate(rows))
        if self._host is not None:
            made |= self._host.rows([s for s in step if not s.is_source], ids)
        wanted = {s.name for s in streams_of(self.program, Direction.IN)}
        found = self._machine.step(step, {name: made[name] for name in wanted if name in made})
        if self._host is not None:
            found = self._host.results(found)
        return np.asarray(found[ends.logits], np.float32)

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
        self.check_room(start + len(ids))
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

        Nothing needs to be erased: a new sequence overwrites the rows of the KV arrays that it can see. Its pages are
        free, if the program has pages. What it looks at through cross-attention stays.
        """
        for number in range(len(self._positions)) if sequence is None else (sequence,):
            self._positions[number] = 0
            self.pool.release(number)

    def _check_sequence(self, sequence: int) -> None:
        if not 0 <= sequence < len(self._positions):
            raise fail("E0601", f"there is no sequence {sequence}; the program has {len(self._positions)}")

    def _start(self, position: int | None, sequence: int) -> int:
        self._check_sequence(sequence)
        end = self._positions[sequence]
        if position is not None and not 0 <= position <= end:
            raise fail("E0601", f"position {position} leaves a gap: the sequence has {end} tokens")
        return end if position is None else position

    def check_room(self, tokens: int) -> None:
        """Raise `CimError` E0602 if a sequence cannot have so many tokens."""
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
        check_ids(ids, self.program.interface.padding)
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
        self.check_room(len(prompt) + max_new_tokens - 1)  # the last token is not fed back
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
