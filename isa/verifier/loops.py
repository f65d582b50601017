"""Loops that are not unrolled: what holds in any iteration, and what holds after the last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from isa import instructions as t
from isa.instruction import Inst

from .buffer import LoopExit, after_loop
from .context import Context
from .poly import Poly
from .segments import EITHER, Current, Over
from .state import SegmentFact, State, join_current
from .symbols import Op, Shape

_SELECTORS: dict[type[Inst], Over] = {t.Seg: Over.TOKENS, t.Sseg: Over.SOURCE}
PROBE = 1 << 40  # registers at the head of a loop are first taken to be within this


class BodyWalker(Protocol):
    """What a summary needs of the walk through the text."""

    ctx: Context

    def body(self, start: int, end: int, state: State | None) -> State | None:
        """Walk through instructions start..end-1."""
        ...


def modified_by(code: Sequence[Inst]) -> tuple[set[int], set[Over]]:
    """The registers that instructions write, and which lists they make segments current of."""
    registers: set[int] = set()
    for inst in code:
        for field in inst.layout:
            value = getattr(inst, field.name)
            if field.writes_register:
                registers.add(value.index)
            elif field.access is not None and value.step:
                registers.add(value.base.index)
    selected = {_SELECTORS[type(inst)] for inst in code if type(inst) in _SELECTORS}
    return registers - {0}, selected


class LoopSummary:
    """A loop that is not unrolled.

    A first walk through the body, with registers unknown at its head, shows how an iteration changes each register:
    by a constant amount (then it is linear in the loop's counter), to a value from outside the loop, or to
    something within an interval. With that known at the head, a second walk checks the body for any iteration.
    """

    def __init__(self, walker: BodyWalker, index: int, inst: t.Loop, count: Poly, state: State) -> None:
        self.walker, self.ctx, self.inst = walker, walker.ctx, inst
        self.start, self.end = index + 1, inst.end
        self.count, self.before = count, state
        self.bounds = self.ctx.bounds(state)
        self.modified, self.selected = modified_by(self.ctx.job.role.code[self.start : self.end])
        self.over = self._over()
        self.ran = self.bounds.at_least(count, 1)
        self.level = self.ctx.level + 1
        self.steps: dict[int, Poly] = {}  # registers that grow by the same in each iteration

    def _over(self) -> Over | None:
        """Which list of segments the loop goes over, if it goes over one."""
        counts = {over: self.ctx.values.steps.count(over) for over in Over}
        return next((o for o, count in counts.items() if count == self.count and self.ctx.level == 0), None)

    def walk(self, talks: bool) -> State | None:
        """Check the body; the result is the state after the loop."""
        ctx = self.ctx
        if self.bounds.at_most(self.count, 0):
            return self.before
        if self.over is None or not self.ran or not self.selected or not ctx.recording or any(ctx.branches):
            return self._walked(talks)
        body, appends = ctx.job.role.code[self.start - 1 : self.end], ctx.appends
        again = ctx.memory.recall(ctx, self.start, body, self.before)
        if again is not None:
            appends.begin_part()
            appends.begin_part()
            return again
        said, before = len(ctx.recorder.phases), self.before.copy()
        after = self._walked(talks)
        if after is not None:
            phases = ctx.recorder.phases[said:]
            ctx.memory.note(self.start, body, before, after, phases, self.modified | {self.inst.rd.index})
        return after

    def _walked(self, talks: bool) -> State | None:
        """The state after the loop, from a walk through its body."""
        ctx = self.ctx
        counter = self._counter()
        head = self._head(counter)
        phase = talks and ctx.recording
        if phase:
            ctx.recorder.begin_phase(self.over)
        listed = self.over is not None and ctx.recording
        if listed:
            ctx.appends.begin_part()
        last = self._pass(head)
        if listed:
            ctx.appends.begin_part()
        if phase:
            ctx.recorder.begin_phase(None)
        return None if last is None else self._after(last, counter)

    def _pass(self, head: State) -> State | None:
        self.ctx.loops.append(self.over)
        last = self.walker.body(self.start, self.end, head)
        self.ctx.loops.pop()
        return last

    def _counter(self) -> Poly:
        """The counter: one symbol for all loops over a list of segments, none of which is inside another."""
        most, table = self.bounds.upper(self.count) - 1, self.ctx.table
        shape = Shape(0, most, uppers=((self.count.plus(-1), 1),))
        if self.over is None:
            return table.make(Op.COUNTER, shape, name=f"i{len(table.symbols)}", level=self.level)
        key = Op.COUNTER, self.over
        found = table.find(key)
        return found or table.make(
            Op.COUNTER, shape, name=self.over.value, key=key, level=self.level, shared=True
        )

    def _head(self, counter: Poly) -> State:
        """What holds at the head in every iteration.

        Registers are taken to be within `PROBE` first; what turns out not to be is looked at again without that.
        """
        wide: set[int] = set()
        while True:
            head = self._explored(counter, wide)
            bounds = self.ctx.bounds(head)
            beyond = {r for r in self.modified - wide if not bounds.fits(head.regs[r], -PROBE, PROBE - 1)}
            if not beyond:
                return head
            wide |= beyond

    def _explored(self, counter: Poly, wide: set[int]) -> State:
        """The head as walks through the body show it; what one has settled may settle more in the next."""
        head = self._unknown_head(counter, wide)
        settled: set[int] = {self.inst.rd.index}
        self.steps = {}
        while True:
            probe = head.copy()
            recording, self.ctx.recording = self.ctx.recording, False
            last = self._pass(probe.copy())
            self.ctx.recording = recording
            if last is None:
                return head
            new = {r for r in self.modified - settled if self._settle(r, probe, last, counter, head)}
            settled |= new
            if not any(self._depends(probe, last, r, new) for r in self.modified - settled):
                return head

    def _unknown_head(self, counter: Poly, wide: set[int]) -> State:
        """The head of the loop with nothing known of what the body changes."""
        head = self.before.copy()
        table = self.ctx.table
        for register in self.modified:
            limit = (1 << 63) if register in wide else PROBE
            head.set(register, table.unknown(self.level, -limit, limit - 1))
        if self.selected:
            most = self.ctx.job.program.limits.segments - 1
            same = self.selected == {head.segment.over}
            head.segment = Current(head.segment.over, table.unknown(self.level, 0, most)) if same else EITHER
        head.set(self.inst.rd.index, counter)
        return head

    def _settle(self, register: int, probe: State, last: State, counter: Poly, head: State) -> bool:
        """Put what is known of a register into the head; whether it is known but for the counter."""
        table, values = self.ctx.table, self.ctx.values
        initial, final = self.before.regs[register], last.regs[register]
        step = final - probe.regs[register]
        last_bounds = self.ctx.bounds(last)
        if table.level(step) < self.level:
            self.steps[register] = step
            head.set(register, values.fit(self.bounds, initial + step * counter))
        elif table.level(final) < self.level:
            head.set(register, values.choice(initial, final, self.level, self.bounds, last_bounds))
        else:
            low = min(self.bounds.lower(initial), last_bounds.lower(final))
            high = max(self.bounds.upper(initial), last_bounds.upper(final))
            head.set(register, table.unknown(self.level, low, high))
            return False
        return True

    def _depends(self, probe: State, last: State, register: int, on: set[int]) -> bool:
        """Whether a register's value after an iteration depends on what others in `on` had at the head."""
        heads = {number for r in on for number in probe.regs[r].symbols()}
        waiting, seen = [last.regs[register]], set[int]()
        while waiting:
            for number in waiting.pop().symbols() - seen:
                if number in heads:
                    return True
                seen.add(number)
                waiting += self.ctx.table.symbols[number].args
        return False

    # ------------------------------------------------------------------------------------------ after the loop

    def _after(self, last: State, counter: Poly) -> State:
        """What holds after the loop, from what holds at the end of any iteration."""
        after = self.before.copy()
        for register in self.modified:
            after.set(register, self._register_after(register, last))
        if self.inst.rd.index not in self.modified:
            after.set(self.inst.rd.index, self._counter_after())
        if self.selected:
            after.segment = self._segment_after(last)
        number = counter.terms[0][0][0] if counter.terms else -1
        loop = LoopExit(self.level, number, self.count, self.ran)
        after.facts = after_loop(self.before.facts, last.facts, loop, self.bounds)
        if self.over is not None:
            after.everywhere = after.everywhere | dict.fromkeys(
                self._of_each_segment(self.over, last, counter)
            )
        return after

    def _segment_after(self, last: State) -> Current:
        """The current segment after the loop: that of the last iteration, or, without any, the one before."""
        initial = last.segment if self.ran else self.before.segment
        return join_current(initial, last.segment, lambda a, b: self._value_after(a, b, last))

    def _of_each_segment(self, over: Over, last: State, counter: Poly) -> Iterator[SegmentFact]:
        """What the body has written that depends on nothing but the segment."""
        values, number = self.ctx.values, counter.terms[0][0][0]
        for span in last.facts.spans:
            if span in self.before.facts.spans or max(map(values.table.level, span.polys())) < self.level:
                continue
            if all(values.at_segment(poly, number, counter) is not None for poly in span.polys()):
                yield SegmentFact(over, number, span)

    def _counter_after(self) -> Poly:
        return self._value_after(self.before.regs[self.inst.rd.index], self.count.plus(-1), self.before)

    def _register_after(self, register: int, last: State) -> Poly:
        if register in self.steps:
            total = self.before.regs[register] + self.steps[register] * self.count
            return self.ctx.values.fit(self.bounds, total)
        return self._value_after(self.before.regs[register], last.regs[register], last)

    def _value_after(self, initial: Poly, final: Poly, last: State) -> Poly:
        """The value after a loop that leaves it as it was if it never runs, and `final` otherwise."""
        table, last_bounds, level = self.ctx.table, self.ctx.bounds(last), self.level - 1
        outside = table.level(final) < self.level
        if self.ran:
            if outside:
                return final
            return table.unknown(level, last_bounds.lower(final), last_bounds.upper(final))
        if outside:
            return self.ctx.values.choice(initial, final, level, self.bounds, last_bounds)
        low = min(self.bounds.lower(initial), last_bounds.lower(final))
        high = max(self.bounds.upper(initial), last_bounds.upper(final))
        return table.unknown(level, low, high)
