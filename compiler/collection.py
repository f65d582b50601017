"""Garbage, while a model is compiled."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

OBJECTS = 200_000
"""Objects that are made before unreachable cycles among them are looked for. By default it is 700: looking then takes a
fifth of the time of compiling gpt2, as mappings and programs are millions of small objects that live long."""


@contextmanager
def rare_collection() -> Iterator[None]:
    """Look for unreachable cycles less often than by default; not at all, or more rarely still, if so before."""
    youngest, *older = gc.get_threshold()
    gc.set_threshold(max(youngest, OBJECTS) if youngest else 0, *older)
    try:
        yield
    finally:
        gc.set_threshold(youngest, *older)
