"""The schema of statistics: what the JSON of a run holds (version 2).

Energies are in joules, times in seconds or in clock cycles, utilisations between 0 and 1. `stats.schema.json` beside
this file is generated from it. The JSON says all that a report needs: what each line of energy is made of, the
constants of the target with their sources, and where everything lay.
"""

from __future__ import annotations

import json
from typing import Literal, Self

from pydantic import Field, model_validator

from isa.hardware import MOST_TILES

from .computed import ActivityRecord, AnalogRecord
from .fields import (
    Amount,
    BoundName,
    CategoryName,
    ComponentName,
    ConfidenceName,
    Count,
    Frequency,
    Ratio,
    Record,
    Side,
    Some,
    check_rates,
    check_sum,
    check_time,
)

VERSION = 2
_WIDTH = 110  # of a line of the JSON text that lists numbers


class EnergyJoules(Record):
    """Joules. `total` = dynamic + write + static = sum of `by_component` = sum of `by_node`, exactly, in any order."""

    total: Amount
    dynamic: Amount
    write: Amount
    static: Amount
    by_component: dict[ComponentName, Amount]
    by_node: dict[str, Amount] = Field(description="by ONNX nodes; static energy is the node `(static)`")
    by_event: dict[str, Amount] = Field(description="by event, and by kind of static power (`static_...`)")

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        check_sum("dynamic, write and static", (self.dynamic, self.write, self.static), self.total)
        for name in ("by_component", "by_node", "by_event"):
            check_sum(name, getattr(self, name).values(), self.total)
        return self


class ConstantRecord(Record):
    """A number of the hardware description, as its file has it."""

    path: str = Field(description="its name, such as `macro.mac_energy`")
    value: float
    unit: str
    source: str
    confidence: ConfidenceName = Field(description="silicon, repository, derived or assumed")
    year: int | None = None


class EnergyLine(Record):
    """A line of the energy report: `count` times the product of its constants, of the time if it is static, and of
    `activity` if it has one."""

    key: str = Field(description="the event, or the kind of static power (`static_...`)")
    description: str
    component: ComponentName
    category: CategoryName = Field(description="dynamic, write or static")
    count: Count = Field(description="how often it happened; of static lines: how many `unit`s were on")
    unit: str = Field(description="what is counted")
    joules: Amount
    constants: list[str] = Field(min_length=1, description="paths of the constants behind it, in `constants`")
    activity: Amount | None = Field(
        default=None,
        description="factor of measured data, over all counts; null: those of the constants' sources",
    )


class PlaceRecord(Record):
    """What a part of a layer cost. All places add up to the energy and to the critical path.

    The static energy of tiles is that of the layers whose work they hold, in equal parts where they hold several; it is
    the part `(static)`. What belongs to no tile (memories, links) is the place without a layer of that name.
    """

    layer: Count | None = Field(description="the number of the repeated block; null outside")
    part: str = Field(description="the path within it, or the whole path")
    dynamic_j: Amount
    write_j: Amount
    static_j: Amount
    by_component: dict[ComponentName, Amount] = Field(description="the same joules; none is 0")
    critical_cycles: Count


class PhaseWork(Record):
    """What the steps of a phase did, for a roofline and for what bounds it."""

    phase: str = Field(description="source, prefill or decode; `all` if the steps' segments are unknown")
    steps: Count
    tokens: Count
    cycles: Count
    operations: dict[str, Count] = Field(description="`arrays` (2 a multiply-accumulate) and `vector`")
    moved_bytes: dict[ComponentName, Count] = Field(description="bytes over each border, by component")
    critical: dict[BoundName, Count] = Field(description="cycles of the critical path, by resource")


class Roof(Record):
    """A limit of the chips in use: operations or bytes a second at the most."""

    name: str
    component: ComponentName
    kind: Literal["operations", "bytes"]
    per_second: Amount
    description: str
    constants: list[str] = Field(description="paths of the constants behind it, in `constants`")


class RoleRecord(Record):
    """A role: the text that tiles of its kind share, and the macros that its arrays take, by kind of array."""

    name: str
    instructions: Count
    macros: dict[str, Count]


class TileMap(Record):
    """Where each tile lies and what it does: `x`, `y`, `role` and `label` have an entry a tile.

    Coordinates are of the mesh of the whole system; `role` and `label` are indices of `roles` and `labels`.
    """

    chips: tuple[Side, Side] = Field(description="chips of the system, along x and y")
    tiles: tuple[Side, Side] = Field(description="tiles of a chip, along x and y")
    macros_per_tile: Some
    corners: list[tuple[Count, Count]] = Field(description="where the corner of each copy of all tiles lies")
    roles: list[RoleRecord]
    labels: list[str] = Field(description="the layers whose work tiles hold, in words")
    names: list[str] = Field(description="of tiles; empty if they are t0, t1, ...")
    x: list[Count]
    y: list[Count]
    role: list[Count]
    label: list[Count]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        tiles = len(self.x)
        if not tiles == len(self.y) == len(self.role) == len(self.label) or len(self.names) not in (0, tiles):
            raise ValueError(
                "x, y, role, label, and names unless it is empty, must have an entry for each tile"
            )
        for name, numbers, listed in (("role", self.role, self.roles), ("label", self.label, self.labels)):
            if max(numbers, default=-1) >= len(listed):
                raise ValueError(f"{name} must be indices of {name}s, of which there are {len(listed)}")
        if self.width * self.height > MOST_TILES:
            raise ValueError(f"chips x tiles must be {MOST_TILES:,} at most")
        self._check_places()
        return self

    def _check_places(self) -> None:
        right, down = (max((corner[axis] for corner in self.corners), default=0) for axis in (0, 1))
        if max(self.x, default=0) + right >= self.width or max(self.y, default=0) + down >= self.height:
            raise ValueError(f"tiles must lie in the mesh of {self.width} x {self.height}")

    @property
    def width(self) -> int:
        """Tiles of the system along x."""
        return self.chips[0] * self.tiles[0]

    @property
    def height(self) -> int:
        """Tiles of the system along y."""
        return self.chips[1] * self.tiles[1]


class Occupancy(Record):
    """How much of the system is in use."""

    tiles: tuple[Count, Some] = Field(description="in use, of the system")
    chips: tuple[Count, Some] = Field(description="in use, of the system")
    macros: dict[str, Count] = Field(description="that hold data, by kind of array; copies included")
    macros_on: Count = Field(description="of tiles in use")
    macros_total: Some = Field(description="of the system")
    cells: dict[str, tuple[Count, Count]] = Field(
        description="elements of arrays, and elements that their macros have room for, by kind of array"
    )
    memory_bytes: dict[ComponentName, tuple[Count, Count]] = Field(
        description="bytes laid out in memories of chips in use, and their capacity"
    )


class AreaRecord(Record):
    """Silicon of one chip, in mm2; the components and `other` add up to `chip`."""

    chip: Amount
    chips: Count = Field(description="chips in use")
    by_component: dict[ComponentName, Amount]
    other: Amount = Field(description="what is of no component")
    exposures: Amount = Field(description="dies of the largest size of one exposure that a chip takes")


class WearRecord(Record):
    """Cells that wear out because they are written while the program decodes."""

    what: str = Field(description="what is written into them")
    cell: str
    endurance: Amount = Field(description="writes that a cell survives")
    writes_per_token: Amount
    lifetime_s: Amount | None = Field(description="at the pace of this run's decode steps; null without any")


class CriticalPath(Record):
    """What the cycles of the longest chain of dependent operations were spent on; both sum to `cycles`."""

    by_resource: dict[BoundName, Count]
    by_node: dict[str, Count]


class StepRecord(Record):
    """One step of the run."""

    cycles: Count
    tokens: Count
    source_rows: Count = 0
    instructions: Count
    bound_by: BoundName


class PhaseRecord(Record):
    """The steps of a phase beside their lower bounds (docs/bound.md)."""

    phase: str
    steps: Count
    cycles: Count
    bound_cycles: Count
    ratio: Ratio = Field(description="cycles over bound_cycles")
    binding: str = Field(description="the resource that the bound comes from")
    terms: dict[str, Count] = Field(
        default={}, description="cycles by each limit of the bound by itself, all steps added"
    )
    chain: dict[str, Count] = Field(
        default={}, description="cycles of the first row's way through the model, by what they wait for"
    )


class KvRecord(Record):
    """How full the KV arrays of tokens were, in rows of one array (docs/batching.md)."""

    sequences: Count = Field(description="how many sequences can be resident")
    pages: Count = Field(description="that sequences share; without paging one each, of the longest context")
    page_rows: Count
    capacity: Count = Field(description="tokens that there is room for: pages x page_rows")
    peak_pages: Count = Field(description="most pages that belonged to sequences at a time")
    peak_tokens: Count = Field(description="most tokens in the arrays at a time")
    fragmentation: Amount = Field(description="empty part of the rows of sequences' pages, mean over steps")


class DecodeStep(Record):
    """One decode step."""

    cycles: Count
    energy_j: Amount
    simulated: bool = Field(
        description="false: interpolated between the simulated steps before and behind it"
    )


class DecodeRecord(Record):
    """A run of decode steps, one token of each sequence a step; sums are over all steps, the interpolated ones too."""

    positions: list[Count] = Field(
        min_length=1, description="tokens in the cache before the first step, by sequence"
    )
    asked: Some = Field(description="steps that were asked for")
    every: Some = Field(description="each such step was to be simulated, the first and the last always")
    interrupted: bool = Field(description="the run was ended early: `steps` has what was done until then")
    simulated: Count
    interpolated: Count
    tokens: Count
    cycles: Count
    latency_s: Amount
    energy_j: Amount
    steps: list[DecodeStep]

    @model_validator(mode="after")
    def _is_of_steps(self) -> Self:
        if len(self.steps) != self.simulated + self.interpolated:
            raise ValueError("steps must be as many as simulated and interpolated together")
        if self.tokens != len(self.steps) * len(self.positions):
            raise ValueError("tokens must be one of each sequence in each step")
        check_sum("cycles of steps", (step.cycles for step in self.steps), self.cycles)
        check_sum("energy_j of steps", (step.energy_j for step in self.steps), self.energy_j)
        return self


class Statistics(Record):
    """Everything that a run cost and what bounded it. Of decode runs all but `decode` is of simulated steps."""

    schema_name: Literal["cim-statistics"] = Field(default="cim-statistics", alias="schema")
    version: Literal[2] = 2
    target: str
    target_hash: str
    target_description: str
    clock_hz: Frequency
    program: str = Field(description="the model the program was compiled from, or its roles if unknown")
    program_hash: str = Field(description="hash of the model file; empty if unknown")
    options: dict[str, str] = Field(default={}, description="the compiler's")
    engine: str = Field(description="what computed the values, or `timing`")
    tiles: Count = Field(description="tiles in use")
    steps: Count
    tokens: Count = Field(description="tokens that went through, prompt and generated")
    source_rows: Count = Field(
        default=0, description="rows of sources that went through, for cross-attention"
    )
    cycles: Count
    latency_s: Amount = Field(description="simulated time: cycles over the clock frequency")
    wall_s: Amount = Field(description="time that the simulation took")
    instructions: Count = Field(description="dynamic: one for each issue on each tile")
    instructions_by_unit: dict[str, Count]
    macs: Count = Field(description="multiply-accumulates in arrays")
    messages: Count
    message_bytes: Count
    energy_j: EnergyJoules
    energy_lines: list[EnergyLine] = Field(description="they add up to the energy, exactly; none is 0")
    places: list[PlaceRecord]
    constants: list[ConstantRecord] = Field(description="of the target, in the order of its file")
    events: dict[str, Count] = Field(description="how often each event happened")
    utilization: dict[str, Amount] = Field(description="busy cycles over cycles x pieces, by resource")
    bound_by: BoundName = Field(description="what most of the critical path was spent on")
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

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        check_time(self.cycles, self.latency_s, self.clock_hz)
        if self.decode is not None:
            check_time(self.decode.cycles, self.decode.latency_s, self.clock_hz)
        check_sum("joules of energy_lines", (line.joules for line in self.energy_lines), self.energy_j.total)
        check_rates(roof.per_second for roof in self.roofs)
        if self.bound_by not in self.critical_path.by_resource:
            raise ValueError(f"bound_by must be in critical_path.by_resource: {self.bound_by} is not")
        return self

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
