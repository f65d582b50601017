"""What binds: the least time of the steps that stand for a program, and what it is spent on."""

from __future__ import annotations

from collections.abc import Iterator

from isa.bound import Bound, Limit, bound
from isa.bound.points import standard_steps
from isa.hardware import Hardware
from isa.program import Program

from .expected import Expectation, in_words
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


def binds_of(program: Program, expected: Expectation) -> Iterator[Note]:
    """A paragraph for each step that stands for the program, and what the step is predicted to take."""
    for number, (name, segments) in enumerate(standard_steps(program)):
        least = bound(program.target, program.workload, segments)
        if least is not None:
            yield Note(Heading.BINDS, _least(name, least, program.target))
            if not number:
                yield Note(Heading.BINDS, _way(least))
        found = expected.prediction(segments)
        if found is not None:
            ratio = f", {found.cycles / least.cycles:.2f} x the bound" if least is not None else ""
            yield Note(
                Heading.BINDS,
                f"{name.capitalize()} with this mapping: predicted {found.cycles:,} cycles "
                f"({times(found.cycles, program.target)}){ratio}. Its critical path: {in_words(found)}.",
            )


def times(cycles: float, target: Hardware) -> str:
    """A time on the target."""
    return f"{1e6 * cycles / target.clock.si:,.1f} us"


def _least(name: str, least: Bound, target: Hardware) -> str:
    largest = max(least.terms, key=lambda term: term.cycles)
    others = [
        f"{term.name} {term.cycles:,} ({share(term.cycles, least.cycles)})"
        for term in least.terms
        if term is not largest and term.cycles
    ]
    said = (
        f"{name.capitalize()} at the full context: at least {least.cycles:,} cycles ({times(least.cycles, target)}), "
        f"whatever the mapping, because of {NAMES[largest.limit]} ({largest.name})."
    )
    return said + (f" Beside it: {'; '.join(others)}." if others else "")


def _way(least: Bound) -> str:
    """What one row waits for on its way."""
    spent = sorted(least.chain.items(), key=lambda item: -item[1])
    way = listed([f"{cycles:,} for {NAMES[limit]}" for limit, cycles in spent if cycles])
    return f"A row's way through all layers takes at least {sum(least.chain.values()):,} cycles: {way}."
