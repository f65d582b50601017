"""What bounds a run: the critical path by resource beside the lower bound, and time step by step."""

from __future__ import annotations

from collections.abc import Iterator

from runtime.amounts import count, share
from runtime.sinks.schema import PhaseRecord, PhaseWork, Statistics
from runtime.svg import Axis, Plot, Series

from .charts import REST, Piece, bar, bar_row, figure, legend, resource_colour
from .tags import Cell, Row, details, number, section, table, tag, text

_POINTS = 400  # of a line over steps


def binding(stats: Statistics) -> str:
    """The section."""
    bounds = {bound.phase: bound for bound in stats.bounds}
    phases = [_phase(work, bounds.get(work.phase)) for work in stats.work]
    return section(
        "bound",
        "What bounds it",
        *phases,
        _resources(stats),
        *_terms(stats.bounds),
        *_steps(stats),
        intro="Each cycle of a step is on its critical path: the longest chain of operations that wait for each "
        "other. Below it is the least that any mapping could take on this target.",
    )


def _phase(work: PhaseWork, bound: PhaseRecord | None) -> str:
    """Two bars of one scale: measured, and at least."""
    whole = max(work.cycles, bound.bound_cycles if bound else 0)
    measured = [
        Piece(cycles, resource_colour(name), f"{name}: {cycles:,} cycles, {share(cycles, work.cycles)}")
        for name, cycles in sorted(work.critical.items(), key=lambda item: -item[1])
    ]
    rows = [
        bar_row("measured", bar(measured, whole, _words("measured", measured)), f"{work.cycles:,} cycles")
    ]
    names: list[tuple[str, int | None]] = [(n, resource_colour(n)) for n in _descending(work.critical)]
    if bound is not None:
        least = _least(bound)
        rows.append(
            bar_row(
                "at least", bar(least, whole, _words("at least", least)), f"{bound.bound_cycles:,} cycles"
            )
        )
        known = {c for _, c in names}
        names += [
            (n, resource_colour(n)) for n in _descending(bound.chain) if resource_colour(n) not in known
        ]
        names.append(("other rows", REST))
    ratio = f"{bound.ratio:.2f} times the least, of which {bound.binding} binds. " if bound else ""
    title = tag("h3", text(work.phase.capitalize()))
    caption = f"{ratio}{count(work.steps, 'step')}, {count(work.tokens, 'token')}."
    return title + figure(tag("div", *rows, class_="bars"), caption, legend(names))


def _least(bound: PhaseRecord) -> list[Piece]:
    """The chain of the first row by what it waits for, then what the other rows add."""
    pieces = [
        Piece(
            cycles, resource_colour(name), f"{name}: at least {cycles:,} cycles on the way of the first row"
        )
        for name, cycles in sorted(bound.chain.items(), key=lambda item: -item[1])
    ]
    rest = bound.bound_cycles - sum(bound.chain.values())
    return [*pieces, Piece(max(rest, 0), REST, f"other rows and their outputs: {max(rest, 0):,} cycles")]


def _descending(cycles: dict[str, int]) -> list[str]:
    return sorted(cycles, key=lambda name: -cycles[name])


def _words(name: str, pieces: list[Piece]) -> str:
    return f"{name}: " + "; ".join(piece.hint for piece in pieces if piece.value)


def _resources(stats: Statistics) -> str:
    """Critical cycles by resource, over all phases."""
    rows: list[Row] = []
    for name, cycles in sorted(stats.critical_path.by_resource.items(), key=lambda item: -item[1]):
        if not cycles:
            continue
        hint = f"{name}: {share(cycles, stats.cycles)} of the critical path"
        drawing = bar([Piece(cycles, resource_colour(name), hint)], stats.cycles, hint)
        rows.append(
            (
                None,
                (name, Cell(drawing, "drawn"), number(cycles), number(cycles, share(cycles, stats.cycles))),
            )
        )
    heads = ("resource", "critical path", "cycles", "share")
    return table(heads, rows, caption="Critical path by resource")


def _terms(bounds: list[PhaseRecord]) -> list[str]:
    """Each limit of the bound by itself, and the way of the first row that the bars show."""
    rows: list[Row] = [
        (None, (name, bound.phase, number(cycles), number(cycles, share(cycles, bound.bound_cycles))))
        for bound in bounds
        for name, cycles in sorted(bound.terms.items(), key=lambda item: -item[1])
    ]
    if not rows:
        return []
    heads = ("limit", "phase", "cycles", "of the bound")
    limits = table(heads, rows, caption="Limits of the lower bound")
    heads = ("first row waits for", "phase", "cycles", "of the bound")
    way = table(heads, _ways(bounds), caption="The first row's way through the model")
    return [details("The lower bound, limit by limit", limits, way)]


def _ways(bounds: list[PhaseRecord]) -> Iterator[Row]:
    """The pieces of the bars of the bound."""
    for bound in bounds:
        chain = sorted(bound.chain.items(), key=lambda item: -item[1])
        rest = max(bound.bound_cycles - sum(bound.chain.values()), 0)
        for name, cycles in (*chain, ("(other rows)", rest)):
            yield None, (name, bound.phase, number(cycles), number(cycles, share(cycles, bound.bound_cycles)))


def _steps(stats: Statistics) -> list[str]:
    """Cycles of each step as a line."""
    found = [step.cycles for step in stats.per_step or ()]
    if stats.decode is not None and stats.decode.steps:
        found = [step.cycles for step in stats.decode.steps]
    if len(found) < 3 or min(found) == 0:
        return []
    every = max(1, len(found) // _POINTS)
    points = tuple((float(n), float(found[n])) for n in range(0, len(found), every))
    plot = Plot(
        "Cycles of each step",
        Axis("step", is_log=False),
        Axis("cycles", is_log=False),
        (Series("cycles", points),),
    )
    return [details("Time step by step", figure(plot.inline(), "Cycles of each step", class_="chart wide"))]
