"""A target's constants as the timing formulas use them: whole clock cycles, bytes a cycle."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from isa.events import Event
from isa.hardware import Hardware
from isa.macro import Macro, touched
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
    cycles_of: Callable[[float], int]  # seconds as clock cycles, rounded up
    rows: int
    cols: int
    row_write_cycles: int
    row_read_cycles: int
    events: ArrayEvents

    def vector_cycles(self, row: int, rows: int, cols: int, transposed: bool) -> int:
        """Cycles of one vector through some rows of an array of `cols` columns, from `row` on. Macros work side by
        side, so it is what the one that takes longest does: that of the first row, or the next one."""
        own = min(rows, self.rows - row % self.rows)
        parts = [(row % self.rows, own), (0, min(rows - own, self.rows))]
        most = min(cols, self.cols)
        return self.cycles_of(
            max(self.macro.mvm_seconds(many, most, transposed, first) for first, many in parts if many)
        )

    def least(self, transposed: bool) -> int:
        """Cycles that no vector takes less than: one row or column of an array."""
        return self.vector_cycles(0, 1, 1, transposed)

    def conversions(self, row: int, rows: int, cols: int, transposed: bool) -> int:
        """Conversions for one vector through some rows of such an array: each pass of each macro converts its own sums.
        Passes and crossbars divide macros, so that an array is cut where its macros are."""
        return self.macro.conversions(rows, cols, transposed, row)

    def drives(self, row: int, rows: int, cols: int, transposed: bool) -> int:
        """Steps on lines of cells for one vector through some rows of such an array: each macro has drivers of its
        own."""
        stacked = touched(row, rows, self.rows)[0] if transposed else 1
        return stacked * self.macro.drives(rows, cols, transposed)


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
        cycles_of=target.cycles_of,
        rows=int(macro.rows.value),
        cols=int(macro.cols.value),
        row_write_cycles=target.cycles(macro.row_write_latency),
        row_read_cycles=target.cycles(macro.row_read_latency),
        events=events,
    )
