"""A target's constants as the timing formulas use them: whole clock cycles, bytes a cycle."""

from __future__ import annotations

import math
from dataclasses import dataclass

from isa.hardware import Hardware, Quantity


def ceil_div(amount: float, rate: float) -> int:
    """Cycles that `amount` takes at `rate` a cycle, rounded up; exact to 1e-9 of a cycle."""
    return math.ceil(round(amount / rate, 9))


def tree_levels(inputs: int) -> int:
    """Levels of a binary tree with this many inputs."""
    return max(0, inputs - 1).bit_length()


def _times(time: Quantity, factor: Quantity) -> Quantity:
    return time.model_copy(update={"value": time.value * factor.value})


@dataclass(frozen=True, slots=True)
class Rates:
    """Latencies in cycles (`_cycles`), widths in bytes a cycle (`_width`), counts."""

    macro_rows: int
    macro_cols: int
    granule_bytes: int
    mvm_cycles: int
    mvmt_cycles: int
    row_write_cycles: int
    row_read_cycles: int
    cim_width: float
    adder_cycles: int
    lanes: int
    sfu_lanes: int
    startup_cycles: int
    buffer_width: float


def rates_of(target: Hardware) -> Rates:
    """The constants of `target`."""
    macro, vector = target.macro, target.vector
    return Rates(
        macro_rows=target.macro_rows,
        macro_cols=target.macro_cols,
        granule_bytes=target.granule_bytes,
        mvm_cycles=target.cycles(macro.mvm_latency),
        mvmt_cycles=target.cycles(_times(macro.mvm_latency, macro.transpose_latency_factor)),
        row_write_cycles=target.cycles(macro.row_write_latency),
        row_read_cycles=target.cycles(macro.row_read_latency),
        cim_width=target.bytes_per_cycle(target.cim.port_width),
        adder_cycles=target.cycles(target.cim.adder_latency),
        lanes=int(vector.lanes.value),
        sfu_lanes=int(vector.sfu_lanes.value),
        startup_cycles=target.cycles(vector.startup),
        buffer_width=target.bytes_per_cycle(target.buffer.port_width),
    )
