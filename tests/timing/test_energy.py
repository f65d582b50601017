"""Joules: closed forms, sums that are exact, and what static power is charged for (docs/energy.md)."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isa import instructions as t
from isa.events import Category, Component, Event, Static
from isa.hardware import load_target
from isa.program import Segment
from isa.target_files import target_names
from runtime.energy import STATIC_NODE, Energy, energy, energy_of, powered
from runtime.timing import simulate

from .programs import A0, ONE_TOKEN, R, array, at, changed, program, role, single, tiny
from .test_properties import attention

DOCS = Path(__file__).parents[2] / "docs" / "energy.md"


def test_closed_form_of_one_instruction() -> None:
    p = single(t.Li(R(1), 3), t.Mvm(A0, at(1024), at(0), R(1), R(0), 64), arrays=(array("w", 64, 16),))
    cost = simulate(p, ONE_TOKEN)
    spent = energy(p.target, p, [cost])
    assert cost.cycles == 31
    assert spent.by_cause[Event.ARRAY_MAC] == pytest.approx(3 * 64 * 16 * 0.1e-12)
    assert spent.by_cause[Event.ISSUE] == pytest.approx(3 * 2.5e-12)
    assert spent.by_cause[Event.BUFFER_READ_BYTE] == pytest.approx(3 * 64 * 8 * 0.0883e-12)
    assert spent.by_cause[Event.BUFFER_WRITE_BYTE] == pytest.approx(3 * 64 * 8 * 0.0925e-12)
    assert spent.by_cause[Static.MACRO] == pytest.approx(32 * 64 * 16 * 8 * 38.7e-12 * 31e-9)
    assert spent.by_cause[Static.HOST_LINK] == pytest.approx(0.1 * 31e-9)
    assert spent.by_cause[Static.ROUTER] == pytest.approx(36 * 0.01e-3 * 31e-9)


def test_a_row_write_is_write_energy() -> None:
    p = single(t.Li(R(1), 2), t.Wrow(A0, at(0), at(512), R(1), R(0)), arrays=(array("k", 64, 16),))
    spent = energy(p.target, p, [simulate(p, ONE_TOKEN)])
    assert spent.by_category[Category.WRITE] == pytest.approx(2 * 20 * 3.2e-12)


def test_the_second_direction_has_a_factor() -> None:
    assert Event.ARRAY_MAC_TRANSPOSED.joules(tiny()) == pytest.approx(1.2 * Event.ARRAY_MAC.joules(tiny()))


def check_sums(spent: Energy) -> None:
    for sums in (spent.by_category, spent.by_component, spent.by_node, spent.by_cause):
        values = list(sums.values())
        assert sum(values) == sum(reversed(values)) == math.fsum(values) == spent.total


def test_parts_add_up_exactly() -> None:
    p = attention()
    spent = energy(p.target, p, [simulate(p, (Segment(1, i, 1),)) for i in range(5)])
    check_sums(spent)
    assert spent.total > 0
    assert spent.by_node[STATIC_NODE] == spent.by_category[Category.STATIC]


_COUNTS = st.dictionaries(
    st.tuples(st.sampled_from(Event), st.sampled_from(["a", "b", "/layer.0/q"])),
    st.integers(0, 10**15),
    max_size=20,
)


@given(_COUNTS, st.dictionaries(st.sampled_from(Static), st.integers(0, 10**9)), st.floats(0, 1e4))
def test_parts_add_up_exactly_whatever_the_counts(
    counts: dict[tuple[Event, str], int], pieces: dict[Static, int], seconds: float
) -> None:
    spent = energy_of(tiny(), counts, pieces, seconds)
    check_sums(spent)
    exact = math.fsum(n * event.joules(tiny()) for (event, _), n in counts.items())
    exact += math.fsum(n * static.watts(tiny()) * seconds for static, n in pieces.items())
    assert spent.total == pytest.approx(exact, rel=1e-12)


def test_energy_of_steps_is_the_energy_of_their_counts() -> None:
    p = attention()
    costs = [simulate(p, (Segment(1, i, 1),)) for i in (0, 100)]
    both = energy(p.target, p, costs)
    assert both.total == pytest.approx(sum(energy(p.target, p, [cost]).total for cost in costs), rel=1e-12)


def test_constants_change_energy_without_a_new_simulation() -> None:
    p = attention()
    cost = simulate(p, (Segment(1, 100, 1),))
    cheaper = energy(changed(tiny(), vector__alu_energy=0), p, [cost])
    usual = energy(tiny(), p, [cost])
    assert cheaper.by_component[Component.VECTOR] < usual.by_component[Component.VECTOR]
    assert cheaper.by_component[Component.NETWORK] == pytest.approx(usual.by_component[Component.NETWORK])


def test_unused_tiles_and_chips_are_switched_off() -> None:
    quad = changed(tiny(), system__chips_x=2, system__chips_y=2)
    work = role("w", (t.Li(R(1), 1),))
    one = powered(program([work], [(0, 0)], target=quad))
    assert one[Static.BUFFER] == 64 * 1024
    assert (one[Static.DRAM], one[Static.ROUTER], one[Static.CHIP_LINK]) == (1, 36, 0)
    two = powered(program([work] * 3, [(0, 0), (1, 0), (11, 5)], target=quad))
    assert two[Static.SEQUENCER] == 3
    assert (two[Static.DRAM], two[Static.ROUTER], two[Static.CHIP_LINK]) == (2, 72, 6)


def test_longer_contexts_cost_more_energy() -> None:
    p = attention()
    totals = [energy(p.target, p, [simulate(p, (Segment(1, i, 1),))]).total for i in (0, 63, 64, 200, 400)]
    assert totals == sorted(totals)
    assert len(set(totals)) == len(totals)


@pytest.mark.parametrize("target", target_names())
def test_every_event_has_a_constant(target: str) -> None:
    hardware = load_target(target)
    assert all(event.joules(hardware) >= 0 for event in Event)
    assert all(static.watts(hardware) >= 0 for static in Static)


def test_the_document_has_every_event() -> None:
    text = DOCS.read_text()
    for event in Event:
        assert f"`{event.key}`" in text
        assert f"`{event.info.constant}`" in text
    for static in Static:
        assert f"| `{static.key}` |" in text
        assert f"`{static.info.constant}`" in text
