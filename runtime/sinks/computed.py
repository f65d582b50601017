"""Records of how values were computed, for the statistics: what analog macros did, and what arrays multiplied."""

from __future__ import annotations

from pydantic import Field

from .fields import Amount, Count, Record, Some


class AnalogRecord(Record):
    """What a kind of analog macros computed values with (docs/analog.md)."""

    macros: str
    adc_bits: Count
    adc_range: Amount = Field(description="what converters cover, of the largest sum of a slice")
    read_noise: Amount = Field(description="standard deviation of a sum, of the same largest sum")
    programming_error: Amount = Field(description="standard deviation, of the range of a cell's conductances")
    drift_s: Amount | None = Field(
        description="seconds since cells were programmed; null if they do not drift"
    )
    seed: int


class NodeActivityRecord(Record):
    """What arrays multiplied on behalf of a node, in the activations that were counted (docs/energy.md, Activity)."""

    event: str
    node: str
    inputs: Some = Field(description="elements of vectors that were counted")
    zeros: Amount = Field(description="share of inputs that are 0")
    cells: Some = Field(description="that were counted; each time that they are multiplied with")
    input_ones: Amount = Field(
        description="share of ones of their bits; of slices of more bits, the mean level"
    )
    cell_ones: Amount = Field(description="the same of cells")
    factor: Amount = Field(description="of the energy of a multiply-accumulate")


class ActivityRecord(Record):
    """The data that the energy of multiply-accumulates is for."""

    every: Some = Field(
        description="each such activation of an instruction of a tile was counted, from the first on"
    )
    is_scaled: bool = Field(description="false: the target does not say how energy depends on data")
    factor: Amount = Field(
        description="joules of all multiply-accumulates over those without what was counted"
    )
    nodes: list[NodeActivityRecord] = Field(min_length=1)
