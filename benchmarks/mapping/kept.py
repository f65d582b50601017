"""Results of the suite in files: those of an earlier run to compare with, and those of a run that goes on later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from benchmarks.mapping.measure import Result
from isa.diagnostics import NamedPlace, fail

_FIELDS = frozenset(Result.__dataclass_fields__)


def _result(case: Mapping[str, object]) -> Result:
    """A result from JSON values; what is computed from others is left out."""
    return Result(**{key: value for key, value in case.items() if key in _FIELDS})  # type: ignore[arg-type]


def read_baseline(path: Path) -> dict[str, Result]:
    """The results of an earlier run, by case. Raises `CimError` E0001, E0605."""
    try:
        cases = json.loads(path.read_text(encoding="utf-8"))["cases"]
        results = [_result(case) for case in cases]
    except OSError as error:
        raise fail("E0001", f"cannot read it: {error.strerror}", NamedPlace(str(path))) from None
    except (KeyError, TypeError, ValueError):
        help_text = "give what `cim bench mapping --json` printed"
        raise fail("E0605", "it has no results of the suite", NamedPlace(str(path)), help_text) from None
    return {result.case: result for result in results}


def read_results(path: Path) -> dict[str, list[Result]]:
    """The results that a run has kept so far, by setup; none if there is no such file. Raises `CimError` E0605."""
    if not path.exists():
        return {}
    try:
        kept = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {entry["setup"]: [_result(case) for case in entry["results"]] for entry in kept}
    except (KeyError, TypeError, ValueError):
        help_text = "give a file that `cim bench mapping --resume` wrote, or a new name"
        raise fail("E0605", "it has no results of the suite", NamedPlace(str(path)), help_text) from None


def append_results(path: Path, setup: str, results: list[Result]) -> None:
    """Keep the results of a setup: one line, written at once."""
    line = json.dumps({"setup": setup, "results": [asdict(result) for result in results]})
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
