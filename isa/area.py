"""How large a chip is: square millimetres by component, from the hardware description.

Packages of DRAM stand beside the chip and are not counted; their interfaces on it are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .events import Component
from .hardware import Hardware

RETICLE_MM2 = 858.0
"""The largest die that one exposure makes: 26 mm x 33 mm, the field of today's scanners."""


@dataclass(frozen=True, slots=True)
class ChipArea:
    """One chip, in mm2. `other` is what clocks, power, pads and test take on top of the components."""

    by_component: Mapping[Component, float]
    other: float

    @property
    def total(self) -> float:
        """The whole chip."""
        return sum(self.by_component.values()) + self.other

    @property
    def exposures(self) -> float:
        """How many of the largest dies it takes; more than 1: it cannot be made in one piece without stitching."""
        return self.total / RETICLE_MM2


def chip_area(target: Hardware) -> ChipArea:
    """The area of one chip of a target."""
    tile, chips = target.tile, target.system.chips_x.value * target.system.chips_y.value
    macros = (
        target.macros_per_tile * target.macro.area.si + target.kv_macros_per_tile * target.written.area.si
    )
    edges = 2 * (target.chip.tiles_x.value + target.chip.tiles_y.value) if chips > 1 else 0
    n = target.tiles_per_chip
    parts = {
        Component.ARRAYS: n * macros,
        Component.BUFFERS: n * target.buffer.area.si,
        Component.VECTOR: n * target.vector.area.si,
        Component.SEQUENCERS: n * tile.sequencer_area.si,
        Component.NETWORK: n * target.network.area.si,
        Component.CHIP_LINKS: edges * target.chip_link.area.si,
        Component.HOST_LINK: target.host_link.area.si,
        Component.DRAM: target.dram.area.si,
        Component.GBUF: target.gbuf.area.si,
    }
    return ChipArea(parts, (target.chip.other_area.value - 1) * sum(parts.values()))
