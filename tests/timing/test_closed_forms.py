"""docs/closed-forms.md: its programs on both engines, against its formulas with the constants in its tables."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from isa.assembler import assemble
from isa.events import Category, Event, constant
from isa.hardware import Hardware, load_target
from isa.program import Program, Segment
from isa.verifier import findings
from runtime.energy import Energy, energy
from runtime.fast.simulator import FastSimulator
from runtime.timing import StepCost, simulate

PAGE = Path(__file__).parents[2] / "docs" / "closed-forms.md"
TARGETS = ("tiny", "isaac32", "dcim22-system")
POSITIONS = {3: 99}
NUMBERS = range(1, 7)


@dataclass(frozen=True, slots=True)
class Example:
    """A section of the page: its program, and rows of its table as (part, formula, value)."""

    text: str
    rows: tuple[tuple[str, str, str], ...]

    def row(self, part: str) -> tuple[str, str]:
        """The formula and the value of a part."""
        return next((formula, value) for name, formula, value in self.rows if name == part)


def cells(line: str) -> list[str]:
    return [cell.strip().strip("`") for cell in line.strip().strip("|").split("|")]


def tables(text: str) -> list[list[str]]:
    """The rows of all tables, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rules = {n for n, line in enumerate(lines) if line.startswith("|---")}
    return [cells(line) for n, line in enumerate(lines) if n not in rules and n + 1 not in rules]


@cache
def sections() -> dict[str, str]:
    """The page by its headings."""
    _, *others = re.split(r"(?m)^## ", PAGE.read_text(encoding="utf-8"))
    return {title: body for title, _, body in (other.partition("\n") for other in others)}


@cache
def example(number: int) -> Example:
    """Section `number`."""
    body = next(body for title, body in sections().items() if title.startswith(f"{number}."))
    found = re.search(r"```cimasm\n(.*?)```", body, re.DOTALL)
    assert found is not None
    return Example(found[1], tuple((a, b, c) for a, b, c in tables(body)))


@cache
def run(number: int) -> tuple[Program, StepCost, Energy]:
    """The program of a section, its step and its energy."""
    program = assemble(example(number).text, PAGE.name)
    cost = simulate(program, (Segment(1, POSITIONS.get(number, 0), 1),))
    return program, cost, energy(program.target, program, [cost])


def in_unit(target: Hardware, path: str, unit: str) -> float:
    """A constant as the page's tables have it."""
    quantity = constant(target, path)
    if unit == "cycles":
        return target.cycles(quantity)
    if unit == "bytes a cycle":
        return target.bytes_per_cycle(quantity)
    return quantity.si * {"1": 1.0, "pJ": 1e12, "mW": 1e3}[unit]


def constants() -> list[tuple[str, str, str, list[str]]]:
    """Name, path, unit and the values for `TARGETS` of all constants on the page."""
    found = []
    for row in tables(sections()["Constants"]):
        name, path, *rest = row
        unit = rest.pop(0) if len(rest) > len(TARGETS) else "mW" if name.startswith("p_") else "pJ"
        found.append((name, path, unit, rest))
    return found


def names(target: Hardware) -> dict[str, float]:
    """What the names in formulas stand for on a target."""
    known = {
        name: in_unit(target, path, unit) for name, path, unit, values in constants() if "-" not in values
    }
    return known | {"slices": target.macro.weight_slices.value, "steps": target.macro.input_slices.value}


def value(formula: str, target: Hardware) -> float:
    """A formula of the page."""
    known = {"max": max, "min": min, "ceil": math.ceil, "__builtins__": {}, **names(target)}
    return float(eval(formula, known))


@pytest.mark.parametrize(
    ("name", "path", "unit", "values"), constants(), ids=lambda v: v if isinstance(v, str) else ""
)
def test_constants_are_those_of_the_targets(name: str, path: str, unit: str, values: list[str]) -> None:
    for target, given in zip(TARGETS, values, strict=True):
        if given == "-":
            assert constant(load_target(target), path).value == 0, name
        else:
            assert float(given) == pytest.approx(in_unit(load_target(target), path, unit), rel=1e-12), name


@pytest.mark.parametrize("number", NUMBERS)
def test_programs_are_safe(number: int) -> None:
    assert findings(run(number)[0]) == ()


@pytest.mark.parametrize("number", NUMBERS)
def test_cycles(number: int) -> None:
    program, cost, _ = run(number)
    formula, given = example(number).row("cycles")
    assert value(formula, program.target) == int(given) == cost.cycles
    assert FastSimulator(program).step((Segment(1, POSITIONS.get(number, 0), 1),)) == cost


@pytest.mark.parametrize("number", NUMBERS)
def test_counts(number: int) -> None:
    program, cost, _ = run(number)
    told = {}
    for part, formula, given in example(number).rows:
        if part.upper() in Event.__members__:
            assert value(formula, program.target) == int(given), part
            told[Event[part.upper()]] = int(given)
    counted = {event: cost.count(event) for event in Event if cost.count(event)}
    assert counted == told


@pytest.mark.parametrize("number", NUMBERS)
def test_joules(number: int) -> None:
    """Each part is its count times its constant; static power is drawn in each cycle; the sum is the whole."""
    program, cost, spent = run(number)
    target, whole = program.target, 0.0
    rounding = spent.total * 1e12 * 2**-51  # parts are multiples of one power of two (runtime/energy.py)
    for part, _, given in example(number).rows:
        if part.upper() in Event.__members__:
            event = Event[part.upper()]
            factor = (
                target.macro.transpose_energy_factor.value if event is Event.ARRAY_MAC_TRANSPOSED else 1.0
            )
            each = constant(target, event.value.constant).si * 1e12 * factor
            assert spent.by_cause[event] * 1e12 == pytest.approx(
                int(given) * each, rel=1e-14, abs=rounding
            ), part
            whole += int(given) * each
    formula, given = example(number).row("static mW")
    power = value(formula, target)
    assert round(power, 2) == float(given)
    assert spent.by_category[Category.STATIC] * 1e12 == pytest.approx(power * cost.cycles, rel=1e-13)
    said, total = example(number).row("pJ")
    assert spent.total * 1e12 == pytest.approx(whole + power * cost.cycles, rel=1e-13)
    assert round(spent.total * 1e12, 2) == float(total)
    by = [spent.by_category[c] * 1e12 for c in (Category.DYNAMIC, Category.WRITE, Category.STATIC)]
    assert [f"{joules:,.0f}" for joules in by] == said.partition(": ")[2].split(" + ")


def test_the_page_has_all_programs() -> None:
    assert [int(title[0]) for title in sections() if title[0].isdigit()] == list(NUMBERS)
