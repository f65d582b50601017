"""The reference engine: executes the texts of all tiles, one instruction after the other.

Each tile runs until it needs a message that has not come, or waits at a barrier; then another one runs. Tiles
meet only through channels and barriers, so the order in which they take turns never shows in a result.
A `recv` is asynchronous, as on the machine: the tile goes on until an instruction touches the words that the
message is to fill.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from isa.instruction import Field, Inst
from isa.operands import Addr
from isa.program import Role
from isa.scalars import ScalarTrap
from runtime.semantics import Meaning, meaning_of

from .state import PendingReceive, Span, TileState
from .trap import TrapError

Observer = Callable[[int, int, Inst, TileState], None]
"""Called after each instruction with the tile's number, the instruction's index, the instruction and the state, in
which `state.segments[state.segment]` is the current segment. A `recv` is reported when its message is in."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """An instruction with what the engine asks of it each time."""

    inst: Inst
    meaning: Meaning
    addresses: tuple[Field, ...]
    stepped: tuple[Field, ...]


def decode_role(role: Role) -> tuple[Decoded, ...]:
    """A role's text, looked up once."""
    return tuple(_decode(inst) for inst in role.code)


def _decode(inst: Inst) -> Decoded:
    addresses = tuple(field for field in inst.layout if field.access is not None)
    stepped = tuple(field for field in addresses if _is_stepped(inst, field))
    return Decoded(inst, meaning_of(inst), addresses, stepped)


def _is_stepped(inst: Inst, field: Field) -> bool:
    at = getattr(inst, field.name)
    return isinstance(at, Addr) and at.step


class TileRunner:
    """Runs one tile's text."""

    def __init__(self, state: TileState, code: Sequence[Decoded], observer: Observer | None) -> None:
        self.state = state
        self.observer = observer
        self._code = code

    @property
    def is_over(self) -> bool:
        """Whether the tile has nothing left to do or to get."""
        return self.state.halted and not self.state.pending

    def advance(self) -> bool:
        """Run until the tile cannot go on; True if it has finished. Raises `TrapError` (`state.index` is to blame)."""
        state = self.state
        while self._may_go_on():
            if state.halted:
                return True
            state.index = state.next
            if state.index >= len(self._code):
                raise TrapError("the text ends without halt")
            decoded = self._code[state.index]
            if state.pending and self._must_wait(decoded):
                return False
            self._execute(decoded)
        return False

    def _may_go_on(self) -> bool:
        state = self.state
        if state.pending:
            self._settle()
            if state.halted and state.pending:
                return False
        if state.barrier is not None:
            barrier, awaited = state.barrier
            if barrier.opened < awaited:
                return False
            state.barrier = None
        return True

    def _execute(self, decoded: Decoded) -> None:
        state, waiting = self.state, len(self.state.pending)
        state.next = state.index + 1
        try:
            decoded.meaning(state, decoded.inst)
        except ScalarTrap as trap:
            raise TrapError(str(trap)) from None
        if self.observer is not None and len(state.pending) == waiting:
            self.observer(state.number, state.index, decoded.inst, state)
        if decoded.stepped:
            state.step_addresses(decoded.inst, decoded.stepped)
        if state.loops:
            state.close_loops()

    def _must_wait(self, decoded: Decoded) -> bool:
        spans = [self.state.span(decoded.inst, field) for field in decoded.addresses]
        return any(span.overlaps(receive.span) for receive in self.state.pending for span in spans)

    def _settle(self) -> None:
        """Complete the receives whose messages have come; those of one port in order, as posted.

        One that covers words of an earlier one is posted only when that is complete, so no order shows here.
        """
        left: list[PendingReceive] = []
        for receive in self.state.pending:
            if receive.inbox.messages and not any(receive.inbox is other.inbox for other in left):
                self._complete(receive)
            else:
                left.append(receive)
        self.state.pending = left

    def _complete(self, receive: PendingReceive) -> None:
        state, message = self.state, receive.inbox.messages.popleft()
        expected = _words(receive.span)
        if message.size != expected:
            text = f"channel {receive.inbox.channel} brings {message.size} words, {expected} were expected"
            raise TrapError(text, receive.index)
        registers, state.registers = state.registers, receive.registers
        try:
            state.receive(receive.inst, message)
            if self.observer is not None:
                self.observer(state.number, receive.index, receive.inst, state)
        except TrapError as trap:
            raise TrapError(trap.message, receive.index) from None
        finally:
            state.registers = registers


def _words(span: Span) -> int:
    return span.rows * span.words


class StuckError(Exception):
    """No tile can go on. `tiles` are the numbers of those that have not finished."""

    def __init__(self, tiles: Sequence[int]) -> None:
        super().__init__("no tile can go on")
        self.tiles = tuple(tiles)


def run_tiles(
    runners: Sequence[TileRunner],
    ready: Sequence[int],
    woken: list[int],
    pick: Callable[[int], int],
    failed: Callable[[int, TrapError], Exception],
    help_on: Callable[[], bool] = lambda: False,
) -> None:
    """Run all tiles to their ends.

    `ready` are the tiles that may go on; `woken` receives the numbers of those that may again. `pick(n)` chooses which
    of n ready tiles runs next. When no tile can go on, `help_on` lets the host do what it can, and says whether it did
    something. Raises `StuckError`, or what `failed` makes of the trap of a tile.
    """
    agenda = list(ready)
    unfinished = {number for number, runner in enumerate(runners) if not runner.is_over}
    while agenda:
        number = agenda.pop(pick(len(agenda)))
        try:
            if runners[number].advance():
                unfinished.discard(number)
        except TrapError as trap:
            raise failed(number, trap) from None
        while True:
            agenda += [n for n in dict.fromkeys(woken) if n in unfinished and n not in agenda]
            woken.clear()
            if agenda or not unfinished or not help_on():
                break
    if unfinished:
        raise StuckError(sorted(unfinished))
