"""Where compiled functions are kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.fast.jit import cache_folder, fingerprint


def test_the_users_folder_or_what_numba_was_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_folder() == tmp_path / "cache" / "cim" / "compiled" / fingerprint()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "told"))
    assert cache_folder() == tmp_path / "told" / "cim" / "compiled" / fingerprint()


def test_where_nothing_can_be_written_the_next_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in the way stands for a folder that is read-only, which does not stop an administrator."""
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "other"))
    found = cache_folder()
    assert found is not None and found.is_relative_to(tmp_path / "other") and os.access(found, os.W_OK)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(blocked))
    assert cache_folder() is None
