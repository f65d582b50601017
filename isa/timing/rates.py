"""A target's constants as the timing formulas use them: whole clock cycles, bytes a cycle."""

from __future__ import annotations

import math
from dataclasses import dataclass

from isa.events import Event
from isa.hardware import Hardware
from isa.macro import Macro
from isa.program import ArrayKind


def ceil_div(amount: float, rate: float) -> int:
    """Cycles that `amount` takes at `rate` a cycle, rounded up; exact to 1e-9 of a cycle."""
    return math.ceil(round(amount / rate, 9))


def tree_levels(inputs: int) -> int:
    """Levels of a binary tree with this many inputs."""
    return max(0, inputs - 1).bit_length()


@dataclass(frozen=True, slots=True)
class ArrayEvents:
    """What is counted when arrays of one kind of macro work."""

    mac: Event
    mac_transposed: Event
    write: Event
    read: Event
    drive: Event
    conversion: Event


WEIGHT_EVENTS = ArrayEvents(
    Event.ARRAY_MAC,
    Event.ARRAY_MAC_TRANSPOSED,
    Event.ARRAY_WRITE_BYTE,
    Event.ARRAY_READ_BYTE,
    Event.ARRAY_DRIVE,
    Event.ARRAY_CONVERSION,
)
KV_EVENTS = ArrayEvents(
    Event.KV_MAC,
    Event.KV_MAC_TRANSPOSED,
    Event.KV_WRITE_BYTE,
    Event.KV_READ_BYTE,
    Event.KV_DRIVE,
    Event.KV_CONVERSION,
)


@dataclass(frozen=True, slots=True)
class CellRates:
    """One kind of macro: its size, its times in cycles, its events."""

    macro: Macro
    clock: float  # Hz
    rows: int
    cols: int
    row_write_cycles: int
    row_read_cycles: int
    events: ArrayEvents

    def vector_cycles(self, rows: int, cols: int, transposed: bool) -> int:
        """Cycles of one vector through an array of rows x cols elements, whose macros work side by side."""
        seconds = self.macro.mvm_seconds(min(rows, self.rows), min(cols, self.cols), transposed)
        return math.ceil(round(seconds * self.clock, 9))

    def least(self, transposed: bool) -> int:
        """Cycles that no vector takes less than: one row or column of an array."""
        return self.vector_cycles(1, 1, transposed)

    def conversions(self, rows: int, cols: int, transposed: bool) -> int:
        """Conversions for one vector through an array of rows x cols elements: each macro converts its own sums."""
        if transposed:
            return -(-cols // self.cols) * self.macro.conversions(rows, min(cols, self.cols), transposed)
        full, rest = divmod(rows, self.rows)
        whole = full * self.macro.conversions(self.rows, cols) if full else 0
        return whole + (self.macro.conversions(rest, cols) if rest else 0)

    def drives(self, rows: int, cols: int, transposed: bool) -> int:
        """Steps on lines of cells for one vector through such an array: each macro has drivers of its own."""
        beside = -(-rows // self.rows) if transposed else -(-cols // self.cols)
        return beside * self.macro.drives(rows, cols, transposed)


@dataclass(frozen=True, slots=True)
class Rates:
    """Latencies in cycles (`_cycles`), widths in bytes a cycle (`_width`), counts; macros by what they hold."""

    weights: CellRates
    written: CellRates
    granule_bytes: int
    cim_width: float
    adder_cycles: int
    lanes: int
    sfu_lanes: int
    startup_cycles: int
    buffer_width: float

    def cells(self, kind: ArrayKind) -> CellRates:
        """The macros that arrays of this kind are built of."""
        return self.weights if kind is ArrayKind.WEIGHT else self.written


def rates_of(target: Hardware) -> Rates:
    """The constants of `target`."""
    vector = target.vector
    weights = _cell_rates(target, target.macro, WEIGHT_EVENTS)
    return Rates(
        weights=weights,
        written=weights if target.kv is None else _cell_rates(target, target.kv, KV_EVENTS),
        granule_bytes=target.granule_bytes,
        cim_width=target.bytes_per_cycle(target.cim.port_width),
        adder_cycles=target.cycles(target.cim.adder_latency),
        lanes=int(vector.lanes.value),
        sfu_lanes=int(vector.sfu_lanes.value),
        startup_cycles=target.cycles(vector.startup),
        buffer_width=target.bytes_per_cycle(target.buffer.port_width),
    )


def _cell_rates(target: Hardware, macro: Macro, events: ArrayEvents) -> CellRates:
    return CellRates(
        macro=macro,
        clock=target.clock.si,
        rows=int(macro.rows.value),
        cols=int(macro.cols.value),
        row_write_cycles=target.cycles(macro.row_write_latency),
        row_read_cycles=target.cycles(macro.row_read_latency),
        events=events,
    )
