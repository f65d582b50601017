"""What of the system is in use, and the most that it could do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from isa import instructions as t
from isa.hardware import Hardware, load_target
from isa.interface import KvCache
from isa.operands import Space
from isa.program import ArrayKind, Limits, MemoryRegion, Program, Replica, Segment
from runtime.paging import KvUse, PagePool, kept_rows
from runtime.sinks.constants import quantities
from runtime.sinks.occupancy import occupancy, uses_of
from runtime.sinks.schema import Roof
from runtime.sinks.work import roofs

from .programs import array, program, role, tiny


def copied(*corners: tuple[int, int]) -> Program:
    """A tile with an array, and 100 bytes in the buffer of its chip; copies of it on three chips in a row."""
    one = program([role("work", [t.Halt()], [array("w", 64, 16)])], target=tiny().with_chips(3, 1))
    region = MemoryRegion("r", Space.GBUF, 0, 0, 100, "w")
    return replace(one, memory=(region,), replicas=tuple(Replica(*corner) for corner in corners))


def test_copies_on_further_chips_have_regions_of_their_own() -> None:
    across = int(tiny().chip.tiles_x.value)
    capacity = int(tiny().gbuf.capacity.si)
    for corners, chips in (((), 1), ([(1, 0)], 1), ([(across, 0)], 2), ([(across, 0), (2 * across, 0)], 3)):
        found = occupancy(copied(*corners)).memory_bytes["gbuf"]
        assert found == (100 * chips, capacity * chips)


def _links(*corners: tuple[int, int]) -> list[Roof]:
    return [roof for roof in roofs(copied(*corners)) if roof.component == "chip_links"]


def test_links_between_chips_are_a_border() -> None:
    across, along = (int(side.value) for side in (tiny().chip.tiles_x, tiny().chip.tiles_y))
    assert _links() == []
    (roof,) = _links((across, 0), (2 * across, 0))
    assert roof.per_second == 2 * 2 * along * tiny().chip_link.bandwidth.si
    (far,) = _links((2 * across, 0))  # messages cross the chip between
    assert far.per_second == roof.per_second
    assert (roof.kind, roof.constants[0]) == ("bytes", "chip_link.bandwidth")


def _rates(target: Hardware) -> list[tuple[float, list[str]]]:
    arrays = [array("w", 16, 16), array("k", 16, 16, ArrayKind.KV)]
    found = roofs(program([role("work", [t.Halt()], arrays)], target=target))
    return [(roof.per_second, roof.constants) for roof in found if roof.component == "arrays"]


@pytest.mark.parametrize("name", ["dcim22", "isaac32", "hermes14", "gaincell28", "rcw22"])
def test_roofs_name_all_constants_that_change_them(name: str) -> None:
    target = load_target(name)
    plain, known = _rates(target), dict(quantities(target))
    assert all(path in known for _, constants in plain for path in constants)
    for path, quantity in known.items():
        other = target.model_dump(mode="json")
        *folders, last = path.split(".")
        table: Any = other
        for folder in folders:
            table = table[int(folder)] if isinstance(table, list) else table[folder]
        table[last]["value"] = 2 * quantity.value
        try:
            changed = _rates(Hardware.model_validate(other))
        except ValidationError:
            continue
        for (before, constants), (after, _) in zip(plain, changed, strict=True):
            assert before == after or path in constants, path


def _cached(rows: int = 0, hot: int = 0, ring: int = 0) -> Program:
    return replace(copied(), limits=Limits(64, 8), caches=(KvCache(0, (), rows=rows, hot=hot, ring=ring),))


def test_rows_that_arrays_do_not_keep_are_no_room() -> None:
    steps = [(Segment(8, 8 * n, 0),) for n in range(5)]
    assert uses_of(copied(), steps) == []
    assert uses_of(_cached(rows=64), steps) == []
    assert uses_of(_cached(), steps)[-1] == KvUse(1, 64, 1, 40)
    assert uses_of(_cached(rows=64, hot=16, ring=24), steps)[-1] == KvUse(1, 24, 1, 24)
    assert uses_of(_cached(ring=24), steps)[0] == KvUse(1, 24, 1, 8)


def test_layers_that_keep_most_rows_count() -> None:
    streamed, window = _cached(rows=64), _cached(ring=24)
    assert kept_rows(replace(window, caches=window.caches + streamed.caches)) == 24
    assert kept_rows(replace(window, caches=window.caches + _cached().caches)) == 64
    pool = PagePool(window.limits, 24)
    assert pool.has_room({0: 64})
    assert not PagePool(Limits(64, 8, pages=2, page_rows=16), 24).has_room({0: 64})
