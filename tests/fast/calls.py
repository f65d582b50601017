"""How often a method is called."""

from __future__ import annotations

from typing import Any

import pytest


def calls_of(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[str]:
    """Grows by one with each call of a method, which goes on as before."""
    calls: list[str] = []
    method = getattr(owner, name)

    def noted(self: object, *given: Any) -> Any:
        calls.append(name)
        return method(self, *given)

    monkeypatch.setattr(owner, name, noted)
    return calls
