"""Whole inputs through a whole model: host, chip, host.

`Session` is for decoders, which go on token by token. `Inference` runs any program once for each sequence of a batch,
from the inputs that the ONNX file names to the outputs that it names: encoders, models that begin with images or sound,
models that end with a classifier. Host partitions see the whole batch at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isa.diagnostics import fail
from isa.program import Direction, HostPart, Moment, Program, Segment, Stream, segments_of

from .engine.reference import Observer
from .host import run_part
from .machine import Machine

Array = NDArray[Any]
Step = tuple[Segment, ...]

IDS = "input_ids"
"""The stream of token ids, whatever the file calls its input."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """What the chip gets: rows or numbers of each sequence, by stream; `single` if there was no batch axis."""

    sequences: tuple[Mapping[str, Array], ...]
    single: bool


class Inference:
    """A program with its host partitions, ready to run. `steps` are those that the chip has made.

    Raises `CimError` E0603 for a shapes-only program.
    """

    def __init__(self, program: Program, *, observer: Observer | None = None) -> None:
        self.program = program
        self.steps: list[Step] = []
        self._machine = Machine(program, observer=observer)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The model's outputs, with the batch axis of the inputs. Raises `CimError` E0601, E0602, E0606."""
        known = dict(feeds)
        for part in self._parts(Moment.BEFORE):
            known |= self._hosted(part, known)
        batch = self._batch(known)
        self._check_unused(feeds)
        made = [self._sequence(streams) for streams in batch.sequences]
        for name in made[0]:
            known[name] = made[0][name] if batch.single else np.stack([one[name] for one in made])
        for part in self._parts(Moment.AFTER):
            known |= self._hosted(part, known)
        results = self.program.results or tuple(s.name for s in self._streams(Direction.OUT))
        return {name: known[name] for name in results}

    # ------------------------------------------------------------------------------------------------- the host

    def _parts(self, moment: Moment) -> list[HostPart]:
        return [part for part in self.program.hosts if part.moment is moment]

    def _hosted(self, part: HostPart, known: Mapping[str, Array]) -> dict[str, Array]:
        missing = [name for name in part.inputs if name not in known]
        if missing:
            raise fail("E0601", f"input {missing[0]!r} is missing", help=f"given are {sorted(known)}")
        assert self.program.data is not None
        return run_part(np.asarray(self.program.data[part.model]).view(np.uint8), known)

    # ------------------------------------------------------------------------------------------------- the chip

    def _streams(self, direction: Direction) -> list[Stream]:
        return [stream for stream in self.program.streams if stream.direction is direction]

    def _batch(self, known: Mapping[str, Array]) -> _Batch:
        """What each sequence feeds to each stream."""
        given = {stream: self._given(stream, known) for stream in self._streams(Direction.IN)}
        if not given:
            raise fail("E0601", "the program takes no inputs: it is not one that was compiled from a model")
        single = all(array.ndim == _rank(stream) for stream, array in given.items())
        count = 1 if single else max(a.shape[0] for s, a in given.items() if a.ndim > _rank(s))
        parts = tuple(
            {
                s.name: a if a.ndim == _rank(s) else a[at % a.shape[0]].reshape(-1, *a.shape[2:])
                for s, a in given.items()
            }
            for at in range(count)
        )
        return _Batch(parts, single)

    def _given(self, stream: Stream, known: Mapping[str, Array]) -> Array:
        name = stream.name if stream.name in known else self._ids_name(stream, known)
        array = np.asarray(known[name])
        rank = _rank(stream)
        kind = "iu" if rank == 1 else "f"
        if array.dtype.kind not in kind or array.ndim not in (rank, rank + 1) or not array.size:
            shape = "[tokens]" if rank == 1 else f"[tokens, {stream.columns}]"
            words = "integers" if rank == 1 else "float rows"
            message = f"{name} is {array.dtype} {list(array.shape)}; {words} {shape} fit, or a batch of them"
            raise fail("E0601", message)
        return array

    def _ids_name(self, stream: Stream, known: Mapping[str, Array]) -> str:
        """The file's own name for the token ids."""
        others = {s.name for s in self._streams(Direction.IN)} | {
            i for p in self.program.hosts for i in p.inputs
        }
        fits = [n for n, a in known.items() if n not in others and np.asarray(a).dtype.kind in "iu"]
        fits = [n for n in fits if not any(word in n for word in ("mask", "position", "type"))]
        if stream.name != IDS or len(fits) != 1:
            names = [s.name for s in self._streams(Direction.IN)]
            raise fail("E0601", f"input {stream.name!r} is missing", help=f"the program takes {names}")
        return fits[0]

    def _check_unused(self, feeds: Mapping[str, Array]) -> None:
        """What the program does not read must be what it takes for granted: no padding, positions from 0."""
        read = {s.name for s in self._streams(Direction.IN)} | {
            i for p in self.program.hosts for i in p.inputs
        }
        for name, array in feeds.items():
            if name in read or not _asks_something(name, np.asarray(array)):
                continue
            message = f"input {name!r} asks for padding or other positions, which the program does not know"
            raise fail("E0601", message, help="give sequences one by one, without padding, from position 0")

    def _sequence(self, streams: Mapping[str, Array]) -> dict[str, Array]:
        """One sequence, as one step, from the first token on."""
        tokens = max(len(rows) for rows in streams.values())
        limits = self.program.limits
        if tokens > limits.max_context:
            message = f"{tokens} tokens are needed, the program's maximum context is {limits.max_context}"
            raise fail("E0602", message, help=f"compile with --max-context {tokens} or more")
        step = segments_of(tokens, 0, limits.chunk, last_only=False)
        outputs = self._machine.step(step, streams)
        self.steps.append(step)
        return outputs


def _rank(stream: Stream) -> int:
    """Axes of a stream's rows: numbers have one, rows two."""
    return 1 if stream.dtype.value.startswith("int") else 2


def _asks_something(name: str, array: Array) -> bool:
    """Whether a mask has zeros, or positions do not count from 0."""
    if "mask" in name:
        return bool((array == 0).any())
    if "position" in name and array.ndim:
        return not bool((array == np.arange(array.shape[-1])).all())
    return False
