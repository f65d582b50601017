"""The macro model: what an array of cells that multiply in place takes, in time, energy and events (docs/macros.md).

One description covers digital and analog macros. An int8 weight lies in `weight_slices` columns of cells, an int8 input
is driven in `input_slices` steps. A digital macro adds what its cells give exactly; an analog one has an ADC, which
several columns share. Everything the simulator charges for an activation, and everything `cim validate` predicts of
published macros, comes from the functions here.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import Self

from pydantic import model_validator

from .diagnostics import fail
from .quantities import (
    Age,
    Area,
    Confidence,
    Count,
    EnergyByte,
    EnergyEach,
    LeakageByte,
    Model,
    Number,
    Quantity,
    Ratio,
    Share,
    Time,
)

MOST_ADC_BITS = 24
"""More would convert sums of slices exactly in any array that there is."""

OPERAND_BITS = 8
"""Bits of a weight and of an input that the constants of a macro are for."""


class Cell(Enum):
    """What a bit of a macro is kept in."""

    SRAM = "sram"
    GAIN_CELL = "gain-cell"
    DRAM = "dram"
    RERAM = "reram"
    PCM = "pcm"


class Adc(Model):
    """The converter of an analog macro: lines of cells take turns at it."""

    bits: Number  # resolution, its sign included
    range: Share | None = None  # share of a slice's largest sum that is converted; beyond, it clips
    lines: Number  # columns of cells that share one
    latency: Time  # a conversion
    energy: EnergyEach  # a conversion, with the shift and addition of its slice

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not 2 <= self.bits.value <= MOST_ADC_BITS:
            raise ValueError(f"bits must be from 2 to {MOST_ADC_BITS}")
        if self.range is not None and self.range.value == 0:
            raise ValueError("range must be greater than 0")
        return self


class Drift(Model):
    """How conductances fall with the time t since they were programmed: as (t / start) ** -exponent."""

    exponent: Share  # mean over cells; what it takes is put back behind the converters (docs/analog.md)
    spread: Share  # standard deviation from cell to cell
    start: Age  # when a conductance is what programming aimed at
    time: Age  # since programming, if a run does not say

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.start.si > self.time.si:
            raise ValueError("time must not be before start")
        return self


class Noise(Model):
    """What keeps the sums of an analog macro from being exact (docs/analog.md)."""

    programming_error: Share  # standard deviation of a conductance, of the range of a cell's conductances
    read_noise: Share  # standard deviation of a sum, of the largest sum of a slice
    drift: Drift | None = None


class Activity(Model):
    """The data that `mac_energy` was measured with, and how far it depends on data (docs/energy.md, Activity)."""

    reference: Share  # of pairs of an input bit and a weight bit: both are one
    idle_share: Share  # of mac_energy: spent whatever the data

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.reference.value == 0:
            raise ValueError("reference must be greater than 0: energy is in proportion to it")
        return self


class Macro(Model):
    """A CIM macro: rows x cols int8 weights. Constants are for int8 inputs."""

    cell: Cell
    rows: Number
    cols: Number
    pass_rows: Number | None = None  # rows that compute at once; all, if it is left out
    pass_cols: Number | None = None  # columns of weights that compute at once; all, if it is left out
    weight_slices: Number  # columns of cells that a weight takes
    crossbar_cols: Number | None = (
        None  # columns of cells that a driver of a row spans; all, if it is left out
    )
    input_slices: Number  # steps in which an input is driven
    transposable: bool  # may be activated along its columns too (sums over columns)
    mvm_latency: Time  # one int8 vector through the cells that compute at once: all its steps
    mac_energy: EnergyEach  # one int8 x int8 multiply-accumulate: cells and adder tree of all slices
    drive_energy: EnergyEach | None = None  # one step on one line of cells, if not within mac_energy (DAC)
    adc: Adc | None = None  # only analog macros have one
    noise: Noise | None = None  # without it, sums are exact but for their conversion
    activity: Activity | None = None  # without it, mac_energy holds for all data
    transpose_latency_factor: Ratio  # MVM time in the second direction, over mvm_latency
    transpose_energy_factor: Ratio  # MAC energy in the second direction, over mac_energy
    row_write_latency: Time  # one row of one macro; the macro computes nothing meanwhile
    row_read_latency: Time
    write_energy: EnergyByte
    read_energy: EnergyByte
    leakage: LeakageByte
    retention: Age | None = None  # how long cells keep their contents; they are refreshed once in it
    endurance: Count | None = None  # writes that a cell survives
    area: Area

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name, most in (("pass_rows", self.rows), ("pass_cols", self.cols)):
            given = getattr(self, name)
            if given is not None and (given.value > most.value or most.value % given.value):
                raise ValueError(f"{name} must divide {name.removeprefix('pass_')}, {most.value:g}")
        self._check_crossbars()
        if self.noise is not None and self.adc is None:
            raise ValueError("noise: only macros with an adc have noise")
        if self.refresh_share >= 1:
            raise ValueError(
                f"refreshing all rows takes longer than they keep their contents, {self.retention}"
            )
        return self

    def _check_crossbars(self) -> None:
        held, beside = self.crossbar_weights, self.pass_weights
        if held < 1:
            raise ValueError("crossbar_cols: a weight must fit a crossbar, with all of its slices")
        if self.cols.value % held or max(held, beside) % min(held, beside):
            raise ValueError(
                f"crossbar_cols: whole crossbars of {held} weights must make up a row of weights, and its passes"
            )

    @property
    def is_analog(self) -> bool:
        """Whether sums pass a converter."""
        return self.adc is not None

    @property
    def bytes(self) -> int:
        """Bytes that it holds."""
        return int(self.rows.value * self.cols.value)

    # ------------------------------------------------------------------------------------------------- parts

    @property
    def pass_height(self) -> int:
        """Rows that compute at once."""
        return int((self.pass_rows or self.rows).value)

    @property
    def pass_weights(self) -> int:
        """Columns of weights that compute at once."""
        return int((self.pass_cols or self.cols).value)

    @property
    def crossbar_weights(self) -> int:
        """Columns of weights of a crossbar: no weight lies in two."""
        if self.crossbar_cols is None:
            return int(self.cols.value)
        return int(self.crossbar_cols.value // self.weight_slices.value)

    @property
    def sum_weights(self) -> int:
        """Columns of weights that an activation along columns sums up before it converts: those of a crossbar that
        compute at once."""
        return min(self.pass_weights, self.crossbar_weights)

    # ------------------------------------------------------------------------------------------------- time

    def passes(self, rows: int, cols: int, row: int = 0) -> int:
        """Passes that an activation of rows x cols of its weights takes; `row` is the first of the rows."""
        return touched(row, rows, self.pass_height)[0] * math.ceil(cols / self.pass_weights)

    def mvm_seconds(self, rows: int, cols: int, transposed: bool = False, row: int = 0) -> float:
        """Time of one vector through rows x cols of its weights, from `row` on. Conversions run beside the next step of
        the cells, so a step takes the longer of both; time that refreshing takes is spread over all vectors."""
        step = self.mvm_latency.si / self.input_slices.value
        if transposed:
            step *= self.transpose_latency_factor.si
        if self.adc is not None:
            most = touched(row, rows, self.pass_height)[1]
            step = max(step, self.turns(most, cols, transposed) * self.adc.latency.si)
        return self.passes(rows, cols, row) * self.input_slices.value * step / (1 - self.refresh_share)

    def turns(self, rows: int, cols: int, transposed: bool) -> int:
        """Conversions one after another at the busiest converter, in a step of an input; `rows` compute at once. As
        many lines share one in both directions, and lines in use are spread over converters. Along columns each
        crossbar has lines of its own, which are converted for each slice of the weights."""
        assert self.adc is not None
        slices, wide = self.weight_slices.value, min(cols, self.pass_weights)
        if transposed:
            in_use = rows * math.ceil(wide / self.crossbar_weights)
            lines = self.rows.value * self.cols.value / self.crossbar_weights
        else:
            in_use, lines = int(wide * slices), self.cols.value * slices
        busiest = math.ceil(in_use / max(1.0, lines / self.adc.lines.value))
        return int(busiest * slices) if transposed else busiest

    @property
    def refresh_share(self) -> float:
        """The share of its time that a macro refreshes rows: each is read and written once in a retention time."""
        if self.retention is None:
            return 0.0
        row = self.row_read_latency.si + self.row_write_latency.si
        return self.rows.value * row / self.retention.si

    # ----------------------------------------------------------------------------------------------- energy

    def conversions(self, rows: int, cols: int, transposed: bool = False, row: int = 0) -> int:
        """Conversions for one vector through rows x cols of its weights, from `row` on; 0 if it is digital. Along
        columns, the slices of a weight are driven one after another, so that each output is converted for each of
        them, in each crossbar."""
        if self.adc is None:
            return 0
        outputs = rows if transposed else cols
        sums = math.ceil(cols / self.sum_weights) if transposed else touched(row, rows, self.pass_height)[0]
        return int(outputs * self.input_slices.value * self.weight_slices.value) * sums

    def drives(self, rows: int, cols: int, transposed: bool = False) -> int:
        """Steps on lines of cells for one vector through rows x cols of its weights; 0 if not charged apart. A row has
        a line in each crossbar."""
        if self.drive_energy is None:
            return 0
        lines = (
            cols * self.weight_slices.value if transposed else rows * math.ceil(cols / self.crossbar_weights)
        )
        return int(lines * self.input_slices.value)

    def mvm_joules(self, rows: int, cols: int, transposed: bool = False) -> float:
        """Energy of one vector through rows x cols of its weights, as the simulator charges it."""
        factor = self.transpose_energy_factor.si if transposed else 1.0
        joules = rows * cols * self.mac_energy.si * factor
        if self.drive_energy is not None:
            joules += self.drives(rows, cols, transposed) * self.drive_energy.si
        if self.adc is not None:
            joules += self.conversions(rows, cols, transposed) * self.adc.energy.si
        return joules

    def activity_factor(self, ones: float) -> float:
        """What `mac_energy` is multiplied with where a share `ones` of pairs of an input bit and a weight bit are both
        one: linear from `idle_share` at 0, through 1 at the reference activity."""
        if self.activity is None:
            return 1.0
        idle = self.activity.idle_share.si
        return idle + (1.0 - idle) * ones / self.activity.reference.si

    @property
    def refresh_power(self) -> Quantity:
        """Power of refreshing a bit of cells: a read and a write in each retention time."""
        if self.retention is None:
            source = "cells that keep their contents"
            return Quantity(value=0, unit="pW/bit", source=source, confidence=Confidence.DERIVED)
        watts = (self.read_energy.si + self.write_energy.si) / self.retention.si  # a byte
        source = "a read and a write of each cell in its retention time"
        return Quantity(value=watts / 8e-12, unit="pW/bit", source=source, confidence=Confidence.DERIVED)

    # ------------------------------------------------------------------------------------------ other widths

    def at_bits(self, weight_bits: int, input_bits: int) -> Macro:
        """The macro with weights and inputs of other widths: slices, and with them time and energy, in proportion. The
        columns of cells stay: narrower weights leave room for more columns of them, in each crossbar and pass. Cells
        that are left over hold nothing. Raises `CimError` E0502 if not one weight fits."""
        weights = math.ceil(self.weight_slices.value * weight_bits / OPERAND_BITS)
        inputs = math.ceil(self.input_slices.value * input_bits / OPERAND_BITS)
        across, along = weights / self.weight_slices.value, inputs / self.input_slices.value
        # What is counted in weights consists of so many of the smallest parts, which are cut anew.
        part, held = self.sum_weights, math.floor(self.sum_weights / across)
        if not held:
            cells = int(part * self.weight_slices.value)
            raise fail(
                "E0502",
                f"a weight of {weight_bits} bits takes {weights} columns of cells, of which {cells} compute at once",
                help="take fewer bits, or a macro with wider passes",
            )
        changed = {
            "cols": self.cols.value / part * held,
            "weight_slices": weights,
            "input_slices": inputs,
            "mvm_latency": self.mvm_latency.value * along,
            "mac_energy": self.mac_energy.value * across * along,
        }
        if self.pass_cols is not None:
            changed["pass_cols"] = self.pass_cols.value / part * held
        if self.crossbar_cols is not None:
            changed["crossbar_cols"] = self.crossbar_weights / part * held * weights
        own = {name: getattr(self, name).model_copy(update={"value": v}) for name, v in changed.items()}
        return Macro.model_validate({**dict(self), **own})


def touched(first: int, count: int, size: int) -> tuple[int, int]:
    """Of places in blocks of `size`: how many blocks the `count` places from `first` on lie in, and how many of these
    places lie in the same block at most."""
    lead = min(count, size - first % size)
    return (1 if lead else 0) + math.ceil((count - lead) / size), max(lead, min(size, count - lead))
