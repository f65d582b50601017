"""The versions of the exporters: declared, pinned, and at peace with what else is pinned."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def _pins(name: str) -> dict[str, str]:
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    return {_plain(package): version for package, _, version in (line.partition("==") for line in lines)}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_lock_pins_what_is_declared() -> None:
    pins = _pins("requirements-exports.lock")
    assert all(re.fullmatch(r"[0-9][0-9A-Za-z.]*", version) for version in pins.values())
    declared = dict(requirement.split("==") for requirement in EXTRAS["exports"])
    assert {name: pins.get(_plain(name)) for name in declared} == declared


def test_nothing_is_pinned_twice() -> None:
    assert not set(_pins("requirements-exports.lock")) & set(_pins("requirements.lock"))


def test_training_and_exporting_use_one_torch() -> None:
    assert set(EXTRAS["train"]) <= set(EXTRAS["exports"])
