"""Show the hardware descriptions; with a name, each number with its unit, source and confidence."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .console import Console, columns

if TYPE_CHECKING:
    from pydantic import BaseModel

    from isa.hardware import Hardware


def configure(parser: argparse.ArgumentParser) -> None:
    """`cim targets [NAME]`"""
    parser.add_argument("name", nargs="?", metavar="NAME|FILE.toml", help="show this target in full")


def run(options: argparse.Namespace, console: Console) -> int:
    """Print the table of targets, or one target."""
    from isa.hardware import load_target
    from isa.target_files import target_names

    if options.name is not None:
        target = load_target(options.name)
        console.result(describe(target))
        console.data(json.loads(target.model_dump_json()))
        return 0
    targets = [load_target(name) for name in target_names()]
    console.result(columns(HEADS, [target_row(target) for target in targets], right=range(1, 8)))
    console.data([_summary(target) for target in targets])
    return 0


HEADS = (
    "target",
    "chips",
    "tiles",
    "macros a tile",
    "macro",
    "arrays hold",
    "a chip",
    "clock",
    "description",
)


def _summary(target: Hardware) -> dict[str, object]:
    from isa.area import chip_area

    return {
        "name": target.name,
        "description": target.description,
        "chips": _chips(target),
        "tiles": target.tiles,
        "macros_per_tile": target.macros_per_tile,
        "macro": [target.macro_rows, target.macro_cols],
        "array_bytes": _array_bytes(target),
        "chip_mm2": chip_area(target).total,
        "clock_hz": target.clock.si,
        "hash": target.hash,
    }


def _chips(target: Hardware) -> int:
    return int(target.system.chips_x.value * target.system.chips_y.value)


def _array_bytes(target: Hardware) -> int:
    return target.tiles * target.all_macros_per_tile * target.macro.bytes


def target_row(target: Hardware) -> tuple[str, ...]:
    """One line of the table of targets."""
    from isa.area import chip_area

    return (
        target.name,
        f"{_chips(target):,}",
        f"{target.tiles:,}",
        f"{target.macros_per_tile}",
        f"{target.macro_rows} x {target.macro_cols}",
        f"{_array_bytes(target) / 2**20:,.1f} MiB",
        f"{chip_area(target).total:,.0f} mm2",
        f"{target.clock.value:g} {target.clock.unit}",
        target.description,
    )


QUANTITY_HEADS = ("quantity", "value", "confidence", "year", "source")


def quantity_rows(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, ...]]:
    """Every number (and yes or no) of a description, in the order of the file, with its dotted name."""
    from pydantic import BaseModel

    from isa.quantities import Quantity

    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, Quantity):
            shown = f"{value.value:g} {value.unit}".removesuffix(" 1")
            yield prefix + name, shown, value.confidence.value, str(value.year or ""), value.source
        elif isinstance(value, bool):
            yield prefix + name, "yes" if value else "no", "", "", ""
        elif isinstance(value, BaseModel):
            yield from quantity_rows(value, f"{prefix}{name}.")


def describe(target: Hardware) -> str:
    """A target in full, as `cim targets NAME` prints it."""
    head = f"{target.name}: {target.description}\nhash {target.hash}\n{calibration(target)}\n\n"
    return head + columns(QUANTITY_HEADS, quantity_rows(target), right=(1,)) + "\n\n" + area_table(target)


def calibration(target: Hardware) -> str:
    """Which published results set numbers of the target, as a sentence."""
    if not target.calibrated_by:
        return "No published result of `cim validate` sets a number of it."
    return f"Published results that set its numbers (`cim validate`): {', '.join(target.calibrated_by)}."


def area_table(target: Hardware) -> str:
    """The area of a chip by component, as text."""
    from isa.area import chip_area

    area = chip_area(target)
    rows = [
        (name, f"{mm2:,.2f} mm2", f"{mm2 / area.total:.1%}")
        for name, mm2 in [*((c.value, v) for c, v in area.by_component.items()), ("other", area.other)]
    ]
    rows.append(("a chip", f"{area.total:,.2f} mm2", f"{area.exposures:.2f} of the largest die"))
    return columns(("area", "mm2", "share"), rows, right=(1, 2))
