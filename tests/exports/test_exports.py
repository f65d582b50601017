"""Fresh exports of many families through current exporters: each understood, equal by value, and run by the chip.

Needs the packages of requirements-exports.lock (`make test-all` installs them). What comes of each file is written
down in tests/golden/exports/verdicts.txt, so that a new version of an exporter shows as a difference:
`python -m tests.exports.test_exports [PART OF A NAME] [--keep DIR]` writes these lines anew.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from benchmarks import chip, frontends
from benchmarks.references import Entry
from tests.exports.process import ExportError, Exporting, exporting, missing
from tests.exports.registry import EXPORTS, Export

GOLDEN = Path(__file__).parents[1] / "golden" / "exports" / "verdicts.txt"

FEWEST = 219
"""Files that must match on the chip: a golden file that is rewritten unnoticed proves nothing."""

_absent = missing()
needs_exporters = pytest.mark.skipif(
    bool(_absent),
    reason=f"{', '.join(_absent)}: not installed (make test-all installs requirements-exports.lock)",
)


@pytest.fixture(scope="session")
def process() -> Iterator[Exporting]:
    """The exporting process, one for all tests of this process."""
    with exporting() as started:
        yield started


@pytest.mark.slow
@needs_exporters
@pytest.mark.parametrize("name", EXPORTS)
def test_export(name: str, process: Exporting, tmp_path: Path) -> None:
    lines = dict(verdict(file, name) for file in process.make(EXPORTS[name], tmp_path))
    wanted = {file: said for file, said in golden().items() if _export_of(file) == name}
    assert lines == wanted, f"if this is right: python -m tests.exports.test_exports {name}"
    assert not [said for said in lines.values() if "differs" in said or "crashed" in said]


def test_verdicts_are_of_exports_and_most_match() -> None:
    said = golden()
    assert set(map(_export_of, said)) == set(EXPORTS)
    assert sum(line in ("matched, chip", "matched, host") for line in said.values()) >= FEWEST


def test_the_readme_says_what_the_verdicts_say() -> None:
    said = list(golden().values())
    models, hosted = len({file.split("/")[0] for file in golden()}), said.count("matched, host")
    text = " ".join((Path(__file__).parents[2] / "README.md").read_text().split())
    assert f"exports {models} small models" in text
    assert f"of {len(said)} files {said.count('matched, chip') + hosted} match" in text
    assert f"({hosted} of them with a part on the host)" in text


def verdict(file: Path, name: str) -> tuple[str, str]:
    """A file's name and what came of it: as a graph, and as a program in ideal arithmetic."""
    entry = Entry(file.parent, file.name, name)
    graph = frontends.examine(entry)
    said = frontends.summary(graph).removeprefix(f"{file.name}: ")
    if graph.outcome is frontends.Outcome.REFUSED:
        return f"{name}/{file.name}", said
    return f"{name}/{file.name}", f"{said}, {chip.summary(chip.examine(entry, chip.Arithmetic.IDEAL))}"


def golden() -> dict[str, str]:
    """The verdict on each file, by its name."""
    lines = GOLDEN.read_text().splitlines() if GOLDEN.is_file() else []
    return dict(line.split(": ", 1) for line in lines)


def _export_of(file: str) -> str:
    return file.rsplit("/", 1)[0]


def _renewed(export: Export, process: Exporting, folder: Path) -> dict[str, str]:
    """The golden lines with those of `export` made anew."""
    kept = {file: said for file, said in golden().items() if _export_of(file) != export.name}
    for file in process.make(export, folder):
        name, said = verdict(file, export.name)
        sys.stdout.write(f"{name}: {said}\n")
        sys.stdout.flush()
        kept[name] = said
    return kept


def _write(part: str, keep: Path | None) -> None:
    with TemporaryDirectory() as scratch, exporting() as process:
        for export in (e for e in EXPORTS.values() if part in e.name):
            folder = (keep or Path(scratch)) / export.name
            folder.mkdir(parents=True)
            try:
                said = _renewed(export, process, folder)
            except ExportError as problem:
                sys.stdout.write(f"{export.name} cannot be exported: {problem}\n")
                continue
            known = sorted(file for file in said if _export_of(file) in EXPORTS)
            GOLDEN.parent.mkdir(parents=True, exist_ok=True)
            GOLDEN.write_text("".join(f"{file}: {said[file]}\n" for file in known))


if __name__ == "__main__":
    _parser = argparse.ArgumentParser(description="Export, examine, and write the verdicts down.")
    _parser.add_argument("part", nargs="?", default="", help="of the names of the exports; default: all")
    _parser.add_argument("--keep", type=Path, help="a new folder for the exported files")
    _options = _parser.parse_args()
    _write(_options.part, _options.keep)
