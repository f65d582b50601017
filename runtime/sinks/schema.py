"""The schema of statistics: what the JSON of a run holds (version 2).

Energies are in joules, times in seconds or in clock cycles, utilisations between 0 and 1. `stats.schema.json` beside
this file is generated from it. The JSON says all that a report needs: what each line of energy is made of, the
constants of the target with their sources, and where everything lay.
"""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

VERSION = 2
_WIDTH = 110  # of a line of the JSON text that lists numbers


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class EnergyJoules(_Model):
    """Joules. `total` = dynamic + write + static = sum of `by_component` = sum of `by_node`, exactly, in any order."""

    total: float
    dynamic: float
    write: float
    static: float
    by_component: dict[str, float]
    by_node: dict[str, float] = Field(description="by ONNX nodes; static energy is the node `(static)`")
    by_event: dict[str, float] = Field(description="by event, and by kind of static power (`static_...`)")


class ConstantRecord(_Model):
    """A number of the hardware description, as its file has it."""

    path: str = Field(description="its name, such as `macro.mac_energy`")
    value: float
    unit: str
    source: str
    confidence: str = Field(description="silicon, repository, derived or assumed")
    year: int | None = None


class EnergyLine(_Model):
    """A line of the energy report: `count` times the product of its constants, of the time if it is static, and of
    `activity` if it has one."""

    key: str = Field(description="the event, or the kind of static power (`static_...`)")
    description: str
    component: str
    category: str = Field(description="dynamic, write or static")
    count: int = Field(description="how often it happened; of static lines: how many `unit`s were on")
    unit: str = Field(description="what is counted")
    joules: float
    constants: list[str] = Field(description="paths of the constants behind it, in `constants`")
    activity: float | None = Field(
        default=None,
        description="factor of measured data, over all counts; null: those of the constants' sources",
    )


class PlaceRecord(_Model):
    """What a part of a layer cost. All places add up to the energy and to the critical path.

    The static energy of tiles is that of the layers whose work they hold, in equal parts where they hold several; it is
    the part `(static)`. What belongs to no tile (memories, links) is the place without a layer of that name.
    """

    layer: int | None = Field(description="the number of the repeated block; null outside")
    part: str = Field(description="the path within it, or the whole path")
    dynamic_j: float
    write_j: float
    static_j: float
    by_component: dict[str, float] = Field(description="the same joules; none is 0")
    critical_cycles: int


class PhaseWork(_Model):
    """What the steps of a phase did, for a roofline and for what bounds it."""

    phase: str = Field(description="source, prefill or decode; `all` if the steps' segments are unknown")
    steps: int
    tokens: int
    cycles: int
    operations: dict[str, int] = Field(description="`arrays` (2 a multiply-accumulate) and `vector`")
    moved_bytes: dict[str, int] = Field(description="bytes over each border, by component")
    critical: dict[str, int] = Field(description="cycles of the critical path, by resource")


class Roof(_Model):
    """A limit of the chips in use: operations or bytes a second at the most."""

    name: str
    component: str
    kind: Literal["operations", "bytes"]
    per_second: float
    description: str
    constants: list[str] = Field(description="paths of the constants behind it, in `constants`")


class RoleRecord(_Model):
    """A role: the text that tiles of its kind share, and the macros that its arrays take, by kind of array."""

    name: str
    instructions: int
    macros: dict[str, int]


class TileMap(_Model):
    """Where each tile lies and what it does: `x`, `y`, `role` and `label` have an entry a tile.

    Coordinates are of the mesh of the whole system; `role` and `label` are indices of `roles` and `labels`.
    """

    chips: tuple[int, int] = Field(description="chips of the system, along x and y")
    tiles: tuple[int, int] = Field(description="tiles of a chip, along x and y")
    macros_per_tile: int
    corners: list[tuple[int, int]] = Field(description="where the corner of each copy of all tiles lies")
    roles: list[RoleRecord]
    labels: list[str] = Field(description="the layers whose work tiles hold, in words")
    names: list[str] = Field(description="of tiles; empty if they are t0, t1, ...")
    x: list[int]
    y: list[int]
    role: list[int]
    label: list[int]


class Occupancy(_Model):
    """How much of the system is in use."""

    tiles: tuple[int, int] = Field(description="in use, of the system")
    chips: tuple[int, int] = Field(description="in use, of the system")
    macros: dict[str, int] = Field(description="that hold data, by kind of array; copies included")
    macros_on: int = Field(description="of tiles in use")
    macros_total: int = Field(description="of the system")
    cells: dict[str, tuple[int, int]] = Field(
        description="elements of arrays, and elements that their macros have room for, by kind of array"
    )
    memory_bytes: dict[str, tuple[int, int]] = Field(
        description="bytes laid out in memories of chips in use, and their capacity"
    )


class AreaRecord(_Model):
    """Silicon of one chip, in mm2; the components and `other` add up to `chip`."""

    chip: float
    chips: int = Field(description="chips in use")
    by_component: dict[str, float]
    other: float = Field(description="what is of no component")
    exposures: float = Field(description="dies of the largest size of one exposure that a chip takes")


class WearRecord(_Model):
    """Cells that wear out because they are written while the program decodes."""

    what: str = Field(description="what is written into them")
    cell: str
    endurance: float = Field(description="writes that a cell survives")
    writes_per_token: float
    lifetime_s: float | None = Field(description="at the pace of this run's decode steps; null without any")


class CriticalPath(_Model):
    """What the cycles of the longest chain of dependent operations were spent on; both sum to `cycles`."""

    by_resource: dict[str, int]
    by_node: dict[str, int]


class StepRecord(_Model):
    """One step of the run."""

    cycles: int
    tokens: int
    source_rows: int = 0
    instructions: int
    bound_by: str


class PhaseRecord(_Model):
    """The steps of a phase beside their lower bounds (docs/bound.md)."""

    phase: str
    steps: int
    cycles: int
    bound_cycles: int
    ratio: float = Field(description="cycles over bound_cycles")
    binding: str = Field(description="the resource that the bound comes from")
    terms: dict[str, int] = Field(
        default={}, description="cycles by each limit of the bound by itself, all steps added"
    )
    chain: dict[str, int] = Field(
        default={}, description="cycles of the first row's way through the model, by what they wait for"
    )


class KvRecord(_Model):
    """How full the KV arrays of tokens were, in rows of one array (docs/batching.md)."""

    sequences: int = Field(description="how many sequences can be resident")
    pages: int = Field(description="that sequences share; without paging one each, of the longest context")
    page_rows: int
    capacity: int = Field(description="tokens that there is room for: pages x page_rows")
    peak_pages: int = Field(description="most pages that belonged to sequences at a time")
    peak_tokens: int = Field(description="most tokens in the arrays at a time")
    fragmentation: float = Field(description="empty part of the rows of sequences' pages, mean over steps")


class AnalogRecord(_Model):
    """What a kind of analog macros computed values with (docs/analog.md)."""

    macros: str
    adc_bits: int
    adc_range: float = Field(description="what converters cover, of the largest sum of a slice")
    read_noise: float = Field(description="standard deviation of a sum, of the same largest sum")
    programming_error: float = Field(description="standard deviation, of the range of a cell's conductances")
    drift_s: float | None = Field(
        description="seconds since cells were programmed; null if they do not drift"
    )
    seed: int


class NodeActivityRecord(_Model):
    """What arrays multiplied on behalf of a node, in the activations that were counted (docs/energy.md, Activity)."""

    event: str
    node: str
    inputs: int = Field(description="elements of vectors that were counted")
    zeros: float = Field(description="share of inputs that are 0")
    cells: int = Field(description="that were counted; each time that they are multiplied with")
    input_ones: float = Field(
        description="share of ones of their bits; of slices of more bits, the mean level"
    )
    cell_ones: float = Field(description="the same of cells")
    factor: float = Field(description="of the energy of a multiply-accumulate")


class ActivityRecord(_Model):
    """The data that the energy of multiply-accumulates is for."""

    every: int = Field(
        description="each such activation of an instruction of a tile was counted, from the first on"
    )
    is_scaled: bool = Field(description="false: the target does not say how energy depends on data")
    factor: float = Field(
        description="joules of all multiply-accumulates over those without what was counted"
    )
    nodes: list[NodeActivityRecord]


class DecodeStep(_Model):
    """One decode step."""

    cycles: int
    energy_j: float
    simulated: bool = Field(
        description="false: interpolated between the simulated steps before and behind it"
    )


class DecodeRecord(_Model):
    """A run of decode steps, one token of each sequence a step; sums are over all steps, the interpolated ones too."""

    positions: list[int] = Field(description="tokens in the cache before the first step, by sequence")
    asked: int = Field(description="steps that were asked for")
    every: int = Field(description="each such step was to be simulated, the first and the last always")
    interrupted: bool = Field(description="the run was ended early: `steps` has what was done until then")
    simulated: int
    interpolated: int
    tokens: int
    cycles: int
    latency_s: float
    energy_j: float
    steps: list[DecodeStep]


class Statistics(_Model):
    """Everything that a run cost and what bounded it. Of decode runs all but `decode` is of simulated steps."""

    schema_name: Literal["cim-statistics"] = Field(default="cim-statistics", alias="schema")
    version: Literal[2] = 2
    target: str
    target_hash: str
    target_description: str
    clock_hz: float
    program: str = Field(description="the model the program was compiled from, or its roles if unknown")
    program_hash: str = Field(description="hash of the model file; empty if unknown")
    options: dict[str, str] = Field(default={}, description="the compiler's")
    engine: str = Field(description="what computed the values, or `timing`")
    tiles: int = Field(description="tiles in use")
    steps: int
    tokens: int = Field(description="tokens that went through, prompt and generated")
    source_rows: int = Field(default=0, description="rows of sources that went through, for cross-attention")
    cycles: int
    latency_s: float = Field(description="simulated time: cycles over the clock frequency")
    wall_s: float = Field(description="time that the simulation took")
    instructions: int = Field(description="dynamic: one for each issue on each tile")
    instructions_by_unit: dict[str, int]
    macs: int = Field(description="multiply-accumulates in arrays")
    messages: int
    message_bytes: int
    energy_j: EnergyJoules
    energy_lines: list[EnergyLine] = Field(description="they add up to the energy, exactly; none is 0")
    places: list[PlaceRecord]
    constants: list[ConstantRecord] = Field(description="of the target, in the order of its file")
    events: dict[str, int] = Field(description="how often each event happened")
    utilization: dict[str, float] = Field(description="busy cycles over cycles x pieces, by resource")
    bound_by: str = Field(description="what most of the critical path was spent on")
    critical_path: CriticalPath
    bounds: list[PhaseRecord] = Field(
        default=[], description="by phase; empty if the model's work is unknown"
    )
    work: list[PhaseWork]
    roofs: list[Roof]
    occupancy: Occupancy
    tile_map: TileMap
    area_mm2: AreaRecord
    wear: list[WearRecord] = Field(description="empty if the target's cells do not wear out")
    per_step: list[StepRecord] | None = None
    kv_cache: KvRecord | None = Field(default=None, description="null if the program keeps none in arrays")
    activity: ActivityRecord | None = Field(
        default=None, description="null: energy is that of the data of the constants' sources"
    )
    analog: list[AnalogRecord] = Field(
        default=[], description="empty if all macros computed exactly, or no values were computed"
    )
    decode: DecodeRecord | None = Field(default=None, description="of runs of decode steps")

    def to_json(self) -> str:
        """The JSON text; numbers of a list share lines."""
        return _text(self.model_dump(mode="json", by_alias=True), "") + "\n"


def _text(value: object, indent: str) -> str:
    """JSON with two blanks a level, but lists of plain values in lines of text."""
    deeper = indent + "  "
    if isinstance(value, dict) and value:
        fields = (f"{deeper}{json.dumps(key)}: {_text(item, deeper)}" for key, item in value.items())
        return "{\n" + ",\n".join(fields) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return "[\n" + ",\n".join(deeper + _text(item, deeper) for item in value) + f"\n{indent}]"
    if isinstance(value, list) and len(value) > 1:
        return f"[{_filled([json.dumps(item) for item in value], deeper)}]"
    return json.dumps(value)


def _filled(items: list[str], indent: str) -> str:
    """The items, separated by commas, in as few lines as fit."""
    lines, width = [""], 0
    for item in items:
        if width and width + len(item) > _WIDTH - len(indent):
            lines.append("")
            width = 0
        lines[-1] += f"{', ' if width else ''}{item}"
        width = len(lines[-1])
    return f",\n{indent}".join(lines)


def schema_text() -> str:
    """The JSON schema of the statistics, as in `stats.schema.json`."""
    return json.dumps(Statistics.model_json_schema(by_alias=True, mode="serialization"), indent=2) + "\n"
