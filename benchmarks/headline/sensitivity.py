"""`cim bench sensitivity`: one cell, each constant at its least and its most; what moves the ratios most.

A program is compiled once. Where times depend on a constant the step is simulated again with the changed target; where
only energies do, they are made again from what was counted, which is the same (docs/energy.md).
"""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.headline.baselines import IDEAL, Machine, machine
from benchmarks.headline.bench import folder_for, known_model
from benchmarks.headline.cases import SCOPES, Cell, Scope, Way
from benchmarks.headline.compare import Line
from benchmarks.headline.constants import Constant, constants, with_constant, with_cpu_constant
from benchmarks.headline.programs import NoRoomError, program_of
from benchmarks.headline.simulate import Run, charge_of, host_of, run_of
from benchmarks.headline.systems import PLACES
from benchmarks.registry import Report, Say
from isa.diagnostics import NamedPlace, fail
from isa.hardware import Hardware, load_target
from runtime.amounts import table
from runtime.sinks.files import whole_file
from runtime.svg import Bar, BarPlot, Segment

PIECE = 4
"""Constants that a process takes at a time."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is looked at."""

    cell: Cell
    scope: Scope
    way: Way
    stated: Hardware

    @property
    def place(self) -> str:
        """What is on the chips."""
        return PLACES[self.way]


@dataclass(frozen=True, slots=True)
class Moved:
    """A constant, and the ratios (latency, energy) to the ideal CPU at its least and at its most."""

    constant: Constant
    low: tuple[float, float]
    high: tuple[float, float]

    def swing(self, of: int) -> float:
        """How far a ratio (0: latency, 1: energy) goes from end to end: the logarithm of its quotient."""
        return abs(math.log(self.high[of] / self.low[of]))


def ratios(case: Case, run: Run, cpu: Machine) -> tuple[float, float]:
    """Latency and energy over the CPU's."""
    charge = charge_of(run, case.scope, case.way)
    against = Line(case.cell, case.scope, case.way, "", charge, None, host_of(run)).against(cpu)
    return against.latency, against.energy


def moved(case: Case, run: Run, constant: Constant) -> Moved:
    """The ratios at both ends of a constant."""
    ends = [_at(case, run, constant, factor) for factor in (constant.low, constant.high)]
    return Moved(constant, ends[0], ends[1])


def _at(case: Case, run: Run, constant: Constant, factor: float) -> tuple[float, float]:
    cpu = machine(IDEAL)
    if constant.is_cpu:
        return ratios(case, run, with_cpu_constant(cpu, constant.path, factor))
    program = run.program
    changed = replace(program, target=with_constant(program.target, constant.path, factor))
    if constant.is_time:
        return ratios(case, run_of(changed, case.cell.context, case.way), cpu)
    return ratios(case, replace(run, program=changed), cpu)


def some(case: Case, folder: Path, chosen: Sequence[Constant]) -> tuple[tuple[float, float], list[Moved]]:
    """The ratios as they are, and with each of these constants at both ends."""
    run = run_of(program_of(case.cell, case.place, case.stated, folder), case.cell.context, case.way)
    return ratios(case, run, machine(IDEAL)), [moved(case, run, constant) for constant in chosen]


def sweep(case: Case, folder: Path, processes: int, say: Say) -> tuple[tuple[float, float], list[Moved]]:
    """The ratios as they are, and those of all constants, the one with the largest swing of energy first.

    Raises `CimError` E0304 if the system cannot hold the cell.
    """
    try:
        program = program_of(case.cell, case.place, case.stated, folder)
    except NoRoomError as error:
        raise fail("E0304", str(error), NamedPlace(case.stated.name)) from None
    host = ("host.",) if case.way is Way.CIM else ()
    chosen = [c for c in constants(program.target) if not c.path.startswith(host or ("-",))]
    dear = sorted(chosen, key=lambda constant: not constant.is_time)
    parts = [dear[first :: -(-len(dear) // PIECE)] for first in range(-(-len(dear) // PIECE))]
    found: list[Moved] = []
    with ProcessPoolExecutor(processes) as pool:
        for future in as_completed([pool.submit(some, case, folder, part) for part in parts]):
            base, those = future.result()
            found += those
            say(f"{len(found)} of {len(chosen)} constants")
    return base, sorted(found, key=lambda m: (-m.swing(1), -m.swing(0), m.constant.path))


def bench(options: Namespace, say: Say) -> Report:
    """`cim bench sensitivity [--model M] [--context N] [--batch N] [--scope S] [--way W] [--most N] ...`."""
    known_model(options.model)
    way = Way(options.way)
    stated = load_target(options.target if way is Way.CIM else options.hybrid)
    if Scope(options.scope) not in SCOPES[way]:
        known = ", ".join(scope.value for scope in SCOPES[way])
        raise fail("E0001", f"{way.value} has no scope {options.scope!r}", help=f"it has: {known}")
    case = Case(
        Cell(options.model, options.context, options.batch, options.capacity),
        Scope(options.scope),
        way,
        stated,
    )
    with folder_for(options.keep) as folder:
        say(f"compiling {case.cell.name}")
        base, found = sweep(case, folder, options.jobs, say)
    if options.output is not None:
        with whole_file(options.output) as file:
            file.write(tornado(case, base, found, options.of, options.most).svg())
    data = {"case": f"{case.cell.name}, {case.scope.value}, {way.value}", "target": stated.name}
    ends = [asdict(m) | {"swing": {"latency": m.swing(0), "energy": m.swing(1)}} for m in found]
    return Report(
        text(case, base, found, options.most),
        data | {"latency": base[0], "energy": base[1], "constants": ends},
    )


def text(case: Case, base: tuple[float, float], found: Sequence[Moved], most: int) -> str:
    """The constants that move energy most, and those that move latency most."""
    parts = [
        f"{case.cell.name}, {case.scope.value}, {case.way.value} on {case.stated.name}: "
        f"{base[0]:.4g} of the latency and {base[1]:.4g} of the energy of the ideal CPU"
    ]
    for of, name in ((1, "energy"), (0, "latency")):
        first = sorted(found, key=lambda m: (-m.swing(of), m.constant.path))[:most]
        rows = [
            (
                m.constant.path,
                m.constant.confidence,
                _range(m.constant),
                f"{m.low[of]:.4g}",
                f"{m.high[of]:.4g}",
                f"{100 * (m.low[of] / base[of] - 1):+.1f} %",
                f"{100 * (m.high[of] / base[of] - 1):+.1f} %",
            )
            for m in first
        ]
        parts.append(table((f"moves {name}", "confidence", "range", "least", "most", "", ""), rows))
    return "\n\n".join(parts)


def tornado(case: Case, base: tuple[float, float], found: Sequence[Moved], of: str, most: int) -> BarPlot:
    """The largest swings as bars to both sides of what the ratio is."""
    index = ("latency", "energy").index(of)
    first = sorted(found, key=lambda m: (-m.swing(index), m.constant.path))[:most]
    what = f"{case.cell.name}, {case.scope.value}, {case.way.value}"
    title = f"{of}, {what}: {base[index]:.3g} (log10; blue: least)"
    return BarPlot(title, tuple(_bar(m, base[index], index) for m in first))


def _range(constant: Constant) -> str:
    """`x 0.5 .. 1,270`."""
    ends = (f"{end:,.0f}" if end >= 100 else f"{end:.3g}" for end in (constant.low, constant.high))
    return f"x {' .. '.join(ends)}"


def _bar(m: Moved, base: float, index: int) -> Bar:
    changes = [
        (math.log10(ends[index] / base), colour, f"{m.constant.path} x {factor:.3g}: {ends[index]:.4g}")
        for ends, colour, factor in ((m.low, 0, m.constant.low), (m.high, 1, m.constant.high))
    ]
    segments = tuple(Segment(change, colour, hint) for change, colour, hint in changes)
    return Bar(m.constant.path, segments, _range(m.constant))
