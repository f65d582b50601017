"""The hardware description: what a target is made of, each number with a unit, a source and a confidence.

Targets are TOML files in `isa/targets/`. The classes below, with those of `isa/macro.py` and the quantities of
`isa/quantities.py`, are the schema (pydantic), the documentation and the only way the rest of the project sees a
target; times become clock cycles here and nowhere else.
"""

from __future__ import annotations

import hashlib
import math
from functools import cached_property
from typing import Any

from pydantic import Field, ValidationError, model_validator

from .diagnostics import CimError
from .macro import Macro
from .quantities import (
    Area,
    Bandwidth,
    Cycles,
    EnergyByte,
    EnergyEach,
    Frequency,
    LeakageByte,
    Model,
    Number,
    Power,
    Quantity,
    Rate,
    Ratio,
    Room,
    Size,
    Time,
    Width,
)
from .target_errors import diagnostics_of
from .target_files import asked_of, chosen

MOST_TILES = 1 << 22
"""Tiles of a whole system that can be simulated; the largest target that ships has 82,944."""


class Tile(Model):
    """A tile: sequencer, buffer, vector unit, ports and macros."""

    macros: Number
    kv_macros: Number | None = None  # of the kind that holds keys, values and streams, where that is another
    buffer: Room
    granule: Room  # the scoreboard compares buffer ranges in units of this size
    queue: Number  # instructions that can wait for a unit: its queue holds so many
    window: Number  # the oldest so many of them are looked at for one that is ready; 1: they start in order
    code: Room  # instruction memory
    ports: Number
    loop_depth: Number
    issue_energy: EnergyEach  # fetch, decode and issue of one instruction
    sequencer_leakage: Power
    sequencer_area: Area


class Cim(Model):
    """How logical arrays are built of macros, and their way to the buffer."""

    port_width: Width  # bytes a cycle from the buffer to the arrays, and from the arrays back
    adder_latency: Cycles  # one level of the tree that adds the sums of stacked macros
    adder_energy: EnergyEach  # one int32 addition in that tree


class Vector(Model):
    """The vector unit."""

    lanes: Number
    sfu_lanes: Number  # special functions a cycle
    startup: Cycles
    alu_energy: EnergyEach  # one float32 operation
    sfu_energy: EnergyEach  # one special function
    leakage: Power
    area: Area  # all lanes with their registers


class Buffer(Model):
    """The tile buffer (SRAM)."""

    port_width: Width
    read_energy: EnergyByte
    write_energy: EnergyByte
    leakage: LeakageByte
    area: Area  # of a whole tile's buffer


class Network(Model):
    """The mesh between tiles of a chip; routing is first along x, then along y."""

    link_width: Width
    hop_latency: Cycles
    hop_energy: EnergyByte  # a byte over one hop
    reduce_energy: EnergyEach  # one float32 addition or comparison in a router
    reduce_latency: Cycles  # one addition of float32
    max_latency: Cycles  # one comparison
    leakage: Power  # a router
    area: Area  # a router


class Memory(Model):
    """A chip's DRAM or global buffer."""

    capacity: Size
    channels: Number
    bandwidth: Bandwidth  # of one channel
    latency: Time
    read_energy: EnergyByte
    write_energy: EnergyByte
    static_power: Power  # refresh and standby, of all channels
    area: Area  # on the chip: a global buffer as a whole, or the interfaces to all channels of DRAM


class Link(Model):
    """A link between neighbouring chips, or between host and chip."""

    bandwidth: Bandwidth  # each direction
    latency: Time
    energy: EnergyByte
    static_power: Power
    area: Area  # of its ends on a chip


class Host(Model):
    """The host's processor, which runs what has no place on the chip: a roofline and its power."""

    flops: Rate  # sustained, in the number format that its figures are for (docs/host.md)
    bandwidth: Bandwidth  # of its memory, sustained
    dispatch: Time  # to call one operator
    power: Power  # while it works
    memory_energy: EnergyByte  # a byte of its memory, if that is not within its power


class Chip(Model):
    """A chip: a mesh of tiles."""

    tiles_x: Number
    tiles_y: Number
    other_area: Ratio  # clocks, power, pads and test, over the area of all that is listed


class System(Model):
    """Chips in a grid; their meshes are joined edge to edge by links, so that tiles have global coordinates."""

    chips_x: Number
    chips_y: Number


class Hardware(Model):
    """A whole target."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*(@[A-Za-z0-9_.-]+)?(\+[a-z][a-z0-9_-]*)?$")
    description: str
    calibrated_by: tuple[str, ...] = ()  # rows of published results that set its numbers (`cim validate`)
    clock: Frequency
    system: System
    chip: Chip
    tile: Tile
    macro: Macro
    kv: Macro | None = None  # macros for keys, values and streams; without it, they lie in those for weights
    cim: Cim
    vector: Vector
    buffer: Buffer
    network: Network
    dram: Memory
    gbuf: Memory
    chip_link: Link
    host_link: Link
    host: Host

    @model_validator(mode="after")
    def _consistent(self) -> Hardware:
        if self.buffer_bytes % self.granule_bytes or self.granule_bytes % 4:
            raise ValueError("tile.granule must be a multiple of 4 bytes and divide tile.buffer")
        if self.buffer_bytes > 1 << 20:
            raise ValueError("tile.buffer: instructions address at most 1 MiB")
        if self.tiles > MOST_TILES:
            raise ValueError(
                f"system.chips_x, chips_y, chip.tiles_x, tiles_y: {self.tiles:,} tiles, of which {MOST_TILES:,} can be "
                "simulated at most"
            )
        if (self.kv is None) is not (self.tile.kv_macros is None):
            raise ValueError("kv and tile.kv_macros go together: the macros and how many of them a tile has")
        if self.kv is not None and (self.kv.rows.value, self.kv.cols.value) != (
            self.macro_rows,
            self.macro_cols,
        ):
            raise ValueError(
                "kv: macros for keys and values must have the rows and columns of those for weights"
            )
        return self

    def cycles(self, time: Quantity) -> int:
        """A time as clock cycles, rounded up; a quantity in cycles stays as it is."""
        if time.unit == "cycle":
            return int(time.value)
        return self.cycles_of(time.si)

    def bytes_per_cycle(self, bandwidth: Quantity) -> float:
        """A bandwidth in bytes a clock cycle."""
        return bandwidth.value if bandwidth.unit == "byte/cycle" else bandwidth.si / self.clock.si

    @property
    def macro_rows(self) -> int:
        """Rows (wordlines) of a macro."""
        return int(self.macro.rows.value)

    @property
    def macro_cols(self) -> int:
        """int8 columns of a macro."""
        return int(self.macro.cols.value)

    @property
    def mvm_cycles(self) -> int:
        """Cycles of one vector through a whole macro of weights."""
        return self.cycles_of(self.macro.mvm_seconds(self.macro_rows, self.macro_cols))

    @property
    def macros_per_tile(self) -> int:
        """CIM macros in a tile."""
        return int(self.tile.macros.value)

    @property
    def written(self) -> Macro:
        """The macros that are written while a program runs: for keys, values and streams."""
        return self.kv or self.macro

    @property
    def written_macros_per_tile(self) -> int:
        """Macros in a tile that keys, values and streams may take: their own, or all."""
        return self.kv_macros_per_tile or self.macros_per_tile

    @property
    def weight_cells(self) -> int:
        """Weights that the macros for weights hold in a tile."""
        return self.macros_per_tile * self.macro.bytes

    @property
    def written_cells(self) -> int:
        """Elements of keys, values and streams that a tile's macros for them hold: their own, or all."""
        return self.written_macros_per_tile * self.written.bytes

    @property
    def all_macros_per_tile(self) -> int:
        """Macros of both kinds in a tile."""
        return self.macros_per_tile + self.kv_macros_per_tile

    def fits_tile(self, weights: int, written: int) -> bool:
        """Whether a tile has so many macros for weights, and so many for keys, values and streams beside them."""
        return written <= self.written_beside(weights) and weights <= self.macros_per_tile

    def written_beside(self, weights: int) -> int:
        """Macros of a tile for keys, values and streams if weights take so many; negative if these do not fit."""
        return self.kv_macros_per_tile or self.macros_per_tile - weights

    @property
    def kv_macros_per_tile(self) -> int:
        """Macros in a tile for keys, values and streams alone; 0 if these share the others."""
        return int(self.tile.kv_macros.value) if self.tile.kv_macros else 0

    def cycles_of(self, seconds: float) -> int:
        """Seconds as clock cycles, rounded up."""
        return math.ceil(round(seconds * self.clock.si, 9))

    @property
    def buffer_bytes(self) -> int:
        """Bytes of a tile buffer."""
        return int(self.tile.buffer.si)

    @property
    def granule_bytes(self) -> int:
        """Bytes of the unit in which the scoreboard compares ranges."""
        return int(self.tile.granule.si)

    @property
    def queue_depth(self) -> int:
        """Instructions that can wait for a unit of a tile."""
        return int(self.tile.queue.value)

    @property
    def queue_window(self) -> int:
        """How many of the oldest instructions in the queue of arrays or vector unit may start first."""
        return int(self.tile.window.value)

    @property
    def mesh_x(self) -> int:
        """Tiles along x in the whole system."""
        return int(self.chip.tiles_x.value * self.system.chips_x.value)

    @property
    def mesh_y(self) -> int:
        """Tiles along y in the whole system."""
        return int(self.chip.tiles_y.value * self.system.chips_y.value)

    def with_chips(self, chips_x: int, chips_y: int) -> Hardware:
        """The target with another number of chips."""
        counts = {"chips_x": chips_x, "chips_y": chips_y}
        system = {name: {**getattr(self.system, name).model_dump(), "value": n} for name, n in counts.items()}
        return Hardware.model_validate({**self.model_dump(), "system": system})

    @property
    def tiles_per_chip(self) -> int:
        """Tiles of one chip."""
        return int(self.chip.tiles_x.value * self.chip.tiles_y.value)

    @property
    def tiles(self) -> int:
        """Tiles in the whole system."""
        return self.mesh_x * self.mesh_y

    def chip_of(self, x: int, y: int) -> int:
        """The chip, row by row in the grid of chips, that the tile at (x, y) of the global mesh is on."""
        column, row = x // int(self.chip.tiles_x.value), y // int(self.chip.tiles_y.value)
        return row * int(self.system.chips_x.value) + column

    @cached_property
    def hash(self) -> str:
        """A digest of all that is said of it."""
        return hashlib.sha256(self.model_dump_json(exclude_defaults=True).encode()).hexdigest()[:16]


def hardware_from_dict(values: dict[str, Any], place: str) -> Hardware:
    """Check a description. Raises `CimError` E0502, one diagnostic for each thing wrong, placed by its key."""
    try:
        return Hardware.model_validate(values)
    except ValidationError as error:
        raise CimError(diagnostics_of(error, place)) from None


def load_target(name: str) -> Hardware:
    """The target `NAME[@POINT][+HOST]`: a name or the path of a TOML file, one of its operating points, another host.

    Raises `CimError` (E0501, E0502).
    """
    asked = asked_of(name)
    return hardware_from_dict(chosen(asked), str(asked.path))
