"""Registers of a phase that asks for more than there are: those that are never in use at the same time share one.

A register is in use from where it is first named to where it is last named; if a loop lies between, or repeats what
only a part of it names, all through the loop.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from isa.diagnostics import NamedPlace, fail
from isa.instruction import Inst
from isa.instructions import Loop
from isa.operands import ZERO, Reg

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Unplaced(Reg):
    """A register that is not chosen yet: the one of this `number`, whatever its index."""

    number: int = 0

    def __str__(self) -> str:
        return f"r?{self.number}"


def registers_of(operand: object) -> Iterator[Reg]:
    """The registers that an operand names."""
    if isinstance(operand, Reg):
        yield operand
    for name in ("base", "offset"):
        register = getattr(operand, name, None)
        if isinstance(register, Reg) and register != ZERO:
            yield register


def share_registers(code: Sequence[Inst], first: int, pool: Collection[Reg], role: str) -> list[Inst]:
    """The code of a phase, from index `first` of `role` on, with a register for every one that is not chosen yet.

    `pool`: the registers that no other phase relies on. Raises `CimError` E0312 if they do not suffice.
    """
    spans = _spans(code, first)
    unplaced = sorted((r for r in spans if isinstance(r, Unplaced)), key=lambda r: spans[r])
    taken = {register: [spans[register]] if register in spans else [] for register in pool}
    chosen: dict[Reg, Reg] = {}
    for register in unplaced:
        start, stop = spans[register]
        place = next(
            (r for r, ranges in taken.items() if all(stop < a or b < start for a, b in ranges)), None
        )
        if place is None:
            needed = _most([spans[r] for r in {*pool, *unplaced} & spans.keys()])
            raise fail(
                "E0312",
                f"code of role {role} holds {needed} numbers at once, and {len(pool)} scalar registers of a tile are "
                "free for them",
                NamedPlace(role),
                help="work that needs fewer: --without skip-window, or weights that are not streamed (more chips)",
            )
        chosen[register] = place
        taken[place].append(spans[register])
    return [_replaced(inst, chosen) for inst in code]


def _most(ranges: list[Range]) -> int:
    """How many ranges meet in one place at most."""
    return max(sum(a <= start <= b for a, b in ranges) for start, _ in ranges)


def _spans(code: Sequence[Inst], first: int) -> dict[Reg, Range]:
    """Indices of the first and the last instruction between which each register is in use."""
    named: dict[Reg, list[int]] = {}
    read_first: set[Reg] = set()
    for index, inst in enumerate(code):
        for register in _read(inst):
            if register not in named:
                read_first.add(register)
        for f in inst.layout:
            for register in registers_of(getattr(inst, f.name)):
                named.setdefault(register, []).append(index)
    loops = [(i, inst.end - first - 1, inst.rd) for i, inst in enumerate(code) if isinstance(inst, Loop)]
    return {r: _span(r, (at[0], at[-1]), r in read_first, loops) for r, at in named.items()}


def _read(inst: Inst) -> Iterator[Reg]:
    for f in inst.layout:
        if not f.writes_register:
            yield from registers_of(getattr(inst, f.name))


def _span(register: Reg, span: Range, is_read_first: bool, loops: Sequence[tuple[int, int, Reg]]) -> Range:
    """The range with the loops that it reaches into or out of, and those that bring its value around again."""
    start, stop = span
    for _ in loops:
        for begin, end, counter in loops:
            meets = start <= end and begin <= stop
            inside = begin < start and stop <= end
            if counter == register or (meets and (not inside or is_read_first)):
                start, stop = min(start, begin), max(stop, end)
    return start, stop


def _replaced(inst: Inst, chosen: dict[Reg, Reg]) -> Inst:
    """The instruction with other registers."""
    changes: dict[str, object] = {}
    for f in inst.layout:
        operand = getattr(inst, f.name)
        if isinstance(operand, Reg):
            if operand in chosen:
                changes[f.name] = chosen[operand]
            continue
        inner = {
            name: chosen[register]
            for name in ("base", "offset")
            if isinstance(register := getattr(operand, name, None), Reg) and register in chosen
        }
        if inner:
            changes[f.name] = replace(operand, **inner)
    return replace(inst, **changes) if changes else inst  # type: ignore[type-var]
