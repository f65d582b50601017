"""What is counted while time is simulated, and who may listen.

`Event` declares, once, everything that costs dynamic energy: its unit, its component, its category and the
constant of the hardware description that turns a count into joules. `Static` does the same for power that is drawn
all the time. Counts are integers; joules appear only in `runtime/energy.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, unique
from typing import Protocol

from isa.hardware import Hardware
from isa.instruction import Unit
from isa.quantities import Confidence, Quantity


class Component(Enum):
    """The parts of a system that energy is reported by."""

    ARRAYS = "arrays"
    ADDERS = "adders"
    BUFFERS = "buffers"
    VECTOR = "vector"
    SEQUENCERS = "sequencers"
    NETWORK = "network"
    CHIP_LINKS = "chip_links"
    HOST_LINK = "host_link"
    DRAM = "dram"
    GBUF = "gbuf"
    HOST = "host"


class Category(Enum):
    """Dynamic: by use. Write: by changing array cells. Static: by time."""

    DYNAMIC = "dynamic"
    WRITE = "write"
    STATIC = "static"


def constant(target: Hardware, path: str) -> Quantity:
    """The quantity of the hardware description at a path such as `macro.mac_energy`; 0 for a part that it lacks.

    `kv` are the macros for keys and values, which may be those for weights (`Hardware.written`).
    """
    found: object = target
    for name in path.split("."):
        found = target.written if name == "kv" else getattr(found, name)
        if found is None:
            return _NOTHING
    assert isinstance(found, Quantity)
    return found


_NOTHING = Quantity(value=0, unit="1", source="the target has no such part", confidence=Confidence.DERIVED)


@dataclass(frozen=True, slots=True)
class EventInfo:
    """What one count of an event is and which constant (times `factor`, if any, and `scale`) is its energy."""

    description: str
    unit: str
    component: Component
    constant: str
    factor: str | None = None
    category: Category = Category.DYNAMIC
    scale: float = 1.0


@unique
class Event(Enum):
    """Everything that costs dynamic energy. The lower-case name is the key in reports."""

    __hash__ = object.__hash__  # members are single; the hash of their names is slow

    ISSUE = EventInfo(
        "an instruction is fetched, decoded and issued",
        "instruction",
        Component.SEQUENCERS,
        "tile.issue_energy",
    )
    ARRAY_MAC = EventInfo(
        "an int8 multiply-accumulate in an array", "MAC", Component.ARRAYS, "macro.mac_energy"
    )
    ARRAY_MAC_TRANSPOSED = EventInfo(
        "an int8 multiply-accumulate in an array activated along its columns",
        "MAC",
        Component.ARRAYS,
        "macro.mac_energy",
        "macro.transpose_energy_factor",
    )
    ARRAY_WRITE_BYTE = EventInfo(
        "a byte of cells or of scales is written",
        "byte",
        Component.ARRAYS,
        "macro.write_energy",
        category=Category.WRITE,
    )
    ARRAY_READ_BYTE = EventInfo(
        "a byte of cells or of scales is read", "byte", Component.ARRAYS, "macro.read_energy"
    )
    ARRAY_DRIVE = EventInfo(
        "a step of an input on a line of cells", "drive", Component.ARRAYS, "macro.drive_energy"
    )
    ARRAY_CONVERSION = EventInfo(
        "a conversion of a sum of cells to a number", "conversion", Component.ARRAYS, "macro.adc.energy"
    )
    KV_MAC = EventInfo(
        "an int8 multiply-accumulate in an array of keys or values of its own kind of macro",
        "MAC",
        Component.ARRAYS,
        "kv.mac_energy",
    )
    KV_MAC_TRANSPOSED = EventInfo(
        "the same, activated along its columns",
        "MAC",
        Component.ARRAYS,
        "kv.mac_energy",
        "kv.transpose_energy_factor",
    )
    KV_WRITE_BYTE = EventInfo(
        "a byte of keys, values or streams, or of their scales, is written to its own kind of macro",
        "byte",
        Component.ARRAYS,
        "kv.write_energy",
        category=Category.WRITE,
    )
    KV_READ_BYTE = EventInfo(
        "a byte of keys, values or their scales is read from its own kind of macro",
        "byte",
        Component.ARRAYS,
        "kv.read_energy",
    )
    KV_DRIVE = EventInfo(
        "a step of an input on a line of cells of keys or values",
        "drive",
        Component.ARRAYS,
        "kv.drive_energy",
    )
    KV_CONVERSION = EventInfo(
        "a conversion of a sum of keys' or values' cells", "conversion", Component.ARRAYS, "kv.adc.energy"
    )
    ADDER_ADD = EventInfo(
        "an int32 addition of sums of stacked macros, or to a sum in the buffer",
        "addition",
        Component.ADDERS,
        "cim.adder_energy",
    )
    BUFFER_READ_BYTE = EventInfo(
        "a byte is read from a tile buffer", "byte", Component.BUFFERS, "buffer.read_energy"
    )
    BUFFER_WRITE_BYTE = EventInfo(
        "a byte is written to a tile buffer", "byte", Component.BUFFERS, "buffer.write_energy"
    )
    VECTOR_ALU = EventInfo(
        "a float32 operation of the vector unit", "operation", Component.VECTOR, "vector.alu_energy"
    )
    VECTOR_SFU = EventInfo(
        "a special function of the vector unit", "operation", Component.VECTOR, "vector.sfu_energy"
    )
    HOP_BYTE = EventInfo(
        "a byte goes over one link of the mesh", "byte-hop", Component.NETWORK, "network.hop_energy"
    )
    REDUCE_OP = EventInfo(
        "a float32 addition or comparison in a router",
        "operation",
        Component.NETWORK,
        "network.reduce_energy",
    )
    CHIP_LINK_BYTE = EventInfo(
        "a byte goes over a link between chips", "byte", Component.CHIP_LINKS, "chip_link.energy"
    )
    HOST_LINK_BYTE = EventInfo(
        "a byte goes over the host link", "byte", Component.HOST_LINK, "host_link.energy"
    )
    DRAM_READ_BYTE = EventInfo("a byte is read from DRAM", "byte", Component.DRAM, "dram.read_energy")
    DRAM_WRITE_BYTE = EventInfo("a byte is written to DRAM", "byte", Component.DRAM, "dram.write_energy")
    GBUF_READ_BYTE = EventInfo(
        "a byte is read from a global buffer", "byte", Component.GBUF, "gbuf.read_energy"
    )
    GBUF_WRITE_BYTE = EventInfo(
        "a byte is written to a global buffer", "byte", Component.GBUF, "gbuf.write_energy"
    )
    HOST_BUSY_NS = EventInfo(
        "the host's processor works for a nanosecond", "ns", Component.HOST, "host.power", scale=1e-9
    )
    HOST_MEMORY_BYTE = EventInfo(
        "a byte goes to or from the host's memory", "byte", Component.HOST, "host.memory_energy"
    )

    @property
    def key(self) -> str:
        """The name in reports and JSON."""
        return self.name.lower()

    @property
    def info(self) -> EventInfo:
        """What it is."""
        found: EventInfo = self.value
        return found

    def joules(self, target: Hardware) -> float:
        """The energy of one count, in joules."""
        info = self.info
        each = constant(target, info.constant).si * info.scale
        return each * constant(target, info.factor).si if info.factor else each


@dataclass(frozen=True, slots=True)
class StaticInfo:
    """What draws power all the time: `constant` is its power for one `unit`."""

    description: str
    unit: str
    component: Component
    constant: str


@unique
class Static(Enum):
    """Everything that leaks, refreshes or stands by while a program runs."""

    MACRO = StaticInfo("cells of all macros of a used tile", "byte", Component.ARRAYS, "macro.leakage")
    MACRO_REFRESH = StaticInfo("refreshing the same cells", "byte", Component.ARRAYS, "macro.refresh_power")
    KV_MACRO = StaticInfo(
        "cells of all macros for keys and values of a used tile", "byte", Component.ARRAYS, "kv.leakage"
    )
    KV_REFRESH = StaticInfo("refreshing the same cells", "byte", Component.ARRAYS, "kv.refresh_power")
    BUFFER = StaticInfo("the buffer of a used tile", "byte", Component.BUFFERS, "buffer.leakage")
    VECTOR_UNIT = StaticInfo("the vector unit of a used tile", "tile", Component.VECTOR, "vector.leakage")
    SEQUENCER = StaticInfo(
        "the sequencer of a used tile", "tile", Component.SEQUENCERS, "tile.sequencer_leakage"
    )
    ROUTER = StaticInfo("a router of a used chip", "router", Component.NETWORK, "network.leakage")
    CHIP_LINK = StaticInfo(
        "a tile-wide link between two used chips", "link", Component.CHIP_LINKS, "chip_link.static_power"
    )
    HOST_LINK = StaticInfo("the host link", "link", Component.HOST_LINK, "host_link.static_power")
    DRAM = StaticInfo("the DRAM of a used chip", "chip", Component.DRAM, "dram.static_power")
    GBUF = StaticInfo("the global buffer of a used chip", "chip", Component.GBUF, "gbuf.static_power")

    @property
    def key(self) -> str:
        """The name in reports and JSON."""
        return f"static_{self.name.lower()}"

    @property
    def info(self) -> StaticInfo:
        """What it is."""
        found: StaticInfo = self.value
        return found

    def watts(self, target: Hardware) -> float:
        """The power of one unit of it, in watts."""
        return constant(target, self.info.constant).si


class Bound(Enum):
    """What a cycle of the critical path was spent on; `SEQUENCER` is the issue of instructions."""

    __hash__ = object.__hash__  # members are single; the hash of their names is slow

    CIM = "cim"
    VECTOR = "vector"
    DMA = "dma"
    NETWORK = "network"
    CHIP_LINKS = "chip_links"
    HOST_LINK = "host_link"
    DRAM = "dram"
    GBUF = "gbuf"
    SEQUENCER = "sequencer"
    HOST = "host"


class Resource(Enum):
    """What busy cycles are counted for; `MACROS` counts each macro, `LINKS` each link of the mesh."""

    __hash__ = object.__hash__  # members are single; the hash of their names is slow

    SEQUENCER = "sequencer"
    CIM = "cim"
    MACROS = "macros"
    VECTOR = "vector"
    DMA = "dma"
    NETWORK = "network"
    LINKS = "links"
    CHIP_LINKS = "chip_links"
    HOST_LINK = "host_link"
    DRAM = "dram"
    GBUF = "gbuf"
    HOST = "host"


class Sink(Protocol):
    """A listener. Cycles count from the start of the step; a sink cannot change anything."""

    def on_op(self, tile: int, unit: Unit, start: int, end: int, role: str, index: int, node: str) -> None:
        """Instruction `index` of `role` worked on `unit` of a tile during start..end.

        Called once for each dynamic instruction, when its end is known; one that does nothing ends as it starts.
        """

    def on_message(
        self, channel: int, start: int, end: int, sources: Sequence[int], dests: Sequence[int], size: int
    ) -> None:
        """`size` bytes went over a channel between tiles (or `HOST`); `start` is the rendezvous."""

    def on_step(self, cycles: int, tokens: int, source_rows: int) -> None:
        """The step, of so many tokens and rows of sources, has ended after `cycles`."""
