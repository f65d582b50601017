"""The matrix as a table and as JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from benchmarks.headline.baselines import (
    AIM,
    FLEXGEN,
    IDEAL,
    POSTER,
    SEED,
    machine,
    machines,
    published,
)
from benchmarks.headline.cases import Cell, Scope, Way
from benchmarks.headline.compare import Line
from benchmarks.headline.demand import BYTE, HALF, demand
from benchmarks.headline.measured import Measured
from isa.area import chip_area
from isa.hardware import Hardware
from models.configs import CONFIGS
from runtime.amounts import si, table

Here = Mapping[tuple[Cell, Scope], Measured]
Targets = Mapping[Way, Hardware]


def ratio(value: float) -> str:
    """A ratio in three digits: `0.0061`, `1.3e-04`."""
    return f"{value:.3g}" if value >= 1e-3 else f"{value:.2e}"


_HEADS = (
    "x ideal, x flexgen: CIM (int8) over the CPU with a float16 cache and weights; x int8: the ideal one with int8",
    "to spare: what each chip may draw all the time, and each layer may take, in addition before a line fails",
)


def text(lines: Sequence[Line], targets: Targets, here: Here) -> str:
    """Everything for people."""
    parts = [
        _systems(targets),
        _matrix(lines),
        _counts(lines),
        *_reasons(lines),
        _energies(lines, targets),
        _others(lines, here),
    ]
    notes = "\n".join(f"* {note}" for note in (*_HEADS, *_notes(lines)))
    return "\n\n".join(part for part in (*parts, notes) if part)


def _systems(targets: Targets) -> str:
    said = [
        f"{way.value:<12}{target.name}: up to {int(target.system.chips_x.value * target.system.chips_y.value)} chips "
        f"of {chip_area(target).total:,.0f} mm2, just enough for each cell"
        for way, target in targets.items()
    ]
    return "\n".join(said)


def _matrix(lines: Sequence[Line]) -> str:
    """CIM over the CPU: the ideal one with float16 and with int8, FlexGen's."""
    each = ("x ideal", "x int8", "x flexgen")
    heads = ("cell, scope, system", "latency", *each, "energy", *each, "verdict", "int8")
    rows = [_row(line) for line in lines]
    for name in (SEED, POSTER, AIM):
        known = published(name)
        said = (f"{known.latency:g}", "", "", "", f"{known.energy:g}", "", "", "", "")
        rows.append((f"{name}: {known.source.split(',')[0]}", "", *said))
    return table(heads, rows)


def _row(line: Line) -> tuple[str, ...]:
    charge = line.charge
    if charge is None:
        return (line.name, *["-"] * 8, line.verdict, line.verdict)
    ideal, narrow = line.ideal, line.against(machine(IDEAL), BYTE)
    flexgen = line.against(machine(FLEXGEN))
    times = (si(charge.latency_s, "s"), *(ratio(a.latency) for a in (ideal, narrow, flexgen)))
    joules = (si(charge.energy_j, "J"), *(ratio(a.energy) for a in (ideal, narrow, flexgen)))
    return (line.name, *times, *joules, line.verdict, line.verdict_with(BYTE))


def _counts(lines: Sequence[Line]) -> str:
    """How many lines of each way and scope are as good as what was published, against float16 and against int8."""
    rows = []
    for way in Way:
        for scope in Scope:
            own = [line for line in lines if line.way is way and line.scope is scope]
            if own:
                met = [sum(line.verdict_with(size) != "fail" for line in own) for size in (HALF, BYTE)]
                held = sum(line.charge is not None for line in own)
                rows.append((f"{scope.value}, {way.value}", *map(str, (len(own), held, *met))))
    return table(("scope, system", "cells", "fit", "pass", "pass, CPU in int8"), rows)


def brief(lines: Sequence[Line], targets: Targets) -> str:
    """A row for each cell, a column for each way and scope: latency, energy over the ideal CPU's, and the verdict."""
    kinds = list(dict.fromkeys((line.way, line.scope) for line in lines))
    kinds.sort(key=lambda kind: (list(Way).index(kind[0]), list(Scope).index(kind[1])))
    found = {(line.cell, line.way, line.scope): line for line in lines}
    rows = [
        (cell.name, *(_brief(found.get((cell, *kind))) for kind in kinds))
        for cell in dict.fromkeys(line.cell for line in lines)
    ]
    heads = ("latency, energy over ideal CPU", *(f"{way.value}: {scope.value}" for way, scope in kinds))
    notes = "\n".join(f"* {note}" for note in _notes(lines))
    return "\n\n".join((_systems(targets), table(heads, rows), _counts(lines), notes))


def _brief(line: Line | None) -> str:
    if line is None:
        return ""
    if line.charge is None:
        return "does not fit"
    return f"{_short(line.ideal.latency)} {_short(line.ideal.energy)} {line.verdict}"


def _short(value: float) -> str:
    """A ratio in two digits: `0.0061`, `1.3e-4`."""
    return f"{value:.2g}" if value >= 1e-3 else f"{value:.1e}".replace("e-0", "e-")


def _reasons(lines: Sequence[Line]) -> list[str]:
    failed = [f"fail: {line.name}: {line.reason}" for line in lines if line.verdict == "fail"]
    return ["\n".join(failed)] if failed else []


def _energies(lines: Sequence[Line], targets: Targets) -> str:
    """Energy by category over the ideal CPU's, and the size of each system."""
    heads = (
        "cell, scope, system",
        "dynamic",
        "write",
        "static",
        "token",
        "chips",
        "tiles",
        "area mm2",
        "cells",
        "needed",
        "W/chip to spare",
        "a layer",
    )
    rows = []
    for line in lines:
        charge, size = line.charge, line.built
        if charge is None or size is None:
            continue
        each = [ratio(j / line.ideal.joules) for j in (charge.dynamic_j, charge.write_j, charge.static_j)]
        area = size.chips * chip_area(targets[line.way]).total
        room = (f"{size.cell_bytes / 2**30:.2f} GiB", f"{size.needed_bytes / 2**30:.2f} GiB")
        sizes = (f"{size.chips}", f"{size.tiles:,}", f"{area:,.0f}", *room)
        spare = (f"{line.spare_w:.3g}", f"{1e6 * (line.spare_s or 0):.3g} us")
        rows.append((line.name, *each, si(charge.token_s, "s"), *sizes, *spare))
    return table(heads, rows) if rows else ""


def _others(lines: Sequence[Line], here: Here) -> str:
    """What the machines take for each cell and scope, and what the CPU here was measured to take."""
    pairs = list(dict.fromkeys((line.cell, line.scope) for line in lines))
    heads = ("cell, scope", *(f"{m.name} {unit}" for m in machines() for unit in "sJ"), "here", "J", "by")
    rows = []
    for cell, scope in pairs:
        each = [f(demand(cell, scope)) for m in machines() for f in (m.seconds, m.joules)]
        found = here.get((cell, scope))
        own = (si(found.seconds, "s"), si(found.joules, "J"), found.how) if found else ("-", "-", "-")
        rows.append((f"{cell.name}, {scope.value}", *(f"{value:.3g}" for value in each), *own))
    return table(heads, rows)


def _notes(lines: Sequence[Line]) -> list[str]:
    """What a reader has to know of some lines."""
    long = sorted({c.model for c in (line.cell for line in lines) if c.room > CONFIGS[c.model].max_positions})
    notes = []
    if any(line.way is Way.HYBRID and line.scope is Scope.WHOLE for line in lines):
        notes.append("end-to-end of a hybrid is over the same GPU with attention on the CPU")
    old = len({(line.cell, line.way) for line in lines if line.is_old})
    if old:
        notes.append(f"{old} programs are kept results of another version of the compiler")
    if long:
        notes.append(f"beyond the trained positions, shapes only: {', '.join(long)}")
    return notes


def data(lines: Sequence[Line], targets: Targets, here: Here) -> object:
    """Everything as JSON values."""
    return {
        "published": {name: published(name).model_dump() for name in (SEED, POSTER, AIM)},
        "machines": [asdict(m) for m in machines()],
        "systems": {way.value: _system(target) for way, target in targets.items()},
        "lines": [_values(line, targets[line.way]) for line in lines],
        "measured": [
            {"model": cell.model, "context": cell.context, "batch": cell.batch, "scope": scope.value}
            | asdict(found)
            for (cell, scope), found in here.items()
        ],
    }


def _system(target: Hardware) -> dict[str, object]:
    area = chip_area(target)
    return {
        "target": target.name,
        "target_hash": target.hash,
        "most_chips": int(target.system.chips_x.value * target.system.chips_y.value),
        "chip_mm2": area.total,
        "chip_mm2_by_component": {c.value: mm2 for c, mm2 in area.by_component.items()}
        | {"other": area.other},
    }


def _values(line: Line, target: Hardware) -> dict[str, object]:
    charge, size = line.charge, line.built
    named = {**asdict(line.cell), "scope": line.scope.value, "way": line.way.value, "verdict": line.verdict}
    named["verdict_int8"] = line.verdict_with(BYTE)
    if charge is None or size is None:
        return {**named, "reason": line.reason}
    kept = {key: value for key, value in asdict(charge).items() if key not in ("way", "scope")}
    return {
        **named,
        "reason": line.reason,
        **kept,
        "energy_j": charge.energy_j,
        "spare_w_a_chip": line.spare_w,
        "spare_s_a_layer": line.spare_s,
        "system": asdict(size) | {"mm2": size.chips * chip_area(target).total},
        "against": [asdict(against) for against in line.all_against()],
    }
