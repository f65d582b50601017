"""What is declared agrees with itself: dependencies and lock file, Makefile and README, script and lexer."""

from __future__ import annotations

import re
import tomllib
from importlib import import_module

import pytest

from tests.house.source import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
_PIN = re.compile(r"^([A-Za-z0-9_.-]+)==([0-9][0-9A-Za-z.]*)$")


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pins() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    matches = [_PIN.match(line) for line in lines if line and not line.startswith("#")]
    assert all(matches), "requirements.lock holds pins and comments, nothing else"
    return {_plain(m[1]): m[2] for m in matches if m}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def test_the_lock_satisfies_what_is_declared() -> None:
    project = PROJECT["project"]
    pins = _pins()
    declared = [
        *project["dependencies"],
        *project["optional-dependencies"]["dev"],
        *PROJECT["build-system"]["requires"],
    ]
    for requirement in declared:
        name, _, least = requirement.partition(">=")
        assert _numbers(pins[_plain(name)]) >= _numbers(least), requirement


def test_every_act_of_the_makefile_is_explained_and_phony() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.M)
    assert phony
    explained = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.M))
    assert explained == set(phony[1].split())
    assert {"help", "demo", "test", "test-all", "lint"} <= explained


def test_the_readme_names_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "make demo" in readme
    assert "make test" in readme


@pytest.mark.parametrize(
    "entry",
    [
        *PROJECT["project"]["scripts"].values(),
        *PROJECT["project"]["entry-points"]["pygments.lexers"].values(),
    ],
)
def test_entry_points_exist(entry: str) -> None:
    module, _, name = entry.partition(":")
    assert callable(getattr(import_module(module), name))


def test_no_file_names_a_machine_path() -> None:
    pattern = re.compile(r"(?<![\w.])/(work|root|home)/")
    wrong = [
        path.relative_to(ROOT).as_posix()
        for folder in ("compiler", "isa", "runtime", "models", "tests", "docs", "benchmarks")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".md", ".toml", ".lark", ".txt"}
        and path.name not in {"test_package.py", "heldout.txt"}
        if pattern.search(path.read_text(encoding="utf-8"))
    ]
    assert wrong == []
