"""Loops over segments that are looked at again, in another iteration of a loop around them that is unrolled.

If nothing is different that the body depends on, it does and says again what it did and said: the registers that it
reads before it writes them have the same values, the path conditions are the same, and all that was surely written then
is surely written now. More can only be proven then, not less. Bodies that write KV rows or memory are not remembered:
what they have stored is known by part of the text (`appends.py`, `stored.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from isa import instructions as t
from isa.instruction import Inst
from isa.operands import Reg

from .buffer import Span
from .poly import Poly
from .script import Phase
from .segments import Current
from .state import SegmentFact, State

if TYPE_CHECKING:
    from .context import Context

_STORES = (t.Wrow, t.Wrowf, t.Store)
_BRANCHES = (t.Jump, t.Beq, t.Bne, t.Blt, t.Bge)


@dataclass(frozen=True, slots=True)
class Seen:
    """A loop as it was looked at: what held before, what it said, what held after."""

    given: tuple[Poly, ...]
    assumed: tuple[Poly, ...]
    spans: frozenset[Span]
    everywhere: frozenset[SegmentFact]
    phases: tuple[Phase, ...]
    registers: tuple[tuple[int, Poly], ...]
    segment: Current
    new_spans: tuple[Span, ...]
    new_everywhere: tuple[SegmentFact, ...]


@dataclass(slots=True)
class Memory:
    """The loops over segments of a role that were looked at, by their first instruction; `code` is the loop's body
    with the loop instruction before it."""

    seen: dict[int, Seen] = field(default_factory=dict)
    read: dict[int, tuple[int, ...] | None] = field(default_factory=dict)

    def needs(self, start: int, code: Sequence[Inst]) -> tuple[int, ...] | None:
        """The registers that a body reads before it surely writes them; None if it is not to be remembered."""
        if start not in self.read:
            stores = any(isinstance(inst, _STORES) for inst in code[1:])
            self.read[start] = None if stores else tuple(sorted(_read_first(start, code)))
        return self.read[start]

    def recall(self, ctx: Context, start: int, code: Sequence[Inst], before: State) -> State | None:
        """The state after a loop that does what it did when it was last looked at; None if that is not sure."""
        needs, seen = self.needs(start, code), self.seen.get(start)
        if needs is None or seen is None or seen.assumed != before.assumed:
            return None
        same = seen.given == tuple(before.regs[r] for r in needs)
        if not same or not seen.spans <= before.facts.spans.keys():
            return None
        if not seen.everywhere <= before.everywhere.keys():
            return None
        ctx.recorder.repeat(seen.phases)
        after, bounds = before.copy(), ctx.bounds(before)
        for register, value in seen.registers:
            low, high = bounds.lower(value), bounds.upper(value)
            after.set(register, value if not value.terms else ctx.table.unknown(ctx.level, low, high))
        after.segment = seen.segment
        for span in seen.new_spans:
            if span not in after.facts.spans:
                after.facts.add(bounds, span)
        after.everywhere = after.everywhere | dict.fromkeys(seen.new_everywhere)
        return after

    def note(
        self,
        start: int,
        code: Sequence[Inst],
        before: State,
        after: State,
        phases: Sequence[Phase],
        modified: set[int],
    ) -> None:
        """Remember a loop that was looked at."""
        needs = self.needs(start, code)
        if needs is None:
            return
        self.seen[start] = Seen(
            tuple(before.regs[r] for r in needs),
            before.assumed,
            frozenset(before.facts.spans),
            frozenset(before.everywhere),
            tuple(phase for phase in phases if phase.over is not None),
            tuple((r, after.regs[r]) for r in sorted(modified)),
            after.segment,
            tuple(span for span in after.facts.spans if span not in before.facts.spans),
            tuple(fact for fact in after.everywhere if fact not in before.everywhere),
        )


def _read_first(start: int, code: Sequence[Inst]) -> set[int]:
    """Registers that are read where it is not sure that the body has written them before."""
    loop, *body = code
    assert isinstance(loop, t.Loop)
    read: set[int] = set()
    written: set[int] = {0, loop.rd.index}
    sure_from, is_sure = start, True
    for index, inst in enumerate(body, start):
        for f in inst.layout:
            value = getattr(inst, f.name)
            if not f.writes_register:
                read |= set(_registers(value)) - written
        is_sure = is_sure and not isinstance(inst, _BRANCHES)
        if is_sure and index >= sure_from:
            written |= {getattr(inst, f.name).index for f in inst.layout if f.writes_register}
        if isinstance(inst, t.Loop):
            sure_from = max(sure_from, inst.end)
    return read


def _registers(value: object) -> list[int]:
    if isinstance(value, Reg):
        return [value.index]
    found = [getattr(value, name, None) for name in ("base", "offset")]
    return [register.index for register in found if isinstance(register, Reg)]
