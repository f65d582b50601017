"""Areas, operating points, hosts and kinds of macros of the targets that ship."""

from __future__ import annotations

import pytest

from isa.area import chip_area
from isa.diagnostics import CimError
from isa.events import Component
from isa.hardware import load_target
from isa.target_files import asked_of, host_names, point_names, target_names, target_path


@pytest.mark.parametrize("name", target_names())
def test_a_chip_is_the_sum_of_its_parts(name: str) -> None:
    target = load_target(name)
    area = chip_area(target)
    assert area.total == pytest.approx(sum(area.by_component.values()) * target.chip.other_area.value)
    assert area.by_component[Component.ARRAYS] > 0


@pytest.mark.parametrize("name", ["dcim3", "dcim5", "dense16", "hermes14", "rcw22", "puma32", "isaac32"])
def test_these_chips_are_no_larger_than_one_exposure(name: str) -> None:
    assert chip_area(load_target(name)).exposures < 1


@pytest.mark.parametrize("name", target_names())
def test_every_operating_point_is_a_target(name: str) -> None:
    for point in point_names(target_path(name)):
        target = load_target(f"{name}@{point}")
        assert target.name == f"{name}@{point}"
        assert target.hash != load_target(name).hash


@pytest.mark.parametrize("host", host_names())
def test_every_host_fits_a_target(host: str) -> None:
    target = load_target(f"tiny+{host}")
    assert target.name == f"tiny+{host}"
    assert target.host.power.si > 0
    assert target.macro == load_target("tiny").macro


def test_a_point_and_a_host_may_be_asked_for_together() -> None:
    target = load_target("dcim5@0.9V+gpu-h100")
    assert target.host == load_target("hybrid").host
    assert target.macro.mvm_latency.value == 22.2
    assert asked_of("dcim5@0.9V+gpu-h100").point == "0.9V"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dcim5@1.1V", "dcim5 has no operating point '1.1V'"),
        ("dcim22+abacus", "there is no host 'abacus'"),
        ("dcim23@0.9V", "there is no target 'dcim23'"),
    ],
)
def test_what_is_not_there_is_refused_by_name(name: str, words: str) -> None:
    with pytest.raises(CimError, match="E0501") as caught:
        load_target(name)
    assert caught.value.diagnostics[0].message == words


def test_keys_and_values_may_have_macros_of_their_own() -> None:
    target = load_target("hermes14")
    assert (target.macro.cell.value, target.written.cell.value) == ("pcm", "sram")
    assert target.written_beside(4) == target.kv_macros_per_tile == 4
    assert target.fits_tile(4, 4) and not target.fits_tile(5, 0) and not target.fits_tile(0, 5)
    shared = load_target("dcim22")
    assert shared.written is shared.macro
    assert shared.fits_tile(40, 24) and not shared.fits_tile(40, 25)
