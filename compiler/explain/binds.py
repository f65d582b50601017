"""What binds: the least time of the steps that stand for a program, and what it is spent on."""

from __future__ import annotations

from collections.abc import Iterator

from isa.bound import Bound, Limit, bound
from isa.bound.points import standard_steps
from isa.hardware import Hardware
from isa.program import Program

from .note import Heading, Note
from .words import listed, share

NAMES = {
    Limit.ARRAYS: "the arrays",
    Limit.VECTOR: "vector units",
    Limit.NETWORK: "the network",
    Limit.DRAM: "DRAM",
    Limit.HOST_LINK: "the host link",
    Limit.HOST: "the host",
}


def binds_of(program: Program) -> Iterator[Note]:
    """A paragraph for each step that stands for the program."""
    for name, segments in standard_steps(program):
        least = bound(program.target, program.workload, segments)
        if least is not None:
            yield Note(Heading.BINDS, _said(name, least, program.target))


def times(cycles: float, target: Hardware) -> str:
    """A time on the target."""
    return f"{1e6 * cycles / target.clock.si:,.1f} us"


def _said(name: str, least: Bound, target: Hardware) -> str:
    largest = max(least.terms, key=lambda term: term.cycles)
    spent = sorted(least.chain.items(), key=lambda item: -item[1])
    way = listed([f"{cycles:,} {NAMES[limit]}" for limit, cycles in spent if cycles])
    total = sum(least.chain.values())
    others = [
        f"{term.name} {term.cycles:,} ({share(term.cycles, least.cycles)})"
        for term in least.terms
        if term is not largest and term.cycles
    ]
    said = (
        f"{name.capitalize()} at the full context: at least {least.cycles:,} cycles ({times(least.cycles, target)}), "
        f"whatever the mapping, because of {NAMES[largest.limit]} ({largest.name}). A row's way through all layers "
        f"takes {total:,} cycles: {way}."
    )
    return said + (f" Beside it: {'; '.join(others)}." if others else "")
