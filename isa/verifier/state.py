"""What is known at one point of a role's text: registers, the current segment, written bytes, path conditions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from isa.operands import REGISTERS

from .arithmetic import Arithmetic
from .bounds import Bounds
from .buffer import Facts, Span, meet
from .poly import NOTHING, Poly
from .segments import EITHER, Current, Over


def _zeros() -> list[Poly]:
    return [NOTHING] * REGISTERS


@dataclass(frozen=True, slots=True)
class SegmentFact:
    """A span that is written for every segment of one list: `counter` is the symbol of the segment's index."""

    over: Over
    counter: int
    span: Span


@dataclass(slots=True)
class State:
    """Registers, the current segment, what is written, polynomials known to be >= 0 on this path.

    A step begins with registers zero and segment 0 of the tokens current. `everywhere` is what was written for each
    segment, in a loop over all of them that has ended.
    """

    regs: list[Poly] = field(default_factory=_zeros)
    segment: Current = Current()  # noqa: RUF009  (frozen)
    facts: Facts = field(default_factory=Facts)
    assumed: tuple[Poly, ...] = ()
    everywhere: dict[SegmentFact, None] = field(default_factory=dict)  # ordered, and fast to look up

    def copy(self) -> State:
        """A separate state that knows the same."""
        return replace(self, regs=list(self.regs), facts=self.facts.copy())

    def assuming(self, *polys: Poly) -> State:
        """A separate state that also knows that these are not negative."""
        state = self.copy()
        state.assumed += tuple(poly for poly in polys if poly.terms and poly not in state.assumed)
        return state

    def set(self, index: int, value: Poly) -> None:
        """Write a register; r0 stays zero."""
        if index:
            self.regs[index] = value


def join_current(a: Current, b: Current, either: Callable[[Poly, Poly], Poly]) -> Current:
    """The current segment where two paths meet; `either` joins indices."""
    if a.over is None or a.over is not b.over:
        return EITHER
    return Current(a.over, either(a.index, b.index))


class Knowledge:
    """The values of an analysis and the bounds under each set of path conditions."""

    def __init__(self, values: Arithmetic) -> None:
        self.values = values
        self.table = values.table
        self._bounds: dict[tuple[Poly, ...], Bounds] = {(): values.plain}

    def bounds(self, state: State) -> Bounds:
        """Answers in the light of the state's path conditions."""
        found = self._bounds.get(state.assumed)
        if found is None:
            found = self._bounds[state.assumed] = Bounds(self.table, state.assumed)
        return found

    def join(self, a: State | None, b: State | None, level: int) -> State | None:
        """What holds where two paths meet; None is a path that is not taken."""
        if a is None or b is None:
            return a if b is None else b
        bounds = self.bounds(a), self.bounds(b)

        def either(x: Poly, y: Poly) -> Poly:
            return self.values.choice(x, y, level, *bounds)

        return State(
            [either(x, y) for x, y in zip(a.regs, b.regs, strict=True)],
            join_current(a.segment, b.segment, either),
            meet(a.facts, bounds[0], b.facts, bounds[1]),
            tuple(poly for poly in a.assumed if poly in b.assumed),
            {fact: None for fact in a.everywhere if fact in b.everywhere},
        )
