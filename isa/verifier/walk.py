"""Walks a role's text: every path at once, loops by summary or unrolled (docs/verifier.md)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from isa import instructions as t
from isa.instruction import Inst

from .buffer import Facts, dense
from .context import Context, Job, open_context
from .loops import PROBE, LoopSummary
from .poly import Poly
from .scalars import condition, execute_scalar
from .script import Phase
from .state import State
from .units import execute_unit

T = TypeVar("T")
UNROLL = 512  # instructions in all passes of a loop without messages that is unrolled for precision
UNROLL_MESSAGES = 1 << 18  # the same for a loop with messages, which has to be
MAX_VARIANTS = 256  # ways through a role's text, by parameters, that are looked at one by one
_BRANCHES = (t.Beq, t.Bne, t.Blt, t.Bge)
_MESSAGES = (t.Send, t.Recv, t.Barrier)


class SplitError(Exception):
    """Tiles of the role go different ways here; `groups` are to be analysed apart."""

    def __init__(self, groups: list[tuple[int, ...]]) -> None:
        super().__init__("tiles of the role go different ways")
        self.groups = groups


@dataclass(frozen=True, slots=True)
class Variant:
    """A way through a role's text: the tiles that take it and what they say on the network."""

    context: Context
    phases: tuple[Phase, ...]


def analyse(job: Job) -> list[Variant]:
    """Check a role for all its tiles; tiles that their parameters send different ways are taken apart."""
    waiting, done = [job.tiles], list[Variant]()
    while waiting:
        tiles = waiting.pop()
        context = open_context(replace(job, tiles=tiles))
        may_split = len(waiting) + len(done) < MAX_VARIANTS
        try:
            done.append(Variant(context, Walker(context, may_split).run()))
        except SplitError as split:
            waiting += split.groups
    return done


class Walker:
    """The walk through one role's text for tiles that go the same way."""

    def __init__(self, context: Context, may_split: bool) -> None:
        self.ctx = context
        self.code = context.job.role.code
        self._may_split = may_split

    def run(self) -> tuple[Phase, ...]:
        """Check the whole text; the result is what it says on the network."""
        constants = [dense(Poly(c.offset), Poly(c.bytes)) for c in self.ctx.job.role.constants]
        end = self.body(0, len(self.code), State(facts=Facts(constants)))
        if end is not None:
            last = max(len(self.code) - 1, 0)
            self.ctx.find(last, "E0407", "the text can end without `halt`")
        self.ctx.stored.finish(self.ctx)
        return tuple(self.ctx.recorder.phases)

    def body(self, start: int, end: int, state: State | None) -> State | None:
        """Walk through instructions start..end-1; the result is the state at the end, None if it is not reached."""
        waiting: dict[int, State] = {}
        self.ctx.branches.append(waiting)
        index = start
        while index < end:
            state = self._arrive(state, waiting.pop(index, None))
            inst = self.code[index]
            following = inst.end if isinstance(inst, t.Loop) else index + 1
            if state is not None:
                state = self._step(index, inst, state, waiting)
            index = following
        state = self._arrive(state, waiting.pop(end, None))
        self.ctx.branches.pop()
        return state

    def _arrive(self, state: State | None, waiting: State | None) -> State | None:
        return state if waiting is None else self.ctx.knowledge.join(state, waiting, self.ctx.level)

    def _step(self, index: int, inst: Inst, state: State, waiting: dict[int, State]) -> State | None:
        if isinstance(inst, t.Loop):
            return self._loop(index, inst, state)
        if isinstance(inst, t.Halt):
            self.ctx.maybe_halted |= self.ctx.recording and any(self.ctx.branches)
            return None
        if isinstance(inst, t.Jump):
            self._branch_to(inst.target, state, waiting)
            return None
        if isinstance(inst, _BRANCHES):
            return self._branch(inst, state, waiting)
        if not execute_scalar(self.ctx, index, inst, state):
            execute_unit(self.ctx, index, inst, state)
        return state

    def _branch_to(self, target: int, state: State, waiting: dict[int, State]) -> None:
        joined = self.ctx.knowledge.join(waiting.get(target), state, self.ctx.level)
        assert joined is not None
        waiting[target] = joined

    def _branch(self, inst: t._Branch, state: State, waiting: dict[int, State]) -> State | None:
        a, b = self.ctx.value(state, inst.a), self.ctx.value(state, inst.b)
        decided, taken, passed = condition(inst, a, b, self.ctx.bounds(state))
        if decided is None:
            plain = self.ctx.values.plain
            decided = self._by_params(a - b, lambda value: condition(inst, Poly(value), Poly(), plain)[0])
        if decided is None:
            self._branch_to(inst.target, state.assuming(*taken), waiting)
            return state.assuming(*passed)
        if decided:
            self._branch_to(inst.target, state, waiting)
            return None
        return state

    def _by_params(self, value: Poly, outcome: Callable[[int], T | None]) -> T | None:
        """The outcome for a value that the tile's parameters determine; None if they do not, or too many ways.

        Raises `SplitError` if it is not the same for all tiles.
        """
        values, job = self.ctx.values, self.ctx.job
        if not values.by_params_alone(value):
            return None
        groups: dict[T | None, list[int]] = {}
        for number, tile in enumerate(job.tiles):
            params = {symbol: column[number] for symbol, column in self.ctx.param_values.items()}
            groups.setdefault(outcome(values.substitute(value, params).const), []).append(tile)
        if len(groups) == 1:
            return next(iter(groups))
        if self._may_split:
            raise SplitError([tuple(group) for group in groups.values()])
        return None

    # ------------------------------------------------------------------------------------------------- loops

    def _loop(self, index: int, inst: t.Loop, state: State) -> State | None:
        ctx, bounds = self.ctx, self.ctx.bounds(state)
        count = ctx.value(state, inst.count)
        if not bounds.at_least(count, 0):
            ctx.find(index, "E0411", f"the loop's count can be negative: it is {ctx.text(count)}", count)
            count = ctx.doubtful(0, PROBE)
        talks = any(isinstance(i, _MESSAGES) for i in self.code[index + 1 : inst.end])
        if talks and count.terms:
            known = self._by_params(count, lambda value: value)
            count = count if known is None else Poly(known)
        if not count.terms and self._is_unrolled(index, inst, count.const, talks):
            return self._unrolled(index, inst, count.const, state)
        return LoopSummary(self, index, inst, count, state).walk(talks)

    def _is_unrolled(self, index: int, inst: t.Loop, count: int, talks: bool) -> bool:
        passes = count * self._weight(index + 1, inst.end)
        if talks and passes > UNROLL_MESSAGES:
            message = f"the loop around messages is too long: {count} passes"
            self.ctx.find(
                index, "E0405", message, hint=f"at most {UNROLL_MESSAGES} instructions in all passes"
            )
        return passes <= (UNROLL_MESSAGES if talks else UNROLL)

    def _weight(self, start: int, end: int) -> int:
        """Instructions in a body, those in loops of constant count as often as they run."""
        total, index = 0, start
        while index < end:
            inst = self.code[index]
            if isinstance(inst, t.Loop):
                factor = inst.count if isinstance(inst.count, int) else 1
                total += max(1, factor) * self._weight(index + 1, inst.end)
                index = inst.end
            else:
                total, index = total + 1, index + 1
        return total

    def _unrolled(self, index: int, inst: t.Loop, count: int, state: State) -> State | None:
        after: State | None = state
        for number in range(count):
            if after is None:
                break
            after.set(inst.rd.index, Poly(number))
            after = self.body(index + 1, inst.end, after)
        return after
