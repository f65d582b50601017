"""The tables of docs/headline.md and the README agree with themselves, with the targets and with the baselines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.headline.baselines import AIM, IDEAL, SEED, machine, published
from benchmarks.headline.cases import Cell, Scope
from benchmarks.headline.demand import demand
from isa.area import chip_area
from isa.hardware import load_target
from runtime.cli import main

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("docs/headline.md", "README.md")
Rows = dict[str, list[str]]


def block(name: str) -> str:
    """What `cim bench headline` printed, as it stands in a document."""
    text = (ROOT / name).read_text(encoding="utf-8")
    found = re.search(r"<!-- headline output: begin -->\n```text\n(.*?)```", text, re.DOTALL)
    assert found, name
    return found[1]


def tables(name: str) -> Iterator[tuple[list[str], Rows]]:
    """Each table: its heads, and its rows by the first cell."""
    for part in block(name).split("\n\n"):
        lines = part.splitlines()
        if len(lines) > 1 and set(lines[1]) == {"-", " "}:
            cells = [re.split(r" {2,}", line.strip()) for line in (lines[0], *lines[2:])]
            yield cells[0], {row[0]: row[1:] for row in cells[1:]}


def verdict(latency: float, energy: float) -> str:
    if published(AIM).holds(latency, energy):
        return "aim"
    return "pass" if published(SEED).holds(latency, energy) else "fail"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_verdicts_follow_from_the_ratios(name: str) -> None:
    heads, rows = next(tables(name))
    shown = [row for row in rows.values() if len(row) == len(heads) - 1]
    assert len(shown) >= 7
    for row in shown:
        latency, narrow_latency, energy, narrow_energy = (float(row[at]) for at in (1, 2, 5, 6))
        assert row[-2:] == [verdict(latency, energy), verdict(narrow_latency, narrow_energy)]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_parts_of_the_energy_add_up(name: str) -> None:
    (_, ratios), _, (_, parts), _ = tables(name)
    for cell, row in parts.items():
        assert sum(map(float, row[:3])) == pytest.approx(float(ratios[cell][5]), rel=0.01)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_areas_are_those_of_the_targets(name: str) -> None:
    areas = {target: chip_area(load_target(target)).total for target in ("dcim3-system", "dcim3-hybrid")}
    for target, printed in re.findall(r"(dcim3-\w+): up to \d+ chips of (\d+) mm2", block(name)):
        assert int(printed) == round(areas[target])
    for cell, row in list(tables(name))[2][1].items():
        area = areas["dcim3-system" if cell.endswith("all-cim") else "dcim3-hybrid"]
        assert float(row[6].replace(",", "")) == pytest.approx(int(row[4]) * area, abs=1)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_ideal_cpu_is_its_roofline(name: str) -> None:
    for label, row in list(tables(name))[3][1].items():
        model, sizes, scope = re.split(r"[ ,]+", label)
        context, batch = map(int, sizes.split("x"))
        asked = demand(Cell(model, context, batch), Scope(scope))
        assert float(row[0]) == pytest.approx(machine(IDEAL).seconds(asked), rel=0.01)
        assert float(row[1]) == pytest.approx(machine(IDEAL).joules(asked), rel=0.03)


def test_the_matrix_is_what_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs/headline.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- matrix output: begin -->\n```text\n(.*?)\n```", text, re.DOTALL)
    assert found
    kept = str(ROOT / "benchmarks/headline/measured.jsonl")
    assert main(["bench", "headline", "--full", "--resume", kept, "--brief", "--only-kept"]) == 0
    shown = capsys.readouterr().out
    # How many programs another version of the compiler made changes with every change of it.
    assert _without_note(shown) == _without_note(found[1])


def _without_note(text: str) -> list[str]:
    return [
        line.rstrip() for line in text.strip().splitlines() if "another version of the compiler" not in line
    ]
