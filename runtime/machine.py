"""The machine that executes a program's values: tiles, channels, memories, and the host at their edge.

A machine keeps its KV arrays, buffers and memories from one step to the next. A step is a list of segments; the
host sends each segment's rows of the input streams and takes its rows of the output streams. Source streams have
the rows of the step's source segments, all others those of its token segments. Parts of the model that the host runs
within the step run as soon as the chip has sent what they need (`runtime/hostend.py`). Copies of a program work on
their own sequences, one as the other (`runtime/copies.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from isa.diagnostics import fail
from isa.program import Program, Segment, Stream
from isa.segments import dealt, replica_of

from . import numerics
from .activity import Meter
from .analog.arithmetic import AnalogTarget
from .analog.options import AnalogOptions
from .caches import Holder, read_cache, write_cache
from .copies import ArrayOptions, Copy, Pick
from .engine.reference import Observer, decode_role
from .engine.state import TileState
from .hostend import HostEnd
from .paging import PageTables
from .segments import carried, check_segments, check_step, rows_in
from .values import FEW, EngineKind, is_large
from .values.plan import why_not

if TYPE_CHECKING:
    from .values.copies import FastCopy

__all__ = ["Machine", "check_segments"]

Arrays = Mapping[str, NDArray[Any]]


class Machine:
    """Runs the steps of one program, on the reference engine or on the fast one (`runtime/values`).

    Raises `CimError` E0603 if the program carries no weights, E0410 if it does not fit together. `observer` is
    told of every instruction. `pick(n)` chooses which of n ready tiles runs next (the first, if not given). Both are
    the reference's; `reason` says why that runs where the fast engine was asked for. With `AUTO` small programs begin
    on the reference, and go over to the fast engine when there is much to do. `analog` says how analog macros compute;
    `meter` counts what arrays multiply.
    """

    def __init__(
        self,
        program: Program,
        *,
        engine: EngineKind = EngineKind.REFERENCE,
        observer: Observer | None = None,
        pick: Pick | None = None,
        analog: AnalogOptions = AnalogOptions(),  # noqa: B008  (frozen)
        meter: Meter | None = None,
    ) -> None:
        if program.data is None:
            raise fail(
                "E0603",
                "the program carries no weights",
                help="compile without --shapes-only, or use --timing-only",
            )
        self.program, self.analog = program, analog
        self.observer = observer
        self._host = HostEnd(program)
        self._pick: Pick = pick or (lambda ready: 0)
        self._asked = engine
        self._options = ArrayOptions(AnalogTarget(program.target, analog), meter)
        self.reason = self._why_reference()
        self._code = {role.name: decode_role(role) for role in program.roles}
        self.reset()

    def reset(self) -> None:
        """Load the program afresh: KV arrays, buffers and memories as before the first step."""
        self.pages = PageTables(self.program.limits)
        self._done = 0  # segments x tiles so far
        is_late = self._asked is EngineKind.AUTO and not is_large(self.program)
        self._copies = [
            self._fast(None) if self.reason is None and not is_late else self._slow()
            for _ in self.program.corners
        ]

    @property
    def engine(self) -> EngineKind:
        """The engine that the latest step ran on."""
        is_fast = all(not isinstance(copy, Copy) and copy.reference is None for copy in self._copies)
        return EngineKind.FAST if is_fast else EngineKind.REFERENCE

    def _why_reference(self) -> str | None:
        """Why the reference runs the program; None if the fast engine does, or will."""
        if self._asked is EngineKind.REFERENCE:
            return "it was asked for"
        if self.observer is not None:
            return "instructions are observed"
        return why_not(self.program)

    def _slow(self) -> Copy:
        return Copy(self.program, self._host, self.observer, self._pick, self._options)

    def _fast(self, before: Copy | None) -> FastCopy:
        from .values.copies import FastCopy

        return FastCopy(self.program, self._host, self._options, before)

    def _choose(self, segments: Sequence[Segment]) -> None:
        """Go over to the fast engine, if there is much to do with this step."""
        self._done += len(segments) * len(self.program.tiles)
        if self.reason is None and self._asked is EngineKind.AUTO and self._done >= FEW:
            self._copies = [self._fast(copy) if isinstance(copy, Copy) else copy for copy in self._copies]

    @property
    def tiles(self) -> list[TileState]:
        """The tiles of all copies, one copy after the other; pictures of them, where the fast engine runs."""
        return [tile for copy in self._copies for tile in copy.picture()]

    def step(self, segments: Sequence[Segment], inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run one step.

        `inputs` holds, for each input stream, the rows of all its segments in order: [rows, columns], or [rows] for
        a stream of one column. Source streams may be left out of a step without source segments. The result holds
        each output stream: [rows, columns], the rows of the segments that ask for outputs, in order; of a source
        stream all rows of the step's source segments.

        Raises `CimError`: E0601, E0602 (segments or inputs that do not fit), E0608 (their pages), E0604 (a trap, or
        tiles that wait for each other; the machine then needs a `reset`).
        """
        check_step(self.program, segments)
        self.pages.take(segments)
        words = self._host.words(segments, inputs)
        self._choose(segments)
        if len(self._copies) == 1:
            return self._copies[0].step(self._code, segments, words)
        return self._dealt(segments, words)

    def _dealt(self, segments: Sequence[Segment], words: Arrays) -> dict[str, NDArray[Any]]:
        """A step of several copies: each one's segments and rows to it, its rows of outputs to their places."""
        streams = {stream.name: stream for stream in self.program.streams}
        count, made = len(self._copies), dict[str, NDArray[Any]]()
        for number, own in enumerate(dealt(segments, count)):
            if not own:
                continue
            given = {
                name: rows[_owners(streams[name], segments, count) == number] for name, rows in words.items()
            }
            for name, rows in self._copies[number].step(self._code, own, given).items():
                owners = _owners(streams[name], segments, count)
                made.setdefault(name, np.zeros((len(owners), rows.shape[1]), rows.dtype))
                made[name][owners == number] = rows
        return made

    # ---------------------------------------------------------------------------------------------- its caches

    def write_cache(self, layer: int, sequence: int, keys: NDArray[Any], values: NDArray[Any]) -> None:
        """Put rows into the KV cache `Program.caches[layer]`, as if the chip had appended them to a new sequence.

        `keys` and `values` are [heads, tokens, d], each with its own d; int8 arrays take them quantised as an append
        does it, float32 arrays as they are. Rows behind them stay; a ring takes the last rows, as many as it has room
        for. Where sequences share the arrays, the rows go to the pages that `pages` knows of the sequence
        (`pages.give`). Raises `CimError` E0601 (no such cache or sequence, another shape), E0602 (no room).
        """
        tiles, number = self._tiles_of(sequence)
        write_cache(self.program, tiles, self.pages, layer, number, keys, values)

    def read_cache(self, layer: int, sequence: int, tokens: int) -> tuple[numerics.F32, numerics.F32]:
        """The first `tokens` rows of a sequence in the KV cache `Program.caches[layer]`: keys and values.

        Both are float32 [heads, tokens, d]: codes times scales where the arrays hold int8. Raises `CimError` E0601
        or E0602. Of a ring, `tokens` must be all that the sequence has, and no more than the ring's rows.
        """
        tiles, number = self._tiles_of(sequence)
        return read_cache(self.program, tiles, self.pages, layer, number, tokens)

    def _tiles_of(self, sequence: int) -> tuple[Sequence[Holder], int]:
        """The tiles that work for a sequence, and its number there. Raises `CimError` E0601 if there is none."""
        sequences = self.program.step_limits.sequences
        if not 0 <= sequence < sequences:
            raise fail("E0601", f"there is no sequence {sequence}; the program has {sequences}")
        copy, number = replica_of(sequence, len(self._copies))
        return self._copies[copy].tiles, number


def _owners(stream: Stream, segments: Sequence[Segment], copies: int) -> NDArray[np.int64]:
    """Which of the copies works on each row of a stream in a step."""
    own = carried(stream, segments)
    return np.repeat(
        [replica_of(segment.sequence, copies)[0] for segment in own],
        [rows_in(stream, segment) for segment in own],
    ).astype(np.int64)
