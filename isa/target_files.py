"""Reading target files: what a file leaves out is taken from the target that it is based on.

    based_on = "dcim22"        # a target that ships, or a .toml file beside this one
    host = "gpu-h100"          # a host that ships, instead of a table [host]
    [points."0.9V".macro]      # an operating point: what differs at it; `--target NAME@0.9V` takes it
    mvm_latency = { ... }

A quantity is replaced as a whole, with its unit and source, so that a number never keeps the source of another. Macros
of other cells do not take over what describes those of the base: converters, noise, activity.
`NAME@POINT+HOST` names a target at an operating point with another host.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .diagnostics import NamedPlace, fail

TARGETS = Path(__file__).parent / "targets"
BASE = "based_on"
"""The key that names the target that a file is based on."""
HOST = "host"
"""The key of the host: a table, or the name of a file in the folder `hosts`."""
CELL = "cell"
"""The key of a macro that says what its bits are kept in."""
OF_CELLS = ("adc", "noise", "activity")
"""The tables of a macro that belong to its cells: macros of other cells have their own or none."""
POINTS = "points"
"""The key of the table of operating points."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A target as it is asked for: its file, an operating point and another host ("": its own)."""

    path: Path
    point: str = ""
    host: str = ""


def asked_of(name: str) -> Asked:
    """The parts of `NAME[@POINT][+HOST]`. Raises `CimError` E0501."""
    if name.endswith(".toml"):
        return Asked(target_path(name))
    rest, _, host = name.partition("+")
    rest, _, point = rest.partition("@")
    return Asked(target_path(rest), point, host)


def chosen(asked: Asked) -> dict[str, Any]:
    """What is said of a target at the operating point and with the host that were asked for; they are in its name.

    Raises `CimError` E0501 (no such point or host), E0502.
    """
    values = target_values(asked.path)
    points = values.pop(POINTS, {})
    name = values.get("name")
    if asked.point:
        if asked.point not in points:
            known = ", ".join(points) or "none"
            raise fail(
                "E0501", f"{asked.path.stem} has no operating point {asked.point!r}", help=f"it has: {known}"
            )
        values = _merged(values, points[asked.point])
        name = f"{name}@{asked.point}"
    if asked.host:
        values[HOST] = host_values(asked.host)
        name = f"{name}+{asked.host}"
    return {**values, "name": name} if "name" in values else values


def point_names(path: Path) -> tuple[str, ...]:
    """The operating points that a target file, or one below it, has."""
    return tuple(target_values(path).get(POINTS, {}))


def host_names() -> tuple[str, ...]:
    """The hosts that ship with the project."""
    return tuple(sorted(path.stem for path in (TARGETS / "hosts").glob("*.toml")))


def host_values(name: str, place: NamedPlace | None = None) -> dict[str, Any]:
    """What is said of a host that ships; `place`: where it is named, if that is in a file. Raises `CimError` E0501."""
    path = TARGETS / "hosts" / f"{name}.toml"
    if name not in host_names():
        raise fail("E0501", f"there is no host {name!r}", place, f"known hosts: {', '.join(host_names())}")
    values: dict[str, Any] = tomllib.loads(path.read_text())[HOST]
    return values


def target_names() -> tuple[str, ...]:
    """The targets that ship with the project."""
    return tuple(sorted(path.stem for path in TARGETS.glob("*.toml")))


def target_path(name: str, folder: Path | None = None, place: NamedPlace | None = None) -> Path:
    """The file of a target: its name, or the path of a .toml file, relative to `folder`; `place`: where it is named, if
    that is in a file. Raises `CimError` E0501."""
    path = (folder or Path()) / name if name.endswith(".toml") else TARGETS / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(target_names())
        help_text = f"known targets: {known}; or give a .toml file"
        raise fail("E0501", f"there is no target {name!r}", place, help_text)
    return path


def target_values(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """What a target file says, and the files below it. `above`: the files that are based on this one.

    Raises `CimError` E0001 (cannot be read), E0501 (no such base or host), E0502 (not TOML, or based on itself).
    """
    values = _read(path)
    if isinstance(values.get(HOST), str):
        values[HOST] = host_values(values[HOST], NamedPlace(str(path), HOST))
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
    below = target_path(base, path.parent, NamedPlace(str(path), BASE))
    return _merged(target_values(below, (*above, path.resolve())), values)


def _read(path: Path) -> dict[str, Any]:
    """What stands in a target file; its operating points are tables."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise fail("E0001", f"{path}: {error.strerror}", help="give a .toml file that can be read") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        help_text = "isa/targets/tiny.toml shows how a target is written"
        raise fail("E0502", f"not a TOML file: {error}", NamedPlace(str(path)), help_text) from None
    points = values.get(POINTS, {})
    own = {POINTS: points, **({f"{POINTS}.{k}": v for k, v in points.items()} if _is_table(points) else {})}
    for key, value in own.items():
        if not _is_table(value):
            help_text = 'an operating point is a table of tables, such as [points."0.9V".macro]'
            raise fail("E0502", f"not a table (given: {value!r})", NamedPlace(str(path), key), help_text)
    return values


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """The tables of both; where both have a quantity or another value, the own one."""
    merged = dict(base)
    if CELL in own and own[CELL] != base.get(CELL):
        merged = {key: value for key, value in base.items() if key not in OF_CELLS}
    for key, value in own.items():
        old = merged.get(key)
        is_table = isinstance(value, dict) and isinstance(old, dict) and "value" not in value
        merged[key] = _merged(old, value) if is_table and isinstance(old, dict) else value
    return merged
