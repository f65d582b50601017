"""What an instruction takes at least, for one row, from the instruction table and the target's constants.

Lengths may be fractions: a bound divides work evenly over tiles, which no program can do better.
"""

from __future__ import annotations

import math

from isa.hardware import Hardware
from isa.instruction import Dim, Inst, Mode, tree_widths
from isa.instructions import Deqc, Mvm
from isa.timing.rates import rates_of, tree_levels
from isa.workload import Product, RowWork


class Rates:
    """A target's constants in clock cycles and bytes a cycle, and least times of instructions.

    `resident`: weights lie in macros for weights. Else some pass through those that are written while a program runs,
    and the faster kind counts: how many of them do, a mapping decides.
    """

    def __init__(self, hardware: Hardware, *, resident: bool = True) -> None:
        tile = rates_of(hardware)
        self.macro_rows, self.macro_cols = hardware.macro_rows, hardware.macro_cols
        self.tiles = hardware.tiles
        self.chips = int(hardware.system.chips_x.value * hardware.system.chips_y.value)
        self.kv_mvm, self.kv_mvmt = (tile.written.least(transposed) for transposed in (False, True))
        weights = tile.weights.least(transposed=False)
        self.mvm = weights if resident else min(weights, self.kv_mvm)
        self.row_write = tile.written.row_write_cycles
        self.cim_width, self.adder = tile.cim_width, tile.adder_cycles
        self.lanes, self.sfu_lanes, self.startup = tile.lanes, tile.sfu_lanes, tile.startup_cycles
        self.buffer_width = tile.buffer_width
        self.hop = hardware.cycles(hardware.network.hop_latency)
        self.reduce = hardware.cycles(hardware.network.reduce_latency)
        self.compare = hardware.cycles(hardware.network.max_latency)
        self.link = hardware.bytes_per_cycle(hardware.network.link_width)
        chip_link = hardware.bytes_per_cycle(hardware.chip_link.bandwidth)
        self.fastest_link = max(self.link, chip_link) if self.chips > 1 else self.link
        self.into_tile = 2 * self.link + 2 * self.fastest_link
        self.host_latency = hardware.cycles(hardware.host_link.latency)
        self.host_width = hardware.bytes_per_cycle(hardware.host_link.bandwidth)
        self.dispatch = hardware.host.dispatch.si * hardware.clock.si
        self.host_flops = hardware.host.flops.si / hardware.clock.si
        self.host_memory = hardware.host.bandwidth.si / hardware.clock.si
        self.gbuf_latency = hardware.cycles(hardware.gbuf.latency)
        self.gbuf_bytes = int(hardware.gbuf.capacity.si)
        self.gbuf_width = hardware.bytes_per_cycle(hardware.gbuf.bandwidth) * int(
            hardware.gbuf.channels.value
        )
        self.dram_latency = hardware.cycles(hardware.dram.latency)
        self.dram_width = hardware.bytes_per_cycle(hardware.dram.bandwidth) * int(
            hardware.dram.channels.value
        )

    def on_host(self, work: RowWork | Product, rows: int = 1) -> float:
        """Cycles that the host takes for an operator on `rows` rows: one call, its arithmetic or its bytes."""
        flops, size = 0.0, 0.0
        if isinstance(work, Product):
            flops, size = 2.0 * rows * work.rows * work.cols, float(work.bytes)
        else:
            size = 4.0 * rows * work.width
        return self.dispatch + max(flops / self.host_flops, size / self.host_memory)

    def crossing(self, columns: int) -> float:
        """Cycles in which a row of so many columns gets from the host to the chip or back."""
        return self.host_latency + 4 * columns / self.host_width

    def lookup(self, width: int, entries: int) -> float:
        """Cycles to get a row of a table, from DRAM or, if they can hold it, from global buffers."""
        dram = self.dram_latency + 4 * width / (self.dram_width * self.chips)
        gbuf = self.gbuf_latency + 4 * width / (self.gbuf_width * self.chips)
        return min(dram, gbuf) if 4 * width * entries <= self.gbuf_bytes * self.chips else dram

    def work(self, kind: type[Inst], cols: float, rows: float = 1) -> float:
        """Cycles of the vector unit without its start-up: the longest of lanes, special functions and buffer port.

        Without the trees of reductions: a row in pieces of one column needs none.
        """
        work, read = kind.work, 0.0
        for field in kind.layout:
            access = field.access
            if access is not None:
                size = float(access.dtype.bytes * (2 if access.mode is Mode.UPDATE else 1))
                for dim in access.dims:
                    size *= _extent(dim, rows, cols)
                read += size
        elements = rows * cols
        alu = elements * work.alu + rows * work.row_alu
        sfu = elements * work.sfu + rows * work.row_sfu
        return max(alu / self.lanes, sfu / self.sfu_lanes, read / self.buffer_width)

    def vector(self, kind: type[Inst], cols: float, longest: float | None = None) -> float:
        """Cycles until a vector instruction on `cols` elements is done. Some row of it has `longest` of them, which the
        levels of its reductions follow from; without, it is one row."""
        levels = kind.work.trees * len(tree_widths(cols if longest is None else longest))
        return self.startup + max(1.0, self.work(kind, cols) + levels)

    def activation(self, rows: float, cols: float) -> float:
        """Cycles of a product of one row with `rows` x `cols` weights in the arrays of one tile."""
        sizes = {"rows": rows, "a.cols": cols}
        size_in, size_out = (
            next(
                f.access.dtype.bytes * sizes[str(f.access.dims[-1])]
                for f in Mvm.layout
                if f.access is not None and f.access.mode is mode
            )
            for mode in (Mode.READ, Mode.WRITE)
        )
        return max(self.mvm, size_in / self.cim_width, size_out / self.cim_width) + self.levels(
            rows / self.macro_rows
        )

    def levels(self, stacked: float) -> int:
        """Cycles of the tree that adds the sums of stacked macros."""
        return tree_levels(math.ceil(stacked)) * self.adder

    @property
    def dequantise(self) -> float:
        """Cycles of the vector unit for each column of sums."""
        return self.work(Deqc, 1024) / 1024


def _extent(dim: Dim, rows: float, cols: float) -> float:
    if isinstance(dim, int):
        return dim
    if dim == "n":
        return rows
    return cols if dim in ("cols", "a.cols") else 0.0
