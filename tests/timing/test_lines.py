"""Every joule has an address: lines of energy, places and constants of the statistics add up and agree."""

from __future__ import annotations

import json
import math

import pytest

from isa.events import Event, Static, constant
from isa.hardware import load_target
from isa.program import Slice, Tile
from isa.target_files import target_names
from runtime.comparison import changed_constants, deltas
from runtime.energy import energy_of
from runtime.nodes import NodeName
from runtime.report import constants_text
from runtime.sinks.constants import constant_records, energy_lines, paths_of, quantities
from runtime.sinks.occupancy import label_of
from runtime.sinks.places import dealt, held, quantum
from runtime.sinks.schema import Statistics
from runtime.sinks.statistics import statistics
from runtime.timing import simulate

from .test_properties import attention
from .test_report import layered, stats
from .test_sinks import STEPS


def attended() -> Statistics:
    p = attention()
    return statistics(p, [simulate(p, s) for s in STEPS], engine="timing", wall_s=0.5, segments=STEPS)


def test_lines_and_places_add_up_exactly() -> None:
    for found in (stats(), attended()):
        total = found.energy_j.total
        assert math.fsum(line.joules for line in found.energy_lines) == total > 0
        each = [j for p in found.places for j in (p.dynamic_j, p.write_j, p.static_j)]
        assert sum(each) == math.fsum(each) == total
        parts = [j for p in found.places for j in p.by_component.values()]
        assert sum(parts) == math.fsum(parts) == total
        assert all(
            math.fsum(p.by_component.values()) == p.dynamic_j + p.write_j + p.static_j for p in found.places
        )
        assert sum(p.critical_cycles for p in found.places) == found.cycles


@pytest.mark.parametrize("name", target_names())
def test_a_line_is_its_count_times_its_constants(name: str) -> None:
    target = load_target(name)
    counts = {(event, "node"): 1000 + number for number, event in enumerate(Event)}
    spent = energy_of(target, counts, dict.fromkeys(Static, 7), 0.5)
    lines = energy_lines(spent)
    known = {record.path: record for record in constant_records(target, lines)}
    causes = {cause.key: cause for cause in (*Event, *Static)}
    for line in lines:
        cause = causes[line.key]
        scale = cause.info.scale * line.count if isinstance(cause, Event) else 0.5 * line.count
        assert line.constants
        assert line.joules == pytest.approx(scale * math.prod(constant(target, p).si for p in line.constants))
        assert all(known[path].value == constant(target, path).value for path in line.constants)
        assert all(known[path].source for path in line.constants)
    assert len({line.key for line in lines}) == len(lines)


def test_all_quantities_of_a_target_are_found() -> None:
    paths = dict(quantities(load_target("dcim22")))
    assert {"clock", "macro.mac_energy", "host.power", "system.chips_x"} <= set(paths)
    assert paths["macro.rows"].value == 256
    assert paths_of(Event.ARRAY_MAC_TRANSPOSED) == ("macro.mac_energy", "macro.transpose_energy_factor")


def test_static_energy_of_tiles_belongs_to_the_layers_they_hold() -> None:
    found = stats()
    static = {p.layer: p.static_j for p in found.places if p.part == "(static)"}
    assert static[0] == pytest.approx(static[1])
    assert static[0] > 0
    tiles = {"arrays", "buffers", "vector", "sequencers"}
    expected = sum(e.joules for e in found.energy_lines if e.category == "static" and e.component in tiles)
    assert static[0] + static[1] == pytest.approx(expected)


def test_what_is_dealt_adds_up() -> None:
    weights = {NodeName(n, ""): w for n, w in enumerate((1.0, 0.0, 1 / 3, 2.0))}
    shares = dealt(7 * 2.0**-60, weights, 2.0**-60)
    assert sum(shares.values()) == 7 * 2.0**-60
    assert shares[NodeName(1, "")] == 0
    assert dealt(0.0, {}, 1.0) == {}
    assert quantum([6.0, 0.0, 0.75]) == 0.25


def test_places_of_tiles() -> None:
    nodes = ("/m/layers.2/q/MatMul /m/layers.2/k/MatMul", "", "/m/layers.1/x/Add", "/head/MatMul")
    places = held(Tile("t", "r", 0, 0, constants=(Slice("c", (0,)),), nodes=nodes))
    assert [p.layer for p in places] == [1, 2, None]
    assert label_of(places) == "layers 1, 2, head"
    assert label_of(tuple(NodeName(n, "") for n in range(4))) == "layers 0 to 3"
    assert label_of((NodeName(5, ""),)) == "layer 5"
    assert label_of(()) == "(unknown)"


def test_work_by_phase() -> None:
    found = attended()
    assert [w.phase for w in found.work] == ["prefill", "decode"]
    assert sum(w.cycles for w in found.work) == found.cycles
    assert sum(w.operations["arrays"] for w in found.work) == 2 * found.macs
    assert all(sum(w.critical.values()) == w.cycles for w in found.work)
    assert all(roof.per_second > 0 for roof in found.roofs)
    for roof in found.roofs:
        assert set(roof.constants) <= {c.path for c in found.constants}


def test_work_is_one_phase_where_segments_are_unknown() -> None:
    assert [(w.phase, w.cycles) for w in stats().work] == [("all", stats().cycles)]


def test_tiles_and_macros() -> None:
    found = stats()
    assert (found.tile_map.x, found.tile_map.y) == ([0, 1], [0, 0])
    assert [found.tile_map.labels[n] for n in found.tile_map.label] == ["layer 0", "layer 1"]
    assert [found.tile_map.roles[n].name for n in found.tile_map.role] == ["ffn", "ffn"]
    assert found.tile_map.names == []
    assert found.occupancy.tiles == (2, layered().target.tiles)
    filled, room = found.occupancy.cells["weight"]
    assert filled == 2 * 64 * 16 <= room


def test_lists_of_numbers_share_lines() -> None:
    text = stats().to_json()
    assert '"x": [0, 1]' in text
    assert Statistics.model_validate_json(text) == stats()
    assert json.loads(text)["target"] == "tiny"


def test_constants_are_listed_with_their_lines() -> None:
    text = constants_text(stats())
    (row,) = [line for line in text.splitlines() if line.startswith("macro.mac_energy")]
    assert "array_mac" in row
    assert "assumed" in row


def test_what_changed() -> None:
    new, old = stats(macro__mac_energy=0.2), stats()
    assert [c.path for c in changed_constants(new, old)] == ["macro.mac_energy"]
    changed = {d.name: d for d in deltas(new, old)}
    assert changed["cycles"].change == "0"
    assert changed["arrays"].new - changed["arrays"].old == pytest.approx(
        4096 * 2 * 0.2e-12 / 2 - 4096 * 0.1e-12
    )
    assert changed["arrays"].change.startswith("+")
