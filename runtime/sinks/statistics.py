"""Statistics of a run: one JSON object with a schema and a version.

`Statistics` is the schema; `stats.schema.json` beside this file is generated from it (`schema_text`).
Energies are in joules, times in seconds or in clock cycles, utilisations between 0 and 1.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from isa.diagnostics import CimError, Diagnostic, NamedPlace, fail
from isa.events import Bound, Category, Event, Resource, Static
from isa.instruction import Unit
from isa.program import Limits, Program, Segment
from runtime.bounds import Beside
from runtime.decoding import Decoding
from runtime.energy import Energy, energy, powered
from runtime.paging import KvUse
from runtime.timing.result import StepCost, merged

from .files import whole_file

SCHEMA = "cim-statistics"
VERSION = 1


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


class KvRecord(_Model):
    """How full the KV arrays of tokens were, in rows of one array (docs/batching.md)."""

    sequences: int = Field(description="how many sequences can be resident")
    pages: int = Field(description="that sequences share; without paging one each, of the longest context")
    page_rows: int
    capacity: int = Field(description="tokens that there is room for: pages x page_rows")
    peak_pages: int = Field(description="most pages that belonged to sequences at a time")
    peak_tokens: int = Field(description="most tokens in the arrays at a time")
    fragmentation: float = Field(description="empty part of the rows of sequences' pages, mean over steps")


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
    version: Literal[1] = 1
    target: str
    target_hash: str
    program: str = Field(description="the model the program was compiled from, or its roles if unknown")
    program_hash: str = Field(description="hash of the model file; empty if unknown")
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
    events: dict[str, int] = Field(description="how often each event happened")
    utilization: dict[str, float] = Field(description="busy cycles over cycles x pieces, by resource")
    bound_by: str = Field(description="what most of the critical path was spent on")
    critical_path: CriticalPath
    bounds: list[PhaseRecord] = Field(
        default=[], description="by phase; empty if the model's work is unknown"
    )
    per_step: list[StepRecord] | None = None
    kv_cache: KvRecord | None = Field(default=None, description="of runs whose sequences the session led")
    decode: DecodeRecord | None = Field(default=None, description="of runs of decode steps")

    def to_json(self) -> str:
        """The JSON text."""
        return self.model_dump_json(indent=2, by_alias=True) + "\n"


def _descending(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def pieces(program: Program) -> dict[Resource, int]:
    """How many pieces of each resource the program can use; links are counted in each direction.

    Of the macros, those that hold an array are counted.
    """
    target, tiles, on = program.target, program.tile_count, powered(program)
    x, y = int(target.chip.tiles_x.value), int(target.chip.tiles_y.value)
    by_role = {
        role.name: sum(a.macros(target.macro_rows, target.macro_cols) for a in role.arrays)
        for role in program.roles
    }
    chips = on[Static.DRAM]
    return {
        **dict.fromkeys(Resource, tiles),
        Resource.MACROS: len(program.corners) * sum(by_role[tile.role] for tile in program.tiles),
        Resource.LINKS: chips * 2 * ((x - 1) * y + x * (y - 1)),
        Resource.CHIP_LINKS: 2 * on[Static.CHIP_LINK],
        Resource.HOST_LINK: 2,
        Resource.DRAM: chips * int(target.dram.channels.value),
        Resource.GBUF: chips * int(target.gbuf.channels.value),
        Resource.HOST: 1,
    }


def _utilization(program: Program, busy: Mapping[Resource, int], cycles: int) -> dict[str, float]:
    available = pieces(program)
    return {
        r.value: busy.get(r, 0) / (cycles * available[r]) if cycles and available[r] else 0.0
        for r in Resource
    }


def _energy(spent: Energy) -> EnergyJoules:
    by_category = spent.by_category
    by_node = sorted(spent.by_node.items(), key=lambda item: (-item[1], item[0]))
    return EnergyJoules(
        total=spent.total,
        dynamic=by_category[Category.DYNAMIC],
        write=by_category[Category.WRITE],
        static=by_category[Category.STATIC],
        by_component={component.value: joules for component, joules in spent.by_component.items()},
        by_node=dict(by_node),
        by_event={cause.key: joules for cause, joules in spent.by_cause.items()},
    )


def _records(steps: Sequence[StepCost]) -> list[StepRecord]:
    return [
        StepRecord(
            cycles=s.cycles,
            tokens=s.tokens,
            source_rows=s.source_rows,
            instructions=s.issued,
            bound_by=s.bound_by.value,
        )
        for s in steps
    ]


def kv_record(limits: Limits, uses: Sequence[KvUse]) -> KvRecord:
    """How full the KV arrays were, from how full they were in each step (one at least)."""
    return KvRecord(
        sequences=limits.sequences,
        pages=uses[0].pages,
        page_rows=uses[0].page_rows,
        capacity=uses[0].capacity,
        peak_pages=max(use.pages_used for use in uses),
        peak_tokens=max(use.tokens for use in uses),
        fragmentation=sum(use.fragmentation for use in uses) / len(uses),
    )


def _bounds(beside: Beside) -> list[PhaseRecord]:
    return [
        PhaseRecord(
            phase=found.phase.value,
            steps=found.steps,
            cycles=found.cycles,
            bound_cycles=found.least,
            ratio=found.ratio,
            binding=found.binding,
        )
        for found in beside.by_phase()
    ]


def statistics(
    program: Program,
    steps: Sequence[StepCost],
    *,
    engine: str,
    wall_s: float,
    per_step: bool = False,
    segments: Sequence[tuple[Segment, ...]] = (),
    uses: Sequence[KvUse] = (),
) -> Statistics:
    """The statistics of steps run one after another; with their segments, beside their lower bounds.

    `uses` say how full the KV arrays were in each, where the session knows.
    """
    beside = Beside(program)
    for own, step in zip(segments, steps, strict=bool(segments)):
        beside.add(own, step.cycles)
    return _statistics(
        program,
        merged(steps),
        len(steps),
        engine=engine,
        wall_s=wall_s,
        bounds=_bounds(beside),
        per_step=_records(steps) if per_step else None,
        kv_cache=kv_record(program.step_limits, uses) if uses else None,
    )


def decode_statistics(run: Decoding, *, interrupted: bool, wall_s: float) -> Statistics:
    """The statistics of a run of decode steps, or of what was done of it."""
    points, program, count = run.points(), run.program, len(run.cycles)
    cycles = sum(point.cycles for point in points)
    record = DecodeRecord(
        positions=list(run.positions),
        asked=run.count,
        every=run.every,
        interrupted=interrupted,
        simulated=count,
        interpolated=len(points) - count,
        tokens=len(points) * len(run.positions),
        cycles=cycles,
        latency_s=cycles / program.target.clock.si,
        energy_j=math.fsum(point.joules for point in points),
        steps=[DecodeStep(cycles=p.cycles, energy_j=p.joules, simulated=p.is_simulated) for p in points],
    )
    bounds = _bounds(run.beside)
    return _statistics(
        program, run.total, count, engine="timing", wall_s=wall_s, bounds=bounds, decode=record
    )


def _statistics(
    program: Program,
    total: StepCost,
    steps: int,
    *,
    engine: str,
    wall_s: float,
    bounds: list[PhaseRecord],
    per_step: list[StepRecord] | None = None,
    kv_cache: KvRecord | None = None,
    decode: DecodeRecord | None = None,
) -> Statistics:
    """The statistics of so many steps that cost `total`."""
    return Statistics(
        target=program.target.name,
        target_hash=program.target.hash,
        program=program.origin.model or ", ".join(role.name for role in program.roles),
        program_hash=program.origin.model_hash,
        engine=engine,
        tiles=program.tile_count,
        steps=steps,
        tokens=total.tokens,
        source_rows=total.source_rows,
        cycles=total.cycles,
        latency_s=total.cycles / program.target.clock.si,
        wall_s=wall_s,
        instructions=total.issued,
        instructions_by_unit={unit.value: total.instructions.get(unit, 0) for unit in Unit},
        macs=total.macs,
        messages=total.messages,
        message_bytes=total.message_bytes,
        energy_j=_energy(energy(program.target, program, [total])),
        events={event.key: total.count(event) for event in Event},
        utilization=_utilization(program, total.busy, total.cycles),
        bound_by=total.bound_by.value,
        critical_path=CriticalPath(
            by_resource={bound.value: total.critical.get(bound, 0) for bound in Bound},
            by_node=_descending(total.critical_nodes),
        ),
        bounds=bounds,
        per_step=per_step,
        kv_cache=kv_cache,
        decode=decode,
    )


def write_statistics(path: Path, stats: Statistics) -> None:
    """Write the JSON text, whole or not at all. Raises `CimError` E0003."""
    with whole_file(path) as file:
        file.write(stats.to_json())


def read_statistics(path: Path) -> Statistics:
    """Read what `write_statistics` wrote. Raises `CimError` E0001 or E0605."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise fail("E0001", f"cannot read it: {error.strerror}", NamedPlace(str(path))) from None
    except UnicodeDecodeError:
        raise fail("E0605", "it is not UTF-8 text", NamedPlace(str(path)), _HELP) from None
    try:
        return Statistics.model_validate_json(text)
    except ValidationError as error:
        raise CimError(
            Diagnostic("E0605", p["msg"], NamedPlace(str(path), ".".join(map(str, p["loc"]))), _HELP)
            for p in error.errors()
        ) from None


_HELP = "give a file that `--stats` of this version wrote (runtime/sinks/stats.schema.json)"


def schema_text() -> str:
    """The JSON schema of the statistics, as in `stats.schema.json`."""
    return json.dumps(Statistics.model_json_schema(by_alias=True, mode="serialization"), indent=2) + "\n"
