"""Targets that are based on others."""

from __future__ import annotations

from pathlib import Path

import pytest

from isa.diagnostics import CimError
from isa.hardware import load_target
from isa.macro import Cell

QUANTITY = '{ value = 2, unit = "1", source = "a test", confidence = "assumed" }'


def _file(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_what_a_file_leaves_out_is_that_of_its_base(tmp_path: Path) -> None:
    path = _file(tmp_path, "two.toml", f'name = "two"\nbased_on = "tiny"\n[system]\nchips_x = {QUANTITY}\n')
    two, tiny = load_target(str(path)), load_target("tiny")
    assert (two.name, two.system.chips_x.value, two.system.chips_x.source) == ("two", 2, "a test")
    assert two.model_dump(exclude={"name", "system"}) == tiny.model_dump(exclude={"name", "system"})
    assert two.system.chips_y == tiny.system.chips_y


def test_a_base_may_be_a_file_beside_it_and_have_a_base(tmp_path: Path) -> None:
    _file(tmp_path, "low.toml", f'name = "low"\nbased_on = "tiny"\n[system]\nchips_x = {QUANTITY}\n')
    path = _file(
        tmp_path, "high.toml", f'name = "high"\nbased_on = "low.toml"\n[system]\nchips_y = {QUANTITY}\n'
    )
    high = load_target(str(path))
    assert (high.system.chips_x.value, high.system.chips_y.value) == (2, 2)


@pytest.mark.parametrize(
    ("base", "code", "words"),
    [
        ('"nowhere"', "E0501", "there is no target 'nowhere'"),
        ('"absent.toml"', "E0501", "there is no target 'absent.toml'"),
        ('"self.toml"', "E0502", "it is based on itself"),
        ("3", "E0502", "not a name of a target: 3"),
    ],
)
def test_a_wrong_base_is_refused(tmp_path: Path, base: str, code: str, words: str) -> None:
    path = _file(tmp_path, "self.toml", f'name = "self"\nbased_on = {base}\n')
    with pytest.raises(CimError) as caught:
        load_target(str(path))
    assert (caught.value.diagnostics[0].code, caught.value.diagnostics[0].message) == (code, words)


def test_a_quantity_is_replaced_as_a_whole(tmp_path: Path) -> None:
    text = 'name = "half"\nbased_on = "tiny"\n[system]\nchips_x = { value = 2 }\n'
    with pytest.raises(CimError) as caught:
        load_target(str(_file(tmp_path, "half.toml", text)))
    assert "system.chips_x.unit" in str(caught.value)


def test_macros_of_other_cells_do_not_take_over_what_describes_cells(tmp_path: Path) -> None:
    named = 'based_on = "isaac32"\nname = "own"\n'
    same = load_target(str(_file(tmp_path, "same.toml", named + '[macro]\ncell = "reram"\n'))).macro
    other = load_target(str(_file(tmp_path, "other.toml", named + '[macro]\ncell = "sram"\n'))).macro
    assert (same.adc, same.noise) == (load_target("isaac32").macro.adc, load_target("isaac32").macro.noise)
    assert (other.adc, other.noise, other.activity) == (None, None, None)


@pytest.mark.parametrize("name", ["hermes14", "isaac32", "puma32", "hbm-pim", "gaincell28"])
def test_activity_is_that_of_digital_sram_and_gain_cells(name: str) -> None:
    """Nothing is published of how the energy of the others depends on data."""
    target = load_target(name)
    for macro in (target.macro, target.written):
        assert (macro.activity is not None) is (macro.cell in (Cell.SRAM, Cell.GAIN_CELL))
