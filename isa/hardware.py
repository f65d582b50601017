"""The hardware description: what a target is made of, each number with a unit, a source and a confidence.

Targets are TOML files in `isa/targets/`. Every quantity is a table

    latency = { value = 17.9, unit = "ns", source = "...", confidence = "silicon", year = 2021 }

so that a report can say where each joule's constant came from. The classes below are the schema (pydantic), the
documentation and the only way the rest of the project sees a target; times become clock cycles here and nowhere
else.
"""

from __future__ import annotations

import hashlib
import math
from enum import Enum
from functools import cached_property
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from .diagnostics import CimError, Diagnostic, NamedPlace
from .target_files import target_path, target_values


class Confidence(Enum):
    """How sure we are of a number."""

    SILICON = "silicon"  # measured on a chip, read in the publication
    REPOSITORY = "repository"  # read in the source or data of a published model
    DERIVED = "derived"  # computed from such numbers; the source says how
    ASSUMED = "assumed"  # an engineering assumption; sweep it


_SCALE = {
    "1": 1.0,
    "bit": 1.0,
    "byte": 1.0,
    "cycle": 1.0,
    "Hz": 1.0,
    "MHz": 1e6,
    "GHz": 1e9,
    "ns": 1e-9,
    "us": 1e-6,
    "pJ": 1e-12,
    "nJ": 1e-9,
    "pJ/byte": 1e-12,
    "pJ/bit": 8e-12,  # joules a byte
    "pW/bit": 8e-12,  # watts a byte
    "mW": 1e-3,
    "W": 1.0,
    "GB/s": 1e9,
    "GFLOP/s": 1e9,
    "TFLOP/s": 1e12,
    "byte/cycle": 1.0,
    "mm2": 1.0,
    "KiB": 1024.0,
    "GiB": 1024.0**3,
}

_DIMENSION = {
    "count": {"1"},
    "size": {"byte", "KiB", "GiB"},
    "frequency": {"Hz", "MHz", "GHz"},
    "time": {"ns", "us"},
    "cycles": {"cycle"},
    "energy": {"pJ", "nJ"},
    "energy a byte": {"pJ/byte", "pJ/bit"},
    "power": {"mW", "W"},
    "power a byte": {"pW/bit"},
    "bandwidth": {"GB/s"},
    "rate of operations": {"GFLOP/s", "TFLOP/s"},
    "port width": {"byte/cycle"},
    "area": {"mm2"},
    "ratio": {"1"},
}


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Quantity(_Model):
    """A number with its unit, where it comes from and how sure we are of it."""

    value: float = Field(ge=0, allow_inf_nan=False)
    unit: str
    source: str = Field(min_length=1)
    confidence: Confidence
    year: int | None = None

    @property
    def si(self) -> float:
        """The value in base units: seconds, joules, watts, bytes, joules a byte, watts a byte."""
        return self.value * _SCALE[self.unit]


def _of(dimension: str, *, positive: bool = False, whole: bool = False) -> AfterValidator:
    """Check that a quantity has a unit of `dimension`, and is positive or whole where it must be."""

    def check(quantity: Quantity) -> Quantity:
        allowed = _DIMENSION[dimension]
        if quantity.unit not in allowed:
            raise ValueError(
                f"unit {quantity.unit!r} is not a {dimension}; use one of {', '.join(sorted(allowed))}"
            )
        if positive and quantity.value <= 0:
            raise ValueError("must be greater than 0")
        if whole and quantity.si != int(quantity.si):
            raise ValueError("must be a whole number")
        return quantity

    return AfterValidator(check)


Number = Annotated[Quantity, _of("count", positive=True, whole=True)]
Size = Annotated[Quantity, _of("size", whole=True)]
Frequency = Annotated[Quantity, _of("frequency", positive=True)]
Time = Annotated[Quantity, _of("time")]
Cycles = Annotated[Quantity, _of("cycles", whole=True)]
EnergyEach = Annotated[Quantity, _of("energy")]
EnergyByte = Annotated[Quantity, _of("energy a byte")]
Power = Annotated[Quantity, _of("power")]
LeakageByte = Annotated[Quantity, _of("power a byte")]
Bandwidth = Annotated[Quantity, _of("bandwidth", positive=True)]
Width = Annotated[Quantity, _of("port width", positive=True)]
Rate = Annotated[Quantity, _of("rate of operations", positive=True)]
Area = Annotated[Quantity, _of("area")]
Ratio = Annotated[Quantity, _of("ratio", positive=True)]


class Macro(_Model):
    """A CIM macro: rows x cols int8 cells that multiply in place, digital and bit-serial."""

    rows: Number
    cols: Number
    transposable: bool  # may be activated along its columns too (sums over columns)
    mvm_latency: Time  # one int8 vector through the whole macro
    mac_energy: EnergyEach  # one int8 x int8 multiply-accumulate, array and adder tree
    transpose_latency_factor: Ratio  # MVM time in the second direction, over mvm_latency
    transpose_energy_factor: Ratio  # MAC energy in the second direction, over mac_energy
    row_write_latency: Time  # one row of one macro; the macro computes nothing meanwhile
    row_read_latency: Time
    write_energy: EnergyByte
    read_energy: EnergyByte
    leakage: LeakageByte
    area: Area


class Tile(_Model):
    """A tile: sequencer, buffer, vector unit, ports and macros."""

    macros: Number
    buffer: Size
    granule: Size  # the scoreboard compares buffer ranges in units of this size
    queue: Number  # instructions that can wait for a unit: its queue holds so many
    window: Number  # the oldest so many of them are looked at for one that is ready; 1: they start in order
    code: Size  # instruction memory
    ports: Number
    loop_depth: Number
    issue_energy: EnergyEach  # fetch, decode and issue of one instruction
    sequencer_leakage: Power


class Cim(_Model):
    """How logical arrays are built of macros, and their way to the buffer."""

    port_width: Width  # bytes a cycle from the buffer to the arrays, and from the arrays back
    adder_latency: Cycles  # one level of the tree that adds the sums of stacked macros
    adder_energy: EnergyEach  # one int32 addition in that tree


class Vector(_Model):
    """The vector unit."""

    lanes: Number
    sfu_lanes: Number  # special functions a cycle
    startup: Cycles
    alu_energy: EnergyEach  # one float32 operation
    sfu_energy: EnergyEach  # one special function
    leakage: Power


class Buffer(_Model):
    """The tile buffer (SRAM)."""

    port_width: Width
    read_energy: EnergyByte
    write_energy: EnergyByte
    leakage: LeakageByte


class Network(_Model):
    """The mesh between tiles of a chip; routing is first along x, then along y."""

    link_width: Width
    hop_latency: Cycles
    hop_energy: EnergyByte  # a byte over one hop
    reduce_energy: EnergyEach  # one float32 addition or comparison in a router
    reduce_latency: Cycles  # one addition of float32
    max_latency: Cycles  # one comparison
    leakage: Power  # a router


class Memory(_Model):
    """A chip's DRAM or global buffer."""

    capacity: Size
    channels: Number
    bandwidth: Bandwidth  # of one channel
    latency: Time
    read_energy: EnergyByte
    write_energy: EnergyByte
    static_power: Power  # refresh and standby, of all channels


class Link(_Model):
    """A link between neighbouring chips, or between host and chip."""

    bandwidth: Bandwidth  # each direction
    latency: Time
    energy: EnergyByte
    static_power: Power


class Host(_Model):
    """The host's processor, which runs what has no place on the chip: a roofline and its power."""

    flops: Rate  # float32 operations a second, sustained
    bandwidth: Bandwidth  # of its memory, sustained
    dispatch: Time  # to call one operator
    power: Power  # while it works


class Chip(_Model):
    """A chip: a mesh of tiles."""

    tiles_x: Number
    tiles_y: Number


class System(_Model):
    """Chips in a grid; their meshes are joined edge to edge by links, so that tiles have global coordinates."""

    chips_x: Number
    chips_y: Number


class Hardware(_Model):
    """A whole target."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    description: str
    clock: Frequency
    system: System
    chip: Chip
    tile: Tile
    macro: Macro
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
        return self

    def cycles(self, time: Quantity) -> int:
        """A time as clock cycles, rounded up; a quantity in cycles stays as it is."""
        if time.unit == "cycle":
            return int(time.value)
        return math.ceil(round(time.si * self.clock.si, 9))

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
    def macros_per_tile(self) -> int:
        """CIM macros in a tile."""
        return int(self.tile.macros.value)

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
        """A digest of the whole description."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


def hardware_from_dict(values: dict[str, Any], place: str) -> Hardware:
    """Check a description. Raises `CimError` E0502, one diagnostic for each thing wrong, placed by its key."""
    try:
        return Hardware.model_validate(values)
    except ValidationError as error:
        raise CimError(
            Diagnostic(
                "E0502",
                f"{problem['msg'].removeprefix('Value error, ')} (given: {problem['input']!r})"[:300],
                NamedPlace(place, ".".join(str(part) for part in problem["loc"])),
                help='a quantity is written { value = 1.0, unit = "ns", source = "...", confidence = "assumed" }',
            )
            for problem in error.errors()
        ) from None


def load_target(name: str) -> Hardware:
    """The target of this name, or in the TOML file of this path. Raises `CimError` (E0501, E0502)."""
    path = target_path(name)
    return hardware_from_dict(target_values(path), str(path))
