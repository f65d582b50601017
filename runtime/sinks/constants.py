"""The constants behind a report: all of a target's, and which of them each line of energy is made of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from isa.events import Event, Static, constant
from isa.hardware import Hardware
from isa.quantities import Quantity
from runtime.energy import Energy, Part

from .schema import ConstantRecord, EnergyLine


def quantities(table: object, prefix: str = "") -> Iterator[tuple[str, Quantity]]:
    """Every quantity of a description by its path, in the order of the file; entries of lists are numbered."""
    if isinstance(table, Quantity):
        yield prefix, table
    elif isinstance(table, list | tuple):
        for index, item in enumerate(table):
            yield from quantities(item, f"{prefix}.{index}")
    elif isinstance(table, dict):
        for name, item in table.items():
            yield from quantities(item, f"{prefix}.{name}")
    else:
        for name in getattr(type(table), "model_fields", ()):
            yield from quantities(getattr(table, name), f"{prefix}.{name}" if prefix else name)


def paths_of(cause: Event | Static) -> tuple[str, ...]:
    """The paths of the constants whose product is the energy of one count (or the power of one)."""
    factor = cause.info.factor if isinstance(cause, Event) else None
    return (cause.info.constant,) if factor is None else (cause.info.constant, factor)


def energy_lines(spent: Energy) -> list[EnergyLine]:
    """The energy by what caused it, the largest first; parts of the same cause are one line."""
    parts: dict[Event | Static, list[Part]] = {}
    for part in spent.parts:
        parts.setdefault(part.cause, []).append(part)
    lines = [
        EnergyLine(
            key=cause.key,
            description=cause.info.description,
            component=cause.info.component.value,
            category=found[0].category.value,
            count=sum(part.count for part in found),
            unit=cause.info.unit,
            joules=sum((part.joules for part in found), 0.0),
            constants=list(paths_of(cause)),
            activity=_activity(found),
        )
        for cause, found in parts.items()
        if any(part.joules for part in found)
    ]
    return sorted(lines, key=lambda line: (-line.joules, line.key))


def _activity(parts: Sequence[Part]) -> float | None:
    """What the data of parts of one cause make of their joules, over all counts; None if the constants say it all."""
    if all(part.factor == 1.0 for part in parts):
        return None
    return math.fsum(part.count * part.factor for part in parts) / sum(part.count for part in parts)


def constant_records(target: Hardware, lines: Sequence[EnergyLine]) -> list[ConstantRecord]:
    """All constants of the target, and those behind the lines that follow from others."""
    found = dict(quantities(target))
    for line in lines:
        for path in line.constants:
            found.setdefault(path, constant(target, path))
    return [
        ConstantRecord(
            path=path,
            value=quantity.value,
            unit=quantity.unit,
            source=quantity.source,
            confidence=quantity.confidence.value,
            year=quantity.year,
        )
        for path, quantity in found.items()
    ]
