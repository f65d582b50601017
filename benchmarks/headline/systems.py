"""The CIM system of a cell: chips of the stated kind, just enough of them, never more than the stated system has."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.headline.cases import Cell, Way
from benchmarks.headline.demand import cache_elements, ffn_weights, other_weights
from isa.hardware import Hardware
from models.configs import CONFIGS

FILLS = (0.98, 0.8, 0.65, 0.5)
"""Share of all cells that weights, keys and values take: the fullest for which the compiler finds a place for all."""


class Place:
    """What is on the chips: the option `--place` of `cim compile`."""

    ATTENTION = "attention"
    FFN = "attention+ffn"
    ALL = "all"


PLACES = {Way.HYBRID: Place.ATTENTION, Way.FFN: Place.FFN, Way.CIM: Place.ALL}
"""What is on the chips of a way."""


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes that a placement needs in arrays, and that the stated system has."""

    needed: int
    stated: int

    @property
    def is_enough(self) -> bool:
        """Whether it fits, by the count of bytes alone."""
        return self.needed <= self.stated


def needed_bytes(cell: Cell, place: str) -> int:
    """Cells, int8, for keys and values, and for the weights that are on the chips."""
    config = CONFIGS[cell.model]
    kept = cache_elements(config, cell.room, cell.batch)
    kept += ffn_weights(config) if place != Place.ATTENTION else 0
    return kept + (other_weights(config) if place == Place.ALL else 0)


def chip_bytes(hardware: Hardware) -> int:
    """Cells of a chip."""
    macros = hardware.macros_per_tile + hardware.kv_macros_per_tile
    return hardware.tiles_per_chip * macros * hardware.macro_rows * hardware.macro_cols


def chips_of(hardware: Hardware) -> int:
    """Chips of a system."""
    return int(hardware.system.chips_x.value * hardware.system.chips_y.value)


def room_of(cell: Cell, place: str, stated: Hardware) -> Room:
    """What a cell needs, and what the stated system has."""
    return Room(needed_bytes(cell, place), chip_bytes(stated) * chips_of(stated))


def grid(chips: int, most_x: int, most_y: int) -> tuple[int, int]:
    """The most compact grid of at least so many chips, the fewest first, within another grid."""
    shapes = [(x, math.ceil(chips / x)) for x in range(1, min(chips, most_x) + 1)]
    fitting = [shape for shape in shapes if shape[1] <= most_y]
    return min(fitting, key=lambda shape: (shape[0] * shape[1] + sum(shape), -shape[0]))


def sized(cell: Cell, place: str, stated: Hardware) -> Iterator[Hardware]:
    """Systems with just enough chips for a cell, fuller ones first; then twice as many, four times, up to all of the
    stated system, for cells that need tiles rather than room (a head of a layer is on a tile of its own)."""
    most_x, most_y = (int(q.value) for q in (stated.system.chips_x, stated.system.chips_y))
    fair = [math.ceil(needed_bytes(cell, place) / (fill * chip_bytes(stated))) for fill in FILLS]
    more = [fair[-1] << n for n in range(1, (most_x * most_y).bit_length() + 1)]
    seen: set[tuple[int, int]] = set()
    for chips in (*fair, *more):
        shape = grid(min(chips, most_x * most_y), most_x, most_y)
        if shape not in seen:
            seen.add(shape)
            yield stated.with_chips(*shape)


def with_instant_host(hardware: Hardware) -> Hardware:
    """The target with a host that takes no time and no power, so that what remains is the chips and their link."""
    host = hardware.host
    changes = {
        "flops": host.flops.model_copy(update={"value": 1e15}),
        "bandwidth": host.bandwidth.model_copy(update={"value": 1e15}),
        "dispatch": host.dispatch.model_copy(update={"value": 0.0}),
        "power": host.power.model_copy(update={"value": 0.0}),
        "memory_energy": host.memory_energy.model_copy(update={"value": 0.0}),
    }
    return hardware.model_copy(update={"host": host.model_copy(update=changes)})
