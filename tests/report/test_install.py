"""Getting a browser never fails, never hangs, and leaves users without root alone."""

from __future__ import annotations

import subprocess

import pytest

from . import install as module
from .install import install


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """A machine without a browser, with apt-get, whose user is root; the commands that were run."""
    ran: list[tuple[str, ...]] = []
    monkeypatch.delenv("CIM_BROWSER", raising=False)
    monkeypatch.setattr(module, "find_browser", lambda: None)
    monkeypatch.setattr(module.os, "geteuid", lambda: 0)
    monkeypatch.setattr(module.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(module.subprocess, "run", lambda command, **_: ran.append(command))
    return ran


def test_nothing_to_do(monkeypatch: pytest.MonkeyPatch, bare: list[tuple[str, ...]]) -> None:
    monkeypatch.setattr(module, "find_browser", lambda: "/usr/bin/chromium")
    assert install() == ""
    assert bare == []


def test_lists_are_brought_up_to_date_first(bare: list[tuple[str, ...]]) -> None:
    assert install() == ""
    assert [command[-1] for command in bare] == ["update", "chromium"]


@pytest.mark.parametrize("reason", ["no root", "no apt-get", "not wanted"])
def test_who_cannot_or_will_not_is_told(
    reason: str, monkeypatch: pytest.MonkeyPatch, bare: list[tuple[str, ...]]
) -> None:
    if reason == "no root":
        monkeypatch.setattr(module.os, "geteuid", lambda: 1000)
    elif reason == "no apt-get":
        monkeypatch.setattr(module.shutil, "which", lambda name: None)
    else:
        monkeypatch.setenv("CIM_BROWSER", "none")
    assert "CIM_BROWSER" in install()
    assert bare == []


@pytest.mark.parametrize(
    "error",
    [subprocess.TimeoutExpired("apt-get", 1), subprocess.CalledProcessError(100, "apt-get"), OSError()],
)
def test_what_fails_is_a_note(
    error: Exception, monkeypatch: pytest.MonkeyPatch, bare: list[tuple[str, ...]]
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(module.subprocess, "run", fails)
    assert install().startswith("note: ")
    assert type(error).__name__ in install()
