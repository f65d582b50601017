"""Results of the matrix in a file, for a run that goes on later: one line a program, written when it is done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.headline.cases import Cell, Scope, Way
from benchmarks.headline.compare import Line
from benchmarks.headline.programs import compiler_hash
from benchmarks.headline.simulate import Built, Charge
from isa.diagnostics import NamedPlace, fail
from isa.hardware import Hardware
from runtime.sinks.constants import quantities

Results = Mapping[tuple[Cell, Way, str], tuple[Line, ...]]
"""By cell, way and the numbers of the stated target."""


def numbers_hash(target: Hardware) -> str:
    """Of a target's name and numbers. Where they come from may be told in other words, and results still hold."""
    numbers = sorted((path, quantity.value, quantity.unit) for path, quantity in quantities(target))
    return hashlib.sha256(repr((target.name, numbers)).encode()).hexdigest()[:16]


def read_results(path: Path | None) -> Results:
    """What a run has kept so far; nothing if there is no such file. Raises `CimError` E0605."""
    if path is None or not path.exists():
        return {}
    try:
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found = {}
        for entry in entries:
            is_old = entry["compiler"] != compiler_hash()
            lines = tuple(_line(values, is_old) for values in entry["lines"])
            found[lines[0].cell, lines[0].way, str(entry["target"])] = lines
        return found
    except (IndexError, KeyError, TypeError, ValueError):
        help_text = "give a file that `cim bench headline --resume` wrote, or a new name"
        raise fail("E0605", "it has no results of the matrix", NamedPlace(str(path)), help_text) from None


def append_results(path: Path, target: Hardware, lines: Sequence[Line]) -> None:
    """Keep the lines of a program: one line, written at once. Raises `CimError` E0003."""
    entry = {
        "target": numbers_hash(target),
        "compiler": compiler_hash(),
        "lines": [_values(line) for line in lines],
    }
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
    except OSError as error:
        raise fail("E0003", f"cannot write it: {error.strerror}", NamedPlace(str(path))) from None


def _values(line: Line) -> dict[str, object]:
    """A line as JSON values."""
    named = {**asdict(line.cell), "scope": line.scope.value, "way": line.way.value, "refused": line.refused}
    if line.charge is None or line.built is None:
        return named
    charge = {key: value for key, value in asdict(line.charge).items() if key not in ("scope", "way")}
    return {**named, "charge": charge, "built": asdict(line.built), "host": list(line.host)}


def _line(values: Mapping[str, Any], is_old: bool) -> Line:
    """A line from JSON values."""
    cell = Cell(*(values[name] for name in ("model", "context", "batch", "capacity")))
    scope, way = Scope(values["scope"]), Way(values["way"])
    if "charge" not in values:
        return Line(cell, scope, way, values["refused"], is_old=is_old)
    seconds, joules = values["host"]
    charge, built = Charge(way, scope, **values["charge"]), Built(**values["built"])
    return Line(cell, scope, way, "", charge, built, (seconds, joules), is_old)
