"""Whole inputs through a whole model: host, chip, host.

`Session` is for decoders, which go on token by token. `Inference` runs any program once for each sequence of a batch,
from the inputs that the ONNX file names to the outputs that it names, as ONNX Runtime would: encoders, decoders with
what their cache holds, models that look at a source, that begin with images or sound, that end with a classifier.
Host partitions see the whole batch at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isa.diagnostics import fail
from isa.instructions import Sys
from isa.interface import ModelValue, Use
from isa.operands import Special
from isa.program import Direction, HostPart, Moment, Program, Segment, segments_of

from .activity import Meter
from .analog.options import AnalogOptions
from .borders import CACHED, interface_of, streams_of
from .engine.reference import Observer
from .host import run_part
from .inputs import Given, Reader
from .machine import Machine
from .paging import PagePool
from .segments import source_segments_of
from .values import EngineKind

Array = NDArray[Any]
Step = tuple[Segment, ...]


class Inference:
    """A program with its host partitions, ready to run. `steps` are those that the chip has made.

    Raises `CimError` E0603 for a shapes-only program.
    """

    def __init__(
        self,
        program: Program,
        *,
        engine: EngineKind = EngineKind.REFERENCE,
        observer: Observer | None = None,
        analog: AnalogOptions = AnalogOptions(),  # noqa: B008  (frozen)
        meter: Meter | None = None,
    ) -> None:
        self.program, self.analog = program, analog
        self.steps: list[Step] = []
        self._interface = interface_of(program)
        self._machine = Machine(program, engine=engine, observer=observer, analog=analog, meter=meter)
        self._pages: tuple[int, ...] = ()
        if program.limits.pages:  # one sequence at a time: the pages of the longest
            pool = PagePool(program.limits)
            pool.grow({0: program.limits.max_context})
            self._pages = pool.table(0)
            self._machine.pages.give(0, self._pages)

    @property
    def engine(self) -> EngineKind:
        """The engine that the latest step ran on."""
        return self._machine.engine

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The model's outputs, with the batch axis of the inputs.

        Padding may stand at the ends of sequences: it is not run, and its rows come back as zeros. Raises `CimError`
        E0601 (inputs that do not fit, or ask for something else), E0602 (longer than the program's limits), E0606.
        """
        self._check_names(feeds)
        known = dict(feeds)
        for part in self._parts(Moment.BEFORE):
            known |= self._hosted(part, known)
        reader = Reader(self.program, known)
        made = [self._sequence(reader.sequence(at)) for at in range(reader.batch)]
        for name in made[0]:
            known[name] = made[0][name] if reader.single else np.stack([one[name] for one in made])
        for part in self._parts(Moment.AFTER):
            known |= self._hosted(part, known)
        return {v.name: self._in_file(v, known) for v in self._outputs(known)}

    def _check_names(self, feeds: Mapping[str, Array]) -> None:
        names = [v.name for v in self._interface.inputs]
        taken = {*names, *(v.stream for v in self._interface.inputs)}
        unknown = [name for name in feeds if name not in taken]
        if unknown:
            raise fail(
                "E0601", f"the model has no input {unknown[0]!r}", help=f"its inputs: {', '.join(names)}"
            )

    # ------------------------------------------------------------------------------------------------- the host

    def _parts(self, moment: Moment) -> list[HostPart]:
        return [part for part in self.program.hosts if part.moment is moment]

    def _hosted(self, part: HostPart, known: Mapping[str, Array]) -> dict[str, Array]:
        missing = [name for name in part.inputs if name not in known]
        if missing:
            raise fail("E0601", f"input {missing[0]!r} is missing", help=f"given are {sorted(known)}")
        assert self.program.data is not None
        return run_part(np.asarray(self.program.data[part.model]).view(np.uint8), known)

    # ------------------------------------------------------------------------------------------------- outputs

    def _outputs(self, known: Mapping[str, Array]) -> list[ModelValue]:
        """The outputs that the program makes."""
        return [v for v in self._interface.outputs if v.name in known or v.cache >= 0]

    def _in_file(self, value: ModelValue, known: Mapping[str, Array]) -> Array:
        """An output with the axes that the file gives it."""
        if value.use in CACHED:
            return _stacked([known[_half(value.cache, use)] for use in _halves(value)], value)
        rows = known[value.name]
        if value.heads:
            return rows.reshape(*rows.shape[:-1], value.heads, -1).swapaxes(-3, -2)
        return rows

    # ------------------------------------------------------------------------------------------------- the chip

    def _sequence(self, given: Given) -> dict[str, Array]:
        """One sequence: its rows of each output stream, zeros for padding, and what its caches hold then.

        Rows of a source come back where the source has been given, not only its keys and values.
        """
        for number, kept in given.kept.items():
            if kept.keys.shape[1]:
                self._machine.write_cache(number, 0, kept.keys, kept.values)
        rows = self._stepped(given) if given.places.tokens else {}
        made: dict[str, Array] = {}
        for stream in streams_of(self.program, Direction.OUT):
            if stream.source and not given.source:
                continue
            places = given.source_places if stream.source else given.places.new
            made[stream.name] = np.zeros((places.size, stream.columns), np.float32)
            if given.places.tokens:
                made[stream.name][places] = rows[stream.name]
        for number in {v.cache for v in self._interface.outputs if v.cache >= 0}:
            keys, values = self._present(number, given)
            made |= {_half(number, Use.KEYS): keys, _half(number, Use.VALUES): values}
        return made

    def _stepped(self, given: Given) -> dict[str, Array]:
        """The rows of each output stream, of the tokens of one sequence."""
        limits, places, sources = self.program.limits, given.places, int(given.source_places.sum())
        self._check_room(places.past + places.tokens, sources)
        step = tuple(
            replace(segment, source=sources, pages=self._pages)
            for segment in segments_of(places.tokens, places.past, limits.chunk, last_only=False)
        )
        front = source_segments_of(sources, limits.chunk) if given.source else ()
        return self._in_steps(front, step, given)

    def _in_steps(self, front: Step, tokens: Step, given: Given) -> dict[str, Array]:
        """As one step, or, where that would have too many segments, as several."""
        most = self.program.limits.segments
        if len(tokens) > most and _looks_ahead(self.program):
            message = (
                f"{len(tokens)} segments are needed, and tokens see later ones: a step has at most {most}"
            )
            raise fail("E0602", message, help="give a shorter sequence")
        made: list[dict[str, Array]] = []
        taken = 0
        for first in range(0, len(tokens), most):
            some = tokens[first : first + most]
            count = sum(segment.tokens for segment in some)
            feeds = {name: rows[taken : taken + count] for name, rows in given.rows.items()}
            feeds |= given.source if not first else {n: r[:0] for n, r in given.source.items()}
            step = (*front, *some) if not first else some
            made.append(self._machine.step(step, feeds))
            self.steps.append(step)
            taken += count
        return {name: np.concatenate([one[name] for one in made]) for name in made[0]}

    def _check_room(self, tokens: int, sources: int) -> None:
        limits = self.program.limits
        if tokens > limits.max_context:
            message = f"{tokens} tokens are needed, the program's maximum context is {limits.max_context}"
            raise fail("E0602", message, help=f"compile with --max-context {tokens} or more")
        if sources > limits.max_source:
            message = f"the source has {sources} rows, the program takes {limits.max_source}"
            raise fail("E0602", message, help=f"compile with --max-source {sources} or more")

    # ------------------------------------------------------------------------------------------------- caches

    def _present(self, number: int, given: Given) -> tuple[Array, Array]:
        """Keys and values of a cache after the step, [heads, places, d] each, as many places as the file has."""
        if self.program.caches[number].cross:
            real = given.source_places
            size = real.size
        else:
            real = np.concatenate([given.places.old, given.places.new])
            size = given.size
        found = self._machine.read_cache(number, 0, int(real.sum()))
        before = given.before.get(number)
        fed = (None, None) if before is None else (before.keys, before.values)
        keys, values = (_placed(rows, real, size, old) for rows, old in zip(found, fed, strict=True))
        return keys, values


def _placed(rows: Array, real: Array, size: int, before: Array | None) -> Array:
    """`rows` at the places that are `real`, of `size`; elsewhere what was there `before`, or zeros."""
    whole = np.zeros((rows.shape[0], max(size, real.size), rows.shape[2]), np.float32)
    if before is not None:
        whole[:, : before.shape[1]] = before
    whole[:, np.flatnonzero(real)] = rows
    return whole


def _half(number: int, use: Use) -> str:
    """What a cache's keys or values are called between the chip and the file; no ONNX name has a newline."""
    return f"\ncache {number} {use.value}"


def _halves(value: ModelValue) -> tuple[Use, ...]:
    return (Use.KEYS, Use.VALUES) if value.use is Use.KEYS_VALUES else (value.use,)


def _stacked(halves: Sequence[Array], value: ModelValue) -> Array:
    """[batch, heads, places, d], flat or both halves in one, from halves by head."""
    parts = [half if half.ndim == 4 else half[None] for half in halves]
    if value.flat:
        parts = [p.swapaxes(1, 2).reshape(p.shape[0], p.shape[2], -1) for p in parts]
    return np.stack(parts) if value.use is Use.KEYS_VALUES else parts[0]


def _looks_ahead(program: Program) -> bool:
    """Whether tokens see later ones: some role asks how long the sequence will be."""
    codes = (inst for role in program.roles for inst in role.code)
    return any(isinstance(inst, Sys) and inst.what is Special.END for inst in codes)
