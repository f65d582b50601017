"""Targets that cannot be: each is a diagnostic with its place, or a target that can be simulated."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from isa import instructions as t
from isa.area import chip_area
from isa.diagnostics import CimError, Diagnostic
from isa.hardware import hardware_from_dict, load_target
from isa.operands import Mem, Space
from isa.program import Segment
from runtime.energy import energy
from runtime.timing import simulate
from tests.timing.programs import A0, R, array, at, single

SOURCE = 'source = "a test", confidence = "assumed"'
HUGE = 10**400


def refused(folder: Path, text: str, asked: str = "") -> Diagnostic:
    """The first thing wrong with a target file `own.toml`."""
    path = folder / "own.toml"
    path.write_text(text)
    with pytest.raises(CimError) as caught:
        load_target(f"{path}{asked}")
    assert all(d.help for d in caught.value.diagnostics)
    return caught.value.diagnostics[0]


def based(key: str, value: str, unit: str) -> str:
    """A target with another quantity, such as tile.granule."""
    section, _, name = key.rpartition(".")
    text = f'name = "own"\nbased_on = "tiny"\n[{section}]\n'
    return text + f'{name} = {{ value = {value}, unit = "{unit}", {SOURCE} }}\n'


@pytest.mark.parametrize(
    ("key", "value", "unit", "words"),
    [
        ("tile.granule", "0", "byte", "must be greater than 0 (given: 0 byte)"),
        ("tile.granule", "0.25", "byte", "must be a whole number (given: 0.25 byte)"),
        ("tile.buffer", "0", "KiB", "must be greater than 0 (given: 0 KiB)"),
        ("macro.retention", "0", "ms", "must be greater than 0 (given: 0 ms)"),
        ("macro.mvm_latency", "1e300", "s", "must not be above 1 s (given: 1e+300 s)"),
        ("macro.mvm_latency", "2000", "ms", "must not be above 1000 ms (given: 2000 ms)"),
        ("chip.tiles_x", "1e12", "1", "must not be above 1.04858e+06 1 (given: 1000000000000.0 1)"),
        ("dram.bandwidth", "1e-300", "GB/s", "must not be below 1e-06 GB/s (given: 1e-300 GB/s)"),
        ("clock", "1e300", "GHz", "must not be above 100 GHz (given: 1e+300 GHz)"),
        (
            "macro.mvm_latency",
            "3",
            "GHz",
            "unit 'GHz' is not a time; use one of ms, ns, s, us (given: 3 GHz)",
        ),
    ],
)
def test_a_quantity_beyond_what_can_be_names_its_key(
    tmp_path: Path, key: str, value: str, unit: str, words: str
) -> None:
    text = based(key, value, unit)
    if key == "clock":
        text = text.replace("[]\n", "")
    found = refused(tmp_path, text)
    assert (found.code, found.message) == ("E0502", words)
    assert str(found.place) == f"{tmp_path / 'own.toml'}: {key}"


def test_more_tiles_than_can_be_simulated_are_refused(tmp_path: Path) -> None:
    many = f'{{ value = 4096, unit = "1", {SOURCE} }}'
    text = f'name = "own"\nbased_on = "tiny"\n[chip]\ntiles_x = {many}\ntiles_y = {many}\n'
    assert "16,777,216 tiles, of which 4,194,304 can be simulated" in refused(tmp_path, text).message


@pytest.mark.parametrize(
    ("points", "asked", "place"),
    [
        ("points = 3\n", "@low", "points"),
        ("points = 3\n", "", "points"),
        ("[points]\nlow = 3\n", "@low", "points.low"),
        ("[points]\nlow = [1]\n", "", "points.low"),
    ],
)
def test_points_are_tables_of_tables(tmp_path: Path, points: str, asked: str, place: str) -> None:
    found = refused(tmp_path, f'name = "own"\nbased_on = "tiny"\n{points}', asked)
    assert found.code == "E0502" and found.message.startswith("not a table (given: ")
    assert str(found.place) == f"{tmp_path / 'own.toml'}: {place}"


@pytest.mark.parametrize("asked", ["", "@low", "+cpu-spr", "@low+cpu-spr"])
@pytest.mark.parametrize("name", ["", "name = 3\n", 'name = "Own chip"\n'])
def test_a_name_that_is_none_is_said_to_be(tmp_path: Path, asked: str, name: str) -> None:
    tiny = (Path(load_target.__code__.co_filename).parent / "targets" / "tiny.toml").read_text()
    text = tiny.replace('name = "tiny"\n', name, 1) + "[points.low.tile]\n"
    found = refused(tmp_path, text, asked)
    assert (found.code, str(found.place)) == ("E0502", f"{tmp_path / 'own.toml'}: name")
    assert "quantity" not in (found.help or "")


@pytest.mark.parametrize(
    ("line", "words", "place"),
    [
        ('based_on = "nowhere"', "there is no target 'nowhere'", "based_on"),
        ('based_on = "tiny"\nhost = "abacus"', "there is no host 'abacus'", "host"),
    ],
)
def test_what_a_file_asks_for_is_missed_there(tmp_path: Path, line: str, words: str, place: str) -> None:
    found = refused(tmp_path, f'name = "own"\n{line}\n')
    assert (found.code, found.message) == ("E0501", words)
    assert str(found.place) == f"{tmp_path / 'own.toml'}: {place}"


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        ("[macro]\nrows = 3\n", "not a table (given: 3)", "macro.rows"),
        (
            '[macro]\ntransposable = "no way"\n',
            "must be true or false (given: 'no way')",
            "macro.transposable",
        ),
        ("[macro]\ncolour = 3\n", "there is no such key (given: 3)", "macro.colour"),
        ("[macro.adc]\n", "it is missing", "macro.adc.bits"),
        ('[macro]\ncell = "wood"\n', "must be 'sram', ", "macro.cell"),
        (based("macro.pass_rows", "48", "1"), "pass_rows must divide rows, 64", "macro"),
        (based("macro.retention", "200", "ns"), "refreshing all rows takes longer", "macro"),
        ("tile = 3\n", "not a table (given: 3)", "tile"),
        ("calibrated_by = 3\n", "must be a list (given: 3)", "calibrated_by"),
    ],
)
def test_messages_can_be_read(tmp_path: Path, text: str, message: str, place: str) -> None:
    own = text if text.startswith("name") else f'name = "own"\nbased_on = "tiny"\n{text}'
    found = refused(tmp_path, own)
    assert found.message.startswith(message) and len(found.message) < 160 and "Quantity" not in found.message
    assert str(found.place) == f"{tmp_path / 'own.toml'}: {place}"


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*given: object, **named: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", denied)
    with pytest.raises(CimError, match="E0001"):
        load_target("tiny")


# ------------------------------------------------------------------------------------------------ all quantities


def quantities(table: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All quantities of a target, to be changed."""
    for value in table.values():
        if isinstance(value, dict):
            if "value" in value:
                yield value
            else:
                yield from quantities(value)


@pytest.mark.parametrize("value", [0, 1e-300, 0.3, 1e9, 1e300, HUGE, math.inf, math.nan, -1, "x", None, [1]])
def test_any_quantity_is_refused_or_can_be_simulated(value: object) -> None:
    """One after another is set to `value`: a small program on the rest has cycles and joules."""
    values = load_target("tiny").model_dump(mode="json", exclude_none=True)
    for quantity in quantities(values):
        usual, quantity["value"] = quantity["value"], value
        try:
            target = hardware_from_dict(values, "own.toml")
        except CimError:
            continue
        finally:
            quantity["value"] = usual
        p = single(
            t.Li(R(1), 1),
            t.Vfill(at(0), R(1), 8, 0.0),
            t.Mvm(A0, at(256), at(0), R(1), R(0), 4),
            t.Load(at(0), Mem(Space.DRAM), R(1), 8),
            arrays=(array("w", 4, 4),),
            target=target,
        )
        cost = simulate(p, (Segment(1, 0, 0),))
        assert 0 < cost.cycles < 1 << 62
        assert math.isfinite(energy(target, p, [cost]).total) and math.isfinite(chip_area(target).total)
