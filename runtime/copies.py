"""One copy of a program's tiles and channels at work: its state from step to step, and what goes wrong there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from isa.diagnostics import CimError, Diagnostic, InstructionPlace
from isa.program import Program, Segment

from . import numerics
from .activity import Meter
from .analog.arithmetic import AnalogTarget
from .engine.load import load_tile
from .engine.memory import load_memories
from .engine.network import Network
from .engine.reference import Decoded, Observer, StuckError, TileRunner, run_tiles
from .engine.state import TileState
from .engine.trap import TrapError
from .hostend import HostEnd, HostStep, Words
from .segments import label

Pick = Callable[[int], int]


@dataclass(frozen=True, slots=True)
class ArrayOptions:
    """How the cells of arrays compute, and who counts what they multiply."""

    analog: AnalogTarget
    meter: Meter | None = None


class Copy:
    """The tiles, channels and memories of one copy. Raises `CimError` E0410 if the program does not fit together."""

    def __init__(
        self, program: Program, host: HostEnd, observer: Observer | None, pick: Pick, arrays: ArrayOptions
    ) -> None:
        assert program.data is not None
        self.program = program
        self._host, self._observer, self._pick = host, observer, pick
        self.network = Network(program)
        memories = load_memories(program, program.data)
        self.tiles: list[TileState] = [
            load_tile(program, number, program.data, self.network, memories, arrays.analog)
            for number in range(len(program.tiles))
        ]
        for tile in self.tiles:
            tile.meter = arrays.meter

    def picture(self) -> list[TileState]:
        """The tiles, as all engines can show them."""
        return self.tiles

    def step(
        self, code: Mapping[str, Sequence[Decoded]], segments: Sequence[Segment], words: Mapping[str, Words]
    ) -> dict[str, NDArray[Any]]:
        """The rows of all output streams for its segments. `code` is that of all roles, `words` the inputs' rows.

        Raises `CimError` E0604 (a trap, or tiles that wait for each other).
        """
        self.network.clear()
        host = HostStep(self._host, self.network, segments, words)
        for state in self.tiles:
            state.begin(segments)
        return self.go_on(code, host, range(len(self.tiles)))

    def go_on(
        self, code: Mapping[str, Sequence[Decoded]], host: HostStep, ready: Sequence[int]
    ) -> dict[str, NDArray[Any]]:
        """Run a step that has begun to its end: tiles that may go on are `ready`, in this order."""
        runners = [
            TileRunner(state, code[tile.role], self._observer)
            for tile, state in zip(self.program.tiles, self.tiles, strict=True)
        ]
        try:
            with numerics.quiet():
                run_tiles(runners, ready, self.network.woken, self._pick, self._trapped, host.advance)
        except StuckError as stuck:
            raise self._deadlock(stuck.tiles) from None
        return host.outputs()

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
