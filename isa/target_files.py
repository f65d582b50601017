"""Reading target files: what a file leaves out is taken from the target that it is based on.

    based_on = "dcim22"        # a target that ships, or a .toml file beside this one

A quantity is replaced as a whole, with its unit and source, so that a number never keeps the source of another.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from .diagnostics import NamedPlace, fail

TARGETS = Path(__file__).parent / "targets"
BASE = "based_on"
"""The key that names the target that a file is based on."""


def target_names() -> tuple[str, ...]:
    """The targets that ship with the project."""
    return tuple(sorted(path.stem for path in TARGETS.glob("*.toml")))


def target_path(name: str, folder: Path | None = None) -> Path:
    """The file of a target: its name, or the path of a .toml file, relative to `folder`. Raises `CimError` E0501."""
    path = (folder or Path()) / name if name.endswith(".toml") else TARGETS / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(target_names())
        help_text = f"known targets: {known}; or give a .toml file"
        raise fail("E0501", f"there is no target {name!r}", help=help_text)
    return path


def target_values(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """What a target file says, and the files below it. `above`: the files that are based on this one.

    Raises `CimError` E0501 (no such base), E0502 (not TOML, or based on itself).
    """
    try:
        values = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        help_text = "isa/targets/tiny.toml shows how a target is written"
        raise fail("E0502", f"not a TOML file: {error}", NamedPlace(str(path)), help_text) from None
    base = values.pop(BASE, None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise fail(
            "E0502", f"not a name of a target: {base!r}", NamedPlace(str(path), BASE), 'such as "dcim22"'
        )
    if path.resolve() in above:
        raise fail(
            "E0502", "it is based on itself", NamedPlace(str(path), BASE), f"take {BASE} out of one file"
        )
    return _merged(target_values(target_path(base, path.parent), (*above, path.resolve())), values)


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """The tables of both; where both have a quantity or another value, the own one."""
    merged = dict(base)
    for key, value in own.items():
        old = merged.get(key)
        is_table = isinstance(value, dict) and isinstance(old, dict) and "value" not in value
        merged[key] = _merged(old, value) if is_table and isinstance(old, dict) else value
    return merged
