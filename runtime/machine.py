"""The machine that executes a program's values: tiles, channels, memories, and the host at their edge.

A machine keeps its KV arrays, buffers and memories from one step to the next. A step is a list of segments; the
host sends each segment's rows of the input streams and takes its rows of the output streams. Source streams have
the rows of the step's source segments, all others those of its token segments. Parts of the model that the host runs
within the step run as soon as the chip has sent what they need (`runtime/hostend.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from isa.diagnostics import CimError, Diagnostic, InstructionPlace, fail
from isa.program import Program, Segment

from . import numerics
from .caches import read_cache, write_cache
from .engine.load import load_tile
from .engine.memory import load_memories
from .engine.network import Network
from .engine.reference import Observer, StuckError, TileRunner, decode_role, run_tiles
from .engine.state import TileState
from .engine.trap import TrapError
from .hostend import HostEnd, HostStep
from .paging import PageTables
from .segments import check_segments, check_step, label

__all__ = ["Machine", "check_segments"]

Arrays = Mapping[str, NDArray[Any]]
Pick = Callable[[int], int]


class Machine:
    """Runs the steps of one program on the reference engine.

    Raises `CimError` E0603 if the program carries no weights, E0410 if it does not fit together. `observer` is
    told of every instruction. `pick(n)` chooses which of n ready tiles runs next (the first, if not given).
    """

    def __init__(
        self, program: Program, *, observer: Observer | None = None, pick: Pick | None = None
    ) -> None:
        if program.data is None:
            raise fail(
                "E0603",
                "the program carries no weights",
                help="compile without --shapes-only, or use --timing-only",
            )
        self.program = program
        self.observer = observer
        self._host = HostEnd(program)
        self._pick: Pick = pick or (lambda ready: 0)
        self._code = {role.name: decode_role(role) for role in program.roles}
        self.reset()

    def reset(self) -> None:
        """Load the program afresh: KV arrays, buffers and memories as before the first step."""
        program = self.program
        assert program.data is not None
        self.pages = PageTables(program.limits)
        self._network = Network(program)
        memories = load_memories(program, program.data)
        self.tiles: list[TileState] = [
            load_tile(program, number, program.data, self._network, memories)
            for number in range(len(program.tiles))
        ]

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
        self._network.clear()
        host = HostStep(self._host, self._network, segments, words)
        runners = []
        for tile, state in zip(self.program.tiles, self.tiles, strict=True):
            state.begin(segments)
            runners.append(TileRunner(state, self._code[tile.role], self.observer))
        try:
            with numerics.quiet():
                run_tiles(runners, self._network.woken, self._pick, self._trapped, host.advance)
        except StuckError as stuck:
            raise self._deadlock(stuck.tiles) from None
        return host.outputs()

    # ---------------------------------------------------------------------------------------------- its caches

    def write_cache(self, layer: int, sequence: int, keys: NDArray[Any], values: NDArray[Any]) -> None:
        """Put rows into the KV cache `Program.caches[layer]`, as if the chip had appended them to a new sequence.

        `keys` and `values` are [heads, tokens, d], each with its own d; int8 arrays take them quantised as an append
        does it, float32 arrays as they are. Rows behind them stay; a ring takes the last rows, as many as it has room
        for. Where sequences share the arrays, the rows go to the pages that `pages` knows of the sequence
        (`pages.give`). Raises `CimError` E0601 (no such cache or sequence, another shape), E0602 (no room).
        """
        write_cache(self.program, self.tiles, self.pages, layer, sequence, keys, values)

    def read_cache(self, layer: int, sequence: int, tokens: int) -> tuple[numerics.F32, numerics.F32]:
        """The first `tokens` rows of a sequence in the KV cache `Program.caches[layer]`: keys and values.

        Both are float32 [heads, tokens, d]: codes times scales where the arrays hold int8. Raises `CimError` E0601
        or E0602. Of a ring, `tokens` must be all that the sequence has, and no more than the ring's rows.
        """
        return read_cache(self.program, self.tiles, self.pages, layer, sequence, tokens)

    # -------------------------------------------------------------------------------------------------- failures

    def _place(self, number: int, index: int) -> InstructionPlace:
        role = self.program.role(self.program.tiles[number].role)
        text = str(role.code[index]) if index < len(role.code) else ""
        return InstructionPlace(self.program.origin.model or "program", role.name, index, text)

    def _trapped(self, number: int, trap: TrapError) -> CimError:
        state = self.tiles[number]
        place = self._place(number, state.index if trap.index is None else trap.index)
        notes = (f"on tile {self.program.tiles[number].name}, in {label(state.segments, state.segment)}",)
        return CimError(Diagnostic("E0604", trap.message, place, notes=notes))

    def _deadlock(self, numbers: Sequence[int]) -> CimError:
        names = ", ".join(self.program.tiles[number].name for number in numbers)
        place = self._place(numbers[0], self.tiles[numbers[0]].index)
        notes = tuple(
            f"{self.program.tiles[number].name} waits {self._waits_for(number)}" for number in numbers[:8]
        )
        return CimError(Diagnostic("E0604", f"tiles wait for each other: {names}", place, notes=notes))

    def _waits_for(self, number: int) -> str:
        state = self.tiles[number]
        if state.barrier is not None:
            return f"at barrier {state.barrier[0].name}"
        role = self.program.role(self.program.tiles[number].role)
        ports = [f"port {role.ports[r.port].name} (channel {r.inbox.channel})" for r in state.pending]
        return "for " + ", ".join(ports)
