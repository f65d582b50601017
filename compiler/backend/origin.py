"""What made a program: tool, model, options."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from compiler.pipeline import Compilation
from isa.program import Origin

_CHUNK_BYTES = 1 << 20
DISTRIBUTION = "cim-toolchain"


def file_hash(path: Path) -> str:
    """A digest of a file's contents, 16 hexadecimal digits; weights kept in other files do not enter."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_CHUNK_BYTES):
            digest.update(data)
    return digest.hexdigest()[:16]


def tool_version() -> str:
    """`cim 0.1.0`."""
    try:
        return f"cim {version(DISTRIBUTION)}"
    except PackageNotFoundError:
        return "cim (not installed)"


def text_of(value: object) -> str:
    """An option in the words of the command line, the same in every run: sets sorted, sizes of axes as `name=size`."""
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, frozenset):
        return ",".join(sorted(map(text_of, value))) or "none"
    if isinstance(value, tuple):
        return ",".join(f"{name}={size}" for name, size in value) or "none"
    return str(value)


def origin_of(c: Compilation) -> Origin:
    """The record that the program of a compilation carries."""
    options = tuple(
        (f.name, text_of(getattr(c.options, f.name))) for f in fields(c.options) if f.name != "explain"
    )
    return Origin(tool_version(), c.model.name, file_hash(c.model) if c.model.is_file() else "", options)
