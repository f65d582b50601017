"""Statistics that no run has written: `cim report` says E0605 and the place, and ends with 1."""

from __future__ import annotations

import copy
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cim

WRONG: list[tuple[str, object]] = [
    ("clock_hz", 0),
    ("clock_hz", -1),
    ("clock_hz", math.nan),
    ("clock_hz", 2e9),
    ("latency_s", math.nan),
    ("latency_s", 1e-320),
    ("latency_s", 0),
    ("cycles", -1),
    ("cycles", 10**400),
    ("bound_by", "magic"),
    ("critical_path.by_resource", {}),
    ("energy_lines.0.category", "magic"),
    ("energy_lines.0.component", "magic"),
    ("energy_lines.0.constants", []),
    ("energy_lines.0.joules", math.inf),
    ("energy_lines.0.joules", math.nan),
    ("energy_lines", []),
    ("energy_j.total", math.inf),
    ("energy_j.total", 0),
    ("energy_j.by_component", {}),
    ("constants.0.confidence", "hearsay"),
    ("constants.0.value", math.inf),
    ("places.0.layer", -1),
    ("roofs.0.per_second", math.inf),
    ("roofs.0.per_second", 0),
    ("tile_map.x", []),
    ("tile_map.role", [0]),
    ("tile_map.names", ["one"]),
    ("tile_map.roles", []),
    ("tile_map.labels", []),
    ("tile_map.macros_per_tile", 0),
    ("tile_map.chips", [0, 0]),
    ("tile_map.chips", [1 << 20, 1 << 20]),
    ("tile_map.tiles", [1, 1]),
    ("tile_map.corners", [[9_999, 0]]),
    ("occupancy.tiles.1", 0),
    ("occupancy.macros_total", 0),
    ("work.0.cycles", -1),
    ("decode.positions", []),
    ("decode.latency_s", 0),
    ("decode.tokens", 0),
    ("decode.steps", []),
    ("version", 3),
    ("version", True),
    ("schema", "other"),
    ("target", "\ud800"),
]


@pytest.fixture(scope="module")
def good(program: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Statistics of two decode steps."""
    from runtime.cli import main

    path = tmp_path_factory.mktemp("stats") / "s.json"
    assert main(["run", str(program), "--timing-only", "--decode", "2", "--stats", str(path)]) == 0
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def changed(good: dict[str, Any], place: str, value: object) -> dict[str, Any]:
    """A copy with another value at `a.0.b`."""
    found = copy.deepcopy(good)
    *outer, last = [int(word) if word.isdigit() else word for word in place.split(".")]
    at: Any = found
    for word in outer:
        at = at[word]
    at[last] = value
    return found


@pytest.mark.parametrize(
    ("place", "value"), WRONG, ids=lambda x: str(x)[:30].encode("ascii", "replace").decode()
)
def test_malformed_statistics(
    cim: Cim, good: dict[str, Any], tmp_path: Path, place: str, value: object
) -> None:
    path, page = tmp_path / "s.json", tmp_path / "page.html"
    path.write_text(json.dumps(changed(good, place, value)))
    done = cim("report", path, "--html", page)
    assert done.code == 1, done.err
    assert re.search(r"error\[E0605\]: ", done.err)
    assert str(path) in done.err
    assert "help: " in done.err
    assert not page.exists()


def test_what_a_run_wrote_is_read(cim: Cim, good: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text(json.dumps(good))
    assert cim("report", path, "--baseline", path, "--html", tmp_path / "page.html").code == 0


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", "3", '{"version": 3, "schema": "other"}', "[" * 100_000, "1" * 5_000]
)
def test_other_json_is_not_statistics(cim: Cim, tmp_path: Path, text: str) -> None:
    path = tmp_path / "s.json"
    path.write_text(text)
    done = cim("report", path)
    assert done.code == 1
    assert "error[E0605]" in done.err
    assert "version" not in done.err.partition("help: ")[0]
    assert len(done.err.splitlines()) == 2


def test_one_diagnostic_says_what_is_wrong_with_many_fields(
    cim: Cim, good: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "s.json"
    path.write_text(json.dumps(changed(good, "tile_map.x", ["left"] * 20_000)))
    done = cim("report", path)
    assert done.code == 1
    assert done.err.count("error[") == done.err.count("help: ") == 1
    assert "tile_map.x.0" in done.err
    assert "note: 19,995 more" in done.err
